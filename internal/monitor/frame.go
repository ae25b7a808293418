package monitor

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/havip/havip/vrrp"
)

// Frame is one frame of a capture or of a file.
type Frame struct {
	Time      time.Time
	Interface string // where it was seen; empty if that is not known
	Link      layers.LinkType
	Data      []byte
	Length    int // on the wire; more than len(Data) if the capture cut it
}

// IP protocols that the monitor looks at.
const (
	protocolAH   = 51
	protocolVRRP = 112 // and CARP
)

// origin is where a frame comes from.
type origin struct {
	link string // the interface, and the VLAN tags behind it: "eth0.10"
	mac  hardware
}

// hardware is a hardware address that can be compared; all zero if there is none.
type hardware [6]byte

func (h hardware) String() string {
	if h == (hardware{}) {
		return "an unknown hardware address"
	}
	return net.HardwareAddr(h[:]).String()
}

// MarshalText returns what String does, or nothing without an address.
func (h hardware) MarshalText() ([]byte, error) {
	if h == (hardware{}) {
		return nil, nil
	}
	return []byte(h.String()), nil
}

func hardwareOf(b []byte) (h hardware) {
	if len(b) == len(h) {
		copy(h[:], b)
	}
	return h
}

// decoded is what one frame turned out to be: at most one of packet and claim is set.
type decoded struct {
	origin
	packet *vrrp.Packet // IP protocol 112 or 51
	// broken says why packet could not be had, of a packet that was one of those.
	broken string
	claim  *claim
}

// vlanTags is the decoder of VLAN tags, which keeps all of them.
type vlanTags struct {
	layers.Dot1Q
	ids []uint16
}

// DecodeFromBytes implements gopacket.DecodingLayer.
func (v *vlanTags) DecodeFromBytes(b []byte, df gopacket.DecodeFeedback) error {
	err := v.Dot1Q.DecodeFromBytes(b, df)
	if err == nil {
		v.ids = append(v.ids, v.VLANIdentifier)
	}
	return err
}

// decoder takes frames apart down to the IP payload. Its layers are reused.
type decoder struct {
	eth      layers.Ethernet
	sll      layers.LinuxSLL
	sll2     layers.LinuxSLL2
	vlan     vlanTags
	arp      layers.ARP
	ip4      layers.IPv4
	ip6      layers.IPv6
	ext      layers.IPv6ExtensionSkipper
	icmp     layers.ICMPv6
	neighbor layers.ICMPv6NeighborAdvertisement

	parsers map[gopacket.LayerType]*gopacket.DecodingLayerParser
	types   []gopacket.LayerType
}

func newDecoder() *decoder {
	d := &decoder{parsers: make(map[gopacket.LayerType]*gopacket.DecodingLayerParser)}
	for _, first := range []gopacket.LayerType{layers.LayerTypeEthernet, layers.LayerTypeLinuxSLL, layers.LayerTypeLinuxSLL2, layers.LayerTypeIPv4, layers.LayerTypeIPv6} {
		p := gopacket.NewDecodingLayerParser(first, &d.eth, &d.sll, &d.sll2, &d.vlan, &d.arp, &d.ip4, &d.ip6, &d.ext, &d.icmp, &d.neighbor)
		p.IgnoreUnsupported = true // VRRP itself is one
		d.parsers[first] = p
	}
	return d
}

// linkTypes are those that frames may have, by their first layer. Raw IP of either family
// is told apart by its first byte.
var linkTypes = map[layers.LinkType]gopacket.LayerType{
	layers.LinkTypeEthernet:  layers.LayerTypeEthernet,
	layers.LinkTypeLinuxSLL:  layers.LayerTypeLinuxSLL,
	layers.LinkTypeLinuxSLL2: layers.LayerTypeLinuxSLL2,
	layers.LinkTypeIPv4:      layers.LayerTypeIPv4,
	layers.LinkTypeIPv6:      layers.LayerTypeIPv6,
	layers.LinkTypeRaw:       layers.LayerTypeIPv4,
	rawBSD:                   layers.LayerTypeIPv4,
	rawOpenBSD:               layers.LayerTypeIPv4,
}

// Numbers of raw IP in files of other systems.
const (
	rawBSD     layers.LinkType = 12
	rawOpenBSD layers.LinkType = 14
)

// decode takes f apart. Memory of the result is that of f and of d.
func (d *decoder) decode(f *Frame) (out decoded) {
	first, known := linkTypes[f.Link]
	if !known || len(f.Data) == 0 {
		return decoded{}
	}
	if first == layers.LayerTypeIPv4 && f.Data[0]>>4 == 6 {
		first = layers.LayerTypeIPv6
	}
	d.vlan.ids = d.vlan.ids[:0]
	parser := d.parsers[first]
	err := parser.DecodeLayers(f.Data, &d.types)
	out.origin = d.origin(f)
	switch {
	case d.has(layers.LayerTypeIPv4):
		d.ipv4(&out, f, parser.Truncated)
	case d.has(layers.LayerTypeIPv6):
		d.ipv6(&out, f, parser.Truncated)
	case d.has(layers.LayerTypeARP):
		out.claim = d.arpClaim()
	case err != nil && d.mayBeVRRP(f.Data):
		out.broken = fmt.Sprintf("its IP header cannot be read: %v", err)
	}
	return out
}

func (d *decoder) has(t gopacket.LayerType) bool { return slices.Contains(d.types, t) }

// mayBeVRRP reports whether a frame whose IP header is damaged goes to VRRP's group.
func (d *decoder) mayBeVRRP(frame []byte) bool {
	return d.has(layers.LayerTypeEthernet) &&
		(d.eth.DstMAC.String() == "01:00:5e:00:00:12" || d.eth.DstMAC.String() == "33:33:00:00:00:12")
}

// origin returns the link and the sender of the frame that was just decoded.
func (d *decoder) origin(f *Frame) origin {
	o := origin{link: f.Interface}
	switch {
	case d.has(layers.LayerTypeEthernet):
		o.mac = hardwareOf(d.eth.SrcMAC)
	case d.has(layers.LayerTypeLinuxSLL):
		o.mac = hardwareOf(d.sll.Addr)
	case d.has(layers.LayerTypeLinuxSLL2):
		o.mac = hardwareOf(d.sll2.Addr)
		if o.link == "" {
			o.link = fmt.Sprintf("#%d", d.sll2.InterfaceIndex)
		}
	}
	if len(d.vlan.ids) > 0 {
		var b strings.Builder
		b.WriteString(o.link)
		for _, id := range d.vlan.ids {
			fmt.Fprintf(&b, ".%d", id)
		}
		o.link = b.String()
	}
	return o
}

// ipv4 fills in out for an IPv4 packet.
func (d *decoder) ipv4(out *decoded, f *Frame, truncated bool) {
	ip := &d.ip4
	if ip.Protocol != protocolVRRP && ip.Protocol != protocolAH {
		return
	}
	src, dst := netip.AddrFrom4([4]byte(ip.SrcIP)), netip.AddrFrom4([4]byte(ip.DstIP))
	out.packet = &vrrp.Packet{Data: ip.Payload, Header: ip.Contents, Source: src, Destination: dst, TTL: ip.TTL, Protocol: uint8(ip.Protocol)}
	switch {
	case ip.FragOffset != 0 || ip.Flags&layers.IPv4MoreFragments != 0:
		out.broken = "a fragment of an IP packet: advertisements are never so long"
	case truncated:
		out.broken = cut(f)
	}
}

// ipv6 fills in out for an IPv6 packet.
func (d *decoder) ipv6(out *decoded, f *Frame, truncated bool) {
	ip := &d.ip6
	if d.has(layers.LayerTypeICMPv6NeighborAdvertisement) {
		out.claim = d.neighborClaim()
		return
	}
	protocol, payload := ip.NextHeader, ip.Payload
	if ip.HopByHop != nil {
		protocol = ip.HopByHop.NextHeader
	}
	if slices.ContainsFunc(d.types, layers.LayerClassIPv6Extension.Contains) {
		protocol, payload = d.ext.NextHeader, d.ext.Payload
	}
	if protocol != protocolVRRP && protocol != protocolAH {
		return
	}
	src, dst := netip.AddrFrom16([16]byte(ip.SrcIP)), netip.AddrFrom16([16]byte(ip.DstIP))
	out.packet = &vrrp.Packet{Data: payload, Source: src, Destination: dst, TTL: ip.HopLimit, Protocol: uint8(protocol)}
	switch {
	case d.has(layers.LayerTypeIPv6Fragment):
		out.broken = "a fragment of an IP packet: advertisements are never so long"
	case truncated:
		out.broken = cut(f)
	}
}

// cut says why a frame ends too early.
func cut(f *Frame) string {
	if f.Length > len(f.Data) {
		return fmt.Sprintf("the capture kept %d of its %d bytes: capture whole frames (tcpdump -s 0)", len(f.Data), f.Length)
	}
	return "the frame ends before the IP packet does"
}
