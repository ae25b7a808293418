package lb

import (
	"encoding/binary"
	"errors"
	"strings"
)

// helloMax bounds a ClientHello; those with post-quantum key shares have some 2 KB.
const helloMax = 16 << 10

var errNotTLS = errors.New("not a TLS ClientHello")

// serverName reads the SNI of the ClientHello at the start of b (RFC 8446 §4.1.2,
// RFC 6066 §3), in lower case; empty if there is none. The message may be spread
// over several records and, as long as errShort is returned, over several
// reads.
func serverName(b []byte) (string, error) {
	hello, err := helloMessage(b)
	if err != nil {
		return "", err
	}
	c := cursor(hello)
	c.skip(2 + 32)               // legacy_version, random
	c.skip(int(c.uint8()))       // legacy_session_id
	c.skip(int(c.uint16()))      // cipher_suites
	c.skip(int(c.uint8()))       // legacy_compression_methods
	if c != nil && len(c) == 0 { // No extensions, as before TLS 1.2.
		return "", nil
	}
	extensions := c.take(int(c.uint16()))
	for len(extensions) > 0 {
		kind := extensions.uint16()
		data := extensions.take(int(extensions.uint16()))
		if kind != 0 || data == nil {
			continue
		}
		names := data.take(int(data.uint16()))
		for len(names) > 0 {
			kind := names.uint8()
			if name := names.take(int(names.uint16())); kind == 0 && name != nil {
				return strings.ToLower(strings.TrimSuffix(string(name), ".")), nil
			}
		}
	}
	if c == nil || extensions == nil {
		return "", errNotTLS
	}
	return "", nil
}

// helloMessage joins the fragments of the ClientHello from the records in b.
func helloMessage(b []byte) ([]byte, error) {
	var message []byte
	for size := -1; ; {
		if len(b) < 5 {
			if len(b) > 0 && b[0] != 22 || len(b) > 1 && b[1] != 3 {
				return nil, errNotTLS
			}
			return nil, errShort
		}
		length := int(binary.BigEndian.Uint16(b[3:]))
		if b[0] != 22 || b[1] != 3 || length == 0 || length > 16384 {
			return nil, errNotTLS
		}
		fragment := b[5:min(len(b), 5+length)]
		if message == nil {
			message = fragment[:len(fragment):len(fragment)] // Usually all of it.
		} else {
			message = append(message, fragment...)
		}
		if size < 0 && len(message) >= 4 {
			size = int(message[1])<<16 | int(message[2])<<8 | int(message[3])
			if size > helloMax {
				return nil, errNotTLS
			}
		}
		if len(message) > 0 && message[0] != 1 {
			return nil, errNotTLS
		}
		if size >= 0 && len(message) >= 4+size {
			return message[4 : 4+size], nil
		}
		if len(b) < 5+length {
			return nil, errShort
		}
		b = b[5+length:]
	}
}

// cursor reads from a slice; nil once it was too short.
type cursor []byte

func (c *cursor) take(n int) cursor {
	if *c == nil || n > len(*c) {
		*c = nil
		return nil
	}
	head := (*c)[:n:n]
	*c = (*c)[n:]
	return head
}

func (c *cursor) skip(n int) { c.take(n) }

func (c *cursor) uint8() uint8 {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) uint16() uint16 {
	if b := c.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}
