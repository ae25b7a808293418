package scenario

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
)

func TestMain(m *testing.M) { lab.Main(m) }

// TestDemoFails: the demo reports a run with a wrong outcome, and ends with an error. The
// havip of this test preempts although it is told not to, so LB-01 takes the address back
// in run 3.
func TestDemoFails(t *testing.T) {
	lab.Need(t, "sh", "sed")
	lab.New(t) // skips where the demo cannot run
	exe, wrong := havip(t), filepath.Join(t.TempDir(), "wrong")
	script := fmt.Sprintf("#!/bin/sh\nsed -i 's/preempt: false/preempt: true/' \"$3\"\nexec %q \"$@\"\n", exe)
	if err := os.WriteFile(wrong, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err := Demo(t.Context(), &out, wrong, 200*time.Millisecond)
	if !errors.Is(err, ErrDemoFailed) {
		t.Errorf("error %v, want %v", err, ErrDemoFailed)
	}
	if !strings.Contains(out.String(), "run 3: WRONG: LB-02 held 192.168.31.250 alone, but then") {
		t.Errorf("run 3 was not called wrong:\n%s", &out)
	}
}

// TestDemoInterrupted: Ctrl-C ends the demo with no other error, also while LB-01 starts.
func TestDemoInterrupted(t *testing.T) {
	lab.New(t) // skips where the demo cannot run
	exe := havip(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out labtest.Log
	err := Demo(ctx, writeFunc(func(p []byte) (int, error) {
		if bytes.Contains(p, []byte("LB-01 starts")) {
			cancel()
		}
		return out.Write(p)
	}), exe, 200*time.Millisecond)
	if !errors.Is(err, context.Canceled) || strings.Contains(out.String(), "said:") {
		t.Errorf("error %v, want that of the context; output:\n%s", err, out.String())
	}
}

type writeFunc func(p []byte) (int, error)

func (f writeFunc) Write(p []byte) (int, error) { return f(p) }

// havip builds the binary.
func havip(t *testing.T) string {
	t.Helper()
	exe := filepath.Join(t.TempDir(), "havip")
	if out, err := exec.Command("go", "build", "-o", exe, "github.com/havip/havip/cmd/havip").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return exe
}

// TestJudge: an outage that the timers do not explain makes a run wrong.
func TestJudge(t *testing.T) {
	for _, tc := range []struct {
		outage, allowed, interval time.Duration
		wrong                     bool
	}{
		{outage: 3500 * time.Millisecond, allowed: 3570 * time.Millisecond, interval: time.Second},
		{outage: 5 * time.Second, allowed: 3570 * time.Millisecond, interval: time.Second},
		{outage: 5100 * time.Millisecond, allowed: 3570 * time.Millisecond, interval: time.Second, wrong: true},
		{outage: 900 * time.Millisecond, allowed: 357 * time.Millisecond, interval: 100 * time.Millisecond},
		{outage: time.Second, allowed: 357 * time.Millisecond, interval: 100 * time.Millisecond, wrong: true},
		{outage: 700 * time.Millisecond, interval: 100 * time.Millisecond, wrong: true},
	} {
		r := Result{Outage: tc.outage, Allowed: tc.allowed}
		if r.judge(tc.interval); (r.Err != nil) != tc.wrong {
			t.Errorf("outage %v, allowed %v, interval %v: %v", tc.outage, tc.allowed, tc.interval, r.Err)
		}
	}
}

// TestInTurn: all of the web servers answer, none much more often than another.
func TestInTurn(t *testing.T) {
	for _, tc := range []struct {
		n     [3]int
		wrong bool
	}{
		{n: [3]int{10, 10, 10}},
		{n: [3]int{10, 11, 10}},
		{n: [3]int{100, 120, 100}},
		{n: [3]int{100, 130, 100}, wrong: true},
		{n: [3]int{10, 0, 10}, wrong: true},
		{n: [3]int{5, 20, 5}, wrong: true},
		{wrong: true},
	} {
		var answers []Answer
		for i, n := range tc.n {
			for range n {
				answers = append(answers, Answer{Backend: appName(i)})
			}
		}
		if err := inTurn(answers); (err != nil) != tc.wrong {
			t.Errorf("%v: %v", tc.n, err)
		}
	}
}
