//go:build unix

package healthcheck

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestExecReadyRunsNothing: Ready finds each obstacle without running the program, names
// the command that mends it, and returns the error that Check returns.
func TestExecReadyRunsNothing(t *testing.T) {
	ran := filepath.Join(t.TempDir(), "ran")
	text := "#!/bin/sh\n: > " + ran + "\n"
	with := func(mode fs.FileMode) string {
		path := filepath.Join(openDir(t), "script")
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	plain, open, link := with(0o644), with(0o777), filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(plain, link); err != nil {
		t.Fatal(err)
	}
	root := os.Geteuid() == 0
	for _, tc := range []struct {
		name string
		exec Exec
		want string // empty: ready
		skip bool
	}{
		{name: "ready", exec: Exec{Path: with(0o755)}},
		{name: "missing", exec: Exec{Path: "/no/such/program"}, want: "no such file"},
		{name: "directory", exec: Exec{Path: "/etc"}, want: "is a directory"},
		{name: "not executable", exec: Exec{Path: plain}, want: "chmod +x " + plain},
		{name: "link to what is not executable", exec: Exec{Path: link}, want: "not executable"},
		{name: "not executable by that user", exec: Exec{Path: with(0o744), User: "4242:4242"}, want: "user 4242 may not execute", skip: !root},
		{name: "refused", exec: Exec{Path: open}, want: "chmod go-w " + open, skip: !root},
		{name: "not refused as another user", exec: Exec{Path: open, User: "4242:4242"}, skip: !root},
		{name: "unknown user", exec: Exec{Path: "/bin/true", User: "nosuchuser"}, want: "nosuchuser"},
		{name: "missing working directory", exec: Exec{Path: "/bin/true", Dir: "/no/such"}, want: "working directory"},
		{name: "working directory is a file", exec: Exec{Path: "/bin/true", Dir: "/etc/passwd"}, want: "no directory"},
	} {
		if tc.skip {
			continue
		}
		t.Run(tc.name, func(t *testing.T) {
			err := tc.exec.Ready()
			if tc.want == "" {
				if err != nil {
					t.Errorf("not ready: %v", err)
				}
				return
			}
			if !errors.Is(err, ErrCannotRun) || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want ErrCannotRun with %q", err, tc.want)
			}
			if got := tc.exec.Check(t.Context()); got == nil || got.Error() != err.Error() {
				t.Errorf("Check says %v, Ready %v", got, err)
			}
		})
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("the program was run")
	}
}
