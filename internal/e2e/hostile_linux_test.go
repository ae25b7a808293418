package e2e

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
	"github.com/havip/havip/vrrp"
)

// The flood is short enough for an ordinary run, and yet each forgery comes to
// each router about ten times a second.
const (
	floodRate = 1000 // packets a second
	floodTime = 10 * time.Second
)

// TestHostileLAN: whatever a host on the LAN sends that must be discarded, no
// address moves and no advertisement is late. Two keepaliveds get the same,
// for comparison: what becomes of them is printed.
func TestHostileLAN(t *testing.T) {
	t.Parallel()
	t.Run("havip", func(t *testing.T) {
		t.Parallel()
		h := havipPeer(t)
		p := hostilePair(t, h, kinds(true))
		f := p.flooded(p.mallory(t))
		p.quiet("after the flood", aWhile)
		// Where the machine does not let a node renew its addresses in time, the
		// kernel takes them, and the node puts them back.
		if f.transitions > 0 || f.moves > 0 && f.late == 0 {
			t.Errorf("%d transitions, the addresses moved %d times", f.transitions, f.moves)
		}
		// One that was missed makes a gap of two intervals.
		if f.unexcused > 3*interval/2 {
			t.Errorf("a gap of %v between advertisements, beside what this machine was late; the interval is %v", f.unexcused, interval)
		}
		if f.seen < floodRate*int(floodTime/time.Second)*9/10 {
			t.Errorf("only %d packets of the flood arrived", f.seen)
		}
		p.checkDiscards()
	})
	t.Run("keepalived", func(t *testing.T) {
		t.Parallel()
		lab.Need(t, "keepalived")
		p := hostilePair(t, keepalivedPeer, kinds(false))
		p.flooded(p.mallory(t))
	})
}

// hostilePair starts two nodes of the same kind with those of the routers that
// have a better node.
func hostilePair(t *testing.T, both peer, routers []virtualRouter) *pair {
	routers = slices.DeleteFunc(routers, func(r virtualRouter) bool { return r.equal() })
	p := newPair(t, [2]peer{both, both}, routers)
	p.live(life[:2])
	return p
}

// flood is what a flood has done.
type flood struct {
	gap                      time.Duration // the longest between advertisements
	unexcused                time.Duration // the same without what the machine was late meanwhile
	late                     time.Duration // the machine, since a lease before the flood
	moves, transitions, seen int
}

// flooded lets m send for floodTime and prints what came of it.
func (p *pair) flooded(m *mallory) flood {
	from := time.Now()
	var transitions [2]int
	var cpu [2]time.Duration
	for i, n := range p.nodes {
		transitions[i], cpu[i] = n.transitions(), labtest.ProcessorTime(n.cmd.Pid())
	}
	if err := m.flood(); err != nil {
		p.t.Fatal(err)
	}
	to := time.Now()
	f := flood{late: p.stalledBetween(from.Add(-3*interval), to)}
	for i, n := range p.nodes {
		transitions[i], cpu[i] = n.transitions()-transitions[i], labtest.ProcessorTime(n.cmd.Pid())-cpu[i]
		f.transitions += transitions[i]
	}
	var none, two time.Duration
	for j := range p.routers {
		n, b, moves := p.since(j, from)
		none, two = max(none, n), max(two, b)
		f.moves += moves
	}
	last := slices.Repeat([]time.Time{from}, len(p.routers))
	for _, a := range append(p.advertisements(from), ends(to, len(p.routers))...) {
		gap := a.at.Sub(last[a.router])
		f.gap = max(f.gap, gap)
		f.unexcused = max(f.unexcused, gap-p.stalledBetween(last[a.router], a.at))
		last[a.router] = a.at
	}
	for _, frame := range p.wire.Packets() {
		if string(frame.Data[6:12]) == string(m.mac) {
			f.seen++
		}
	}
	p.t.Logf("%d packets in %v: %d+%d transitions, addresses moved %d times, held by nobody for at most %v, by both for %v",
		f.seen, to.Sub(from).Round(time.Millisecond), transitions[0], transitions[1], f.moves, none.Round(time.Millisecond), two.Round(time.Millisecond))
	p.t.Logf("longest gap between advertisements %v, and %v without what this machine was late; CPU %v on LB-01, %v on LB-02",
		f.gap.Round(time.Millisecond), f.unexcused.Round(time.Millisecond), cpu[0], cpu[1])
	return f
}

// ends has one entry for each router at the end of the flood, so that one that
// has fallen silent shows.
func ends(at time.Time, routers int) []advertisement {
	list := make([]advertisement, routers)
	for j := range list {
		list[j] = advertisement{at: at, router: j}
	}
	return list
}

// checkDiscards checks that havip has discarded each forgery for the reason
// that the forgery is about.
func (p *pair) checkDiscards() {
	out := p.nodes[0].cmd.Output() + p.nodes[1].cmd.Output()
	for _, r := range p.routers {
		for _, f := range forgeries {
			if f.words == "" || !f.suits(&r) {
				continue
			}
			found := false
			for line := range strings.Lines(out) {
				found = found || strings.Contains(line, "msg=discarded router="+r.label()+" ") && strings.Contains(line, f.words)
			}
			if !found {
				p.t.Errorf("%s: %s: no host has said %q", r.name, f.name, f.words)
			}
		}
	}
}

// forged is one packet of the flood.
type forged struct {
	src, dst netip.Addr
	ttl      uint8
	protocol uint8
	payload  []byte
	frame    []byte // of a replay, instead of all the others
}

// forgery is one way to make a packet that must be discarded.
type forgery struct {
	name string
	// words are in havip's log line about it; empty: there need not be one.
	words string
	suits func(r *virtualRouter) bool
	make  func(m *mallory, r *virtualRouter) forged
}

func all(*virtualRouter) bool            { return true }
func multicast(r *virtualRouter) bool    { return !r.unicast && unsigned(r) }
func unicast(r *virtualRouter) bool      { return r.unicast && unsigned(r) }
func unsigned(r *virtualRouter) bool     { return r.auth != "ah" }
func signed(r *virtualRouter) bool       { return r.auth == "ah" }
func withPassword(r *virtualRouter) bool { return r.auth == "pass" }
func unsignedIPv4(r *virtualRouter) bool { return unsigned(r) && !r.ipv6 }
func withoutKey(r *virtualRouter) bool   { return r.version == 3 && !r.ipv6 && r.auth == "" }
func withKey(r *virtualRouter) bool      { return r.auth == "hmac" }
func numbered(r *virtualRouter) bool     { return signed(r) || withKey(r) }

// spoil makes a forgery of an advertisement that is right but for the bytes
// that f changes.
func spoil(f func(m *mallory, p *forged)) func(m *mallory, r *virtualRouter) forged {
	return func(m *mallory, r *virtualRouter) forged {
		p := m.advertisement(r, nil)
		f(m, &p)
		return p
	}
}

// lie makes a forgery of an advertisement that is right but for what f says.
func lie(f func(m *mallory, a *vrrp.Advertisement)) func(m *mallory, r *virtualRouter) forged {
	return func(m *mallory, r *virtualRouter) forged {
		return m.advertisement(r, func(a *vrrp.Advertisement) { f(m, a) })
	}
}

// sign makes a forgery with a trailer of HMAC that is right but for its key.
func sign(key byte) func(m *mallory, r *virtualRouter) forged {
	return spoil(func(m *mallory, p *forged) {
		p.payload = append(p.payload, 1, key, 0, 0)
		p.payload = binary.BigEndian.AppendUint32(p.payload, uint32(time.Now().Unix()))
		p.payload = append(p.payload, m.bytes(20)...)
	})
}

func shorten(m *mallory, p *forged) { p.payload = p.payload[:m.IntN(len(p.payload))] }

var forgeries = []forgery{
	{"bad checksum", "checksum 0x", unsigned, spoil(func(m *mallory, p *forged) { p.payload[6] ^= byte(1 + m.IntN(255)) })},
	{"wrong TTL", "TTL ", multicast, spoil(func(m *mallory, p *forged) { p.ttl = uint8(m.IntN(255)) })},
	{"wrong password", "the passwords differ", withPassword, lie(func(m *mallory, a *vrrp.Advertisement) { copy(a.AuthData[:], m.bytes(8)) })},
	{"no password", "authentication none, want pass", withPassword, lie(func(_ *mallory, a *vrrp.Advertisement) { a.AuthType = 0 })},
	{"signed without need", "authentication hmac, want none", withoutKey, sign(1)},
	{"signed with another key", "authentication failed", withKey, sign(1)},
	{"signed with an unknown key", "authentication failed", withKey, sign(2)},
	{"not signed", "authentication none, want hmac", withKey, spoil(func(*mallory, *forged) {})},
	{"short", "too short", unsigned, spoil(shorten)},
	{"short and signed", "", signed, spoil(shorten)}, // hardly ever has a VRID
	{"long", "too long", unsigned, spoil(func(m *mallory, p *forged) { p.payload = append(p.payload, m.bytes(32+m.IntN(1200))...) })},
	{"random", "", all, spoil(func(m *mallory, p *forged) { p.payload = m.bytes(m.IntN(200)) })},
	{"random but for the start", "", all, spoil(func(m *mallory, p *forged) { copy(p.payload[2:], m.bytes(len(p.payload))) })},
	{"wrong type", "type ", unsigned, spoil(func(m *mallory, p *forged) { p.payload[0] ^= 3 })},
	{"another VRID", "", unsigned, lie(func(_ *mallory, a *vrrp.Advertisement) { a.VRID = 250 })},
	{"another version", "version ", unsignedIPv4, lie(func(_ *mallory, a *vrrp.Advertisement) { a.Version, a.AuthType, a.AuthData = 5-a.Version, 0, [8]byte{} })},
	{"another interval", "interval in seconds", withPassword, lie(func(_ *mallory, a *vrrp.Advertisement) { a.Interval = 2 * time.Second })},
	{"unicast from a stranger", "unicast, and not from a peer", unicast, func(m *mallory, r *virtualRouter) forged {
		return m.message(r, m.own(r), m.pair.nodes[m.IntN(2)].source(r), nil)
	}},
	{"forged signature", "authentication failed", signed, spoil(func(*mallory, *forged) {})},
	{"no signature", "without an Authentication Header", signed, spoil(func(_ *mallory, p *forged) { p.protocol, p.payload = 112, p.payload[24:] })},
	{"replayed", "replayed", numbered, func(m *mallory, r *virtualRouter) forged {
		old := m.recorded[r.vrid]
		return forged{frame: old[m.IntN(len(old))]}
	}},
}
