package vip

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/havip/havip/internal/quietlog"
)

// Conflict says that another host claims an address that is held here.
type Conflict struct {
	// Address is the address that both hold.
	Address netip.Addr
	// MAC is the other host's hardware address; nil if it did not say.
	MAC net.HardwareAddr
	// Interface is the device on which it was seen.
	Interface string
	// Time is when it was seen.
	Time time.Time
}

// conflictLimit: a conflict is logged when it begins, and every ten minutes while it goes
// on. After a minute without a claim the conflict is over, and a next one is another.
var conflictLimit = quietlog.Limit{Every: 10 * time.Minute, Pause: time.Minute}

const conflictMessage = "another host claims an address that is held here"

// takeSighting accepts a sighting from the Namespace. It does not wait for the Manager.
func (m *Manager) takeSighting(s sighting) {
	m.hearing.Lock()
	defer m.hearing.Unlock()
	held := !m.rivals.since.IsZero()
	if !held && len(m.successors.list) == 0 {
		return
	}
	if _, foreign := m.foreign(s); !foreign {
		return
	}
	if held {
		m.rivals.hear(s)
	}
	m.successors.hear(s) // even while held: a release may have begun
	m.poke()
}

// judgeClaims counts and reports the claims that are due, to addresses that are still held
// here, and contradicts a host that has claimed an address later than this one. Called
// with m.mu held.
func (m *Manager) judgeClaims(now time.Time) {
	m.hearing.Lock()
	due := m.rivals.takeDue(now)
	m.hearing.Unlock()
	if len(due) == 0 || m.cfg.Entitled != nil && !m.cfg.Entitled() {
		return
	}
	if slices.ContainsFunc(due, func(c claim) bool { return c.newcomer }) {
		m.announcer.answer(now)
	}
	var news []claim
	for _, c := range due {
		var foreign bool
		if c.ifname, foreign = m.foreign(c.sighting); !foreign {
			continue // the interface has changed since
		}
		m.status.Conflicts += c.times
		conflict := Conflict{Address: c.addr, MAC: c.mac, Interface: c.ifname, Time: c.time}
		m.status.LastConflict = &conflict
		if !conflictLimit.Mutes(m.log, slog.LevelError, conflictMessage, c.addr, c.times) {
			news = append(news, c)
		}
		if tell := m.cfg.OnConflict; m.rivals.reportDue(c) && tell != nil {
			m.conflicts.Add(func() { tell(conflict) })
		}
	}
	if len(news) > 0 {
		own := m.cfg.addrs()
		m.asides.Add(func() { m.logConflicts(news, own) })
	}
}

// maxKnown is how many addresses of another host a line has: a router with proxy ARP
// answers for hundreds.
const maxKnown = 8

// logConflicts logs claims with the IP addresses of the other hosts: a hardware address
// alone says little to a person. A line leaves out own, the addresses that are held here:
// the line says anyway that the other host has them, too.
func (m *Manager) logConflicts(news []claim, own []netip.Addr) {
	hosts := map[string][]netip.Addr{} // by hardware address and interface
	for _, c := range news {
		key := fmt.Sprint(c.index, c.mac)
		if _, asked := hosts[key]; !asked {
			hosts[key], _ = m.ns.kernel.known(c.index, c.mac)
			hosts[key] = slices.DeleteFunc(hosts[key], func(a netip.Addr) bool { return slices.Contains(own, a) })
		}
		args := []any{"address", c.addr, "mac", c.mac.String(), "interface", c.ifname}
		if list := hosts[key]; len(list) > 0 {
			args = append(args, "host", list[:min(len(list), maxKnown)])
		}
		m.log.Error(conflictMessage, append(args, conflictLimit.Times(c.times, c.addr))...)
	}
}

// sighting is a claim to an address that was seen on a link: the sender of an
// ARP packet, the target of a neighbour advertisement.
type sighting struct {
	index int
	addr  netip.Addr
	mac   net.HardwareAddr
	probe bool // a host asks whether it may claim the address
	aside bool // sent to this host only, in answer to a question
	time  time.Time
}

// conflictEvery bounds how often a conflict is reported for one address.
const conflictEvery = time.Second

// takeoverTime: a claim that comes sooner after the addresses were acquired counts as the
// previous holder's, which may be a moment late in releasing them.
const takeoverTime = time.Second

// elderTime: a host that claims an address sooner after it was acquired here has had the
// address before. That host contradicts this one, and is not contradicted in turn: that
// would go on without end, and neighbours would believe the two in turns.
const elderTime = 2 * time.Second

// verdictTime is how long a claim waits before it is judged: in a hand-over the successor
// claims the addresses while this host releases them, which is no conflict.
const verdictTime = 200 * time.Millisecond

// claim is what another host has said of an address, and is not judged yet.
type claim struct {
	sighting        // the latest
	times    uint64 // how often it was said
	newcomer bool   // the host did not have the address before this one
	ifname   string // the interface, once it is judged
	due      time.Time
}

// rivals is what other hosts have said of the addresses that are held here. It reads
// no clock.
type rivals struct {
	since    time.Time                       // the addresses are held since then; zero: they are not
	claims   map[netip.Addr]claim            // not judged yet
	told     map[netip.Addr]time.Time        // when another host last announced the address, or probed for it
	elders   map[netip.Addr]net.HardwareAddr // who had the address before
	reported map[netip.Addr]time.Time        // when a conflict was last reported
}

// begin forgets what was said before the addresses are held.
func (r *rivals) begin(now time.Time) {
	r.since = now
	r.claims = make(map[netip.Addr]claim)
	r.told = make(map[netip.Addr]time.Time)
	r.elders = make(map[netip.Addr]net.HardwareAddr)
}

// end drops the claims to addresses that are no longer held.
func (r *rivals) end() { r.since, r.claims = time.Time{}, nil }

// hear takes note of another host's sighting.
func (r *rivals) hear(s sighting) {
	if !s.aside {
		r.told[s.addr] = s.time
	}
	if s.probe || s.time.Sub(r.since) < takeoverTime {
		return
	}
	if s.time.Sub(r.since) < elderTime {
		r.elders[s.addr] = s.mac
	}
	c, ok := r.claims[s.addr]
	if !ok {
		c.due = s.time.Add(verdictTime)
	}
	c.sighting, c.newcomer = s, !bytes.Equal(r.elders[s.addr], s.mac)
	c.times++
	r.claims[s.addr] = c
}

// takeDue removes and returns the claims that are due for judgement at now.
func (r *rivals) takeDue(now time.Time) (due []claim) {
	for addr, c := range r.claims {
		if !now.Before(c.due) {
			due = append(due, c)
			delete(r.claims, addr)
		}
	}
	return due
}

// reportDue reports whether a conflict is to be reported now; then the next one is due
// after conflictEvery.
func (r *rivals) reportDue(c claim) bool {
	if c.time.Sub(r.reported[c.addr]) < conflictEvery {
		return false
	}
	r.reported[c.addr] = c.time
	return true
}

// disputed reports whether another host has claimed an address while it was held.
func (r *rivals) disputed(addr netip.Addr) bool { return r.reported[addr].After(r.since) }

// toldAfter reports whether another host has announced an address just before now, and
// not before since.
func (r *rivals) toldAfter(addr netip.Addr, since, now time.Time) bool {
	told := r.told[addr]
	return now.Sub(told) < verdictTime && !told.Before(since)
}

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
