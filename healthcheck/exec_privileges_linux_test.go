package healthcheck

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/lab"
)

// Two ordinary users of the tests.
const ordinary, stranger = 4242, 4343

// asUser runs runAmbient as an ordinary user with capabilities, as systemd's
// AmbientCapabilities gives them.
func asUser(t *testing.T, caps []uintptr, programs ...string) map[string]string {
	t.Helper()
	return runIn(t, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ordinary, Gid: ordinary}, AmbientCaps: caps}, programs...)
}

// runIn runs runAmbient in a process with the given attributes.
func runIn(t *testing.T, attr *syscall.SysProcAttr, programs ...string) map[string]string {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), ambientEnv+"="+strings.Join(programs, "\n"))
	cmd.SysProcAttr = attr
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	said := map[string]string{}
	for line := range strings.Lines(string(out)) {
		name, what, _ := strings.Cut(line, " ")
		said[name] = strings.TrimSpace(what)
	}
	return said
}

// own makes a program that belongs to a user, in a directory of root's.
func own(t *testing.T, dir, name, text string, uid int, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	chown(t, path, uid, 0)
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

const sayCapabilities = "#!/bin/sh\ngrep -E 'Cap(Inh|Prm|Eff|Amb)' /proc/self/status\nexit 1\n"

var netCaps = []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_RAW}

// TestChildrenGetNoCapabilities: an ordinary user's programs get none of the capabilities
// that the user was given for havip. All that havip itself starts keeps them.
func TestChildrenGetNoCapabilities(t *testing.T) {
	lab.NeedRoot(t)
	program := own(t, openDir(t), "caps", sayCapabilities, 0, 0o755)
	said := asUser(t, netCaps, strings.TrimSpace(strings.Repeat(program+"\n", 5)))
	if got := said["caps"]; !strings.Contains(got, "CapInh") || strings.Count(got, "0000000000000000") != 4 {
		t.Errorf("a program has %s", got)
	}
	if got, want := said["others"], fmt.Sprintf("CapAmb:\\t%016x", 1<<unix.CAP_NET_ADMIN|1<<unix.CAP_NET_RAW); !strings.Contains(got, want) {
		t.Errorf("another child has %s, want %s", got, want)
	}
}

// TestUserGetsNoCapabilities: a program that root runs as another user gets none either,
// even where root's are inheritable, as in some containers.
func TestUserGetsNoCapabilities(t *testing.T) {
	lab.NeedRoot(t)
	program := own(t, openDir(t), "caps", sayCapabilities, 0, 0o755)
	ended := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		hdr, sets, err := capabilities()
		if err == nil {
			sets[0].Inheritable = sets[0].Permitted
			err = unix.Capset(&hdr, &sets[0])
		}
		if err != nil {
			ended <- err
			return
		}
		ended <- Exec{Path: program, User: fmt.Sprintf("%d:%d", ordinary, ordinary)}.Check(context.Background())
	}()
	if got := fmt.Sprint(<-ended); !strings.Contains(got, "CapInh") || strings.Count(got, "0000000000000000") != 4 {
		t.Errorf("the program has %s", got)
	}
	if got := fmt.Sprint(Exec{Path: program}.Check(t.Context())); strings.Contains(got, "CapEff:\\t0000000000000000") {
		t.Errorf("root's program has %s", got)
	}
}

// TestOthersNeedToBeEnded: a process that may start a program as another user, but not kill
// it, would wait for ever for a program that hangs. It is told so instead.
func TestOthersNeedToBeEnded(t *testing.T) {
	lab.NeedRoot(t)
	asOther := func(set uint32) error {
		ended := make(chan error)
		go func() {
			runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
			hdr, sets, err := capabilities()
			if err == nil {
				sets[0].Effective, sets[0].Permitted, sets[1] = set, set, unix.CapUserData{}
				err = unix.Capset(&hdr, &sets[0])
			}
			if err == nil {
				err = Exec{Path: "/bin/true", User: fmt.Sprintf("%d:%d", ordinary, ordinary)}.Ready()
			}
			ended <- err
		}()
		return <-ended
	}
	const change = 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID
	if err := asOther(change); !errors.Is(err, ErrCannotRun) || !strings.Contains(err.Error(), "CAP_KILL") {
		t.Errorf("without the right to kill: %v", err)
	}
	if err := asOther(change | 1<<unix.CAP_KILL); err != nil {
		t.Errorf("with it: %v", err)
	}
}

// TestTrustRuleWithCapabilities: with capabilities, a program must belong to root or to
// this user, and nobody else may write it. Without capabilities, and for a program with a
// User, the rule does not apply.
func TestTrustRuleWithCapabilities(t *testing.T) {
	lab.NeedRoot(t)
	dir := openDir(t)
	const text = "#!/bin/sh\nexit 0\n"
	programs := []string{
		own(t, dir, "roots", text, 0, 0o755),
		own(t, dir, "own", text, ordinary, 0o755),
		own(t, dir, "strangers", text, stranger, 0o755),
		own(t, dir, "writable", text, ordinary, 0o777),
	}
	list := strings.Join(programs, "\n")
	for _, tc := range []struct {
		name    string
		caps    []uintptr
		refused map[string]string
	}{
		{"with", netCaps, map[string]string{"strangers": "belongs neither to root nor to user 4242", "writable": "writable by others"}},
		{"without", nil, nil},
	} {
		said := asUser(t, tc.caps, list)
		for _, p := range programs {
			name := filepath.Base(p)
			got, want := said[name], tc.refused[name]
			if want == "" && got != "false <nil>" || want != "" && !strings.HasPrefix(got, "true ") || !strings.Contains(got, want) {
				t.Errorf("%s capabilities, %s: %q, want %q", tc.name, name, got, want)
			}
		}
	}
}

// TestTrustRuleSeesACLs: a file whose access control list lets another user write is
// refused, although its mode shows only that root's group might write. The same holds for a
// directory. A list that lets nobody write is no reason to refuse.
func TestTrustRuleSeesACLs(t *testing.T) {
	lab.NeedRoot(t)
	set := func(path string, list []aclEntry) {
		if err := unix.Setxattr(path, "system.posix_acl_access", encodeACL(list...), 0); err != nil {
			if errors.Is(err, unix.ENOTSUP) {
				lab.Lacking(t, path+" is on a file system without access control lists")
			}
			t.Fatal(err)
		}
	}
	dir := openDir(t)
	const text = "#!/bin/sh\nexit 0\n"
	byUser := own(t, dir, "user", text, 0, 0o755)
	set(byUser, withNamed(aclEntry{aclUser, 7, ordinary}, 7, 5))
	byGroup := own(t, dir, "group", text, 0, 0o755)
	set(byGroup, withNamed(aclEntry{aclGroup, 6, ordinary}, 7, 5))
	masked := own(t, dir, "masked", text, 0, 0o755)
	set(masked, withNamed(aclEntry{aclUser, 7, ordinary}, 5, 5))
	reader := own(t, dir, "reader", text, 0, 0o750)
	set(reader, withNamed(aclEntry{aclUser, 5, ordinary}, 5, 5))
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	inside := own(t, filepath.Join(dir, "sub"), "inside", text, 0, 0o755)
	set(filepath.Join(dir, "sub"), withNamed(aclEntry{aclUser, 7, ordinary}, 7, 5))
	for path, want := range map[string]string{
		byUser: "writable by user 4242", byGroup: "writable by group 4242", inside: "sub is writable by user 4242",
		masked: "", reader: "",
	} {
		err := Exec{Path: path}.Check(t.Context())
		if want == "" && err != nil || want != "" && (!errors.Is(err, ErrCannotRun) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	// And whom a list lets execute, as the kernel has it.
	private := own(t, dir, "private", text, 0, 0o700)
	set(private, []aclEntry{{aclUserObj, 7, none}, {aclUser, 5, ordinary}, {aclGroupObj, 0, none}, {aclMask, 5, none}, {aclOther, 0, none}})
	for uid, want := range map[int]bool{ordinary: true, stranger: false} {
		e := Exec{Path: private, User: fmt.Sprintf("%d:%d", uid, uid)}
		if ready, check := e.Ready(), e.Check(t.Context()); (ready == nil) != want || (check == nil) != want {
			t.Errorf("user %d: Ready says %v, Check %v, want success: %v", uid, ready, check, want)
		}
	}
}

// TestReadyPrivilegedLooksAhead: an ordinary user is told what a daemon that runs as root
// will find. A user with capabilities is told what this process finds.
func TestReadyPrivilegedLooksAhead(t *testing.T) {
	lab.NeedRoot(t)
	dir := openDir(t)
	programs := []string{own(t, dir, "roots", "#!/bin/sh\n", 0, 0o755), own(t, dir, "own", "#!/bin/sh\n", ordinary, 0o755), own(t, dir, "private", "#!/bin/sh\n", 0, 0o700)}
	for _, tc := range []struct {
		name string
		caps []uintptr
		want map[string]string
	}{
		{"an ordinary user", nil, map[string]string{"roots": "<nil>", "own": "as root: refused", "private": "<nil>"}},
		{"one with capabilities", netCaps, map[string]string{"roots": "<nil>", "own": "<nil>", "private": "permission denied"}},
	} {
		said := asUser(t, tc.caps, strings.Join(programs, "\n"))
		for name, want := range tc.want {
			if got := said["ahead:"+name]; !strings.Contains(got, want) {
				t.Errorf("%s, %s: %q, want %q", tc.name, name, got, want)
			}
		}
	}
	for user, want := range map[string]string{"nosuchuser": "unknown user nosuchuser", "": "<nil>", "4242:4242": "<nil>"} {
		if got := fmt.Sprint(Exec{Path: "/bin/true", User: user}.ReadyPrivileged()); !strings.Contains(got, want) {
			t.Errorf("root, as %q: %s, want %s", user, got, want)
		}
	}
}

// TestReadyPrivilegedKnowsOwnGroups: an ordinary user who asks about a program of his own
// may use all of his groups.
func TestReadyPrivilegedKnowsOwnGroups(t *testing.T) {
	lab.NeedRoot(t)
	dir := openDir(t)
	program := own(t, dir, "program", "#!/bin/sh\n", 0, 0o755)
	if err := os.Chmod(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		group int
		want  string
	}{{ordinary, "<nil>"}, {stranger, "permission denied"}} {
		if err := os.Chown(dir, 0, tc.group); err != nil {
			t.Fatal(err)
		}
		const nobody = 65534
		said := runIn(t, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody, Groups: []uint32{ordinary}}}, program)
		if got := said["nobody:program"]; !strings.Contains(got, tc.want) {
			t.Errorf("group %d: %q, want %q", tc.group, got, tc.want)
		}
	}
}
