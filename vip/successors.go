package vip

import (
	"maps"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

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
	some atomic.Bool // list is not empty: for goroutines that must not wait
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
	l.some.Store(true)
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
		l.settle(s.addr)
	case s.aside && p.asked && p.mac == nil && s.addr.Is4():
		p.mac, p.due = s.mac, s.time
		l.list[s.addr] = p
	}
}

// settle ends the search for an address's successor.
func (l *successors) settle(addr netip.Addr) {
	delete(l.list, addr)
	l.some.Store(len(l.list) > 0)
}

// forget ends the search for all of them.
func (l *successors) forget() {
	clear(l.list)
	l.some.Store(false)
}

// keepDisputed ends the search for addresses that no other host has claimed.
func (l *successors) keepDisputed() {
	maps.DeleteFunc(l.list, func(_ netip.Addr, s successor) bool { return !s.disputed })
	l.some.Store(len(l.list) > 0)
}

// next returns when the next frame is due, but not before earliest; zero: never.
func (l *successors) next(earliest time.Time) (at time.Time) {
	for _, s := range l.list {
		at = earlier(later(s.due, earliest), at)
	}
	return at
}
