package vip

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/havip/havip/internal/quietlog"
)

// Run keeps the addresses as Acquire and Release say until ctx ends. It begins
// by removing what a predecessor left behind, and ends by removing the
// addresses. What fails it tries again. The order of ends: whoever elects ends
// first, so that nobody acquires any more; then Run, which closes the Manager; then
// the Namespace, if it is shared.
//
// A nil error says that the addresses are gone. Other ends than that of ctx have an
// error: [Manager.Close] was called (ErrClosed), or addresses were lost and nobody
// would have heard of it (see [Config.OnLost]). A second Run fails at once, with
// ErrRunning while the first one runs, and with ErrClosed after that.
func (m *Manager) Run(ctx context.Context) error {
	if err := m.beginRun(); err != nil {
		return err
	}
	defer quietlog.Flush(m.log)
	defer m.calls.wait()
	defer m.Close()
	m.dirty.Store(true)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		m.takeSightings()
		m.judgeClaims(time.Now())
		m.pursueSuccessors(time.Now())
		if tried, err := m.work(); tried {
			m.noteProblem(err)
		}
		heard, lost := m.tellLost()
		m.tellFaults(lost)
		if lost != nil && !heard {
			lost = fmt.Errorf("vip: %s: addresses lost, and neither OnLost nor WatchFaults to tell of that: %w", m.name, lost)
			return errors.Join(lost, m.endHolding())
		}
		timer.Reset(time.Until(m.deadline()))
		select {
		case <-ctx.Done():
			err := m.endHolding()
			m.finishSuccessors()
			return err
		case <-m.closing:
			return m.closedError("run")
		case <-m.wake:
		case <-timer.C:
		}
	}
}

// beginRun says that Run runs.
func (m *Manager) beginRun() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.life.ended:
		return m.closedError("run")
	case m.life.running:
		return fmt.Errorf("vip: %s: run: %w", m.name, ErrRunning)
	}
	m.life.running = true
	return nil
}

// closedError says what cannot be done any more.
func (m *Manager) closedError(what string) error {
	return fmt.Errorf("vip: %s: %s: %w", m.name, what, ErrClosed)
}

// Ready is closed once Run has removed what a predecessor left behind, and has
// what the configuration asks for. Before that Acquire is likely to fail:
// Status tells why. Run goes on trying.
func (m *Manager) Ready() <-chan struct{} { return m.ready }

// Close ends the Manager: the addresses that are held are removed, and so is its
// macvlan, when it returns; nothing is added after that. Run, which has the same at
// its end, returns soon after with an error that wraps ErrClosed. Close may be called
// at any time, from any callback that may call the Manager, and more than once.
// The error says that something may be left.
func (m *Manager) Close() error {
	var err error
	m.closed.Do(func() {
		close(m.closing)
		err = m.undoAll()
		m.ns.leave(m)
		m.ns.leaveRoutes(m)
		if m.ownsNS {
			err = errors.Join(err, m.ns.Close())
		}
	})
	return err
}

// undoAll takes everything back that the Manager has done.
func (m *Manager) undoAll() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var err error
	if m.held || m.life.running && !m.life.ended { // else it may be that of another process
		err = m.releaseAll()
	}
	m.life.ended = true
	err = errors.Join(err, m.removeMacvlan())
	m.settings.restore()
	return err
}

// endHolding removes the addresses for good.
func (m *Manager) endHolding() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.life.ended {
		return nil
	}
	m.life.ended = true
	return m.releaseAll()
}

// remind is how often a problem that lasts is logged.
const remind = time.Minute

var problemLimit = quietlog.Limit{Every: remind}

// noteProblem takes note of what came of a step that was tried.
func (m *Manager) noteProblem(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil && !m.isReady() {
		close(m.ready)
	}
	if lacking := m.lacking.err(); err == nil && m.held && lacking != nil {
		err = fmt.Errorf("vip: %s: %w", m.name, lacking)
	}
	if err == nil {
		if m.status.Problem != "" {
			m.log.Info("addresses are as they should be again", "was", m.status.Problem, problemLimit.Resets())
		}
		m.status.Problem = ""
		return
	}
	m.status.Problem = err.Error()
	m.log.Error("addresses are not as they should be", "err", err, problemLimit.By(m.status.Problem))
}

// disturb says that the kernel's state may not be the desired one any more.
func (m *Manager) disturb() {
	m.dirty.Store(true)
	m.poke()
}

// poke makes Run look at the time and at what there is to do.
func (m *Manager) poke() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// tellLost tells OnLost why addresses were lost since the last time, if they were.
// It reports whether anybody hears of that.
func (m *Manager) tellLost() (heard bool, lost error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	lost, m.lost = m.lost, nil
	tell := m.cfg.OnLost
	if lost != nil && tell != nil {
		m.calls.lost.Add(func() { tell(lost) })
	}
	return tell != nil || m.faults.watched, lost
}
