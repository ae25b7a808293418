package vip

import (
	"maps"
	"net"
	"net/netip"
	"time"
)

// successor is who has an address now that was released here, as far as that is
// known. Neighbours may take this host for it, and would for half a minute, if that
// one does not know that there is anything to be said: it has not heard its rival's
// advertisements, and had the address all along.
type successor struct {
	due      time.Time // of the next thing to be done
	disputed bool      // another host had claimed the address while it was held here
	asked    bool
	mac      net.HardwareAddr // who answered
	told     int              // frames that say so
}

// seek has the link asked who has the addresses that are about to be released,
// unless their new holder is heard to tell. Called with m.mu held.
func (m *Manager) seek(now time.Time) {
	if !m.held || m.announcer.began.IsZero() || m.cfg.VirtualMAC != nil {
		return // nobody was told that it is here, or the hardware address moves along
	}
	for _, t := range m.targets(m.cfg.Addresses) {
		if m.lacks(t.Prefix) {
			continue // it was not here
		}
		addr := t.Prefix.Addr()
		if c := m.claimed[addr]; now.Sub(c) < verdictTime && !c.Before(m.announcer.last) {
			continue // it has told since this host has
		}
		s := successor{due: now.Add(verdictTime), disputed: m.disputed[addr].After(m.acquired)}
		if s.disputed {
			s.due = now // it has told before, in vain
		}
		s.due = later(s.due, m.spokenFor[addr].Add(roundGap))
		m.seeking[addr] = s
	}
	m.seeks.Store(len(m.seeking) > 0)
	m.poke()
}

// found takes note of a sighting of an address that was released. Called with m.mu
// held.
func (m *Manager) found(s sighting) {
	p, ok := m.seeking[s.addr]
	if _, foreign := m.foreign(s); !ok || !foreign {
		return
	}
	switch {
	case s.probe && !p.asked, !s.probe && !s.aside:
		// The link was told, or will be: by whoever takes an address, or answers
		// duplicate address detection (RFC 4862 §5.4.3, RFC 4861 §7.2.4). A
		// question now might keep from it whoever is about to.
		m.settled(s.addr)
	case s.aside && p.asked && p.mac == nil && s.addr.Is4():
		p.mac, p.due = s.mac, s.time
		m.seeking[s.addr] = p
	}
}

func (m *Manager) settled(addr netip.Addr) {
	delete(m.seeking, addr)
	m.seeks.Store(len(m.seeking) > 0)
}

// bequeath asks for the successors and tells of them what is due. The neighbours
// that matter are those that believe this host.
func (m *Manager) bequeath(now time.Time) {
	if !m.seeks.Load() {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if now.Before(m.bequest()) {
		return // what was heard of a thousand addresses comes one by one
	}
	questions := make(map[netip.Addr]question)
	for _, q := range m.questions(m.cfg.Addresses) {
		questions[q.addr] = q
	}
	for addr := range m.seeking {
		q, ok := questions[addr]
		if !ok {
			m.settled(addr) // it has no link any more
			continue
		}
		for s := m.seeking[addr]; !s.due.IsZero() && !now.Before(s.due); s = m.seeking[addr] {
			if s.mac == nil && s.asked {
				m.settled(addr) // nobody has it yet
				break
			}
			if wait := m.ns.budget.take(now); wait > 0 {
				m.budgeted = now.Add(wait)
				return
			}
			m.pursue(q, s, now)
		}
	}
}

// pursue sends the next frame about a successor. Called with m.mu held.
func (m *Manager) pursue(q question, s successor, now time.Time) {
	var frame []byte
	var err error
	if s.mac == nil {
		frame, err = probeFrame(q.addr, q.link.mac)
		s.asked, s.due = true, now.Add(verdictTime)
	} else {
		frame, err = gratuitousARP(q.link.mac, q.addr, s.mac, s.told%2 == 1)
		s.told++
	}
	m.seeking[q.addr] = s
	if err == nil {
		err = m.ns.kernel.send(q.link.index, frame)
	}
	switch {
	case err != nil:
		m.log.Debug("the link was not told who has the address now", "address", q.addr, "err", err)
		m.settled(q.addr)
	case s.told >= 2*m.announcer.schedule.Burst:
		m.log.Info("told the link who has the address now", "address", q.addr, "mac", s.mac.String())
		m.spokenFor[q.addr] = now
		m.settled(q.addr)
	}
}

// bequest returns when bequeath has something to do; zero: never. Called with m.mu
// held.
func (m *Manager) bequest() (at time.Time) {
	for _, s := range m.seeking {
		if due := later(s.due, m.budgeted); at.IsZero() || due.Before(at) {
			at = due
		}
	}
	return at
}

// finish is the rest of Run when nothing is held any more: of addresses in dispute
// the link is told.
func (m *Manager) finish() {
	m.mu.Lock()
	maps.DeleteFunc(m.seeking, func(_ netip.Addr, s successor) bool { return !s.disputed })
	m.seeks.Store(len(m.seeking) > 0)
	m.mu.Unlock()
	for m.bequeath(time.Now()); m.seeks.Load(); m.bequeath(time.Now()) {
		m.mu.Lock()
		next := time.After(time.Until(m.bequest()))
		m.mu.Unlock()
		select {
		case <-m.wake:
			m.hear()
		case <-next:
		}
	}
}
