package healthcheck

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/net/ipv6"

	"github.com/havip/havip/internal/field"
)

// Gateway is a [Checker] that asks for the link-layer address of a neighbour,
// by ARP or by neighbour discovery: healthy if the neighbour answers. Unlike a
// ping, the request cannot be filtered by the neighbour or answered by way of another
// interface. This makes Gateway the tie-breaker of a two-node pair: the node that does
// not reach the gateway is cut off. Gateway needs Linux and CAP_NET_RAW.
type Gateway struct {
	// Interface is the name of the interface to ask on. Required.
	Interface string
	// Address is the neighbour's address. Required.
	Address netip.Addr
}

// WithDefaults returns c: no field has a default.
func (c Gateway) WithDefaults() Gateway { return c }

// Validate reports what is missing.
func (c Gateway) Validate() error {
	return errors.Join(validateInterface("Interface", c.Interface),
		field.If(!c.Address.IsValid() || c.Address.IsUnspecified() || c.Address.IsMulticast(),
			"Address", "%v: want the address of a neighbour", c.Address))
}

// Check asks once and waits for the answer.
func (c Gateway) Check(ctx context.Context) error { return fail(c, c.probe(ctx)) }

// String names the check in errors and log lines.
func (c Gateway) String() string { return fmt.Sprintf("gateway %v on %s", c.Address, c.Interface) }

// arpSize is the size of an ARP packet for IPv4 over Ethernet (RFC 826).
const arpSize = 28

// arpHead is the beginning of such a packet: hardware type Ethernet, protocol type IPv4, and
// the sizes of their addresses.
var arpHead = []byte{0, 1, 0x08, 0x00, 6, 4}

const (
	arpRequest = 1
	arpReply   = 2
)

// marshalARP returns an ARP packet.
func marshalARP(op uint16, senderMAC net.HardwareAddr, sender netip.Addr, targetMAC net.HardwareAddr, target netip.Addr) []byte {
	b := append(make([]byte, 0, arpSize), arpHead...)
	b = binary.BigEndian.AppendUint16(b, op)
	b = append(append(b, senderMAC...), sender.AsSlice()...)
	return append(append(b, targetMAC...), target.AsSlice()...)
}

// isARPAnswer reports whether b is a reply to us from addr. Ethernet may have padded the
// reply.
func isARPAnswer(b []byte, addr netip.Addr, us net.HardwareAddr) bool {
	return len(b) >= arpSize && bytes.Equal(b[:6], arpHead) && binary.BigEndian.Uint16(b[6:]) == arpReply &&
		bytes.Equal(b[14:18], addr.AsSlice()) && bytes.Equal(b[18:24], us)
}

// Neighbour discovery (RFC 4861 §4.6.1, §7.1).
const (
	ndpSourceLinkLayer = 1
	ndpHopLimit        = 255
)

// marshalSolicitation returns a Neighbor Solicitation (RFC 4861 §4.3). The kernel fills in
// the checksum.
func marshalSolicitation(target netip.Addr, us net.HardwareAddr) []byte {
	b := append([]byte{byte(ipv6.ICMPTypeNeighborSolicitation), 0, 0, 0, 0, 0, 0, 0}, target.WithZone("").AsSlice()...)
	if len(us) != 6 {
		return b
	}
	// The option's length is in units of 8 bytes.
	return append(append(b, ndpSourceLinkLayer, 1), us...)
}

// isAdvertisementOf reports whether b is a Neighbor Advertisement of target (RFC 4861 §4.4).
func isAdvertisementOf(b []byte, target netip.Addr) bool {
	return len(b) >= 24 && b[0] == byte(ipv6.ICMPTypeNeighborAdvertisement) && b[1] == 0 && bytes.Equal(b[8:24], target.WithZone("").AsSlice())
}

// solicitedNode returns the solicited-node multicast group of an address (RFC 4291
// §2.7.1).
func solicitedNode(addr netip.Addr) netip.Addr {
	a := addr.As16()
	group := [16]byte{0xff, 0x02, 11: 0x01, 12: 0xff, 13: a[13], 14: a[14], 15: a[15]}
	return netip.AddrFrom16(group)
}
