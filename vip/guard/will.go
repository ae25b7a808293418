package guard

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"net/netip"
	"slices"

	"github.com/havip/havip/internal/inet"
)

// ErrClosed says that the Guard was closed: see errors.Is.
var ErrClosed = errors.New("closed")

// Config configures a guard. Its zero value is fine.
type Config struct {
	// Logger gets the log of the process about its guard. Default: silent.
	Logger *slog.Logger
	// Form is passed to the handler of [MainLog] in the guard: words of the program's
	// own for the form of its log, such as "json".
	Form string
}

// Will is what the guard does when the process has died. See [Will.Validate].
type Will struct {
	// Requests are netlink requests (NETLINK_ROUTE), carried out in order, before any
	// Packets.
	Requests [][]byte
	// Packets are sent in order after the Requests of all wills.
	Packets []Packet
	// Filters are transactions of NETLINK_NETFILTER, after the Packets.
	Filters [][]byte
	// Settings are requests like Requests, carried out last, after all wills: they
	// restore settings that the Requests rely on.
	Settings [][]byte
}

// Packet is an IP packet of a raw protocol.
type Packet struct {
	// Interface is the index of the interface to send on, by which there must be a
	// route. 0: the routing table decides; only for unicast, and not for link-local
	// addresses of IPv6.
	Interface int
	// Source and Destination are of one family.
	Source, Destination netip.Addr
	// Protocol is the IP protocol number, such as 112.
	Protocol uint8
	// TTL is the TTL or hop limit, 1 to 255.
	TTL uint8
	// Header, if not empty, is the complete IPv4 header, for payloads that authenticate
	// the header. It must agree with the fields above.
	Header []byte
	// Payload is what follows the IP header, 1 to 32768 bytes.
	Payload []byte
}

// socket is the kind of socket that a shot is sent on.
type socket uint8

const (
	socketNetlink socket = iota
	socketIPv4
	socketIPv6
	socketNetfilter
	socketSettings
	sockets // their number
)

// shot is one message as the child sends it.
type shot struct {
	socket socket
	index  int    // of the interface, for packets
	data   []byte // a packet begins with its IP header
}

// compile turns a valid will into shots.
func (w Will) compile() []shot {
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
		out = append(out, p.compile())
	}
	return out
}

// compile puts the IP header before the payload.
func (p Packet) compile() shot {
	s := shot{socketIPv6, p.Interface, nil}
	if p.Source.Is4() {
		s.socket = socketIPv4
	}
	header := p.Header
	if len(header) == 0 { // the kernel chooses the identification (raw(7))
		ip := inet.Header{Source: p.Source, Destination: p.Destination, Protocol: p.Protocol, TTL: p.TTL, Class: inet.NetworkControl}
		header = ip.Append(nil, len(p.Payload))
	}
	s.data = slices.Concat(header, p.Payload)
	return s
}

// encode writes what decode reads: a block for each shot, which is socket u8, index u32 and
// the data.
func encode(shots []shot) (b []byte) {
	for _, s := range shots {
		head := binary.BigEndian.AppendUint32([]byte{byte(s.socket)}, uint32(s.index))
		b = appendBlock(b, head, s.data)
	}
	return b
}

// decode reads what encode has written, all of it: the store knows whether a will is whole.
func decode(b []byte) (shots []shot) {
	for len(b) > 0 {
		var s []byte
		s, b = cutBlock(b)
		shots = append(shots, shot{socket(s[0]), int(binary.BigEndian.Uint32(s[1:])), s[5:]})
	}
	return shots
}

// appendBlock appends a block: the length of its parts together, u32, and the parts.
func appendBlock(b []byte, parts ...[]byte) []byte {
	block := slices.Concat(parts...)
	return append(binary.BigEndian.AppendUint32(b, uint32(len(block))), block...)
}

// cutBlock returns the first block of b, and what follows it.
func cutBlock(b []byte) (block, rest []byte) {
	end := 4 + int(binary.BigEndian.Uint32(b))
	return b[4:end:end], b[end:]
}
