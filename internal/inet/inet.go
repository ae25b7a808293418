// Package inet writes IP headers. It computes the Internet checksum and the hardware
// addresses of multicast groups and of virtual routers. It knows a connection to itself. It
// works on bytes and addresses only.
package inet

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// Lengths of IP headers, and offsets in that of IPv4 (RFC 791 §3.1).
const (
	IPv4Len    = 20 // without options
	IPv4MaxLen = 60
	IPv6Len    = 40

	IPv4TOS      = 1
	IPv4Total    = 2 // the length of the packet
	IPv4Fragment = 6
	IPv4TTL      = 8
	IPv4Protocol = 9
	IPv4Checksum = 10
)

// NetworkControl is the TOS or traffic class of routing protocols (RFC 4594 §3.2,
// CS6).
const NetworkControl = 0xc0

// Header is an IP header without options. A zero field is written as zero.
type Header struct {
	Source, Destination netip.Addr // of one family, which is that of the header
	Protocol            uint8      // or next header
	TTL                 uint8      // or hop limit
	Class               uint8      // TOS or traffic class
	ID                  uint16     // IPv4 only
	DontFragment        bool       // IPv4 only
}

// Append appends the header of a packet with a payload of length bytes to b. An IPv4
// header has its checksum.
func (h *Header) Append(b []byte, length int) []byte {
	if !h.Source.Is4() {
		b = append(b, 0x60|h.Class>>4, h.Class<<4, 0, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(length))
		return appendAddrs(append(b, h.Protocol, h.TTL), h.Source, h.Destination)
	}
	var flags uint16
	if h.DontFragment {
		flags = 0x4000
	}
	start := len(b)
	b = append(b, 4<<4|IPv4Len/4, h.Class)
	b = binary.BigEndian.AppendUint16(b, uint16(IPv4Len+length))
	b = binary.BigEndian.AppendUint16(b, h.ID)
	b = binary.BigEndian.AppendUint16(b, flags)
	b = appendAddrs(append(b, h.TTL, h.Protocol, 0, 0), h.Source, h.Destination)
	binary.BigEndian.PutUint16(b[start+IPv4Checksum:], Checksum(Sum(0, b[start:])))
	return b
}

// Sum adds b, whose length is even, to acc in the arithmetic of RFC 1071.
// Thirty-two bits at a time give the same result as sixteen once folded
// (§2.B), and no packet is long enough to overflow acc.
func Sum(acc uint64, b []byte) uint64 {
	for len(b) >= 4 {
		acc += uint64(binary.BigEndian.Uint32(b))
		b = b[4:]
	}
	if len(b) >= 2 {
		acc += uint64(binary.BigEndian.Uint16(b)) << 16
	}
	return acc
}

// SumPseudoHeader adds the pseudo-header of a message of length bytes: RFC
// 8200 §8.1 for IPv6, and its IPv4 counterpart of RFC 9293 §3.1.
func SumPseudoHeader(acc uint64, src, dst netip.Addr, protocol uint8, length int) uint64 {
	acc += uint64(protocol) + uint64(length)
	if src.Is4() {
		s, d := src.As4(), dst.As4()
		return Sum(Sum(acc, s[:]), d[:])
	}
	s, d := src.As16(), dst.As16()
	return Sum(Sum(acc, s[:]), d[:])
}

// appendAddrs appends two addresses without their zones.
func appendAddrs(b []byte, src, dst netip.Addr) []byte {
	b, _ = src.WithZone("").AppendBinary(b) // never fails
	b, _ = dst.WithZone("").AppendBinary(b)
	return b
}

// Checksum folds acc into the value of a checksum field.
func Checksum(acc uint64) uint16 {
	for acc > 0xffff {
		acc = acc>>16 + acc&0xffff
	}
	return ^uint16(acc)
}

// GroupMAC returns the Ethernet group that a multicast group maps to (RFC 1112
// §6.4, RFC 2464 §7).
func GroupMAC(group netip.Addr) [6]byte {
	if group.Is4() {
		a := group.As4()
		return [6]byte{0x01, 0x00, 0x5e, a[1] & 0x7f, a[2], a[3]}
	}
	a := group.As16()
	return [6]byte{0x33, 0x33, a[12], a[13], a[14], a[15]}
}

// VirtualMAC returns the hardware address of a virtual router (RFC 9568 §7.3).
func VirtualMAC(vrid uint8, ipv6 bool) net.HardwareAddr {
	family := byte(1)
	if ipv6 {
		family = 2
	}
	return net.HardwareAddr{0, 0, 0x5e, 0, family, vrid}
}
