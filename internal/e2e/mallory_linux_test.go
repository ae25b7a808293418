package e2e

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/mdlayher/packet"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/vrrp"
)

// mallory is a host that wishes the pair ill and knows the password of PASS,
// which is on the wire, but no key.
type mallory struct {
	*rand.Rand
	pair     *pair
	host     *lab.Host
	conn     *packet.Conn
	mac      net.HardwareAddr
	addrs    []netip.Prefix
	recorded map[uint8][][]byte // signed frames by VRID, as mallory sends them
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
		src, _, proto, payload, _ := f.IP()
		vrid := payload[1]
		if proto == 51 {
			vrid = payload[25]
		}
		if src.Is4() && slices.ContainsFunc(p.routers, func(r virtualRouter) bool { return r.vrid == vrid && numbered(&r) }) {
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
