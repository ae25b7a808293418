package guard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"

	"github.com/havip/havip/internal/field"
	"github.com/havip/havip/internal/inet"
)

// FieldError is what is wrong with one field of a [Config] or a [Will], by the
// field's name: "Packets[1].TTL".
type FieldError = field.Error

// Validate reports what is wrong with c, whatever the machine.
func (c Config) Validate() error {
	return field.If(strings.ContainsRune(c.Form, 0), "Form", "%q: want no zero byte: the form is passed on in the environment", c.Form)
}

// WithDefaults returns c, whose zero values are its defaults.
func (c Config) WithDefaults() Config { return c }

// Netlink messages (netlink(7), rtnetlink(7), linux/nfnetlink.h).
const (
	messageHeader   = 16
	attributeHeader = 4

	flagRequest = 0x1 // NLM_F_REQUEST
	flagAck     = 0x4 // NLM_F_ACK
	flagUp      = 0x1 // IFF_UP

	rtmNewLink  = 16
	rtmSetLink  = 19
	rtmDelAddr  = 21
	rtmDelRoute = 25

	nfBatchBegin  = 16
	nfBatchEnd    = 17
	nfDeleteTable = 10<<8 | 2 // NFNL_SUBSYS_NFTABLES, NFT_MSG_DELTABLE
)

// kinds are the types that messages may have, and how many bytes follow the header
// before the attributes begin. A will takes back, and never adds anything.
type kinds map[uint16]int

var (
	requestKinds = kinds{rtmDelAddr: 8, rtmDelRoute: 12, rtmNewLink: 16}
	filterKinds  = kinds{nfBatchBegin: 4, nfDeleteTable: 4, nfBatchEnd: 4}
	settingKinds = kinds{rtmSetLink: 16}
)

// Validate reports everything that no guard can carry out, or should: messages that
// are incomplete or not of the types that a Manager of package vip makes, and packets
// that contradict themselves. Each error that is joined in the result is a
// [FieldError].
func (w Will) Validate() error {
	var errs []error
	messages := func(name string, list [][]byte, allowed kinds) {
		for i, b := range list {
			errs = append(errs, field.In(fmt.Sprintf("%s[%d]", name, i), allowed.validate(b)))
		}
	}
	messages("Requests", w.Requests, requestKinds)
	messages("Filters", w.Filters, filterKinds)
	messages("Settings", w.Settings, settingKinds)
	for i, p := range w.Packets {
		errs = append(errs, field.In(fmt.Sprintf("Packets[%d]", i), p.validate()))
	}
	return errors.Join(errs...)
}

// validate checks messages that follow one another.
func (k kinds) validate(b []byte) error {
	if len(b) == 0 {
		return errors.New("empty: want a netlink message")
	}
	length := func(b []byte) int { return int(binary.NativeEndian.Uint32(b)) }
	return walk(b, "a message", messageHeader, length, k.validateMessage)
}

// walk checks messages or attributes that follow one another, each by validate. All begin
// with their length, which includes a header, and are aligned to NLMSG_ALIGNTO, which is
// RTA_ALIGNTO, too.
func walk(b []byte, what string, header int, length func([]byte) int, validate func([]byte) error) error {
	for len(b) > 0 {
		if len(b) < header {
			return fmt.Errorf("%d bytes: want %s, of %d or more", len(b), what, header)
		}
		size := length(b)
		if size < header || size > len(b) {
			return fmt.Errorf("%s of %d bytes in %d: want a whole one, of %d or more", what, size, len(b), header)
		}
		if err := validate(b[:size]); err != nil {
			return err
		}
		b = b[min(len(b), (size+3)&^3):]
	}
	return nil
}

// validateMessage checks one message whose length is right.
func (k kinds) validateMessage(b []byte) error {
	typ, flags := binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint16(b[6:])
	body, known := k[typ]
	switch {
	case !known:
		return fmt.Errorf("message type %d: want one of those that vip.Removals has here", typ)
	case flags&^flagAck != flagRequest:
		return fmt.Errorf("message flags %#x: want NLM_F_REQUEST", flags)
	case len(b) < messageHeader+body:
		return fmt.Errorf("a message of type %d and %d bytes: want %d or more", typ, len(b), messageHeader+body)
	case typ == rtmNewLink && body == requestKinds[rtmNewLink]: // not a batch's begin
		// struct ifinfomsg: index, flags and what is changed of them.
		info := b[messageHeader:]
		if binary.NativeEndian.Uint32(info[4:]) == 0 || binary.NativeEndian.Uint32(info[8:])&flagUp != 0 || binary.NativeEndian.Uint32(info[12:]) != flagUp {
			return errors.New("a link is changed: want it set down, by its index")
		}
	}
	length := func(b []byte) int { return int(binary.NativeEndian.Uint16(b)) }
	return walk(b[messageHeader+body:], "an attribute", attributeHeader, length, func([]byte) error { return nil })
}

// maxPayload is far more than an advertisement takes.
const maxPayload = 1 << 15

// validate checks whether a packet can be sent as it is.
func (p Packet) validate() error {
	from, to, length := p.Source, p.Destination, len(p.Payload)
	unusable := func(a netip.Addr) bool { return !a.IsValid() || a.IsUnspecified() || a.Is4In6() }
	mixed := from.IsValid() && to.IsValid() && from.Is4() != to.Is4()
	pathless := p.Interface == 0 && (to.IsMulticast() || to.Is6() && to.IsLinkLocalUnicast())
	return errors.Join(
		field.If(unusable(from), "Source", "%v: want an IPv4 or IPv6 address", from),
		field.If(unusable(to), "Destination", "%v: want an IPv4 or IPv6 address", to),
		field.Between("Interface", p.Interface, 0, math.MaxInt32),
		field.Between("Protocol", p.Protocol, 1, 255),
		field.Between("TTL", p.TTL, 1, 255),
		field.If(length == 0 || length > maxPayload, "Payload", "%d bytes: want 1 to %d", length, maxPayload),
		field.In("Header", p.validateHeader()),
		field.If(from.IsMulticast(), "Source", "%v: want the address of one host", from),
		field.If(mixed, "Source", "%v: of another family than %v", from, to),
		field.If(pathless, "Interface", "0: want an interface's index: the routing table has no way to %v", to),
	)
}

// validateHeader checks the IPv4 header, if one is given, against the fields (RFC 791 §3.1).
func (p Packet) validateHeader() error {
	h := p.Header
	if len(h) == 0 {
		return nil
	}
	if !p.Source.Is4() || !p.Destination.Is4() {
		return errors.New("given for IPv6: want none")
	}
	if n := len(h); n < inet.IPv4Len || n > inet.IPv4MaxLen || int(h[0]) != 4<<4|n/4 || n%4 != 0 {
		return fmt.Errorf("%d bytes that begin with %#x: want an IPv4 header with its own length", n, h[0])
	}
	src, dst := netip.AddrFrom4([4]byte(h[12:])), netip.AddrFrom4([4]byte(h[16:]))
	switch total := int(binary.BigEndian.Uint16(h[inet.IPv4Total:])); {
	case total != len(h)+len(p.Payload):
		return fmt.Errorf("total length %d: want %d", total, len(h)+len(p.Payload))
	case h[inet.IPv4TTL] != p.TTL:
		return fmt.Errorf("TTL %d: want %d", h[inet.IPv4TTL], p.TTL)
	case h[inet.IPv4Protocol] != p.Protocol:
		return fmt.Errorf("protocol %d: want %d", h[inet.IPv4Protocol], p.Protocol)
	case src != p.Source || dst != p.Destination:
		return fmt.Errorf("from %v to %v: want from %v to %v", src, dst, p.Source, p.Destination)
	}
	return nil
}
