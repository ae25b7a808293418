package healthcheck

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/havip/havip/internal/quietlog"
)

// slowLog is a log that takes its time, which others use.
type slowLog struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *slowLog) Write(p []byte) (int, error) {
	time.Sleep(time.Millisecond)
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(p)
}

func (l *slowLog) text() string {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.String()
}

// TestCauseBeforeConsequence: what a subscriber logs of a change comes after the
// change.
func TestCauseBeforeConsequence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out slowLog
		log := slog.New(quietlog.Unblocked(slog.NewTextHandler(&out, nil)))
		f := newTarget(func(_ context.Context, n int) error {
			if n%2 == 1 {
				return errTest
			}
			return nil
		})
		m, stop := start(t, Config{Name: "web", Checker: f, Rise: 1, Fall: 1, Logger: log})
		time.Sleep(500 * ms)
		m.Subscribe(func(s Status) {
			if s.State != Unknown {
				out.mu.Lock()
				defer out.mu.Unlock()
				out.WriteString("consequence of " + s.State.String() + "\n")
			}
		})
		time.Sleep(5000 * ms)
		_ = stop()
		var words []string
		for line := range strings.Lines(out.text()) {
			switch {
			case strings.Contains(line, "check is"):
				words = append(words, "check")
			case strings.Contains(line, "consequence"):
				words = append(words, "consequence")
			}
		}
		if got, want := strings.Join(words, " "), strings.TrimSpace(strings.Repeat("check consequence ", 6)); got != want {
			t.Errorf("%s, want %s:\n%s", got, want, out.text())
		}
	})
}

// TestProbesAtDebug: the log shows each probe with what it took, if it is asked to.
func TestProbesAtDebug(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out slowLog
		log := slog.New(quietlog.Unblocked(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
		f := newTarget(func(ctx context.Context, n int) error {
			if n == 2 {
				return after(ctx, 20*ms, errTest)
			}
			return after(ctx, 10*ms, nil)
		})
		_, stop := start(t, Config{Name: "web", Checker: f, Logger: log})
		time.Sleep(3500 * ms)
		_ = stop()
		want := []string{
			`level=INFO msg="check is up" check=web latency=10ms`,
			`level=DEBUG msg="probe succeeded" check=web state=up successes=2 latency=10ms`,
			`level=DEBUG msg="probe failed" check=web state=up failures=1 latency=20ms err="test: target is broken"`,
			`level=DEBUG msg="probe succeeded" check=web state=up successes=1 latency=10ms`,
		}
		var got []string
		for line := range strings.Lines(out.text()) {
			_, line, _ = strings.Cut(strings.TrimSpace(line), " ")
			got = append(got, line)
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("the log says\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}
