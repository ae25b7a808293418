package healthcheck

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/havip/havip/internal/quietlog"
)

// stopGrace is how long a Checker's methods may take to return after their
// context was done. After that a probe has failed, whatever it will return.
const stopGrace = time.Second

// watchRetry is the time from the end of a Watch that failed to the next.
const watchRetry = 5 * time.Second

// errStuck is the result of a probe whose Checker ignores its context, as a
// stat(2) on a dead network file system does.
var errStuck = errors.New("healthcheck: the checker did not return when its time was up")

// ErrRunning is what a second Run returns while the first is under way.
var ErrRunning = errors.New("is already running")

// Monitor probes one target at its intervals and keeps its [Status]. Make one
// with [NewMonitor]. Its methods may be called from any goroutine.
type Monitor struct {
	cfg  Config
	log  *slog.Logger
	kick chan struct{} // wakes Run after core was changed from outside
	// random returns a duration from 0 to limit.
	random func(limit time.Duration) time.Duration

	mu      sync.Mutex
	core    core
	epoch   int // a probe started in an earlier epoch has no say: there was a pause
	running bool
	subs    []*subscriber
}

// NewMonitor returns a Monitor that probes once Run is called. The error is that of
// [Config.Validate].
func NewMonitor(cfg Config) (*Monitor, error) {
	err := cfg.Validate()
	cfg = cfg.WithDefaults()
	if err != nil {
		return nil, fmt.Errorf("healthcheck: monitor %s: %w", cfg.Name, err)
	}
	m := &Monitor{cfg: cfg, kick: make(chan struct{}, 1), random: random, log: quietlog.New(cfg.Logger).With("check", cfg.Name)}
	m.core = newCore(&m.cfg, time.Now())
	return m, nil
}

// Status returns what the Monitor knows now.
func (m *Monitor) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.core.Status
}

// Pause stops probing and keeps the state. A probe under way is cancelled and
// its result ignored. Subscribers are told.
func (m *Monitor) Pause() {
	m.change(func(time.Time) bool { return m.core.pause() })
}

// Resume probes at once and goes on from there. Subscribers are told.
func (m *Monitor) Resume() {
	m.change(func(now time.Time) bool { return m.core.resume(now) })
}

// Trigger asks for a probe at once, outside the interval: something was
// noticed that may have changed the answer. The interval counts anew from
// there. Triggers are merged into one probe every 100 ms.
func (m *Monitor) Trigger() {
	m.mu.Lock()
	m.core.trigger(time.Now())
	m.mu.Unlock()
	m.wake()
}

// change applies a pause or its end, which f reports to be one.
func (m *Monitor) change(f func(now time.Time) bool) {
	m.mu.Lock()
	if f(time.Now()) {
		m.epoch++
		m.publish()
	}
	m.mu.Unlock()
	m.wake()
}

func (m *Monitor) wake() {
	select {
	case m.kick <- struct{}{}:
	default:
	}
}

// probe is one call of Check under way.
type probe struct {
	epoch   int
	started time.Time
	cancel  context.CancelFunc
	result  chan result
	// giveUp is when the probe counts as failed though it has not returned;
	// void says that its result no longer matters.
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
// outlives Run, and Run may be called again. All other methods may be called before,
// during and after Run.
func (m *Monitor) Run(ctx context.Context) error {
	if !m.setRunning(true) {
		return fmt.Errorf("healthcheck: monitor %s: %w", m.cfg.Name, ErrRunning)
	}
	defer quietlog.Flush(m.log)
	defer m.setRunning(false)
	// A context of its own keeps the probes of thousands of Monitors from
	// queueing for the lock of the one that they all were given.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watched := m.watch(ctx)

	m.mu.Lock()
	m.core.start(time.Now(), m.random(m.cfg.StartSpread))
	m.mu.Unlock()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var p *probe
	for {
		var results <-chan result
		if p != nil {
			results = p.result
		}
		if wait, ok := m.untilWake(p); ok {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			return m.finish(p, watched)
		case <-m.kick:
			m.checkEpoch(p)
		case r := <-results:
			m.checkEpoch(p)
			if !p.void {
				m.record(r.at, r.at.Sub(p.started), r.err)
			}
			p = nil
		case <-timer.C:
			m.checkEpoch(p)
			p = m.tick(ctx, p)
		}
	}
}

// setRunning reports whether it changed anything.
func (m *Monitor) setRunning(on bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	changed := m.running != on
	m.running = on
	return changed
}

// watch runs a Watcher's Watch, again if it fails. The channel it returns is
// closed at its end.
func (m *Monitor) watch(ctx context.Context) <-chan struct{} {
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
			level = slog.LevelDebug // said once
			select {
			case <-ctx.Done():
			case <-time.After(watchRetry):
			}
		}
	}()
	return done
}

// untilWake returns the time to the next thing to do, if there is one.
func (m *Monitor) untilWake(p *probe) (time.Duration, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.core.Paused {
		return 0, false
	}
	at := m.core.due
	if p != nil {
		at = p.giveUp
	}
	return time.Until(at), true
}

// checkEpoch makes a probe void if there was a pause since its start. Its
// Checker then gets some time to return before that counts as a failure.
func (m *Monitor) checkEpoch(p *probe) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p != nil && p.epoch != m.epoch {
		p.epoch, p.void, p.giveUp = m.epoch, true, time.Now().Add(stopGrace)
		p.cancel()
	}
}

// tick starts the probe that is due. Where an earlier one is stuck, it counts
// a failure in its stead: the next one waits until that returns.
func (m *Monitor) tick(ctx context.Context, p *probe) *probe {
	now := time.Now()
	m.mu.Lock()
	if p == nil {
		// What the timer was set for may have changed since.
		if ctx.Err() != nil || m.core.Paused || m.core.due.After(now) {
			m.mu.Unlock()
			return nil
		}
		m.core.begin()
		epoch := m.epoch
		m.mu.Unlock()
		return m.start(ctx, epoch)
	}
	if m.core.Paused || p.giveUp.After(now) {
		m.mu.Unlock()
		return p
	}
	if p.void {
		m.core.begin()
	}
	m.mu.Unlock()
	m.record(now, now.Sub(p.started), errStuck)
	m.mu.Lock()
	p.void, p.giveUp = true, now.Add(m.core.interval())
	m.mu.Unlock()
	return p
}

// start runs one probe in a goroutine of its own, so that the stack that it
// needs is given back afterwards and a stuck Checker does not hold up Run.
func (m *Monitor) start(ctx context.Context, epoch int) *probe {
	now := time.Now()
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Timeout)
	p := &probe{
		epoch:   epoch,
		started: now,
		cancel:  cancel,
		result:  make(chan result, 1),
		giveUp:  now.Add(m.cfg.Timeout + stopGrace),
	}
	go func() {
		defer cancel()
		err := m.cfg.Checker.Check(ctx)
		p.result <- result{at: time.Now(), err: err}
	}()
	return p
}

// finish waits for what is under way at the end of Run: a probe, if p is not
// nil, and Watch.
func (m *Monitor) finish(p *probe, watched <-chan struct{}) error {
	grace := time.NewTimer(stopGrace)
	defer grace.Stop()
	if p != nil {
		p.cancel()
		select {
		case <-p.result:
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

// record hands a result to the core, logs it and tells the subscribers: what they log
// of it comes after its cause. Nobody waits for the logger.
func (m *Monitor) record(at time.Time, latency time.Duration, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.core.record(at, latency, err, m.random(m.cfg.Jitter)) {
		m.logProbe(latency, err)
		return
	}
	if err != nil {
		m.log.Warn("check is "+m.core.State.String(), "err", err)
	} else {
		m.log.Info("check is "+m.core.State.String(), m.described("latency", latency)...)
	}
	m.publish()
}

// described adds what is checked, which an error says anyway.
func (m *Monitor) described(args ...any) []any {
	if s, ok := m.cfg.Checker.(fmt.Stringer); ok {
		args = append([]any{"target", s.String()}, args...)
	}
	return args
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

// random returns a duration from 0 to limit.
func random(limit time.Duration) time.Duration {
	return rand.N(limit + 1)
}
