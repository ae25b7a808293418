package vrrp

import (
	"encoding/binary"
	"net"
	"net/netip"

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

// Packet is one IP packet as a [Conn] received it.
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

// payload is p.Data without the Ethernet padding.
func (p *Packet) payload() []byte {
	if len(p.Header) < inet.IPv4Len {
		return p.Data
	}
	n := int(binary.BigEndian.Uint16(p.Header[inet.IPv4Total:])) - len(p.Header)
	if n < 0 || n > len(p.Data) {
		return p.Data
	}
	return p.Data[:n]
}

// peekVRID reads what is needed to find the virtual router that p is for, and
// nothing else. ok is false if there is no VRRP header.
func peekVRID(p *Packet) (vrid, version uint8, ok bool) {
	data := p.Data
	if p.Protocol == protocolAH {
		data = skipAH(data)
	}
	if len(data) < fixedLen {
		return 0, 0, false
	}
	return data[1], data[0] >> 4, true
}
