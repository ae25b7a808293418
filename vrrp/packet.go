package vrrp

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/havip/havip/internal/inet"
)

// IP protocol numbers under which advertisements travel.
const (
	protocolAH   = 51  // RFC 4302 §2, version 2 with AuthAH
	protocolVRRP = 112 // RFC 9568 §5.1.1.4
)

// The groups that multicast advertisements are sent to (RFC 9568 §5.1.1.2,
// §5.1.2.2).
var (
	groupIPv4 = netip.AddrFrom4([4]byte{224, 0, 0, 18})
	groupIPv6 = netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 15: 0x12})
)

// Packet is one IP packet that a [Conn] has received or sends.
type Packet struct {
	// Data is the payload after the IP header, and after the extension
	// headers of IPv6. Ethernet padding may follow if Header is set.
	Data []byte
	// Header is the IPv4 header as received, options included. It is needed
	// to verify AuthAH. Nil for IPv6, and where it is not known.
	Header []byte
	// Source and Destination are the addresses in the IP header, IPv4 ones in
	// their 4-byte form. A zone is ignored.
	Source, Destination netip.Addr
	// TTL is the TTL or hop limit.
	TTL uint8
	// Protocol is 112, or 51 for AuthAH.
	Protocol uint8
	// HardwareSource is the source of the Ethernet frame, in packets to be
	// sent; nil: the interface's own. See [Config.VirtualMAC].
	HardwareSource net.HardwareAddr
	// Interface is the index of the interface to send on, in the packets that
	// [Router.Farewell] returns; 0 elsewhere.
	Interface int
}

// Payload returns Data without the Ethernet padding, which is what the message is read from.
// The total length in Header tells them apart; Data is returned whole where Header is not
// known, or its length contradicts Data.
func (p *Packet) Payload() []byte {
	if len(p.Header) < inet.IPv4Len {
		return p.Data
	}
	n := int(binary.BigEndian.Uint16(p.Header[inet.IPv4Total:])) - len(p.Header)
	if n < 0 || n > len(p.Data) {
		return p.Data
	}
	return p.Data[:n]
}

// peekVRID reads the VRID of p and nothing else. ok is false without a VRRP header.
func peekVRID(p *Packet) (vrid uint8, ok bool) {
	data := p.Data
	if p.Protocol == protocolAH {
		data = skipAH(data)
	}
	if len(data) < fixedLen {
		return 0, false
	}
	return data[1], true
}

// PacketConn moves advertisements between a [Conn] and the link. A raw socket
// is one; [ListenConfig.Open] puts another in its place.
//
// One goroutine reads, and one at a time writes, closes or moves the deadline.
type PacketConn interface {
	// ReadBatch waits for packets and reads as many as fit into ps. Fewer than
	// len(ps) means that no more were waiting. The memory of the packets is valid
	// until the next call. After the deadline ReadBatch reads what is there but does
	// not wait: if nothing is there the error is os.ErrDeadlineExceeded.
	ReadBatch(ps []Packet) (int, error)
	// WriteBatch sends packets without waiting and returns how many it sent. The error is
	// about the first packet that was not sent.
	WriteBatch(ps []Packet) (int, error)
	// SetReadDeadline interrupts or bounds ReadBatch; the zero time is no
	// bound.
	SetReadDeadline(t time.Time) error
	// Close makes ReadBatch return.
	Close() error
}

// destinations returns where advertisements go: the group, or the peers except for the
// router's own address, since hosts like to share one list.
func (r *Router) destinations() []netip.Addr {
	if len(r.cfg.Peers) == 0 {
		return []netip.Addr{r.wire.group}
	}
	return slices.DeleteFunc(slices.Clone(r.cfg.Peers), func(a netip.Addr) bool { return a == r.source })
}

// packet appends an advertisement to b and returns the packet that carries it.
func (r *Router) packet(b []byte, priority uint8, dst netip.Addr, now time.Time) (Packet, []byte, error) {
	p := Packet{Source: r.source, Destination: dst, TTL: r.cfg.TTL, Protocol: r.loop.protocol}
	start := len(b)
	b, err := r.wire.appendPacket(b, priority, r.source, dst, now)
	if err == nil {
		p.setPayload(b[start:len(b):len(b)])
		if r.conn.nif.fits(&p) {
			p.HardwareSource = r.mac
		}
	}
	return p, b, err
}

// forceOut sends a packet from an address that has just gone, which the kernel refuses to
// do: peers must hear priority 0 all the same. c.mu is held.
func (c *Conn) forceOut(p Packet) error {
	var w packetWriter
	var err error
	if c.nif.ethernet && len(c.nif.mac) == 6 && c.nif.fits(&p) {
		w, err = c.net.openFrames(&c.nif)
	}
	if w == nil {
		return cmp.Or(err, fmt.Errorf("no way to send from %v, which has gone", p.Source))
	}
	defer w.Close()
	p.HardwareSource = c.nif.mac
	_, err = w.WriteBatch([]Packet{p})
	return err
}

// setPayload makes b the content of p: a whole IPv4 packet for AuthAH.
func (p *Packet) setPayload(b []byte) {
	p.Header, p.Data = nil, b
	if p.Protocol == protocolAH {
		p.Header, p.Data = b[:inet.IPv4Len], b[inet.IPv4Len:]
	}
}

// Farewell returns advertisements of priority 0, one for each destination of the
// router. Another process can send them after the death of this one, so that a peer
// takes over at once. Unless the router is Active the error is [ErrNotActive]: the
// farewell of a Backup would shorten its peers' wait for the Active router. The packets
// have no HardwareSource, also with VirtualMAC: the receiver is about to take over the
// virtual one.
//
// Peers discard farewells that are older than validFor as replayed: get new ones before
// then, and after [Router.Reconfigure]. validFor is hundreds of years unless
// advertisements are authenticated with AuthAH or AuthHMAC.
func (r *Router) Farewell() (packets []Packet, validFor time.Duration, err error) {
	r.conn.mu.Lock()
	defer r.conn.mu.Unlock()
	if r.phase != running || !r.isHolder() {
		return nil, 0, fmt.Errorf("vrrp: %s: farewell: %w", r.name, ErrNotActive)
	}
	now := time.Now()
	validFor = 1<<63 - 1
	for _, dst := range r.to {
		p := Packet{Source: r.source, Destination: dst, TTL: r.cfg.TTL, Protocol: r.loop.protocol, Interface: r.conn.nif.index}
		b, d, err := r.wire.farewell(nil, p.Source, dst, now)
		if err != nil {
			return nil, 0, fmt.Errorf("vrrp: %s: %w", r.name, err)
		}
		p.setPayload(b)
		packets, validFor = append(packets, p), min(validFor, d)
	}
	return packets, validFor, nil
}

const (
	ethernetLen = 14 // of the header (IEEE 802.3)
	// frameHeaderMax is the room for the headers before Packet.Data, of which AuthAH's
	// is a part.
	frameHeaderMax = ethernetLen + inet.IPv6Len

	etherTypeIPv4 = 0x0800
	etherTypeIPv6 = 0x86dd
)

// fits reports whether p can be sent without fragments.
func (n *netif) fits(p *Packet) bool {
	header := len(p.Header) // complete with AuthAH
	if header == 0 {
		header = inet.IPv4Len
		if p.Source.Is6() {
			header = inet.IPv6Len
		}
	}
	return n.mtu == 0 || header+len(p.Data) <= n.mtu
}

// frameHeader writes the Ethernet and IP headers of p to b and returns them.
// p.Data follows them on the wire. A unicast packet goes to every host of the
// link, since only the kernel knows the receiver's hardware address.
func frameHeader(b *[frameHeaderMax]byte, p *Packet) []byte {
	etherType, group := uint16(etherTypeIPv4), netip.AddrFrom4([4]byte{224, 0, 0, 1})
	if p.Destination.Is6() {
		etherType, group = etherTypeIPv6, netip.IPv6LinkLocalAllNodes()
	}
	if p.Destination.IsMulticast() {
		group = p.Destination
	}
	mac := inet.GroupMAC(group)
	copy(b[:6], mac[:])
	copy(b[6:12], p.HardwareSource)
	binary.BigEndian.PutUint16(b[12:], etherType)
	head := b[:ethernetLen]
	if len(p.Header) > 0 {
		return append(head, p.Header...)
	}
	// Without fragments there is no use for an ID (RFC 6864 §4.1).
	ip := inet.Header{Source: p.Source, Destination: p.Destination, Protocol: p.Protocol, TTL: p.TTL, Class: inet.NetworkControl, DontFragment: true}
	return ip.Append(head, len(p.Data))
}
