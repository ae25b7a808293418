// Package proxyproto reads and writes the header of the PROXY protocol, versions 1
// and 2, as HAProxy's proxy-protocol.txt (2020/03/05) specifies it.
package proxyproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
)

var signature = []byte("\r\n\r\n\x00\r\nQUIT\n")

const (
	v1Max = 107  // §2.1, with CRLF
	v2Max = 4096 // ours: addresses and TLVs of any known sender are far smaller
)

// Header is what a PROXY header says. Without addresses (LOCAL, UNKNOWN, unix
// sockets) those of the connection count.
type Header struct {
	Source, Destination netip.AddrPort
}

// Parse reads the header at the start of b and returns its length. The error is
// io.ErrUnexpectedEOF if b is the beginning of a header.
func Parse(b []byte) (h Header, n int, err error) {
	switch {
	case len(b) >= len(signature) && bytes.Equal(b[:len(signature)], signature):
		return parseV2(b)
	case bytes.HasPrefix(b, []byte("PROXY ")):
		return parseV1(b)
	case bytes.HasPrefix(signature, b), bytes.HasPrefix([]byte("PROXY "), b):
		return h, 0, io.ErrUnexpectedEOF
	}
	return h, 0, errors.New("PROXY header: neither version 1 nor 2")
}

// parseV1 reads "PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\n".
func parseV1(b []byte) (h Header, n int, err error) {
	end := bytes.Index(b[:min(len(b), v1Max)], []byte("\r\n"))
	if end < 0 {
		if len(b) >= v1Max || bytes.IndexByte(b, '\n') >= 0 {
			return h, 0, errors.New("PROXY v1 header: no CRLF within 107 bytes")
		}
		return h, 0, io.ErrUnexpectedEOF
	}
	n = end + 2
	fields := strings.Split(string(b[:end]), " ")
	if len(fields) >= 2 && fields[1] == "UNKNOWN" {
		return h, n, nil
	}
	if len(fields) != 6 || fields[1] != "TCP4" && fields[1] != "TCP6" {
		return h, 0, fmt.Errorf("PROXY v1 header %q: want PROXY TCP4|TCP6 source destination port port", b[:end])
	}
	v4 := fields[1] == "TCP4"
	if h.Source, err = parseV1Address(fields[2], fields[4], v4); err == nil {
		h.Destination, err = parseV1Address(fields[3], fields[5], v4)
	}
	if err != nil {
		return Header{}, 0, fmt.Errorf("PROXY v1 header %q: %w", b[:end], err)
	}
	return h, n, nil
}

func parseV1Address(addr, port string, v4 bool) (netip.AddrPort, error) {
	a, err := netip.ParseAddr(addr)
	if err != nil || a.Is4() != v4 || a.Zone() != "" {
		return netip.AddrPort{}, fmt.Errorf("address %q of the wrong family", addr)
	}
	// Canonical decimal digits: "+1" and "01" have been used to confuse parsers.
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || strconv.FormatUint(n, 10) != port {
		return netip.AddrPort{}, fmt.Errorf("port %q", port)
	}
	return netip.AddrPortFrom(a, uint16(n)), nil
}

// parseV2 reads §2.2's binary form. TLVs are skipped.
func parseV2(b []byte) (h Header, n int, err error) {
	if len(b) < 16 {
		return h, 0, io.ErrUnexpectedEOF
	}
	command, family := b[12], b[13]
	n = 16 + int(binary.BigEndian.Uint16(b[14:]))
	if command>>4 != 2 || command&15 > 1 {
		return h, 0, fmt.Errorf("PROXY v2 header: version and command %#02x", command)
	}
	if n > v2Max {
		return h, 0, fmt.Errorf("PROXY v2 header: %d bytes, at most %d are accepted", n, v2Max)
	}
	if len(b) < n {
		return h, 0, io.ErrUnexpectedEOF
	}
	if command&15 == 0 { // LOCAL: the sender's own, a health check
		return h, n, nil
	}
	body := b[16:n]
	size := map[byte]int{1: 4, 2: 16}[family>>4]
	if size == 0 || family&15 > 2 { // AF_UNSPEC, AF_UNIX, or of the future (§2.2: skip)
		return h, n, nil
	}
	if len(body) < 2*size+4 {
		return h, 0, fmt.Errorf("PROXY v2 header: %d bytes for two addresses of %d", len(body), size)
	}
	src, _ := netip.AddrFromSlice(body[:size])
	dst, _ := netip.AddrFromSlice(body[size : 2*size])
	h.Source = netip.AddrPortFrom(src, binary.BigEndian.Uint16(body[2*size:]))
	h.Destination = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(body[2*size+2:]))
	return h, n, nil
}

// Append appends the header of version 1 or 2 for a connection from src to dst.
// Without addresses, or with those of two families, the header says UNKNOWN or LOCAL.
func Append(b []byte, version int, src, dst netip.AddrPort) []byte {
	known := src.IsValid() && dst.IsValid() && src.Addr().Is4() == dst.Addr().Is4()
	v4 := src.Addr().Is4()
	if version == 1 {
		switch {
		case !known:
			return append(b, "PROXY UNKNOWN\r\n"...)
		case v4:
			b = append(b, "PROXY TCP4 "...)
		default:
			b = append(b, "PROXY TCP6 "...)
		}
		return fmt.Appendf(b, "%s %s %d %d\r\n", src.Addr().WithZone(""), dst.Addr().WithZone(""), src.Port(), dst.Port())
	}
	b = append(b, signature...)
	switch {
	case !known:
		return append(b, 0x20, 0, 0, 0)
	case v4:
		b = append(b, 0x21, 0x11, 0, 12)
	default:
		b = append(b, 0x21, 0x21, 0, 36)
	}
	b = append(append(b, src.Addr().AsSlice()...), dst.Addr().AsSlice()...)
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, src.Port()), dst.Port())
}
