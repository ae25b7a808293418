package vip

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
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
		m.faults.acquired(false)
		return errors.Join(err, m.release())
	}
	m.setHeld(true)
	m.faults.acquired(true)
	return nil
}

// put adds what is configured and not there: with all, it also writes what is
// there, as for a lease that begins now.
func (m *Manager) put(all bool) error {
	l := m.lease
	if all {
		l = l.from(time.Now())
	}
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
	}
	if err == nil {
		err = m.add(list, c.put, l)
	}
	if err != nil {
		return err
	}
	m.puts = m.had(c.all)
	if all {
		m.setLease(l)
	}
	m.poke()
	return nil
}

// add puts addresses, and the routes, which may have gone with an address. Those
// of them that are missing must not have come meanwhile.
func (m *Manager) add(list, missing []assigned, l lease) error {
	if err := m.protect(list); err != nil {
		return err
	}
	if err := m.write(list, missing, l); err != nil {
		return err
	}
	return m.putRoutes(list)
}

// write puts addresses, and fails if that took so long that their lease is over:
// whoever was frozen meanwhile must not add anything.
func (m *Manager) write(list, missing []assigned, l lease) error {
	for _, a := range list {
		if m.lapsed(l) {
			return m.lapse(l)
		}
		fresh := slices.Contains(missing, a)
		if fresh {
			m.ns.remember(a)
		}
		if err := m.putAddress(a, fresh); err != nil {
			return err
		}
	}
	if m.lapsed(l) {
		return m.lapse(l)
	}
	return nil
}

// lapsed reports whether a lease is over for good: nobody knows that the addresses
// are this host's all the same.
func (m *Manager) lapsed(l lease) bool {
	return l.over(time.Now()) && !m.entitled()
}

// entitled asks whether the addresses are this host's whatever the kernel did.
func (m *Manager) entitled() bool { return m.cfg.Entitled != nil && m.cfg.Entitled() }

// lapse is the reason to lose addresses with a lease.
func (m *Manager) lapse(l lease) error {
	return fmt.Errorf("vip: %s: %w", m.name, l.lapse(time.Now()))
}

// renew extends the lease.
func (m *Manager) renew() error {
	now := time.Now()
	if err := m.write(m.puts, nil, m.lease); err != nil {
		if errors.Is(err, ErrLapsed) || errors.Is(err, ErrNoInterface) {
			return m.lose(err)
		}
		m.lease.renewAt = now.Add(retry) // until the lease lapses
		return err
	}
	if m.lease.over(time.Now()) {
		m.moved() // the addresses may have been away, and be missed
	}
	m.setLease(m.lease.from(now))
	return nil
}

func (m *Manager) setLease(l lease) {
	m.lease = l
	m.lapses.Store(l.doubtful())
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
		m.rivals.since = time.Now()
		m.successors.forget()
	}
	if !held {
		m.rivals.forget()
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
