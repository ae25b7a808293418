package lab

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// Frame is one captured Ethernet frame.
type Frame struct {
	Time time.Time // when the kernel saw it
	Data []byte    // from the Ethernet header on, without checksum
}

// EtherType returns the frame's EtherType, such as 0x0806 for ARP, or 0 if it has
// none.
func (f Frame) EtherType() uint16 {
	if len(f.Data) < 14 {
		return 0
	}
	return binary.BigEndian.Uint16(f.Data[12:])
}

// IP takes an IPv4 or IPv6 packet apart: source, destination, protocol (IPv6: the
// first next header) and what follows the header. ok is false for anything else.
func (f Frame) IP() (src, dst netip.Addr, proto uint8, payload []byte, ok bool) {
	if len(f.Data) < 14 {
		return
	}
	p := f.Data[14:]
	switch {
	case f.EtherType() == 0x0800 && len(p) >= 20:
		header, total := int(p[0]&15)*4, int(binary.BigEndian.Uint16(p[2:]))
		if header < 20 || total < header || total > len(p) {
			return
		}
		// total cuts off the padding of short frames.
		return netip.AddrFrom4([4]byte(p[12:16])), netip.AddrFrom4([4]byte(p[16:20])), p[9], p[header:total], true
	case f.EtherType() == 0x86dd && len(p) >= 40:
		total := 40 + int(binary.BigEndian.Uint16(p[4:]))
		if total > len(p) {
			return
		}
		return netip.AddrFrom16([16]byte(p[8:24])), netip.AddrFrom16([16]byte(p[24:40])), p[6], p[40:total], true
	}
	return
}

// Protocol returns a filter that keeps IP packets of this protocol, such as 112
// for VRRP.
func Protocol(proto uint8) func(Frame) bool {
	return func(f Frame) bool {
		_, _, p, _, ok := f.IP()
		return ok && p == proto
	}
}
