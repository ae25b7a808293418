package vip

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/havip/havip/internal/quietlog"
)

// Run keeps the addresses as Acquire and Release say until ctx ends. At first it removes
// what a predecessor has left behind, and at the end it removes the addresses and closes
// the Manager. Everything that fails is tried again. The order of ends: first the
// election, so that nothing is acquired any more; then Run; then the Namespace, if it is
// shared.
//
// A nil error says that the addresses are gone. Run returns an error if they could not
// be removed, if [Manager.Close] was called (ErrClosed), or if addresses were lost and
// nobody hears of losses (see [Config.OnLost]). A second Run fails at once: with
// ErrRunning while the first one runs, with ErrClosed after that.
func (m *Manager) Run(ctx context.Context) error {
	if err := m.beginRun(ctx); err != nil {
		return err
	}
	defer quietlog.Flush(m.log)
	defer m.losses.Wait()
	defer m.conflicts.Wait()
	defer m.asides.Wait()
	defer m.Close()
	m.dirty.Store(true)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		next, heard, lost := m.turn()
		m.tellFaults(lost)
		if lost != nil && !heard {
			lost = fmt.Errorf("vip: %s: addresses lost, and neither OnLost nor WatchFaults to tell of that: %w", m.name, lost)
			return errors.Join(lost, m.endHolding())
		}
		timer.Reset(time.Until(next))
		select {
		case <-ctx.Done():
			err := m.endHolding()
			m.finishSuccessors()
			return err
		case <-m.closing:
			return m.life.closedError("run")
		case <-m.wake:
		case <-timer.C:
		}
	}
}

// beginRun says that Run runs.
func (m *Manager) beginRun(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.life.refuse(ctx, "run"); err != nil {
		return err
	}
	if m.life.running {
		return fmt.Errorf("vip: %s: run: %w", m.name, ErrRunning)
	}
	m.life.running = true
	return nil
}

// Ready is closed once Run has removed what a predecessor left behind, and has found or
// made the interfaces. Before that Acquire is likely to fail: Status.Problem says why.
// Run goes on trying.
func (m *Manager) Ready() <-chan struct{} { return m.ready }

// Close ends the Manager. When Close returns, the addresses that were held and the
// macvlan are removed, and nothing is added any more. A Run returns soon after, with an
// error that wraps ErrClosed. Close may be called at any time, from every callback but
// OnRemovals and Entitled, and more than once. An error says that something may be left.
func (m *Manager) Close() error {
	var err error
	m.closed.Do(func() {
		close(m.closing)
		err = m.undoAll()
		m.ns.leave(m)
		if m.cfg.Namespace == nil {
			err = errors.Join(err, m.ns.Close())
		}
	})
	return err
}

// undoAll takes everything back that the Manager has done.
func (m *Manager) undoAll() error {
	err := m.endHolding()
	m.mu.Lock()
	defer m.mu.Unlock()
	err = errors.Join(err, m.removeMacvlan())
	m.restoreSettings(func(settingKey) bool { return true })
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
	if !m.held && !m.life.running {
		return nil // the addresses may be another process's
	}
	return m.releaseAll()
}

// turn does what is due, and returns when to do so again. lost is why addresses were lost
// since the last turn; heard reports whether anybody hears of losses.
func (m *Manager) turn() (next time.Time, heard bool, lost error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.work()
	lost, m.lost = m.lost, nil
	tell := m.cfg.OnLost
	if lost != nil && tell != nil {
		m.losses.Add(func() { tell(lost) })
	}
	return m.observe().next(), tell != nil || m.faults.watched, lost
}

// remind is how often a problem that lasts is logged.
const remind = time.Minute

var problemLimit = quietlog.Limit{Every: remind}

// noteProblem takes note of the outcome of a step. Called with m.mu held.
func (m *Manager) noteProblem(err error) {
	if err == nil && !m.life.settled {
		m.life.settled = true
		close(m.ready)
	}
	if lacking := m.lacking.err(); err == nil && m.held && lacking != nil {
		err = fmt.Errorf("vip: %s: %w", m.name, lacking)
	}
	if err == nil {
		if m.status.Problem != "" {
			m.log.Info("addresses are as they should be again", "was", m.status.Problem)
		}
		m.status.Problem = ""
		return
	}
	if m.status.Problem != err.Error() {
		problemLimit.Reset(m.log)
	}
	m.status.Problem = err.Error()
	m.log.Error("addresses are not as they should be", "err", err, problemLimit.By(nil))
}
