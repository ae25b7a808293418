// Package sni reads the server name that a TLS client asks for.
package sni

import (
	"encoding/binary"
	"errors"
	"io"
	"strings"
)

// A ClientHello with post-quantum key shares has some 2 KB. Some clients spread it
// over several records to get past filters; who sends many more wants to keep us busy.
const (
	maxHello   = 16 << 10
	maxRecords = 64
)

var errNotTLS = errors.New("not a TLS ClientHello")

// ServerName reads the name from the ClientHello at the start of b (RFC 8446 §4.1.2,
// RFC 6066 §3), in lower case; empty if there is none. The message may be spread
// over several records and over several reads: with io.ErrUnexpectedEOF, b must have
// need bytes at least before another attempt makes sense.
func ServerName(b []byte) (name string, need int, err error) {
	hello, need, err := helloMessage(b)
	if err != nil {
		return "", need, err
	}
	name, err = helloName(hello)
	return name, 0, err
}

// helloName reads the name from the message.
func helloName(hello []byte) (string, error) {
	c := cursor(hello)
	c.take(2 + 32)               // legacy_version, random
	c.take(c.number(1))          // legacy_session_id
	c.take(c.number(2))          // cipher_suites
	c.take(c.number(1))          // legacy_compression_methods
	if c != nil && len(c) == 0 { // no extensions, as before TLS 1.2
		return "", nil
	}
	extensions := c.take(c.number(2))
	for len(extensions) > 0 {
		kind := extensions.number(2)
		data := extensions.take(extensions.number(2))
		if kind != 0 || data == nil {
			continue
		}
		names := data.take(data.number(2))
		for len(names) > 0 {
			kind := names.number(1)
			if name := names.take(names.number(2)); kind == 0 && name != nil {
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
func helloMessage(b []byte) (message []byte, need int, err error) {
	at := 0
	for range maxRecords {
		record := b[at:]
		if len(record) > 0 && record[0] != 22 || len(record) > 1 && record[1] != 3 {
			return nil, 0, errNotTLS
		}
		if len(record) < 5 {
			return nil, at + 5, io.ErrUnexpectedEOF
		}
		length := int(binary.BigEndian.Uint16(record[3:]))
		if length == 0 || length > 16384 {
			return nil, 0, errNotTLS
		}
		fragment := record[5:min(len(record), 5+length)]
		if message == nil {
			message = fragment[:len(fragment):len(fragment)] // usually all of it
		} else {
			message = append(message, fragment...)
		}
		if len(message) > 0 && message[0] != 1 {
			return nil, 0, errNotTLS
		}
		if len(message) >= 4 {
			size := int(binary.BigEndian.Uint32(message) & 0xffffff)
			if size > maxHello {
				return nil, 0, errNotTLS
			}
			if len(message) >= 4+size {
				return message[4 : 4+size], 0, nil
			}
		}
		if at += 5 + length; len(b) < at {
			return nil, at, io.ErrUnexpectedEOF
		}
	}
	return nil, 0, errNotTLS
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

// number reads an integer of some bytes; 0 if there are not as many.
func (c *cursor) number(size int) (n int) {
	for _, b := range c.take(size) {
		n = n<<8 | int(b)
	}
	return n
}
