package healthcheck

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestUnknownIsNotTold: a consumer that takes what is not Up for Down would otherwise
// take a backend out at every start.
func TestUnknownIsNotTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := NewMonitor(Config{Checker: newTarget(func(ctx context.Context, _ int) error { return after(ctx, 100*ms, nil) })})
		if err != nil {
			t.Fatal(err)
		}
		var heard []State
		defer m.Subscribe(func(s Status) { heard = append(heard, s.State) })()
		m.Pause()
		m.Resume()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- m.Run(ctx) }()
		time.Sleep(50 * ms)
		synctest.Wait()
		if len(heard) > 0 {
			t.Errorf("heard %v before the first result", heard)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if len(heard) != 1 || heard[0] != Up {
			t.Errorf("heard %v, want up", heard)
		}
		var late State
		m.Subscribe(func(s Status) { late = s.State })
		synctest.Wait()
		if late != Up {
			t.Errorf("a later consumer heard %v, want the present state", late)
		}
		cancel()
		<-done
	})
}

func TestWhyDown(t *testing.T) {
	for _, tt := range []struct {
		name string
		s    Status
		want error
	}{
		{"unknown", Status{}, nil},
		{"up", Status{State: Up}, nil},
		{"up, and the latest probe has failed", Status{State: Up, Err: errTest}, nil},
		{"down", Status{State: Down, Err: errTest}, errTest},
		{"down, and the latest probe has succeeded", Status{State: Down}, errNotYet},
	} {
		if got := tt.s.WhyDown(); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// TestMonitorMisuse: methods before, during and after Run do what they say, and a
// second Run beside the first is refused.
func TestMonitorMisuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newTarget(func(context.Context, int) error { return nil })
		m, err := NewMonitor(Config{Checker: f})
		if err != nil {
			t.Fatal(err)
		}
		everything := func() {
			m.Trigger()
			m.Subscribe(nil)()
			cancel := m.Subscribe(func(Status) {})
			cancel()
			cancel()
			m.Pause()
			m.Pause()
			m.Resume()
			m.Resume()
			_ = m.Status()
		}
		everything()
		for range 2 { // Run may be called again
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- m.Run(ctx) }()
			synctest.Wait()
			everything()
			if err := m.Run(ctx); !errors.Is(err, ErrRunning) || err.Error() != "healthcheck: monitor check: is already running" {
				t.Errorf("a second Run returned %v, want ErrRunning", err)
			}
			probes := m.Status().Probes
			time.Sleep(2500 * ms)
			synctest.Wait()
			if m.Status().Probes == probes {
				t.Error("the refused Run has ended the first")
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			everything()
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := m.Run(ended); err != nil {
			t.Errorf("Run with a context that has ended: %v", err)
		}
	})
}
