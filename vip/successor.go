package vip

import (
	"maps"
	"net"
	"net/netip"
	"time"
)

// seekSuccessors plans to ask the link who has the addresses that are about to be
// released. The question is dropped when the new holder announces an address. Called
// with m.mu held.
func (m *Manager) seekSuccessors(now time.Time) {
	if !m.held || m.announcer.began.IsZero() || m.cfg.VirtualMAC != nil {
		return // nothing was announced, or the hardware address moves along
	}
	m.hearing.Lock()
	defer m.hearing.Unlock()
	for _, t := range m.targets(m.cfg.Addresses) {
		addr := t.Prefix.Addr()
		if m.lacking.address(t.Prefix) || m.rivals.toldAfter(addr, m.announcer.last, now) {
			continue // the address was not here, or the new holder has announced it already
		}
		m.successors.add(addr, now, m.rivals.disputed(addr))
	}
	m.poke()
}

// pursueSuccessors sends the questions and announcements about successors that are due.
// Called with m.mu held.
func (m *Manager) pursueSuccessors(now time.Time) {
	questions := make(map[netip.Addr]question)
	for _, q := range m.questions(m.cfg.Addresses) {
		questions[q.addr] = q
	}
	m.hearing.Lock()
	defer m.hearing.Unlock()
	for addr := range m.successors.list {
		q, ok := questions[addr]
		if !ok {
			delete(m.successors.list, addr) // the address has no link any more
			continue
		}
		for s := m.successors.list[addr]; !s.due.IsZero() && !now.Before(s.due); s = m.successors.list[addr] {
			if s.mac == nil && s.asked {
				delete(m.successors.list, addr) // no host has answered
				break
			}
			if wait := m.ns.budget.take(now); wait > 0 {
				m.budgeted = now.Add(wait)
				return
			}
			m.pursueSuccessor(q, s, now)
		}
	}
}

// pursueSuccessor sends the next frame about a successor. Called with m.mu and m.hearing
// held.
func (m *Manager) pursueSuccessor(q question, s successor, now time.Time) {
	var frame []byte
	if s.mac == nil {
		frame = probeFrame(q.addr, q.link.mac)
		s.asked, s.due = true, now.Add(verdictTime)
	} else {
		frame = gratuitousARP(q.link.mac, q.addr, s.mac, s.told%2 == 1)
		s.told++
	}
	m.successors.list[q.addr] = s
	switch err := m.ns.kernel.send(q.link.index, frame); {
	case err != nil:
		m.log.Debug("the link was not told who has the address now", "address", q.addr, "err", err)
		delete(m.successors.list, q.addr)
	case s.told >= 2*m.announcer.schedule.Burst:
		m.log.Info("told the link who has the address now", "address", q.addr, "mac", s.mac.String())
		m.successors.told[q.addr] = now
		delete(m.successors.list, q.addr)
	}
}

// finishSuccessors is the end of Run: it waits until the link was told of the successors
// for disputed addresses.
func (m *Manager) finishSuccessors() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hearing.Lock()
	maps.DeleteFunc(m.successors.list, func(_ netip.Addr, s successor) bool { return !s.disputed })
	m.hearing.Unlock()
	for next := m.nextSuccessor(); !next.IsZero(); next = m.nextSuccessor() {
		m.mu.Unlock()
		select {
		case <-m.wake:
		case <-time.After(time.Until(next)):
		}
		m.mu.Lock()
		m.pursueSuccessors(time.Now())
	}
}

// nextSuccessor returns when pursueSuccessors has something to send; zero: never. Called
// with m.mu held.
func (m *Manager) nextSuccessor() time.Time {
	m.hearing.Lock()
	defer m.hearing.Unlock()
	return m.successors.next(m.budgeted)
}

// successor is the host that has an address which was released here, as far as it is
// known. Neighbours may send to this host for half a minute more, unless the successor
// announces the address. It does not if it has had the address all along: it has not
// heard its rival's advertisements.
type successor struct {
	due      time.Time // when the next frame is due
	disputed bool      // another host had claimed the address while it was held here
	asked    bool
	mac      net.HardwareAddr // of the host that answered
	told     int              // frames sent that name it
}

// successors are those for the addresses that were released here. It reads no clock.
type successors struct {
	list map[netip.Addr]successor
	told map[netip.Addr]time.Time // when the link was last told of one
}

// add begins the search for the successor for an address that is released at now.
func (l *successors) add(addr netip.Addr, now time.Time, disputed bool) {
	s := successor{due: now.Add(verdictTime), disputed: disputed}
	if disputed {
		s.due = now // its announcements were in vain
	}
	s.due = later(s.due, l.told[addr].Add(roundGap))
	l.list[addr] = s
}

// hear takes note of another host's sighting of an address that was released.
func (l *successors) hear(s sighting) {
	p, ok := l.list[s.addr]
	switch {
	case !ok:
	case s.probe && !p.asked, !s.probe && !s.aside:
		// The successor has announced the address, or will: whoever takes an
		// address does, and whoever answers duplicate address detection (RFC 4862
		// §5.4.3, RFC 4861 §7.2.4). A question now might stop a host that probes.
		delete(l.list, s.addr)
	case s.aside && p.asked && p.mac == nil && s.addr.Is4():
		p.mac, p.due = s.mac, s.time
		l.list[s.addr] = p
	}
}

// next returns when the next frame is due, but not before earliest; zero: never.
func (l *successors) next(earliest time.Time) (at time.Time) {
	for _, s := range l.list {
		at = earlier(later(s.due, earliest), at)
	}
	return at
}
