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

// takeoverTime is for how long after the addresses were acquired a claim counts as
// the predecessor's, which may be a moment late in letting go.
const takeoverTime = time.Second

// elderTime is for how long after the addresses were acquired a host that claims one
// counts as having had it before: it contradicts. Both would contradict each other
// without end, and each neighbour would believe now the one, now the other.
const elderTime = 2 * time.Second

// verdictTime is for how long a claim waits to be judged: in a hand-over the
// successor makes it while this host lets go, and is to be neither contradicted nor
// reported.
const verdictTime = 200 * time.Millisecond

// claim is what another host has said of an address since it was last judged.
type claim struct {
	sighting        // the latest
	times    uint64 // that it was said
	due      time.Time
}

// rivals is what other hosts have said of the addresses that are held here. It reads
// no clock.
type rivals struct {
	since    time.Time                       // the addresses are held since then
	claims   map[netip.Addr]claim            // to be judged
	told     map[netip.Addr]time.Time        // when another host last told the link, or was about to
	elders   map[netip.Addr]net.HardwareAddr // hosts that had an address before
	reported map[netip.Addr]time.Time        // when a conflict was last reported
}

func newRivals() rivals {
	return rivals{
		claims:   make(map[netip.Addr]claim),
		told:     make(map[netip.Addr]time.Time),
		elders:   make(map[netip.Addr]net.HardwareAddr),
		reported: make(map[netip.Addr]time.Time),
	}
}

// forget forgets what matters only while the addresses are held.
func (r *rivals) forget() {
	clear(r.claims)
	clear(r.told)
	clear(r.elders)
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

// takeDue removes and returns the claims that are to be judged at now.
func (r *rivals) takeDue(now time.Time) (due []claim) {
	for addr, c := range r.claims {
		if !now.Before(c.due) {
			due = append(due, c)
			delete(r.claims, addr)
		}
	}
	return due
}

// newcomers reports whether one of the claims is that of a host which came later.
func (r *rivals) newcomers(list []claim) bool {
	return slices.ContainsFunc(list, func(c claim) bool { return !bytes.Equal(r.elders[c.addr], c.mac) })
}

// reportDue reports whether a conflict is to be reported, and takes note that it is.
func (r *rivals) reportDue(c claim) bool {
	if c.time.Sub(r.reported[c.addr]) < conflictEvery {
		return false
	}
	r.reported[c.addr] = c.time
	return true
}

// disputed reports whether another host has claimed an address while it was held.
func (r *rivals) disputed(addr netip.Addr) bool { return r.reported[addr].After(r.since) }

// toldAfter reports whether another host has told the link of an address a moment
// before now, and since a time.
func (r *rivals) toldAfter(addr netip.Addr, since, now time.Time) bool {
	told := r.told[addr]
	return now.Sub(told) < verdictTime && !told.Before(since)
}
