package vip

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	// renewals is how often an address is renewed within its lifetime.
	renewals = 4
	// retry is when a renewal that failed is tried again.
	retry = 50 * time.Millisecond
	// slack is by how much the kernel may be early: it counts in ticks and
	// rounds up by a fiftieth of a second (ADDRCONF_TIMER_FUZZ_MINUS).
	slack = 50 * time.Millisecond
)

// The methods in this file are called with m.mu held.

// acquire makes the addresses held, but for optional ones that cannot be put. If
// that fails, none is left.
func (m *Manager) acquire(ctx context.Context) error {
	var err error
	if !m.held && m.cfg.Probe > 0 {
		err = m.probe(ctx)
	}
	m.holds.Store(true) // what is about to appear is meant to
	if err == nil {
		err = m.put(true)
	}
	if err != nil {
		err = fmt.Errorf("vip: %s: acquire: %w", m.name, err)
		m.failed, m.failedIn = true, ""
		return errors.Join(err, m.release())
	}
	m.setHeld(true)
	m.failed = false
	return nil
}

// put adds what is configured and not there: with all, it also writes what is
// there, as for a lease that begins now.
func (m *Manager) put(all bool) error {
	start := time.Now()
	c, err := m.wanted()
	if err == nil {
		err = m.expose()
	}
	if err == nil {
		err = m.reject()
	}
	list := c.put
	if all {
		list = c.all
	} else {
		start = m.renewed
	}
	if err == nil {
		err = m.add(list, c.put, start)
	}
	if err != nil {
		return err
	}
	m.puts = m.had(c.all)
	if all {
		m.setRenewed(start)
	}
	m.poke()
	return nil
}

// add puts addresses, and the routes, which may have gone with an address. Those
// of them that are missing must not have come meanwhile.
func (m *Manager) add(list, missing []assigned, start time.Time) error {
	if err := m.protect(list); err != nil {
		return err
	}
	if err := m.write(list, missing, start); err != nil {
		return err
	}
	return m.putRoutes(list)
}

// write puts addresses, and fails if that took so long that the lease counted
// from start is over: whoever was frozen meanwhile must not add anything.
func (m *Manager) write(list, missing []assigned, start time.Time) error {
	for _, a := range list {
		if m.lapsed(start) {
			return m.lapse(start)
		}
		fresh := slices.Contains(missing, a)
		if fresh {
			m.ns.remember(a)
		}
		if err := m.putAddress(a, fresh); err != nil {
			return err
		}
	}
	if m.lapsed(start) {
		return m.lapse(start)
	}
	return nil
}

// overdue reports whether a lease counted from start is over, as far as the
// kernel may be concerned.
func (m *Manager) overdue(start time.Time) bool {
	return m.cfg.lifetime() > 0 && time.Since(start) >= m.cfg.lifetime()-slack
}

// lapsed reports whether a lease counted from start is over for good: nobody
// knows that the addresses are this host's all the same.
func (m *Manager) lapsed(start time.Time) bool {
	return m.overdue(start) && (m.cfg.Entitled == nil || !m.cfg.Entitled())
}

// renew extends the lease.
func (m *Manager) renew() error {
	now := time.Now()
	if err := m.write(m.puts, nil, m.renewed); err != nil {
		if errors.Is(err, ErrLapsed) || errors.Is(err, ErrNoInterface) {
			return m.lose(err)
		}
		m.renewAt = now.Add(retry) // until the lease lapses
		return err
	}
	if m.overdue(m.renewed) {
		m.moved() // the addresses may have been away, and be missed
	}
	m.setRenewed(now)
	return nil
}

// setRenewed says from when the lease counts.
func (m *Manager) setRenewed(at time.Time) {
	m.renewed, m.renewAt = at, at.Add(m.cfg.lifetime()/renewals)
	var lapses *time.Time
	if m.cfg.lifetime() > 0 {
		lapses = new(at.Add(m.cfg.lifetime() - m.cfg.lifetime()/(2*renewals))) // a renewal is overdue by half its time
	}
	m.lapses.Store(lapses)
}

// release makes the addresses not held, and removes them.
func (m *Manager) release() error {
	m.seek(time.Now())
	m.setHeld(false)
	m.announcer.stop()
	m.puts = nil
	_, err := m.clear()
	return err
}

func (m *Manager) setHeld(held bool) {
	if held && !m.held {
		m.acquired = time.Now()
		clear(m.seeking)
		m.seeks.Store(false)
	}
	if !held {
		clear(m.claims)
		clear(m.claimed)
		clear(m.elders)
	}
	m.held = held
	m.holds.Store(held)
}

// lose gives the addresses up because they cannot be kept.
func (m *Manager) lose(reason error) error {
	m.log.Error("addresses lost", "err", reason)
	m.status.Lost++
	m.lost = reason
	m.poke()
	return m.release()
}

// lapse is the reason to lose addresses whose lease counted from start.
func (m *Manager) lapse(start time.Time) error {
	why := ""
	if time.Since(m.renewAt) >= m.cfg.lifetime()/renewals { // it was not even tried again
		why = ", as this process did not run or the kernel did not answer"
	}
	return fmt.Errorf("vip: %s: not renewed for %v%s: %w", m.name, time.Since(start).Round(time.Millisecond), why, ErrLapsed)
}
