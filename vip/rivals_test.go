package vip

import (
	"net"
	"net/netip"
	"testing"
	"time"
)

// TestRivals: what another host's words come to, by when they are said after the
// addresses were acquired.
func TestRivals(t *testing.T) {
	addr, since := netip.MustParseAddr("192.0.2.10"), time.Unix(1000, 0)
	for name, tt := range map[string]struct {
		after                  time.Duration
		probe, aside           bool
		told, judged, newcomer bool
	}{
		"the predecessor's last word": {after: takeoverTime - 1, told: true},
		"of a host that was there":    {after: takeoverTime, told: true, judged: true},
		"the last of those":           {after: elderTime - 1, told: true, judged: true},
		"of a newcomer":               {after: elderTime, told: true, judged: true, newcomer: true},
		"a probe":                     {after: time.Minute, probe: true, told: true},
		"an answer to this host":      {after: time.Minute, aside: true, judged: true, newcomer: true},
	} {
		r := rivals{reported: make(map[netip.Addr]time.Time)}
		r.begin(since)
		at := since.Add(tt.after)
		for range 3 {
			r.hear(sighting{addr: addr, mac: net.HardwareAddr{2, 0, 0, 0, 0, 9}, probe: tt.probe, aside: tt.aside, time: at})
		}
		if got := r.toldAfter(addr, since, at); got != tt.told {
			t.Errorf("%s: the link was told: %v", name, got)
		}
		if r.toldAfter(addr, since, at.Add(verdictTime)) || r.toldAfter(addr, at.Add(1), at.Add(1)) {
			t.Errorf("%s: the link was told just now, and after the other host has", name)
		}
		if early := r.takeDue(at.Add(verdictTime - 1)); len(early) > 0 {
			t.Errorf("%s: judged too early: %v", name, early)
		}
		due := r.takeDue(at.Add(verdictTime))
		newcomer := len(due) > 0 && due[0].newcomer
		if len(due) > 0 != tt.judged || newcomer != tt.newcomer {
			t.Errorf("%s: judged %v, want %v; a newcomer's %v, want %v", name, due, tt.judged, newcomer, tt.newcomer)
		}
		if len(due) == 0 {
			continue
		}
		if due[0].times != 3 || len(r.takeDue(at.Add(time.Hour))) > 0 {
			t.Errorf("%s: %d times, want 3 and once", name, due[0].times)
		}
		if r.disputed(addr) || !r.reportDue(due[0]) || r.reportDue(due[0]) || !r.disputed(addr) {
			t.Errorf("%s: want one report, and a dispute from then on", name)
		}
		r.hear(sighting{addr: addr, time: at})
		if r.end(); len(r.takeDue(at.Add(time.Hour))) > 0 || !r.disputed(addr) {
			t.Errorf("%s: a release ends the claims, and no dispute", name)
		}
	}
}

func TestSuccessors(t *testing.T) {
	addr, now := netip.MustParseAddr("192.0.2.10"), time.Unix(1000, 0)
	six := netip.MustParseAddr("2001:db8::10")
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 9}
	for name, tt := range map[string]struct {
		addr    netip.Addr
		asked   bool
		s       sighting
		settled bool
		known   bool
	}{
		"it tells":                   {addr: addr, s: sighting{addr: addr, mac: mac}, settled: true},
		"it is about to tell":        {addr: addr, s: sighting{addr: addr, mac: mac, probe: true}, settled: true},
		"somebody else asks as well": {addr: addr, asked: true, s: sighting{addr: addr, mac: mac, probe: true}},
		"it answers":                 {addr: addr, asked: true, s: sighting{addr: addr, mac: mac, aside: true}, known: true},
		"it answers in IPv6":         {addr: six, asked: true, s: sighting{addr: six, mac: mac, aside: true}},
		"an answer to no question":   {addr: addr, s: sighting{addr: addr, mac: mac, aside: true}},
		"of another address":         {addr: addr, asked: true, s: sighting{addr: six, mac: mac}},
	} {
		l := successors{list: make(map[netip.Addr]successor), told: make(map[netip.Addr]time.Time)}
		l.add(tt.addr, now, false)
		if at := l.next(time.Time{}); !at.Equal(now.Add(verdictTime)) {
			t.Errorf("%s: due at %v, want when a hand-over is over", name, at)
		}
		p := l.list[tt.addr]
		p.asked = tt.asked
		l.list[tt.addr] = p
		l.hear(tt.s)
		if len(l.list) == 0 != tt.settled || (l.list[tt.addr].mac != nil) != tt.known {
			t.Errorf("%s: %+v, want settled %v, known %v", name, l.list, tt.settled, tt.known)
		}
	}
	l := successors{list: make(map[netip.Addr]successor), told: map[netip.Addr]time.Time{addr: now}}
	if !l.next(now).IsZero() {
		t.Error("nothing to be found is due")
	}
	l.add(addr, now, true)
	l.add(six, now, true)
	if at := l.next(now.Add(1)); !at.Equal(now.Add(1)) || !l.list[addr].due.Equal(now.Add(roundGap)) {
		t.Errorf("of disputed addresses due at %v, want at once, and %v, want a while after the last time", at, l.list[addr].due)
	}
}
