package healthcheck

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/havip/havip/internal/quietlog"
	"github.com/havip/havip/internal/retry"
)

// stopGrace is how long a Checker's methods may take to return once their context is
// done. A probe that takes longer counts as failed, whatever its result will be.
const stopGrace = time.Second

// watchRetry is the time from the end of a Watch that failed to the next.
const watchRetry = 5 * time.Second

// errStuck is the result of a probe whose Checker does not return when its context is
// done, as stat(2) on a dead network file system.
var errStuck = errors.New("healthcheck: the checker did not return when its time was up")

// ErrRunning is what a second Run returns while the first is under way.
var ErrRunning = errors.New("is already running")

// Monitor probes one target at its intervals and keeps its [Status]. Make one
// with [NewMonitor]. Its methods may be called from any goroutine.
type Monitor struct {
	cfg  Config
	log  *slog.Logger
	kick chan struct{} // wakes Run after core was changed from outside
	// results has room for that of the probe under way.
	results chan result
	// random returns a duration from 0 to limit.
	random func(limit time.Duration) time.Duration

	running atomic.Bool

	mu    sync.Mutex
	core  core
	probe *probe // under way; nil: none
	subs  []*subscriber
}

// NewMonitor returns a Monitor that probes once Run is called. The error is that of
// [Config.Validate].
func NewMonitor(cfg Config) (*Monitor, error) {
	err := cfg.Validate()
	cfg = cfg.WithDefaults()
	if err != nil {
		return nil, fmt.Errorf("healthcheck: monitor %s: %w", cfg.Name, err)
	}
	m := &Monitor{
		cfg: cfg, kick: make(chan struct{}, 1), results: make(chan result, 1),
		log:    quietlog.New(cfg.Logger).With("check", cfg.Name),
		random: func(limit time.Duration) time.Duration { return rand.N(limit + 1) },
	}
	m.core = newCore(&m.cfg, time.Now())
	return m, nil
}

// Status returns what the Monitor knows now.
func (m *Monitor) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.core.Status
}

// Target says what is probed, as the log does: the String of the Checker. It is empty for
// a Checker without that method.
func (m *Monitor) Target() string {
	if s, ok := m.cfg.Checker.(fmt.Stringer); ok {
		return s.String()
	}
	return ""
}

// Pause stops probing and keeps the state. A probe under way is cancelled and
// its result ignored. Subscribers are told.
func (m *Monitor) Pause() { m.setPaused(true) }

// Resume probes at once and goes on from there. Subscribers are told.
func (m *Monitor) Resume() { m.setPaused(false) }

// Trigger asks for a probe at once, outside the interval: something was
// noticed that may have changed the answer. The interval counts anew from
// there. Triggers are merged into one probe every 100 ms.
func (m *Monitor) Trigger() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.core.triggerProbe(time.Now())
	m.wakeRun()
}

// setPaused pauses or resumes. The result of a probe under way is void then.
func (m *Monitor) setPaused(paused bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now := time.Now(); m.core.setPaused(paused, now) {
		if p := m.probe; p != nil {
			p.cancel()
			p.void, p.giveUp = true, now.Add(stopGrace)
		}
		m.publish()
	}
	m.wakeRun()
}

func (m *Monitor) wakeRun() {
	select {
	case m.kick <- struct{}{}:
	default:
	}
}

// probe is one call of Check under way.
type probe struct {
	started time.Time
	cancel  context.CancelFunc
	// giveUp is when the probe counts as failed though its Checker has not returned. void:
	// the result is ignored, since there was a pause or the probe has counted as failed.
	giveUp time.Time
	void   bool
}

type result struct {
	at  time.Time
	err error
}

// Run probes until ctx is done, and then returns nil once everything that it
// started has ended. It returns [ErrRunning] if Run is already under way, and an
// error if the Checker did not return within a second of the end of ctx. The state
// outlives Run, and Run may be called again: it first waits for such a Checker. All other
// methods may be called before, during and after Run.
func (m *Monitor) Run(ctx context.Context) error {
	if !m.running.CompareAndSwap(false, true) {
		return fmt.Errorf("healthcheck: monitor %s: %w", m.cfg.Name, ErrRunning)
	}
	defer quietlog.Flush(m.log)
	defer m.running.Store(false)
	// Thousands of Monitors may be given the same context. With a context of its own
	// each Monitor's probes do not queue for the lock of the common one.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watched := m.watchEvents(ctx)

	m.mu.Lock()
	now := time.Now()
	m.core.startProbes(now, m.random(m.cfg.StartSpread))
	if m.probe != nil { // of the Run before: its Checker may have returned meanwhile
		m.probe.giveUp = now.Add(stopGrace)
	}
	m.mu.Unlock()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if wait, ok := m.untilWake(); ok {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			return m.finishRun(watched)
		case <-m.kick:
		case r := <-m.results:
			m.endProbe(r)
		case <-timer.C:
			m.continueProbe(ctx)
		}
	}
}

// watchEvents runs a Watcher's Watch, and runs it again after an error. The returned
// channel is closed when Watch has ended for good.
func (m *Monitor) watchEvents(ctx context.Context) <-chan struct{} {
	done := make(chan struct{})
	w, ok := m.cfg.Checker.(Watcher)
	if !ok {
		close(done)
		return done
	}
	go func() {
		defer close(done)
		level := slog.LevelWarn
		for ctx.Err() == nil {
			err := w.Watch(ctx, m.Trigger)
			if err == nil {
				return
			}
			m.log.Log(ctx, level, "check is left with its interval, it hears of no events", "err", err)
			level = slog.LevelDebug // one warning is enough
			retry.Pause(ctx, watchRetry)
		}
	}()
	return done
}

// untilWake returns the time until Run has something to do; false: Run waits for events
// only.
func (m *Monitor) untilWake() (time.Duration, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := m.core.due
	if m.probe != nil {
		at = m.probe.giveUp
	}
	return time.Until(at), !m.core.Paused
}

// continueProbe starts the probe that is due, if there is none under way. A probe that is
// stuck counts as a failure, and the next probe waits until it returns.
func (m *Monitor) continueProbe(ctx context.Context) {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	// There may have been a pause or a trigger since the timer was set.
	switch p := m.probe; {
	case ctx.Err() != nil, m.core.Paused:
	case p == nil && !m.core.due.After(now):
		m.startProbe(ctx, now)
	case p != nil && !p.giveUp.After(now):
		if p.void {
			m.core.beginProbe()
		}
		m.recordResult(now, now.Sub(p.started), errStuck)
		p.void, p.giveUp = true, now.Add(m.core.interval())
	}
}

// startProbe runs one probe in a goroutine of its own: its stack is freed afterwards,
// and a stuck Checker does not block Run. The caller holds m.mu.
func (m *Monitor) startProbe(ctx context.Context, now time.Time) {
	m.core.beginProbe()
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Timeout)
	m.probe = &probe{started: now, cancel: cancel, giveUp: now.Add(m.cfg.Timeout + stopGrace)}
	go func() {
		defer cancel()
		err := m.cfg.Checker.Check(ctx)
		m.results <- result{at: time.Now(), err: err}
	}()
}

// endProbe takes the result of the probe under way.
func (m *Monitor) endProbe(r result) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.probe
	m.probe = nil
	if !p.void {
		m.recordResult(r.at, r.at.Sub(p.started), r.err)
	}
}

// finishRun waits until the probe under way, if there is one, and Watch have returned. A
// later Run goes on to wait for a probe that has not.
func (m *Monitor) finishRun(watched <-chan struct{}) error {
	grace := time.NewTimer(stopGrace)
	defer grace.Stop()
	m.mu.Lock()
	p := m.probe
	if p != nil {
		p.void = true
	}
	m.mu.Unlock()
	if p != nil {
		select {
		case r := <-m.results:
			m.endProbe(r)
		case <-grace.C:
			return fmt.Errorf("healthcheck: monitor %s: stopped, but its checker has not returned", m.cfg.Name)
		}
	}
	select {
	case <-watched:
		return nil
	case <-grace.C:
		return fmt.Errorf("healthcheck: monitor %s: stopped, but its checker still watches", m.cfg.Name)
	}
}

// recordResult hands a result to the core, logs the result and then tells the
// subscribers, whose own log lines follow. Nobody waits for the logger. The caller holds
// m.mu.
func (m *Monitor) recordResult(at time.Time, latency time.Duration, err error) {
	if !m.core.recordResult(at, latency, err, m.random(m.cfg.Jitter)) {
		m.logProbe(latency, err)
		return
	}
	if err != nil {
		m.log.Warn("check is "+m.core.State.String(), "err", err) // which names the target
	} else {
		args := []any{"latency", latency}
		if target := m.Target(); target != "" {
			args = append([]any{"target", target}, args...)
		}
		m.log.Info("check is "+m.core.State.String(), args...)
	}
	m.publish()
}

// logProbe logs a result that changes nothing. There are many of them.
func (m *Monitor) logProbe(latency time.Duration, err error) {
	switch {
	case !m.log.Enabled(context.Background(), slog.LevelDebug):
	case err != nil:
		m.log.Debug("probe failed", "state", m.core.State, "failures", m.core.Failures, "latency", latency, "err", err)
	default:
		m.log.Debug("probe succeeded", "state", m.core.State, "successes", m.core.Successes, "latency", latency)
	}
}
