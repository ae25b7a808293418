package vip

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/ethernet"
)

// ARP (RFC 826) and neighbour discovery (RFC 4861) as far as announcements and
// the detection of conflicts need them.
const (
	arpRequest = 1
	arpReply   = 2
	arpSize    = 28

	icmpNeighborSolicitation  = 135
	icmpNeighborAdvertisement = 136
	icmpv6                    = 58
	ipv6Header                = 40
	naSize                    = 24 + 8 // with one link-layer address option
	naRouter                  = 0x80
	naOverride                = 0x20
	optionTargetLinkLayer     = 2
)

// allNodes is ff02::1, and the Ethernet group that it maps to (RFC 2464 §7).
var (
	allNodes    = netip.MustParseAddr("ff02::1")
	allNodesMAC = net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}
)

// announcement returns the Ethernet frame that says that addr is at mac.
func announcement(addr netip.Addr, mac net.HardwareAddr, reply, router bool) ([]byte, error) {
	if addr.Is4() {
		return gratuitousARP(mac, addr, mac, reply)
	}
	return neighborAdvertisement(addr, mac, router)
}

// gratuitousARP builds an ARP packet whose sender and target is addr, sent by the
// host with the hardware address from. The target hardware address of a request is
// broadcast, as Keepalived has it; that of a reply is the sender's (RFC 5944 §4.6).
func gratuitousARP(from net.HardwareAddr, addr netip.Addr, mac net.HardwareAddr, reply bool) ([]byte, error) {
	op, target := uint16(arpRequest), ethernet.Broadcast
	if reply {
		op, target = arpReply, mac
	}
	return arpFrame(from, op, mac, addr, target, addr)
}

// arpFrame builds a broadcast ARP packet for IPv4 over Ethernet.
func arpFrame(from net.HardwareAddr, op uint16, sha net.HardwareAddr, spa netip.Addr, tha net.HardwareAddr, tpa netip.Addr) ([]byte, error) {
	p := make([]byte, 0, arpSize)
	p = append(p, 0, 1) // hardware: Ethernet
	p = binary.BigEndian.AppendUint16(p, uint16(ethernet.EtherTypeIPv4))
	p = append(p, 6, 4) // lengths of the addresses
	p = binary.BigEndian.AppendUint16(p, op)
	p = append(append(p, sha...), spa.AsSlice()...)
	p = append(append(p, tha...), tpa.AsSlice()...)
	return marshal(ethernet.Broadcast, from, ethernet.EtherTypeARP, p)
}

// neighborAdvertisement builds an unsolicited neighbour advertisement (RFC 4861
// §7.2.6): Override set, Solicited clear, with the target's link-layer address.
func neighborAdvertisement(addr netip.Addr, mac net.HardwareAddr, router bool) ([]byte, error) {
	icmp := make([]byte, naSize)
	icmp[0] = icmpNeighborAdvertisement
	icmp[4] = naOverride
	if router {
		icmp[4] |= naRouter
	}
	copy(icmp[8:24], addr.AsSlice())
	icmp[24], icmp[25] = optionTargetLinkLayer, 1 // length in units of 8 bytes
	copy(icmp[26:], mac)
	binary.BigEndian.PutUint16(icmp[2:], icmpChecksum(addr, allNodes, icmp))
	return marshal(allNodesMAC, mac, ethernet.EtherTypeIPv6, ipv6Packet(addr, allNodes, icmp))
}

// probeFrame builds the question whether any host has addr. Its answer cannot
// put anything into a neighbour's cache, as it claims nothing: an ARP probe
// (RFC 5227 §2.1.1), or the neighbour solicitation of duplicate address
// detection (RFC 4862 §5.4.2).
func probeFrame(addr netip.Addr, mac net.HardwareAddr) ([]byte, error) {
	if addr.Is4() {
		return arpFrame(mac, arpRequest, mac, netip.IPv4Unspecified(), make(net.HardwareAddr, 6), addr)
	}
	// The solicited-node group of the address (RFC 4291 §2.7.1).
	group, target := netip.MustParseAddr("ff02::1:ff00:0").As16(), addr.As16()
	copy(group[13:], target[13:])
	dst := netip.AddrFrom16(group)
	icmp := make([]byte, 24)
	icmp[0] = icmpNeighborSolicitation
	copy(icmp[8:], target[:])
	binary.BigEndian.PutUint16(icmp[2:], icmpChecksum(netip.IPv6Unspecified(), dst, icmp))
	mcast := net.HardwareAddr{0x33, 0x33, group[12], group[13], group[14], group[15]}
	return marshal(mcast, mac, ethernet.EtherTypeIPv6, ipv6Packet(netip.IPv6Unspecified(), dst, icmp))
}

// parseARP returns the address that an ARP packet, without its Ethernet header,
// claims for its sender. That of a probe has none yet: it asks for the one that
// it is about to claim.
func parseARP(b []byte) (s sighting, ok bool) {
	if len(b) < arpSize || !bytes.Equal(b[:6], []byte{0, 1, 8, 0, 6, 4}) {
		return sighting{}, false
	}
	s = sighting{addr: netip.AddrFrom4([4]byte(b[14:18])), mac: bytes.Clone(b[8:14])}
	if s.addr.IsUnspecified() {
		s.addr, s.probe = netip.AddrFrom4([4]byte(b[24:28])), true
	}
	return s, true
}

// parseAdvertisement returns the target of a neighbour advertisement, an ICMPv6
// message whose checksum and hop limit were checked, and the hardware address
// that it gives, if any.
func parseAdvertisement(b []byte) (netip.Addr, net.HardwareAddr, bool) {
	if len(b) < 24 || b[0] != icmpNeighborAdvertisement {
		return netip.Addr{}, nil, false
	}
	addr := netip.AddrFrom16([16]byte(b[8:24]))
	for b = b[24:]; len(b) >= 8; {
		size := 8 * int(b[1])
		if size == 0 || size > len(b) {
			return netip.Addr{}, nil, false // RFC 4861 §4.6: discard
		}
		if b[0] == optionTargetLinkLayer && size == 8 {
			return addr, bytes.Clone(b[2:8]), true
		}
		b = b[size:]
	}
	return addr, nil, true
}

// ipv6Packet puts an IPv6 header with hop limit 255 before an ICMPv6 message;
// a receiver of neighbour discovery accepts no other (RFC 4861 §7.1).
func ipv6Packet(src, dst netip.Addr, icmp []byte) []byte {
	p := make([]byte, 0, ipv6Header+len(icmp))
	p = append(p, 0x60, 0, 0, 0)
	p = binary.BigEndian.AppendUint16(p, uint16(len(icmp)))
	p = append(p, icmpv6, 255)
	p = append(append(p, src.AsSlice()...), dst.AsSlice()...)
	return append(p, icmp...)
}

// icmpChecksum is the Internet checksum over the pseudo-header and the message
// (RFC 4443 §2.3), whose checksum field must be zero.
func icmpChecksum(src, dst netip.Addr, icmp []byte) uint16 {
	sum := uint32(len(icmp)) + icmpv6
	for _, b := range [][]byte{src.AsSlice(), dst.AsSlice(), icmp} {
		for i := 0; i+1 < len(b); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(b[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func marshal(dst, src net.HardwareAddr, typ ethernet.EtherType, payload []byte) ([]byte, error) {
	f := ethernet.Frame{Destination: dst, Source: src, EtherType: typ, Payload: payload}
	b, err := f.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("vip: %w", err)
	}
	return b, nil
}
