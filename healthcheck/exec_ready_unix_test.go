//go:build unix

package healthcheck

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestExecReadyRunsNothing: what is in the way of a program is found without
// running it, with the command that mends it, and is what Check says as well.
func TestExecReadyRunsNothing(t *testing.T) {
	ran := filepath.Join(t.TempDir(), "ran")
	text := "#!/bin/sh\n: > " + ran + "\n"
	with := func(mode fs.FileMode) string {
		path := script(t, text)
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
		{name: "not executable by that user", exec: Exec{Path: with(0o744), User: "4242:4242"}, want: "not executable by user 4242", skip: !root},
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

func TestMayExecute(t *testing.T) {
	path := script(t, "")
	own, group := uint32(os.Getuid()), uint32(os.Getgid())
	for _, tc := range []struct {
		name string
		mode fs.FileMode
		as   syscall.Credential
		want bool
	}{
		{"owner", 0o700, syscall.Credential{Uid: own, Gid: 1 + group}, true},
		{"owner, who alone may not", 0o077, syscall.Credential{Uid: own, Gid: 1 + group}, own == 0}, // root always may
		{"group", 0o070, syscall.Credential{Uid: 1 + own, Gid: group}, true},
		{"group, which alone may not", 0o707, syscall.Credential{Uid: 1 + own, Gid: group}, false},
		{"another of the groups", 0o070, syscall.Credential{Uid: 1 + own, Gid: 1 + group, Groups: []uint32{group}}, true},
		{"others", 0o001, syscall.Credential{Uid: 1 + own, Gid: 1 + group}, true},
		{"others, who alone may not", 0o770, syscall.Credential{Uid: 1 + own, Gid: 1 + group}, false},
	} {
		if err := os.Chmod(path, tc.mode); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := mayExecute(info, &tc.as); got != tc.want {
			t.Errorf("%s, mode %v: %v, want %v", tc.name, tc.mode, got, tc.want)
		}
	}
}
