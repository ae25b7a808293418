package vip

import (
	"errors"
	"time"
)

// op is one thing to do for the addresses.
type op uint8

const (
	opLose      op = iota + 1 // give the addresses up: the lease is over
	opReconcile               // make the kernel's state the desired one
	opRenew                   // extend the lease
	opAnnounce                // send the announcements that are due
)

// observed is the state that step decides by.
type observed struct {
	ended    bool // nothing is done any more
	held     bool
	entitled func() bool // asked only when the lease is over
	lease    lease
	lookAt   time.Time   // when the addresses are to be looked at
	others   []time.Time // when other things are due; zero: never
}

// step returns the operations that are due at now, in this order. opRenew and opAnnounce
// are carried out only if the addresses are still held by then.
func step(now time.Time, o observed) (ops []op) {
	if o.ended {
		return nil
	}
	late := o.held && o.lease.over(now)
	if late && !o.entitled() {
		return []op{opLose}
	}
	// Addresses that were not renewed in time may be gone, and routes with them.
	if late || !now.Before(o.lookAt) {
		ops = append(ops, opReconcile)
	}
	if due := o.lease.renewalDue(); o.held && !due.IsZero() && !now.Before(due) {
		ops = append(ops, opRenew)
	}
	if o.held {
		ops = append(ops, opAnnounce)
	}
	return ops
}

// next returns when step has operations again.
func (o observed) next() time.Time {
	at := o.lookAt
	if o.held {
		at = earlier(at, o.lease.renewalDue())
	}
	for _, t := range o.others {
		at = earlier(at, t)
	}
	return at
}

// earlier returns the earlier of two times; zero: never.
func earlier(a, b time.Time) time.Time {
	if b.IsZero() || !a.IsZero() && a.Before(b) {
		return a
	}
	return b
}

// observe returns the state that step decides by. Called with m.mu held.
func (m *Manager) observe() observed {
	o := observed{ended: m.life.ended, held: m.held, entitled: m.cfg.entitled, lease: m.lease, lookAt: m.looks.due(m.dirty.Load())}
	if due := m.announcer.due(); m.held && !due.IsZero() {
		o.others = append(o.others, later(due, m.budgeted))
	}
	for _, c := range m.rivals.claims {
		o.others = append(o.others, c.due)
	}
	o.others = append(o.others, m.successors.next(m.budgeted))
	return o
}

// work carries out the operations that are due. It reports whether the addresses were
// looked at or renewed.
func (m *Manager) work() (tried bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, op := range step(time.Now(), m.observe()) {
		switch {
		case op == opLose:
			return true, m.loseAddresses(m.lease.lapse(m.name, time.Now()))
		case op == opReconcile:
			tried, err = true, m.reconcile()
		case !m.held: // an earlier operation has lost the addresses
		case op == opRenew:
			tried, err = true, errors.Join(err, m.renewLease())
		case op == opAnnounce:
			m.sendAnnouncements(time.Now())
		}
	}
	return tried, err
}

// deadline returns when work has operations to carry out again.
func (m *Manager) deadline() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.observe().next()
}
