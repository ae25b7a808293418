package healthcheck

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// target is a Checker whose answers a test scripts. It notes when each probe
// started, as time since the target was made.
type target struct {
	epoch time.Time
	// answer decides on probe n, counted from 0. nil: healthy.
	answer func(ctx context.Context, n int) error

	mu      sync.Mutex
	starts  []time.Duration
	active  int
	overlap bool
}

func newTarget(answer func(ctx context.Context, n int) error) *target {
	return &target{epoch: time.Now(), answer: answer}
}

// everySecond makes every second probe fail.
func everySecond(_ context.Context, n int) error {
	if n%2 == 1 {
		return errTest
	}
	return nil
}

func (f *target) Check(ctx context.Context) error {
	f.mu.Lock()
	n := len(f.starts)
	f.starts = append(f.starts, time.Since(f.epoch))
	f.active++
	f.overlap = f.overlap || f.active > 1
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.active--
		f.mu.Unlock()
	}()
	if f.answer == nil {
		return nil
	}
	return f.answer(ctx, n)
}

// seen returns the starts so far.
func (f *target) seen() []time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.starts)
}

func (f *target) wantStarts(t *testing.T, want ...time.Duration) {
	t.Helper()
	if got := f.seen(); !slices.Equal(got, want) {
		t.Errorf("probes started at %v, want %v", got, want)
	}
	if f.overlap {
		t.Error("two probes at the same time")
	}
}

// startMonitor runs a Monitor of cfg until the test's bubble ends or stop is called.
func startMonitor(t *testing.T, cfg Config) (m *Monitor, stop func() error) {
	t.Helper()
	m, err := NewMonitor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { _ = stop() })
	return m, stop
}

// after answers after d, or with the context's error if that ends first.
func after(ctx context.Context, d time.Duration, err error) error {
	select {
	case <-time.After(d):
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

const ms = time.Millisecond

func TestProbeTimes(t *testing.T) {
	tests := []struct {
		name   string
		cfg    Config
		answer func(ctx context.Context, n int) error
		run    time.Duration
		want   []time.Duration
	}{
		{
			name: "one per interval, the first at once",
			cfg:  Config{Interval: 2 * time.Second}, run: 7 * time.Second,
			want: []time.Duration{0, 2000 * ms, 4000 * ms, 6000 * ms},
		},
		{
			name:   "the time that probes take does not add up",
			answer: func(ctx context.Context, n int) error { return after(ctx, time.Duration(n)*100*ms, nil) },
			run:    4500 * ms, want: []time.Duration{0, 1000 * ms, 2000 * ms, 3000 * ms, 4000 * ms},
		},
		{
			name:   "timeout equal to interval: no slot is missed",
			cfg:    Config{Timeout: time.Second},
			answer: func(ctx context.Context, _ int) error { return after(ctx, time.Hour, nil) },
			run:    3500 * ms, want: []time.Duration{0, 1000 * ms, 2000 * ms, 3000 * ms},
		},
		{
			name: "a slow probe is followed at once, and the grid stays",
			cfg:  Config{Timeout: 5 * time.Second, LongTimeout: true},
			answer: func(ctx context.Context, n int) error {
				if n == 1 {
					return after(ctx, 2700*ms, nil) // misses 2 s and 3 s
				}
				return nil
			},
			run: 5500 * ms, want: []time.Duration{0, 1000 * ms, 3700 * ms, 4000 * ms, 5000 * ms},
		},
		{
			name: "faster while a change is under way, slower while down",
			cfg:  Config{FastInterval: 100 * ms, DownInterval: 3 * time.Second, Rise: 3, Fall: 3},
			answer: func(_ context.Context, n int) error {
				if n >= 2 && n < 6 { // fails from 2 s on; down at 2.2 s; good again from 8.2 s on
					return errTest
				}
				return nil
			},
			run: 10 * time.Second,
			want: []time.Duration{0, 1000 * ms, 2000 * ms, 2100 * ms, 2200 * ms, 5200 * ms,
				8200 * ms, 8300 * ms, 8400 * ms, 9400 * ms},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newTarget(test.answer)
				test.cfg.Checker = f
				_, stop := startMonitor(t, test.cfg)
				time.Sleep(test.run)
				if err := stop(); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Minute) // nothing may come after the stop
				f.wantStarts(t, test.want...)
			})
		})
	}
}

// TestNoDrift: after a day of probes with random durations and jitter the
// grid is where it was.
func TestNoDrift(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const interval, jitter, spread = 10 * time.Second, 300 * ms, 7 * time.Second
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		// One stream each for the probes and for the Monitor: the order of the draws must
		// not matter.
		draw := func(stream uint64) func(time.Duration) time.Duration {
			r := rand.New(rand.NewPCG(seed, stream))
			return func(limit time.Duration) time.Duration { return time.Duration(r.Int64N(int64(limit) + 1)) }
		}
		takes := draw(1)
		f := newTarget(func(ctx context.Context, _ int) error { return after(ctx, takes(4*time.Second), nil) })
		m, err := NewMonitor(Config{Checker: f, Interval: interval, Timeout: 5 * time.Second, Jitter: jitter, StartSpread: spread})
		if err != nil {
			t.Fatal(err)
		}
		m.random = draw(2)
		ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour+time.Minute)
		defer cancel()
		if err := m.Run(ctx); err != nil {
			t.Error(err)
		}
		starts := f.seen()
		first := starts[0]
		if first > spread {
			t.Errorf("first probe at %v, want at most %v", first, spread)
		}
		if want := int(24 * time.Hour / interval); len(starts) < want {
			t.Fatalf("%d probes in a day, want at least %d", len(starts), want)
		}
		var least, most time.Duration = jitter, 0
		for n, at := range starts {
			late := at - first - time.Duration(n)*interval
			if late < 0 || late > jitter {
				t.Fatalf("probe %d is %v off its slot, want 0 to %v", n, late, jitter)
			}
			least, most = min(least, late), max(most, late)
		}
		if least > jitter/10 || most < jitter*9/10 {
			t.Errorf("jitter was %v to %v, want it to use 0 to %v", least, most, jitter)
		}
	})
}

func TestStartSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, spread = 200, 10 * time.Second
		var halves [2]int
		for range n {
			f := newTarget(nil)
			_, stop := startMonitor(t, Config{Checker: f, StartSpread: spread, Interval: time.Hour})
			time.Sleep(spread)
			synctest.Wait()
			first := f.seen()
			_ = stop()
			if len(first) != 1 {
				t.Fatalf("%d probes within the spread, want 1", len(first))
			}
			halves[min(1, first[0]/(spread/2))]++
		}
		if halves[0] < n/4 || halves[1] < n/4 {
			t.Errorf("starts in the first and second half of the spread: %v", halves)
		}
	})
}

func TestPauseResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cancelled error
		f := newTarget(func(ctx context.Context, n int) error {
			if n == 2 { // under way when the pause comes
				cancelled = after(ctx, 900*ms, errTest)
				return cancelled
			}
			return nil
		})
		m, _ := startMonitor(t, Config{Checker: f, Rise: 1, Fall: 1})
		time.Sleep(2500 * ms)
		m.Pause()
		m.Pause()
		synctest.Wait()
		if !errors.Is(cancelled, context.Canceled) {
			t.Errorf("the probe under way ended with %v, want it cancelled", cancelled)
		}
		time.Sleep(10 * time.Second)
		if s := m.Status(); s.State != Up || !s.Paused || s.Err != nil {
			t.Errorf("paused status is %+v, want an unchanged up", s)
		}
		m.Resume()
		m.Resume()
		time.Sleep(1100 * ms)
		if s := m.Status(); s.State != Up || s.Paused || s.Successes != 2 {
			t.Errorf("resumed status is %+v, want up after 2 new successes", s)
		}
		f.wantStarts(t, 0, 1000*ms, 2000*ms, 12500*ms, 13500*ms)
	})
}

func TestTrigger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newTarget(func(ctx context.Context, n int) error {
			if n == 2 {
				return after(ctx, 400*ms, nil)
			}
			return nil
		})
		m, _ := startMonitor(t, Config{Checker: f})
		time.Sleep(300 * ms)
		m.Trigger() // at 0.3 s; the grid goes on from here
		time.Sleep(10 * ms)
		for range 5 {
			m.Trigger() // merged into one, 100 ms after the last
		}
		time.Sleep(200 * ms) // 0.51 s: the probe of 0.4 s is under way
		m.Trigger()
		time.Sleep(1400 * ms)
		f.wantStarts(t, 0, 300*ms, 400*ms, 800*ms, 1800*ms)
	})
}

// watcher is a target with events.
type watcher struct {
	*target
	events chan struct{}
	ended  bool
}

func (w *watcher) Watch(ctx context.Context, changed func()) error {
	defer func() { w.ended = true }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.events:
			changed()
		}
	}
}

func TestWatcherTriggersProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &watcher{target: newTarget(nil), events: make(chan struct{})}
		_, stop := startMonitor(t, Config{Checker: w, Interval: time.Minute})
		time.Sleep(10 * time.Second)
		w.events <- struct{}{}
		time.Sleep(time.Second)
		_ = stop()
		w.wantStarts(t, 0, 10*time.Second)
		if !w.ended {
			t.Error("Run returned before Watch did")
		}
	})
}

func TestHoldDownBoundsFlapping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newTarget(everySecond)
		m, _ := startMonitor(t, Config{Checker: f, Rise: 1, Fall: 1, HoldDown: 30 * time.Second})
		time.Sleep(10 * time.Minute)
		// One round is 30 s of hold-down and at most three probes.
		if got := m.Status().Changes; got < 30 || got > 42 {
			t.Errorf("%d changes in 10 minutes of flapping, want about 40", got)
		}
	})
}

func TestRunTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, stop := startMonitor(t, Config{Checker: newTarget(nil)})
		synctest.Wait()
		if err := m.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "already running") {
			t.Errorf("second Run returned %v", err)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 1500*ms)
		defer cancel()
		if err := m.Run(ctx); err != nil {
			t.Errorf("Run after Run returned %v", err)
		}
		if got := m.Status().Probes; got != 3 {
			t.Errorf("%d probes in both runs, want 1 and 2", got)
		}
	})
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
