package e2e

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/mdlayher/packet"

	"github.com/havip/havip/internal/lab"
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
		p := hostilePair(t, h)
		f := p.flooded(p.mallory(t))
		p.quiet("after the flood", aWhile)
		if f.transitions > 0 || f.moves > 0 {
			t.Errorf("%d transitions, the addresses moved %d times", f.transitions, f.moves)
		}
		if f.gap > 2*interval+f.stalled {
			t.Errorf("the longest gap between advertisements is %v, the interval is %v", f.gap, interval)
		}
		if f.seen < floodRate*int(floodTime/time.Second)*9/10 {
			t.Errorf("only %d packets of the flood arrived", f.seen)
		}
		p.checkDiscards()
	})
	t.Run("keepalived", func(t *testing.T) {
		t.Parallel()
		lab.Need(t, "keepalived")
		p := hostilePair(t, keepalivedPeer)
		p.flooded(p.mallory(t))
	})
}

// hostilePair starts two nodes of the same kind with every router that both
// programs know.
func hostilePair(t *testing.T, both peer) *pair {
	routers := slices.DeleteFunc(kinds(false), func(r virtualRouter) bool { return r.equal() })
	p := newPair(t, [2]peer{both, both}, routers)
	p.live(life[:2])
	return p
}

// flood is what a flood has done.
type flood struct {
	gap                      time.Duration // the longest between advertisements
	stalled                  time.Duration // for how long the machine did nothing
	moves, transitions, seen int
}

// flooded lets m send for floodTime and prints what came of it.
func (p *pair) flooded(m *mallory) flood {
	from := time.Now()
	var transitions [2]int
	var cpu [2]time.Duration
	for i, n := range p.nodes {
		transitions[i], cpu[i] = n.transitions(), cpuTime(p.t, n.cmd.Pid())
	}
	if err := m.flood(); err != nil {
		p.t.Fatal(err)
	}
	to := time.Now()
	f := flood{stalled: p.stalled(from)}
	for i, n := range p.nodes {
		transitions[i], cpu[i] = n.transitions()-transitions[i], cpuTime(p.t, n.cmd.Pid())-cpu[i]
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
		f.gap = max(f.gap, a.at.Sub(last[a.router]))
		last[a.router] = a.at
	}
	for _, frame := range p.wire.Packets() {
		if string(frame.Data[6:12]) == string(m.mac) {
			f.seen++
		}
	}
	p.t.Logf("%d packets in %v: %d+%d transitions, addresses moved %d times, held by nobody for at most %v, by both for %v",
		f.seen, to.Sub(from).Round(time.Millisecond), transitions[0], transitions[1], f.moves, none.Round(time.Millisecond), two.Round(time.Millisecond))
	p.t.Logf("longest gap between advertisements %v; CPU %v on LB-01, %v on LB-02", f.gap.Round(time.Millisecond), cpu[0], cpu[1])
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
func version3IPv4(r *virtualRouter) bool { return r.version == 3 && !r.ipv6 }

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

func shorten(m *mallory, p *forged) { p.payload = p.payload[:m.IntN(len(p.payload))] }

var forgeries = []forgery{
	{"bad checksum", "checksum 0x", unsigned, spoil(func(m *mallory, p *forged) { p.payload[6] ^= byte(1 + m.IntN(255)) })},
	{"wrong TTL", "TTL ", multicast, spoil(func(m *mallory, p *forged) { p.ttl = uint8(m.IntN(255)) })},
	{"wrong password", "another password", withPassword, lie(func(m *mallory, a *vrrp.Advertisement) { copy(a.AuthData[:], m.bytes(8)) })},
	{"no password", "authentication none, want PASS", withPassword, lie(func(_ *mallory, a *vrrp.Advertisement) { a.AuthType = 0 })},
	{"signed without need", "authentication HMAC, want none", version3IPv4, spoil(func(m *mallory, p *forged) {
		trailer := m.bytes(28)
		copy(trailer, []byte{1, 1, 0, 0})
		p.payload = append(p.payload, trailer...)
	})},
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
	{"replayed", "old sequence number", signed, func(m *mallory, r *virtualRouter) forged {
		old := m.recorded[r.vrid]
		return forged{frame: old[m.IntN(len(old))]}
	}},
}

// mallory is a host that wishes the pair ill and knows the password of PASS,
// which is on the wire, but not AH's key.
type mallory struct {
	*rand.Rand
	pair     *pair
	host     *lab.Host
	conn     *packet.Conn
	mac      net.HardwareAddr
	addrs    []netip.Prefix
	recorded map[uint8][][]byte // signed frames by VRID, as mallory would send them
}

func (p *pair) mallory(t *testing.T) *mallory {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	m := &mallory{
		Rand: rand.New(rand.NewPCG(seed, 0)), pair: p,
		host:     p.lab.MustHost("mallory", "192.168.31.66/24", "2001:db8:31::66/64"),
		recorded: make(map[uint8][][]byte),
	}
	err := m.host.Do(func() error {
		ifi, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		m.mac = ifi.HardwareAddr
		const experimental = 0x88b5 // an EtherType that nobody uses: to receive nothing
		m.conn, err = packet.Listen(ifi, packet.Raw, experimental, nil)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.conn.Close() })
	if m.addrs, err = m.host.Addrs(); err != nil {
		t.Fatal(err)
	}
	for _, f := range p.wire.Packets() {
		if _, _, proto, payload, _ := f.IP(); proto == 51 {
			vrid := payload[25]
			m.recorded[vrid] = append(m.recorded[vrid], slices.Concat(f.Data[:6], m.mac, f.Data[12:]))
		}
	}
	return m
}

// flood sends every forgery to every router that it suits, in turn.
func (m *mallory) flood() error {
	type target struct {
		f *forgery
		r *virtualRouter
	}
	var targets []target
	for i := range forgeries {
		for j := range m.pair.routers {
			if f, r := &forgeries[i], &m.pair.routers[j]; f.suits(r) {
				targets = append(targets, target{f, r})
			}
		}
	}
	start := time.Now()
	for sent, total := 0, floodRate*int(floodTime/time.Second); sent < total; time.Sleep(5 * time.Millisecond) {
		due := int(time.Since(start) * floodRate / time.Second)
		for ; sent < min(due, total); sent++ {
			t := targets[sent%len(targets)]
			frame, err := m.frame(t.f.make(m, t.r))
			if err != nil {
				return err
			}
			if _, err := m.conn.WriteTo(frame, &packet.Addr{HardwareAddr: frame[:6]}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *mallory) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(m.Uint32())
	}
	return b
}

// own is mallory's address of the router's family, as it would advertise from.
func (m *mallory) own(r *virtualRouter) netip.Addr { return sourceOf(m.addrs, r) }

// source is the address that a node advertises from.
func (n *node) source(r *virtualRouter) netip.Addr { return sourceOf(n.own, r) }

func sourceOf(addrs []netip.Prefix, r *virtualRouter) netip.Addr {
	i := slices.IndexFunc(addrs, func(p netip.Prefix) bool {
		a := p.Addr()
		return a.Is6() == r.ipv6 && a.IsLinkLocalUnicast() == (r.ipv6 && !r.unicast)
	})
	return addrs[i].Addr()
}

// advertisement is one that would move the addresses, but for what change does
// to it and, under AH, for the signature.
func (m *mallory) advertisement(r *virtualRouter, change func(a *vrrp.Advertisement)) forged {
	victim := m.pair.nodes[m.IntN(2)]
	src, dst := victim.other.source(r), victim.source(r)
	if !r.unicast {
		dst = netip.MustParseAddr("224.0.0.18")
		if r.ipv6 {
			dst = netip.MustParseAddr("ff02::12")
		}
		if m.IntN(2) == 0 {
			src = m.own(r)
		}
	}
	return m.message(r, src, dst, change)
}

func (m *mallory) message(r *virtualRouter, src, dst netip.Addr, change func(a *vrrp.Advertisement)) forged {
	adv := vrrp.Advertisement{
		Source: src, Destination: dst, Version: r.version, VRID: r.vrid, Interval: interval,
		Priority: [...]uint8{0, 115, 254, 255}[m.IntN(4)],
	}
	for _, a := range r.addresses {
		adv.Addresses = append(adv.Addresses, a.Addr())
	}
	switch r.auth {
	case "pass":
		adv.AuthType = uint8(vrrp.AuthPass)
		copy(adv.AuthData[:], "d0cker")
	case "ah":
		adv.AuthType = uint8(vrrp.AuthAH)
	}
	if change != nil {
		change(&adv)
	}
	p := forged{src: src, dst: dst, ttl: 255, protocol: 112}
	if r.auth == "ah" {
		p.protocol = 51
		p.payload = append([]byte{112, 4, 0, 0}, src.AsSlice()...)
		p.payload = binary.BigEndian.AppendUint32(p.payload, uint32(time.Now().Unix()+1e6))
		p.payload = append(p.payload, m.bytes(12)...)
	}
	var err error
	if p.payload, err = adv.AppendBinary(p.payload); err != nil {
		panic(err)
	}
	return p
}

// frame puts the packet into an Ethernet frame.
func (m *mallory) frame(p forged) ([]byte, error) {
	if p.frame != nil {
		return p.frame, nil
	}
	eth := &layers.Ethernet{SrcMAC: m.mac, DstMAC: m.hardwareAddr(p.dst), EthernetType: layers.EthernetTypeIPv4}
	var ip gopacket.SerializableLayer = &layers.IPv4{
		Version: 4, TOS: 0xc0, TTL: p.ttl, Protocol: layers.IPProtocol(p.protocol), SrcIP: p.src.AsSlice(), DstIP: p.dst.AsSlice(),
	}
	if p.dst.Is6() {
		eth.EthernetType = layers.EthernetTypeIPv6
		ip = &layers.IPv6{
			Version: 6, TrafficClass: 0xc0, HopLimit: p.ttl, NextHeader: layers.IPProtocol(p.protocol), SrcIP: p.src.AsSlice(), DstIP: p.dst.AsSlice(),
		}
	}
	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, eth, ip, gopacket.Payload(p.payload))
	return buf.Bytes(), err
}

// hardwareAddr is where a packet to dst goes (RFC 1112 §6.4, RFC 2464 §7).
func (m *mallory) hardwareAddr(dst netip.Addr) net.HardwareAddr {
	b := dst.AsSlice()
	switch {
	case dst.Is4() && dst.IsMulticast():
		return net.HardwareAddr{1, 0, 0x5e, b[1] & 0x7f, b[2], b[3]}
	case dst.IsMulticast():
		return net.HardwareAddr{0x33, 0x33, b[12], b[13], b[14], b[15]}
	}
	for _, n := range m.pair.nodes {
		if slices.ContainsFunc(n.own, func(p netip.Prefix) bool { return p.Addr() == dst }) {
			return net.HardwareAddr(n.macs[0])
		}
	}
	return layers.EthernetBroadcast
}
