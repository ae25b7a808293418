package vip

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"time"
)

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
	due      time.Time
}

// rivals is what other hosts have said of the addresses that are held here. It reads
// no clock.
type rivals struct {
	since    time.Time                       // the addresses are held since then
	claims   map[netip.Addr]claim            // not judged yet
	told     map[netip.Addr]time.Time        // when another host last announced the address, or probed for it
	elders   map[netip.Addr]net.HardwareAddr // who had the address before
	reported map[netip.Addr]time.Time        // when a conflict was last reported
}

func newRivals() rivals {
	r := rivals{reported: make(map[netip.Addr]time.Time)}
	r.forget()
	return r
}

// forget drops what matters only while the addresses are held.
func (r *rivals) forget() {
	r.claims = make(map[netip.Addr]claim)
	r.told = make(map[netip.Addr]time.Time)
	r.elders = make(map[netip.Addr]net.HardwareAddr)
}

// hear takes note of another host's sighting, made so many times.
func (r *rivals) hear(s sighting, times uint64) {
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
	c.sighting = s
	c.times += times
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

// newcomers reports whether a host among those of the claims came later than this one.
func (r *rivals) newcomers(list []claim) bool {
	return slices.ContainsFunc(list, func(c claim) bool { return !bytes.Equal(r.elders[c.addr], c.mac) })
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
