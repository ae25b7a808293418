package guard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
)

// Config configures a guard. Its zero value is fine.
type Config struct {
	// Logger hears of what becomes of the guard while the process lives. nil:
	// silent.
	Logger *slog.Logger
	// Form tells [MainLog] in the guard how the log is written: words of the
	// program's own, such as "json".
	Form string
}

// Will is what is to be done when the process has died.
type Will struct {
	// Requests are netlink requests (NETLINK_ROUTE), carried out in order and
	// before any Packets are sent. Their answers are not read.
	Requests [][]byte
	// Packets are sent in order after the Requests of all wills.
	Packets []Packet
	// Filters are transactions of NETLINK_NETFILTER, after the Packets.
	Filters [][]byte
	// Settings are requests like Requests, but after everything else of all
	// wills: what the Requests rely on is put back by them.
	Settings [][]byte
}

// Packet is an IP packet of a raw protocol.
type Packet struct {
	// Interface is the index of the interface to send on, and there must be a
	// route by it. 0: the routing table decides, which it can for unicast only,
	// and not for link-local addresses.
	Interface int
	// Source and Destination are of one family.
	Source, Destination netip.Addr
	// Protocol is the IP protocol number, such as 112.
	Protocol uint8
	// TTL is the TTL or hop limit.
	TTL uint8
	// Header, if not nil, is the complete IPv4 header: for payloads that
	// authenticate it. The fields above must agree with it.
	Header []byte
	// Payload is what follows the IP header.
	Payload []byte
}

// socket says what a shot is sent on.
type socket uint8

const (
	socketNetlink socket = iota
	socketIPv4
	socketIPv6
	socketNetfilter
	socketSettings
	sockets // how many there are
)

// shot is one message as the child sends it.
type shot struct {
	socket socket
	index  int
	dst    netip.Addr // of packets
	data   []byte
}

// packet reports whether a socket is for packets.
func (s socket) packet() bool { return s == socketIPv4 || s == socketIPv6 }

// maxWill is far more than a will of 255 addresses and 255 peers takes.
const maxWill = 1 << 20

// compile turns a will into shots.
func (w Will) compile() ([]shot, error) {
	var out []shot
	messages := func(s socket, list [][]byte) {
		for _, m := range list {
			out = append(out, shot{socket: s, data: m})
		}
	}
	messages(socketNetlink, w.Requests)
	messages(socketNetfilter, w.Filters)
	messages(socketSettings, w.Settings)
	for _, p := range w.Packets {
		s, err := p.compile()
		if err != nil {
			return nil, fmt.Errorf("packet to %v: %w", p.Destination, err)
		}
		out = append(out, s)
	}
	return out, nil
}

// precedence is the traffic class of routing protocols (RFC 4594 §3.2, CS6).
const precedence = 0xc0

// compile puts the IP header before the payload.
func (p Packet) compile() (shot, error) {
	s := shot{socket: socketIPv6, index: p.Interface, dst: p.Destination.WithZone("")}
	switch {
	case !p.Source.IsValid() || !p.Destination.IsValid():
		return s, errors.New("no source or destination")
	case p.Source.Is4() != p.Destination.Is4():
		return s, fmt.Errorf("source %v is of another family", p.Source)
	case len(p.Payload) > 1<<15:
		return s, fmt.Errorf("payload of %d bytes is too long", len(p.Payload))
	case p.Source.Is4():
		s.socket = socketIPv4
		s.data = p.Header
		if s.data == nil {
			s.data = p.headerIPv4()
		}
	default:
		s.data = p.headerIPv6()
	}
	s.data = append(s.data[:len(s.data):len(s.data)], p.Payload...)
	return s, nil
}

// headerIPv4 leaves the identification and the checksum to the kernel (raw(7)).
func (p Packet) headerIPv4() []byte {
	b := []byte{0x45, precedence}
	b = binary.BigEndian.AppendUint16(b, uint16(20+len(p.Payload)))
	b = append(b, 0, 0, 0, 0, p.TTL, p.Protocol, 0, 0)
	return append(append(b, p.Source.AsSlice()...), p.Destination.AsSlice()...)
}

func (p Packet) headerIPv6() []byte {
	b := []byte{0x60 | precedence>>4, precedence << 4 & 0xff, 0, 0}
	b = binary.BigEndian.AppendUint16(b, uint16(len(p.Payload)))
	b = append(b, p.Protocol, p.TTL)
	return append(append(b, p.Source.AsSlice()...), p.Destination.AsSlice()...)
}

// testament is a will in the form in which the child finds it.
type testament struct {
	name  string
	shots []shot
}

// encode writes what decode reads: name u32 length, bytes, and for each shot
// socket u8 | index u32 | destination u8 length, bytes | data u32 length, bytes.
func (t testament) encode() []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(t.name)))
	b = append(b, t.name...)
	for _, s := range t.shots {
		b = append(b, byte(s.socket))
		b = binary.BigEndian.AppendUint32(b, uint32(s.index))
		dst := s.dst.AsSlice()
		b = append(append(b, byte(len(dst))), dst...)
		b = binary.BigEndian.AppendUint32(b, uint32(len(s.data)))
		b = append(b, s.data...)
	}
	return b
}

// decode reads what encode wrote. It returns what it could make sense of.
func decode(b []byte) (t testament) {
	if len(b) < 4 {
		return t
	}
	n := int(binary.BigEndian.Uint32(b))
	if b = b[4:]; len(b) < n {
		return t
	}
	t.name, b = string(b[:n]), b[n:]
	for len(b) >= 6 {
		s := shot{socket: socket(b[0]), index: int(binary.BigEndian.Uint32(b[1:]))}
		n := int(b[5])
		if b = b[6:]; len(b) < n+4 {
			break
		}
		s.dst, _ = netip.AddrFromSlice(b[:n])
		size := int(binary.BigEndian.Uint32(b[n:]))
		if b = b[n+4:]; len(b) < size {
			break
		}
		s.data, b = b[:size:size], b[size:]
		if s.socket < sockets && (!s.socket.packet() || s.dst.IsValid()) {
			t.shots = append(t.shots, s)
		}
	}
	return t
}
