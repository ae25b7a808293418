package lab

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// ErrForbidden is found in the errors of [Enter] and [Open] when neither the
// user's privileges nor a user namespace allow making network namespaces. The
// error that wraps it tells the cause.
var ErrForbidden = errors.New("network namespaces are not permitted")

// TB is what a lab needs of a testing.TB. Programs make labs as well, which must not
// link package testing and its flags.
type TB interface {
	Helper()
	Cleanup(func())
	Error(args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Skip(args ...any)
	Logf(format string, args ...any)
	Failed() bool
}

// requireVar set to "all" turns every skip for lack of something into a failure.
const requireVar = "HAVIP_REQUIRE"

// Need skips the test if one of the programs is not installed, or fails it if
// HAVIP_REQUIRE is "all".
func Need(t TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := lookPath(p); err != nil {
			Lacking(t, p+" is not installed")
		}
	}
}

// NeedRoot skips the test in an ordinary user's lab, where no program can become another
// user: Keepalived fails to run its check scripts there, even as root. HAVIP_REQUIRE
// changes nothing about that: a privilege is no program that could be installed.
func NeedRoot(t TB) {
	t.Helper()
	if oneUser() {
		t.Skip("an ordinary user's lab has one user only")
	}
}

// oneUser reports whether this is a user namespace with one user, where setgroups(2) is
// denied (user_namespaces(7)).
func oneUser() bool {
	b, _ := os.ReadFile("/proc/self/setgroups")
	return strings.TrimSpace(string(b)) == "deny"
}

// Lacking skips the test for a reason, or fails it if HAVIP_REQUIRE is "all".
func Lacking(t TB, reason string) {
	t.Helper()
	if os.Getenv(requireVar) == "all" {
		t.Fatalf("%s, and %s=all", reason, requireVar)
	}
	t.Skip(reason)
}

// lookPath finds a program as exec.LookPath does, and also where daemons are
// installed, which is not in every user's PATH.
func lookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil || filepath.Base(name) != name {
		return path, err
	}
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", err
}

// Eventually waits until cond returns nil, asking every few milliseconds, and
// fails the test with what and cond's last error once the timeout is over. The
// timeout bounds a failure; choose it generously.
func Eventually(t TB, timeout time.Duration, what string, cond func() error) {
	t.Helper()
	if err := poll(timeout, cond); err != nil {
		t.Fatalf("%s: not within %v: %v", what, timeout, err)
	}
}

// Until is [Eventually] for a condition that has no more to say than yes or no.
func Until(t TB, timeout time.Duration, what string, cond func() bool) {
	t.Helper()
	notSo := errors.New("not so")
	err := poll(timeout, func() error {
		if cond() {
			return nil
		}
		return notSo
	})
	if err != nil {
		t.Fatalf("%s: not within %v", what, timeout)
	}
}

func poll(timeout time.Duration, cond func() error) error {
	for end := time.Now().Add(timeout); ; time.Sleep(2 * time.Millisecond) {
		err := cond()
		if err == nil || time.Now().After(end) {
			return err
		}
	}
}
