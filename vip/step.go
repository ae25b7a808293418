package vip

import (
	"errors"
	"fmt"
	"time"
)

// op is one thing to do for the addresses.
type op uint8

const (
	opJudge     op = iota + 1 // judge the claims of other hosts
	opPursue                  // ask which host has a released address now, or tell the link
	opLose                    // give the addresses up: the lease is over
	opReconcile               // make the kernel's state the desired one
	opRenew                   // extend the lease
	opAnnounce                // send the announcements that are due
)

// observed is the state that step decides by. A time that is zero means never.
type observed struct {
	ended    bool // nothing is done any more
	held     bool
	entitled func() bool // asked only when the lease is over
	lease    lease
	judgeAt  time.Time
	pursueAt time.Time
	lookAt   time.Time // when the addresses are to be looked at
	roundAt  time.Time // when the next announcement is due
}

// step returns the operations that are due at now, in this order. opRenew and opAnnounce
// are carried out only if the addresses are still held by then.
func step(now time.Time, o observed) (ops []op) {
	if o.ended {
		return nil
	}
	add := func(op op, due bool) {
		if due {
			ops = append(ops, op)
		}
	}
	reached := func(at time.Time) bool { return !at.IsZero() && !now.Before(at) }
	add(opJudge, reached(o.judgeAt))
	add(opPursue, reached(o.pursueAt))
	late := o.held && o.lease.over(now)
	if late && !o.entitled() {
		return append(ops, opLose)
	}
	// Addresses that were not renewed in time may be gone, and routes with them.
	add(opReconcile, late || reached(o.lookAt))
	add(opRenew, o.held && reached(o.lease.renewalDue()))
	add(opAnnounce, o.held) // one may be due once the addresses were looked at
	return ops
}

// next returns when step has operations again.
func (o observed) next() time.Time {
	at := earlier(earlier(o.judgeAt, o.pursueAt), o.lookAt)
	if o.held {
		at = earlier(at, earlier(o.lease.renewalDue(), o.roundAt))
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
	if due := m.announcer.due(); !due.IsZero() {
		o.roundAt = later(due, m.budgeted)
	}
	o.pursueAt = m.nextSuccessor()
	m.hearing.Lock()
	defer m.hearing.Unlock()
	for _, c := range m.rivals.claims {
		o.judgeAt = earlier(o.judgeAt, c.due)
	}
	return o
}

// work carries out the operations that are due. Called with m.mu held.
func (m *Manager) work() {
	var tried bool // the addresses were looked at or renewed
	var err error
	for _, op := range step(time.Now(), m.observe()) {
		switch {
		case op == opJudge:
			m.judgeClaims(time.Now())
		case op == opPursue:
			m.pursueSuccessors(time.Now())
		case op == opLose:
			tried, err = true, m.loseAddresses(m.lease.lapse(m.name, time.Now()))
		case op == opReconcile:
			tried, err = true, m.reconcile()
		case !m.held: // an earlier operation has lost the addresses
		case op == opRenew:
			tried, err = true, errors.Join(err, m.renewLease())
		case op == opAnnounce:
			m.sendAnnouncements(time.Now())
		}
	}
	if tried {
		m.noteProblem(err)
	}
}

const (
	// renewals is how often an address is renewed within its lifetime.
	renewals = 4
	// retry is when a renewal that failed is tried again.
	retry = 50 * time.Millisecond
	// slack is by how much the kernel may be early: it counts ticks, and rounds up by a
	// fiftieth of a second (ADDRCONF_TIMER_FUZZ_MINUS).
	slack = 50 * time.Millisecond
)

// minLease is the shortest lifetime that the kernel can be given.
const minLease = time.Second

// LeaseFor returns the lease that suits a virtual router with the given interval between
// advertisements. A peer takes the addresses over a number of intervals after the last
// advertisement; by default 3. The lease is the longest one, in whole seconds, that lapses
// before that. At least 1 s, the kernel's shortest, and at most 1 h.
func LeaseFor(interval time.Duration, intervals int) time.Duration {
	return min(max(minLease, (time.Duration(intervals)*interval).Truncate(time.Second)), maxLease)
}

// lease is for how long the kernel keeps the addresses on its own. It reads no clock.
type lease struct {
	lifetime time.Duration // 0: for ever
	since    time.Time     // the last renewal
	renewAt  time.Time
}

// from returns the lease of addresses that are written at a time.
func (l lease) from(at time.Time) lease {
	return lease{l.lifetime, at, at.Add(l.lifetime / renewals)}
}

// renewalDue returns when the addresses are to be renewed; zero: never.
func (l lease) renewalDue() time.Time {
	if l.lifetime == 0 {
		return time.Time{}
	}
	return l.renewAt
}

// over reports whether the kernel may have removed the addresses.
func (l lease) over(now time.Time) bool {
	return l.lifetime > 0 && now.Sub(l.since) >= l.lifetime-slack
}

// doubtful returns when the renewal is so late that the process may be frozen; nil: never.
func (l lease) doubtful() *time.Time {
	if l.lifetime == 0 {
		return nil
	}
	return new(l.since.Add(l.lifetime - l.lifetime/(2*renewals)))
}

// lapse is the reason to lose the addresses at a time, with the name of their Manager.
func (l lease) lapse(name string, now time.Time) error {
	why := ""
	if now.Sub(l.renewAt) >= l.lifetime/renewals { // no renewal was even tried
		why = ", as this process did not run or the kernel did not answer"
	}
	return fmt.Errorf("vip: %s: not renewed for %v%s: %w", name, now.Sub(l.since).Round(time.Millisecond), why, ErrLapsed)
}

const (
	// spacing is the least time between looks, so that a fight with another program
	// over an address costs little.
	spacing = 10 * time.Millisecond
	// patrol is the time between looks without an event.
	patrol = 30 * time.Second
	// again is the time until the next look after a failure.
	again = time.Second
)

// looks says when the addresses are looked at. It reads no clock.
type looks struct {
	last time.Time
	next time.Time // if nothing happens
}

// begun takes note of a look that begins.
func (l *looks) begun(now time.Time) { l.last, l.next = now, now.Add(patrol) }

// soon plans another look even without an event.
func (l *looks) soon() { l.next = l.last.Add(again) }

// due returns when to look; dirty: there was an event.
func (l looks) due(dirty bool) time.Time {
	if dirty {
		return l.last.Add(spacing)
	}
	return l.next
}
