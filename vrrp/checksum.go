package vrrp

import (
	"encoding/binary"
	"net/netip"
)

// sum adds b, whose length is even, to acc in the arithmetic of RFC 1071.
// Thirty-two bits at a time give the same result as sixteen once folded
// (§2.B), and no packet is long enough to overflow acc.
func sum(acc uint64, b []byte) uint64 {
	for len(b) >= 4 {
		acc += uint64(binary.BigEndian.Uint32(b))
		b = b[4:]
	}
	if len(b) >= 2 {
		acc += uint64(binary.BigEndian.Uint16(b)) << 16
	}
	return acc
}

// sumPseudoHeader adds the pseudo-header of a message of length bytes: RFC
// 8200 §8.1 for IPv6, and its IPv4 counterpart of RFC 9293 §3.1.
func sumPseudoHeader(acc uint64, src, dst netip.Addr, length int) uint64 {
	acc += protocolVRRP + uint64(length)
	if src.Is4() {
		s, d := src.As4(), dst.As4()
		return sum(sum(acc, s[:]), d[:])
	}
	s, d := src.As16(), dst.As16()
	return sum(sum(acc, s[:]), d[:])
}

// checksum folds acc into the value of a checksum field.
func checksum(acc uint64) uint16 {
	for acc > 0xffff {
		acc = acc>>16 + acc&0xffff
	}
	return ^uint16(acc)
}
