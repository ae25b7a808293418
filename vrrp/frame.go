package vrrp

import (
	"encoding/binary"
	"net"
	"net/netip"
)

const (
	ethernetLen   = 14 // of the header (IEEE 802.3)
	ipv6HeaderLen = 40
	// frameHeaderMax is the room for what goes before Packet.Data: with AuthAH
	// the Authentication Header is in there.
	frameHeaderMax = ethernetLen + ipv6HeaderLen

	etherTypeIPv4 = 0x0800
	etherTypeIPv6 = 0x86dd

	ipv4DontFragment = 0x4000
)

// virtualMAC is the hardware address of a virtual router (RFC 9568 §7.3).
func virtualMAC(vrid uint8, fam family) net.HardwareAddr {
	if fam == familyIPv6 {
		return net.HardwareAddr{0, 0, 0x5e, 0, 2, vrid}
	}
	return net.HardwareAddr{0, 0, 0x5e, 0, 1, vrid}
}

// fits tells whether p can be sent without fragments.
func (n *netif) fits(p *Packet) bool {
	header := len(p.Header) // AuthAH's, which is all of it
	if header == 0 {
		header = ipv4HeaderLen
		if p.Source.Is6() {
			header = ipv6HeaderLen
		}
	}
	return n.mtu == 0 || header+len(p.Data) <= n.mtu
}

// frameHeader writes the Ethernet and IP headers of p to b and returns them.
// p.Data follows them on the wire. A unicast packet goes to every host of the
// link, since only the kernel knows its receiver's hardware address.
func frameHeader(b *[frameHeaderMax]byte, p *Packet) []byte {
	copy(b[6:12], p.HardwareSource)
	if p.Destination.Is6() {
		dst := p.Destination.As16()
		if !p.Destination.IsMulticast() {
			dst = netip.IPv6LinkLocalAllNodes().As16()
		}
		b[0], b[1] = 0x33, 0x33 // RFC 2464 §7
		copy(b[2:6], dst[12:])
		binary.BigEndian.PutUint16(b[12:], etherTypeIPv6)
		putIPv6Header(b[ethernetLen:], p)
		return b[:ethernetLen+ipv6HeaderLen]
	}
	dst := p.Destination.As4()
	if !p.Destination.IsMulticast() {
		dst = [4]byte{224, 0, 0, 1}
	}
	b[0], b[1], b[2] = 0x01, 0x00, 0x5e // RFC 1112 §6.4
	b[3], b[4], b[5] = dst[1]&0x7f, dst[2], dst[3]
	binary.BigEndian.PutUint16(b[12:], etherTypeIPv4)
	if copy(b[ethernetLen:], p.Header) == 0 {
		putIPv4Header(b[ethernetLen:], p)
	}
	return b[:ethernetLen+ipv4HeaderLen]
}

func putIPv4Header(b []byte, p *Packet) {
	b = b[:ipv4HeaderLen]
	clear(b)
	b[0] = 4<<4 | ipv4HeaderLen/4
	b[ipv4TOS] = tosInternetworkControl
	binary.BigEndian.PutUint16(b[ipv4Total:], uint16(ipv4HeaderLen+len(p.Data)))
	// Without fragments there is no use for an ID (RFC 6864 §4.1).
	binary.BigEndian.PutUint16(b[ipv4Fragment:], ipv4DontFragment)
	b[ipv4TTL], b[ipv4TTL+1] = p.TTL, p.Protocol
	src, dst := p.Source.As4(), p.Destination.As4()
	copy(b[12:], src[:])
	copy(b[16:], dst[:])
	binary.BigEndian.PutUint16(b[ipv4Checksum:], checksum(sum(0, b)))
}

func putIPv6Header(b []byte, p *Packet) {
	binary.BigEndian.PutUint32(b, 6<<28|tosInternetworkControl<<20)
	binary.BigEndian.PutUint16(b[4:], uint16(len(p.Data)))
	b[6], b[7] = p.Protocol, p.TTL
	src, dst := p.Source.As16(), p.Destination.As16()
	copy(b[8:], src[:])
	copy(b[24:], dst[:])
}
