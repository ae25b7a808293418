package healthcheck

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newTarget(func(ctx context.Context, _ int) error { return after(ctx, time.Hour, nil) })
		m, _ := startMonitor(t, Config{Checker: f, Timeout: 200 * ms})
		time.Sleep(201 * ms)
		s := m.Status()
		if s.State != Down || s.Latency != 200*ms || !errors.Is(s.Err, context.DeadlineExceeded) {
			t.Errorf("status after the timeout: %+v", s)
		}
	})
}

// TestStuckChecker: a Checker that ignores its context fails once its time and
// a second of grace are up, holds up neither Status nor Run, and is not called
// again before it has returned.
func TestStuckChecker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		f := newTarget(func(_ context.Context, n int) error {
			if n == 1 {
				<-release
			}
			return nil
		})
		m, stop := startMonitor(t, Config{Checker: f, Timeout: 500 * ms})
		time.Sleep(1000*ms + 500*ms + stopGrace - ms)
		if s := m.Status(); s.Failures != 0 {
			t.Errorf("%d failures before the grace was over", s.Failures)
		}
		time.Sleep(2 * ms)
		if s := m.Status(); s.Failures != 1 || !errors.Is(s.Err, errStuck) {
			t.Errorf("after the grace: %+v", s)
		}
		time.Sleep(time.Second)
		if s := m.Status(); s.State != Down {
			t.Errorf("still %v though stuck for two more probes", s.State)
		}
		f.wantStarts(t, 0, 1000*ms)
		close(release)
		time.Sleep(3 * time.Second)
		if s := m.Status(); s.State != Up {
			t.Errorf("%v after it came loose, want up: %v", s.State, s.Err)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestStopWithStuckChecker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		_, stop := startMonitor(t, Config{Checker: newTarget(func(context.Context, int) error { <-release; return nil })})
		time.Sleep(100 * ms)
		began := time.Now()
		if err := stop(); err == nil {
			t.Error("Run returned nil though its checker still runs")
		}
		if took := time.Since(began); took != stopGrace {
			t.Errorf("Run took %v to give up, want %v", took, stopGrace)
		}
		close(release)
	})
}

// TestRunAgainWhileStuck: a Checker that has not returned when Run gave up is not called
// again before it has returned, by no later Run either.
func TestRunAgainWhileStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		f := newTarget(func(_ context.Context, n int) error {
			if n == 0 {
				<-release
			}
			return nil
		})
		m, stop := startMonitor(t, Config{Checker: f})
		time.Sleep(100 * ms)
		if err := stop(); err == nil {
			t.Error("Run returned nil though its checker still runs")
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- m.Run(ctx) }()
		time.Sleep(2500 * ms)
		if s := m.Status(); s.State != Down || !errors.Is(s.Err, errStuck) {
			t.Errorf("while it is stuck: %+v", s)
		}
		f.wantStarts(t, 0)
		close(release)
		time.Sleep(3 * time.Second)
		if s := m.Status(); s.State != Up {
			t.Errorf("%v after it came loose, want up: %v", s.State, s.Err)
		}
		if f.overlap {
			t.Error("two probes at the same time")
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestRunAgainAfterStuck: a Checker that was stuck when Run gave up, and has returned before
// the next Run, is no failure of the next Run.
func TestRunAgainAfterStuck(t *testing.T) {
	for range 100 { // what is ready first is a matter of luck
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			m, stop := startMonitor(t, Config{Checker: newTarget(func(_ context.Context, n int) error {
				if n == 0 {
					<-release
				}
				return nil
			})})
			synctest.Wait()
			if err := stop(); err == nil {
				t.Error("Run returned nil though its checker still runs")
			}
			close(release)
			time.Sleep(time.Hour)
			ctx, cancel := context.WithTimeout(t.Context(), 500*ms)
			defer cancel()
			if err := m.Run(ctx); err != nil {
				t.Error(err)
			}
			if s := m.Status(); s.State != Up || s.Failed != 0 {
				t.Errorf("%+v, want up, and no failure", s)
			}
		})
	}
}

// deaf is a Checker whose Watch ignores its context.
type deaf struct {
	*target
	release chan struct{}
}

func (d deaf) Watch(context.Context, func()) error {
	<-d.release
	return nil
}

func TestStopWithStuckWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deaf{newTarget(nil), make(chan struct{})}
		_, stop := startMonitor(t, Config{Checker: d})
		time.Sleep(100 * ms)
		began := time.Now()
		if err := stop(); err == nil {
			t.Error("Run returned nil though its checker still watches")
		}
		if took := time.Since(began); took != stopGrace {
			t.Errorf("Run took %v to give up, want %v", took, stopGrace)
		}
		close(d.release)
	})
}

// TestPauseResumeWhileStuck: a probe from before the pause that does not return counts as a
// failure only after its grace.
func TestPauseResumeWhileStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newTarget(func(_ context.Context, n int) error {
			if n == 1 {
				time.Sleep(300 * ms) // deaf to its context
			}
			return nil
		})
		m, _ := startMonitor(t, Config{Checker: f, Rise: 1, Fall: 1})
		time.Sleep(1100 * ms)
		m.Pause()
		m.Resume()
		time.Sleep(300 * ms)
		if s := m.Status(); s.Failed != 0 || s.State != Up {
			t.Errorf("status is %+v, want no failure", s)
		}
		f.wantStarts(t, 0, 1000*ms, 1300*ms)
	})
}
