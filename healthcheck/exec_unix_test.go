//go:build unix

package healthcheck

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
)

// script writes an executable file that only its owner can write.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "check.sh")
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// openDir is a directory that everybody may search and nobody but root write.
func openDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestExec(t *testing.T) {
	sh := func(command string) Exec { return Exec{Path: "/bin/sh", Args: []string{"-c", command}} }
	t.Setenv("HAVIP_TEST_SECRET", "must not leak")
	runCheckCases(t, []checkCase{
		{name: "exit 0", checker: Exec{Path: "/bin/true"}},
		{name: "exit 1", checker: Exec{Path: "/bin/false"}, want: "exit status 1"},
		{name: "exit code and output", checker: sh("echo oh; echo no >&2; exit 7"), want: `exit status 7: "oh\nno"`},
		{name: "script", checker: Exec{Path: script(t, "#!/bin/sh\nexit 0\n")}},
		{name: "arguments go through no shell", checker: Exec{Path: script(t, "#!/bin/sh\n[ \"$1\" = '; exit 1 $HOME *' ]\n"), Args: []string{"; exit 1 $HOME *"}}},
		{name: "environment", checker: func() Exec {
			c := sh(`[ "$A" = "b c" ] && [ -z "$HAVIP_TEST_SECRET" ] && [ -n "$PATH" ] && [ "$(pwd)" = / ]`)
			c.Env = []string{"A=b c"}
			return c
		}()},
		{name: "PATH can be replaced", checker: Exec{Path: "/bin/sh", Args: []string{"-c", `[ "$PATH" = /x ]`}, Env: []string{"PATH=/x"}}},
		{name: "directory", checker: Exec{Path: "/bin/sh", Args: []string{"-c", `[ "$(pwd)" = /usr ]`}, Dir: "/usr"}},
		{name: "no standard input", checker: sh("! read x")},
		{name: "flood of output", checker: sh("yes | head -c 10000000; exit 3"), want: "exit status 3: \"y\\ny\\n"},
		{name: "killed by a signal", checker: sh("kill -9 $$"), want: "signal: killed"},
		{name: "hangs", checker: sh("sleep 60"), patience: patience, is: isTimeout},
		{name: "hangs deaf to SIGTERM", checker: sh("trap '' TERM; while :; do sleep 1; done"), patience: patience, is: isTimeout},
		{name: "slow, but in time", checker: sh("sleep 0.3; exit 0")},
		{name: "leaves a child that holds the output", checker: sh("sleep 60 & exit 0")},
		{name: "missing program", checker: Exec{Path: "/no/such/program"}, is: ErrCannotRun},
		{name: "missing interpreter", checker: Exec{Path: script(t, "#!/no/such/interpreter\n")}, is: ErrCannotRun},
		{name: "not executable", checker: Exec{Path: "/etc/passwd"}, is: ErrCannotRun},
		{name: "a directory", checker: Exec{Path: "/etc"}, is: ErrCannotRun},
		{name: "missing directory", checker: Exec{Path: "/bin/true", Dir: "/no/such/dir"}, is: ErrCannotRun},
		{name: "no such user", checker: Exec{Path: "/bin/true", User: "nosuchuser"}, is: ErrCannotRun},
		{name: "no such group", checker: Exec{Path: "/bin/true", User: "root:nosuchgroup"}, is: ErrCannotRun},
	})
	wantCancellable(t, sh("sleep 60"))
}

// TestExecLeavesADaemon: a process that a program leaves in the background may write for as
// long as it likes. Writing neither stops nor kills it.
func TestExecLeavesADaemon(t *testing.T) {
	dir := t.TempDir()
	c := Exec{Path: "/bin/sh", Dir: dir, Args: []string{"-c", daemonScript}}
	if err := c.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	endDaemon(t, dir, 100_000) // more than a pipe holds
}

// daemonScript leaves a process that writes as many lines as the file go says,
// and then makes the file done.
const daemonScript = `(until [ -s go ]; do sleep 0.01; done
i=$(cat go); while [ $i -gt 0 ]; do echo line; i=$((i-1)); done; : > done) & exit 0`

// endDaemon lets the process of daemonScript write and waits for its end.
func endDaemon(t *testing.T, dir string, lines int) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "new"), fmt.Append(nil, lines), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "go")); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "what was left in the background", func() bool {
		_, err := os.Stat(filepath.Join(dir, "done"))
		return err == nil
	})
}

// TestExecEndsInTime: exit code 0 is healthy, whatever happens afterwards.
func TestExecEndsInTime(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	c := Exec{Path: "/bin/sh", Args: []string{"-c", "sleep 1000 & echo $$ $! > " + pidFile}}
	go func() { done <- c.Check(ctx) }()
	var pid, child int
	waitFor(t, "the program's end", func() bool {
		data, _ := os.ReadFile(pidFile)
		n, _ := fmt.Sscan(string(data), &pid, &child)
		return n == 2 && syscall.Kill(pid, 0) == syscall.ESRCH
	})
	cancel()
	defer syscall.Kill(child, syscall.SIGKILL)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestExecTooLate: when there was no time to start a program, this is neither the program's
// fault nor a fault of this machine.
func TestExecTooLate(t *testing.T) {
	ctx, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	if err := (Exec{Path: "/bin/true"}).Check(ctx); !errors.Is(err, isTimeout) || errors.Is(err, ErrCannotRun) {
		t.Errorf("error is %v, want that time is up", err)
	}
}

// TestExecKillsTheGroup: what the program started in the background dies with
// it when its time is up.
func TestExecKillsTheGroup(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	c := Exec{Path: "/bin/sh", Args: []string{"-c", "sh -c 'sleep 1000 & echo $! > " + pidFile + "; wait' & wait"}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Check(ctx) }()
	var pid int
	waitFor(t, "the grandchild", func() bool {
		data, _ := os.ReadFile(pidFile)
		pid, _ = strconv.Atoi(strings.TrimSpace(string(data)))
		return pid > 0
	})
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("check ended with %v", err)
	}
	// Where nobody reaps orphans, a zombie stays.
	waitFor(t, "the grandchild's death", func() bool { return labtest.Ended(pid) })
}

// waitFor waits for a condition with a generous bound.
func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	lab.Until(t, 30*time.Second, what, condition)
}

// TestExecRefuses: root refuses a program that others could replace. The rule is a function
// of the path, so every user can test it, root with its own files.
func TestExecRefuses(t *testing.T) {
	if os.Geteuid() != 0 {
		// Without root the files of the test are not root's: all is refused.
		if err := trust(script(t, "#!/bin/sh\n"), 0); err == nil || !strings.Contains(err.Error(), "does not belong to root") {
			t.Errorf("a user's script: %v", err)
		}
		return
	}
	// In a user namespace with one user nothing can belong to another.
	alone := soleUser()
	dir := openDir(t)
	write := func(name string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	link := func(name, to string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := write("good.sh", 0o755)
	foreign := write("foreign.sh", 0o755)
	foreignGroup := write("group.sh", 0o775)
	inOpenDir := write("open/check.sh", 0o755)
	openTarget := write("other.sh", 0o777)
	linkInOpenDir := link("open/link", good)
	if alone {
		foreign, foreignGroup = "", ""
	} else {
		chown(t, foreign, 1, 0)
		chown(t, foreignGroup, 0, 1)
	}
	if err := os.Chmod(filepath.Join(dir, "open"), 0o777); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, path, want string }{
		{"root's own file", good, ""},
		{"link to root's own file", link("goodlink", good), ""},
		{"relative link", link("sub/relative", "../good.sh"), ""},
		{"group root may write", write("rootgroup.sh", 0o775), ""},
		{"everyone may write", openTarget, "writable by others"},
		{"another group may write", foreignGroup, "writable by others"},
		{"another user's file", foreign, "does not belong to root"},
		{"link to a bad file", link("badlink", "other.sh"), "other.sh is writable by others"},
		{"directory that everyone may write", inOpenDir, "open is writable by others"},
		{"link in a directory that everyone may write", linkInOpenDir, "open is writable by others"},
		{"endless links", link("loop", "loop"), "too many levels"},
		{"missing", filepath.Join(dir, "nosuch"), "no such file"},
	}
	for _, test := range tests {
		if test.path == "" {
			continue
		}
		t.Run(test.name, func(t *testing.T) {
			err := trust(test.path, 0)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("trust says %v, want %q", err, test.want)
			}
			checkErr := Exec{Path: test.path}.Check(t.Context())
			if (checkErr == nil) != (test.want == "") || checkErr != nil && !errors.Is(checkErr, ErrCannotRun) {
				t.Errorf("Check says %v", checkErr)
			}
		})
	}
	if alone {
		return
	}
	t.Run("another user may run it", func(t *testing.T) {
		if err := (Exec{Path: foreign, User: "1:1"}).Check(t.Context()); err != nil {
			t.Errorf("as another user: %v", err)
		}
	})
}

func chown(t *testing.T, path string, uid, gid int) {
	t.Helper()
	if err := os.Chown(path, uid, gid); err != nil {
		t.Fatal(err)
	}
}

func TestSoleUser(t *testing.T) {
	for uidMap, want := range map[string]bool{
		"         0          0 4294967295\n":                  false, // the machine's
		"         0       1000          1\n":                  true,  // unshare --map-root-user
		"         0       1000          1\n 1 100000 65536\n": false, // a container
		"         0     100000      65536\n":                  false,
		"":                                                    false,
	} {
		if got := mapsOne(uidMap); got != want {
			t.Errorf("%q: one user: %v", uidMap, got)
		}
	}
}

func TestExecUser(t *testing.T) {
	if os.Geteuid() != 0 || soleUser() {
		// Only the machine's root can be someone else.
		err := Exec{Path: "/bin/true", User: "daemon"}.Check(t.Context())
		if !errors.Is(err, ErrCannotRun) {
			t.Errorf("as another user without being root: %v", err)
		}
		return
	}
	tests := []struct{ user, want string }{
		{"", "0 0 "},
		{"root", "0 0 "},
		{"daemon", "1 1 1"},
		{"1", "1 1 1"},
		{"daemon:bin", "1 2 2"},
		{"daemon:2", "1 2 2"},
		{"4242:4243", "4242 4243 4243"},
	}
	for _, test := range tests {
		c := Exec{Path: "/bin/sh", Args: []string{"-c", `echo "$(id -u) $(id -g) $(id -G)"; exit 1`}, User: test.user}
		if err := c.Check(t.Context()); !strings.Contains(fmt.Sprint(err), `"`+test.want) {
			t.Errorf("user %q ran as %v, want %q", test.user, err, test.want)
		}
	}
}

func TestExecValidate(t *testing.T) {
	for _, c := range []Exec{{}, {Path: "true"}, {Path: "./true"}, {Path: "/bin/true", Env: []string{"novalue"}}, {Path: "/bin/true", Env: []string{"=x"}}} {
		if err := c.Validate(); err == nil {
			t.Errorf("%+v is accepted", c)
		} else if strings.Contains(err.Error(), "novalue") {
			t.Errorf("the error shows what may be a password: %v", err)
		}
	}
}
