package lab

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// recorder is a testing.TB that notes how a test would have ended.
type recorder struct {
	testing.TB
	skipped, failed string
}

func (r *recorder) Helper()          {}
func (r *recorder) Skip(args ...any) { r.skipped = fmt.Sprint(args...); runtime.Goexit() }
func (r *recorder) Fatalf(format string, args ...any) {
	r.failed = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// record runs f as a test would be run.
func record(f func(t testing.TB)) *recorder {
	r := new(recorder)
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(r)
	}()
	<-done
	return r
}

func TestNeed(t *testing.T) {
	const absent = "havip-no-such-program"
	tests := []struct {
		name, require, program string
		skipped, failed        string
	}{
		{"a program that is there", "all", "sh", "", ""},
		{"an absent one skips", "", absent, absent + " is not installed", ""},
		{"an absent one fails if all are required", "all", absent, "", absent + " is not installed, and HAVIP_REQUIRE=all"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv(requireVar, tt.require)
			r := record(func(tb testing.TB) { Need(tb, "sh", tt.program) })
			if r.skipped != tt.skipped || r.failed != tt.failed {
				t.Errorf("skipped %q, failed %q; want %q, %q", r.skipped, r.failed, tt.skipped, tt.failed)
			}
		})
	}
}

func TestEventually(t *testing.T) {
	calls := 0
	third := func() error {
		if calls++; calls < 3 {
			return errors.New("not yet")
		}
		return nil
	}
	if r := record(func(tb testing.TB) { Eventually(tb, time.Minute, "the third call", third) }); r.failed != "" {
		t.Errorf("failed: %s", r.failed)
	}
	r := record(func(tb testing.TB) {
		Eventually(tb, time.Millisecond, "the moon", func() error { return errors.New("no cheese") })
	})
	if want := "the moon: not within 1ms: no cheese"; r.failed != want {
		t.Errorf("failed with %q, want %q", r.failed, want)
	}
	r = record(func(tb testing.TB) { Until(tb, time.Millisecond, "the moon", func() bool { return false }) })
	if !strings.HasPrefix(r.failed, "the moon: not within 1ms") {
		t.Errorf("failed with %q", r.failed)
	}
}

// TestNeedRoot: a test is skipped inside a user namespace of an ordinary user's own, and
// not skipped for a process that may make users, whatever HAVIP_REQUIRE says.
func TestNeedRoot(t *testing.T) {
	t.Setenv(requireVar, "all")
	r := record(func(t testing.TB) { NeedRoot(t) })
	_, err := os.Stat("/proc/self/setgroups")
	uids, _ := os.ReadFile("/proc/self/uid_map")
	alone := err == nil && strings.HasSuffix(strings.TrimSpace(string(uids)), " 1")
	if (r.skipped != "") != alone || r.failed != "" {
		t.Errorf("one user only: %v; skipped %q, failed %q", alone, r.skipped, r.failed)
	}
}
