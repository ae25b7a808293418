package lab

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The helpers are run by an ordinary user, even if root runs the tests. The test judges
// what they print.
func init() {
	helper["nothing"] = func() {}
	helper["enter"] = func() {
		if err := Enter(); err != nil {
			fmt.Printf("forbidden %v: %v\n", errors.Is(err, ErrForbidden), err)
			return
		}
		l, err := Open()
		fmt.Printf("uid %d, marker %q, Open: %v\n", os.Getuid(), os.Getenv(marker), err)
		if err == nil {
			l.Close()
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err == nil {
			_, err = net.Dial("tcp", ln.Addr().String())
		}
		fmt.Printf("loopback: %v\n", err)
		os.Exit(7)
	}
	helper["signals"] = func() {
		if err := Enter(); err != nil {
			fmt.Println(err)
			return
		}
		c := make(chan os.Signal, 4)
		signal.Notify(c, syscall.SIGTERM, syscall.SIGINT)
		fmt.Println("ready", os.Getpid())
		fmt.Println(<-c, <-c)
	}
	helper["open"] = func() {
		_, err := Open()
		fmt.Printf("forbidden %v: %v\n", errors.Is(err, ErrForbidden), err)
	}
	// limited runs another helper, or tests, where LAB_TEST_LIMIT holds.
	helper["limited"] = func() {
		key, value, _ := strings.Cut(os.Getenv("LAB_TEST_LIMIT"), "=")
		if err := os.WriteFile("/proc/sys/user/"+key, []byte(value), 0); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		cmd := helperCommand(ordinary, os.Getenv("LAB_TEST_THEN"))
		cmd.Args = os.Args
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
}

// helperCommand runs a helper in a user namespace as this user id there.
func helperCommand(uid int, name string, env ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), append(env, "LAB_TEST_HELPER="+name)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: uid, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: uid, HostID: os.Getgid(), Size: 1}},
	}
	return cmd
}

// ordinary is a user other than root, who loses all capabilities on exec.
const ordinary = 1000

// needUserNamespaces skips the tests of a machine that permits labs to root only.
func needUserNamespaces(t *testing.T) {
	t.Helper()
	if err := helperCommand(ordinary, "nothing").Run(); err != nil {
		Lacking(t, "user namespaces are not permitted: "+err.Error())
	}
}

func TestEnter(t *testing.T) {
	needUserNamespaces(t)
	out, err := helperCommand(ordinary, "enter").CombinedOutput()
	if want := "uid 0, marker \"\", Open: <nil>\nloopback: <nil>\n"; string(out) != want {
		t.Errorf("printed %q, want %q", out, want)
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("ended with %v, want the exit code 7 from inside", err)
	}
}

func TestOpenWithoutEnter(t *testing.T) {
	needUserNamespaces(t)
	out, err := helperCommand(ordinary, "open").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "forbidden true: lab: network namespaces are not permitted: new network namespace: operation not permitted") {
		t.Errorf("printed %q, error %v", out, err)
	}
}

func TestEnterForbidden(t *testing.T) {
	needUserNamespaces(t)
	tests := []struct{ name, limit, want string }{
		// The ordinary user's own is the one.
		{"no user namespaces", "max_user_namespaces=1", "forbidden true: lab: network namespaces are not permitted: new user namespace: "},
		{"none of use", "max_net_namespaces=1", "forbidden true: lab: network namespaces are not permitted: refused inside a new user namespace"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, err := helperCommand(0, "limited", "LAB_TEST_LIMIT="+tt.limit, "LAB_TEST_THEN=enter").CombinedOutput()
			if err != nil || !strings.HasPrefix(string(out), tt.want) || strings.Count(string(out), "\n") != 1 {
				t.Errorf("printed %q, error %v; want the line %q", out, err, tt.want)
			}
		})
	}
}

func TestMainWhereForbidden(t *testing.T) {
	needUserNamespaces(t)
	const reason = "network namespaces are not permitted: new user namespace: "
	for require, want := range map[string]string{"": "--- SKIP: TestAddresses", "all": "--- FAIL: TestAddresses"} {
		cmd := helperCommand(0, "limited", "LAB_TEST_LIMIT=max_user_namespaces=1", "LAB_TEST_THEN=", requireVar+"="+require)
		cmd.Args = append(cmd.Args, "-test.v", "-test.run=^TestAddresses$")
		out, err := cmd.CombinedOutput()
		if (err == nil) != (require == "") || !strings.Contains(string(out), want) || !strings.Contains(string(out), reason) {
			t.Errorf("HAVIP_REQUIRE=%q: printed %q, error %v; want %q", require, out, err, want)
		}
	}
}

// startSignals starts the helper "signals" and returns the pid inside, and what both
// print.
func startSignals(t *testing.T) (cmd *exec.Cmd, inside int, out *os.File) {
	t.Helper()
	out, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close() })
	cmd = helperCommand(ordinary, "signals")
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	Until(t, bound, "the helper is ready", func() bool {
		s := contents(t, out)
		pid, ok := strings.CutPrefix(strings.TrimSpace(s), "ready ")
		inside, _ = strconv.Atoi(pid)
		return ok
	})
	if inside == cmd.Process.Pid {
		t.Fatal("was not re-executed")
	}
	return cmd, inside, out
}

func contents(t *testing.T, f *os.File) string {
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestReexecForwardsSignals(t *testing.T) {
	needUserNamespaces(t)
	cmd, inside, out := startSignals(t)
	cmd.Process.Signal(syscall.SIGTERM)
	cmd.Process.Signal(syscall.SIGINT)
	if err := cmd.Wait(); err != nil {
		t.Errorf("ended with %v", err)
	}
	// The kernel delivers two pending signals in no promised order.
	if s := contents(t, out); !strings.HasSuffix(s, "\nterminated interrupt\n") && !strings.HasSuffix(s, "\ninterrupt terminated\n") {
		t.Errorf("printed %q", s)
	}
	if alive(inside) {
		t.Error("the process inside lives on")
	}
}

func TestReexecDiesWithItsParent(t *testing.T) {
	needUserNamespaces(t)
	cmd, inside, _ := startSignals(t)
	cmd.Process.Kill()
	cmd.Wait()
	Until(t, bound, "the process inside is gone", func() bool { return !alive(inside) })
}

func TestStartError(t *testing.T) {
	tests := []struct {
		err       error
		forbidden bool
	}{
		{unix.EPERM, true}, {unix.EACCES, true}, {unix.ENOSPC, true}, {unix.EUSERS, true}, {unix.EINVAL, true}, {unix.ENOSYS, true},
		{unix.ENOMEM, false}, {unix.ENOENT, false},
	}
	for _, tt := range tests {
		err := startError(&os.PathError{Op: "fork/exec", Path: "havip", Err: tt.err})
		if errors.Is(err, ErrForbidden) != tt.forbidden || !errors.Is(err, tt.err) {
			t.Errorf("%v gives %v", tt.err, err)
		}
	}
}
