package vip

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/havip/havip/internal/inet"
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
	naRouter                  = 0x80
	naOverride                = 0x20
	optionTargetLinkLayer     = 2
)

// announcement returns the Ethernet frame that says that addr is at mac.
func announcement(addr netip.Addr, mac net.HardwareAddr, reply, router bool) []byte {
	if addr.Is4() {
		return gratuitousARP(mac, addr, mac, reply)
	}
	return neighborAdvertisement(addr, mac, router)
}

// gratuitousARP builds an ARP packet whose sender and target is addr, sent by the
// host with the hardware address from. The target hardware address of a request is
// broadcast, as Keepalived has it; that of a reply is the sender's (RFC 5944 §4.6).
func gratuitousARP(from net.HardwareAddr, addr netip.Addr, mac net.HardwareAddr, reply bool) []byte {
	op, target := uint16(arpRequest), ethernet.Broadcast
	if reply {
		op, target = arpReply, mac
	}
	return arpFrame(from, op, mac, addr, target, addr)
}

// arpFrame builds a broadcast ARP packet for IPv4 over Ethernet.
func arpFrame(from net.HardwareAddr, op uint16, sha net.HardwareAddr, spa netip.Addr, tha net.HardwareAddr, tpa netip.Addr) []byte {
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
func neighborAdvertisement(addr netip.Addr, mac net.HardwareAddr, router bool) []byte {
	flags := byte(naOverride)
	if router {
		flags |= naRouter
	}
	icmp := append(neighborMessage(icmpNeighborAdvertisement, flags, addr), optionTargetLinkLayer, 1) // length in units of 8 bytes
	icmp = append(icmp, mac...)
	return icmpFrame(addr, netip.IPv6LinkLocalAllNodes(), mac, icmp)
}

// neighborMessage builds a message of neighbour discovery without options (RFC 4861 §4.3,
// §4.4).
func neighborMessage(kind, flags byte, target netip.Addr) []byte {
	return append([]byte{kind, 0, 0, 0, flags, 0, 0, 0}, target.AsSlice()...)
}

// probeFrame builds the question whether any host has addr: an ARP probe (RFC 5227 §2.1.1),
// or the neighbour solicitation of duplicate address detection (RFC 4862 §5.4.2). It
// claims nothing, and changes no neighbour's cache.
func probeFrame(addr netip.Addr, mac net.HardwareAddr) []byte {
	if addr.Is4() {
		return arpFrame(mac, arpRequest, mac, netip.IPv4Unspecified(), make(net.HardwareAddr, 6), addr)
	}
	// The solicited-node group of the address (RFC 4291 §2.7.1).
	group, target := netip.MustParseAddr("ff02::1:ff00:0").As16(), addr.As16()
	copy(group[13:], target[13:])
	return icmpFrame(netip.IPv6Unspecified(), netip.AddrFrom16(group), mac, neighborMessage(icmpNeighborSolicitation, 0, addr))
}

// parseARP returns the address that an ARP packet, without its Ethernet header, claims for
// its sender. The sender of a probe has no address yet, and asks for the one that it is
// about to claim.
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

// icmpFrame builds the frame of an ICMPv6 message to a group, whose checksum it fills
// in (RFC 4443 §2.3). The hop limit is 255: a receiver of neighbour discovery accepts
// no other (RFC 4861 §7.1).
func icmpFrame(src, group netip.Addr, from net.HardwareAddr, icmp []byte) []byte {
	sum := inet.SumPseudoHeader(inet.Sum(0, icmp), src, group, icmpv6, len(icmp))
	binary.BigEndian.PutUint16(icmp[2:], inet.Checksum(sum))
	ip := inet.Header{Source: src, Destination: group, Protocol: icmpv6, TTL: 255}
	mac := inet.GroupMAC(group)
	return marshal(mac[:], from, ethernet.EtherTypeIPv6, append(ip.Append(nil, len(icmp)), icmp...))
}

func marshal(dst, src net.HardwareAddr, typ ethernet.EtherType, payload []byte) []byte {
	f := ethernet.Frame{Destination: dst, Source: src, EtherType: typ, Payload: payload}
	b, _ := f.MarshalBinary() // only a VLAN tag can be wrong
	return b
}
