package vip

import (
	"maps"
	"net"
	"net/netip"
	"sync/atomic"
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

// successors are those of the addresses that were released here. It reads no clock.
type successors struct {
	some atomic.Bool // there are some to be found: for whoever must not wait
	list map[netip.Addr]successor
	told map[netip.Addr]time.Time // when the link was last told of one
}

// add has the successor for an address looked for that is released at now.
func (l *successors) add(addr netip.Addr, now time.Time, disputed bool) {
	s := successor{due: now.Add(verdictTime), disputed: disputed}
	if disputed {
		s.due = now // it has told before, in vain
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
		// The link was told, or will be: by whoever takes an address, or answers
		// duplicate address detection (RFC 4862 §5.4.3, RFC 4861 §7.2.4). A
		// question now might keep from it whoever is about to.
		l.settle(s.addr)
	case s.aside && p.asked && p.mac == nil && s.addr.Is4():
		p.mac, p.due = s.mac, s.time
		l.list[s.addr] = p
	}
}

// settle says that there is nothing more to be done about an address.
func (l *successors) settle(addr netip.Addr) {
	delete(l.list, addr)
	l.some.Store(len(l.list) > 0)
}

// forget forgets all but when the link was told.
func (l *successors) forget() {
	clear(l.list)
	l.some.Store(false)
}

// keepDisputed forgets the addresses that no other host has claimed.
func (l *successors) keepDisputed() {
	maps.DeleteFunc(l.list, func(_ netip.Addr, s successor) bool { return !s.disputed })
	l.some.Store(len(l.list) > 0)
}

// next returns when there is something to be done, not before a time; zero: never.
func (l *successors) next(earliest time.Time) (at time.Time) {
	for _, s := range l.list {
		at = earlier(later(s.due, earliest), at)
	}
	return at
}
