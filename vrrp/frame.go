package vrrp

import (
	"encoding/binary"
	"net/netip"

	"github.com/havip/havip/internal/inet"
)

const (
	ethernetLen = 14 // of the header (IEEE 802.3)
	// frameHeaderMax is the room for what goes before Packet.Data: with AuthAH
	// the Authentication Header is in there.
	frameHeaderMax = ethernetLen + inet.IPv6Len

	etherTypeIPv4 = 0x0800
	etherTypeIPv6 = 0x86dd
)

// fits tells whether p can be sent without fragments.
func (n *netif) fits(p *Packet) bool {
	header := len(p.Header) // AuthAH's, which is all of it
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
// link, since only the kernel knows its receiver's hardware address.
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
