package vrrp

import (
	"encoding"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/havip/havip/internal/inet"
	"github.com/havip/havip/internal/words"
)

// ChecksumForm is one of the checksums that version 3 routers put on IPv4
// advertisements.
type ChecksumForm uint8

const (
	// ChecksumPseudoHeader covers a pseudo-header and the message: RFC 5798
	// as Keepalived and FRR read it.
	ChecksumPseudoHeader ChecksumForm = iota
	// ChecksumMessage covers the message only (RFC 9568 §5.2.8).
	ChecksumMessage
	// ChecksumOldUnicast is ChecksumPseudoHeader with 224.0.0.18 in place of a peer's
	// address: Keepalived's old_unicast_checksum. In multicast both are the same.
	ChecksumOldUnicast
)

var checksumWords = []string{ChecksumPseudoHeader: "pseudo-header", ChecksumMessage: "message-only", ChecksumOldUnicast: "old-unicast"}

// String returns the word of havip's configuration file.
func (f ChecksumForm) String() string { return words.Of(checksumWords, f) }

// MarshalText returns what String does. It never fails.
func (f ChecksumForm) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText takes what String returns for a value that has a name.
func (f *ChecksumForm) UnmarshalText(text []byte) error { return words.Parse(checksumWords, text, f) }

// Advertisement is one VRRP message with the addresses of the packet that
// carries it.
type Advertisement struct {
	Source      netip.Addr // of the IP packet
	Destination netip.Addr // the multicast group or this host
	Version     uint8      // 2 or 3
	VRID        uint8      // 1 to 255
	Priority    uint8      // 0 means that the sender leaves
	// Interval is the sender's advertisement interval: whole seconds in
	// version 2, steps of 10 ms in version 3.
	Interval  time.Duration
	Addresses []netip.Addr // the virtual addresses
	// AuthType is version 2's authentication type (RFC 2338 §5.3.6), kept by
	// Keepalived although RFC 3768 removed it: 0, 1 with AuthPass, 2 with AuthAH.
	AuthType uint8
	// AuthData is the password of AuthPass (RFC 2338 §5.3.10), padded with zero
	// bytes, and zero otherwise. Version 3 has neither.
	AuthData [8]byte
	// Checksum is the form of the checksum that is written or was found, version 3
	// over IPv4 only.
	Checksum ChecksumForm
}

var _ encoding.BinaryAppender = (*Advertisement)(nil)

const (
	fixedLen  = 8 // bytes before the addresses (RFC 9568 §5.2)
	v2AuthLen = 8 // bytes of authentication data after them (RFC 2338 §5.1)

	checksumOffset = 6

	typeAdvertisement = 1

	v3IntervalUnit = 10 * time.Millisecond
	v3IntervalMax  = 0x0fff * v3IntervalUnit
)

// messageLen is the length of a message with count addresses.
func messageLen(version uint8, v6 bool, count int) int {
	switch {
	case version == 2:
		return fixedLen + 4*count + v2AuthLen
	case v6:
		return fixedLen + 16*count
	}
	return fixedLen + 4*count
}

// ParseAdvertisement reads the VRRP message b, the whole payload of an IP packet from src
// to dst. It checks version, type, length, checksum and the ranges of the fields. The
// error is a [*DropError].
func ParseAdvertisement(b []byte, src, dst netip.Addr) (Advertisement, error) {
	var a Advertisement
	err := a.Parse(b, src, dst)
	return a, err
}

// Parse is [ParseAdvertisement] into a. It reuses a.Addresses, and does not allocate if
// their capacity suffices. After an error a is of no use.
func (a *Advertisement) Parse(b []byte, src, dst netip.Addr) error {
	d := DropError{Source: src}
	n := a.decode(b, src, dst, &d)
	if d.Reason == 0 && n != len(b) {
		d.drop(DropLength, uint64(len(b)), uint64(n))
	}
	if d.Reason != 0 {
		// a copy, so that d stays on the stack without an error
		failed := d
		return &failed
	}
	return nil
}

// ParsePacket reads the advertisement in p without a [Config], such as for a monitor. It
// also looks behind an Authentication Header and before an HMAC trailer. It returns how
// the sender authenticates, but verifies neither that nor TTL and addresses. The error is
// a [*DropError]. With DropChecksum, DropIntervalZero, DropLinkLocal and DropVRID the
// advertisement has all its fields as they are on the wire.
func ParsePacket(p *Packet) (Advertisement, AuthType, error) {
	var a Advertisement
	d := DropError{Source: p.Source}
	data, auth := p.Payload(), AuthNone
	if p.Protocol == protocolAH {
		auth = AuthAH
		if data = skipAH(data); data == nil {
			d.drop(DropShort, uint64(len(p.Data)), ahLen)
			return a, auth, &d
		}
	}
	a.decode(data, p.Source, p.Destination, &d)
	switch {
	case a.Version == 0: // nothing could be read
	case len(data) > messageLen(a.Version, a.Source.Is6(), len(a.Addresses)):
		auth = AuthHMAC
	case a.AuthType == uint8(AuthPass):
		auth = AuthPass
	}
	if d.Reason != 0 {
		return a, auth, &d
	}
	return a, auth, nil
}

// decode reads the message at the start of b and returns its length, or 0 and in d the
// reason. Nothing but the trailer of AuthHMAC, which the caller judges, may follow the
// message.
func (a *Advertisement) decode(b []byte, src, dst netip.Addr, d *DropError) int {
	if !src.IsValid() || src.Is4() != dst.Is4() || src.Is6() != dst.Is6() {
		d.drop(DropFamily, 0, 0)
		return 0
	}
	n := checkHeader(b, src.Is6(), d)
	if n == 0 {
		return 0
	}
	a.Source, a.Destination = src, dst
	a.Version, a.VRID, a.Priority = b[0]>>4, b[1], b[2]
	a.AuthType, a.AuthData = 0, [8]byte{}
	if a.Version == 2 {
		a.AuthType = b[4]
		a.Interval = time.Duration(b[5]) * time.Second
		copy(a.AuthData[:], b[n-v2AuthLen:n])
	} else {
		// the upper four bits are reserved (RFC 9568 §5.2.6)
		a.Interval = time.Duration(binary.BigEndian.Uint16(b[4:])&0x0fff) * v3IntervalUnit
	}
	a.decodeAddresses(b)
	if !a.verifyChecksum(b, n, d) {
		return 0
	}
	return a.checkFields(n, d)
}

// checkHeader returns the length of the message in b by its header, or 0 and in d the
// reason.
func checkHeader(b []byte, v6 bool, d *DropError) int {
	if len(b) < fixedLen {
		return d.drop(DropShort, uint64(len(b)), fixedLen)
	}
	version, kind, count := b[0]>>4, b[0]&0xf, int(b[3])
	if version != 3 && (version != 2 || v6) {
		return d.drop(DropVersion, uint64(version), 3)
	}
	if kind != typeAdvertisement {
		return d.drop(DropType, uint64(kind), typeAdvertisement)
	}
	n := messageLen(version, v6, count)
	if len(b) < n {
		return d.drop(DropShort, uint64(len(b)), uint64(n))
	}
	if len(b) != n && len(b) != n+trailerLen {
		return d.drop(DropLength, uint64(len(b)), uint64(n))
	}
	return n
}

// decodeAddresses reads the addresses of the message at the start of b.
func (a *Advertisement) decodeAddresses(b []byte) {
	size, count := a.Source.BitLen()/8, int(b[3])
	a.Addresses = slices.Grow(a.Addresses[:0], count)
	for one := range slices.Chunk(b[fixedLen:fixedLen+size*count], size) {
		addr, _ := netip.AddrFromSlice(one)
		a.Addresses = append(a.Addresses, addr)
	}
}

// checkFields returns n if the decoded fields are right, or 0 and in d the reason.
func (a *Advertisement) checkFields(n int, d *DropError) int {
	if a.VRID == 0 {
		return d.drop(DropVRID, 0, 1)
	}
	if a.Interval == 0 {
		return d.drop(DropIntervalZero, 0, 1)
	}
	if len(a.Addresses) > 0 && a.Source.Is6() && !a.Addresses[0].IsLinkLocalUnicast() {
		return d.drop(DropLinkLocal, 0, 0)
	}
	return n
}

// verifyChecksum checks the checksum of the message of n bytes at the start of b, and sets
// a.Checksum to the form that fits.
func (a *Advertisement) verifyChecksum(b []byte, n int, d *DropError) bool {
	field := binary.BigEndian.Uint16(b[checksumOffset:])
	a.Checksum = ChecksumPseudoHeader
	want := a.messageChecksum(b, n)
	if field == want {
		return true
	}
	if a.Version == 3 && a.Source.Is4() {
		for _, a.Checksum = range [...]ChecksumForm{ChecksumMessage, ChecksumOldUnicast} {
			if field == a.messageChecksum(b, n) {
				return true
			}
		}
	}
	d.drop(DropChecksum, uint64(field), uint64(want))
	return false
}

// messageChecksum returns the checksum of the message of n bytes at the start of b, with
// the checksum field taken as zero. Over IPv6 it covers all of b, as the kernel computes
// it (RFC 3542 §3.1).
func (a *Advertisement) messageChecksum(b []byte, n int) uint16 {
	if a.Source.Is6() {
		n = len(b)
	}
	acc := inet.Sum(inet.Sum(0, b[:checksumOffset]), b[checksumOffset+2:n])
	switch {
	case a.Version == 2:
	case a.Source.Is6(), a.Checksum == ChecksumPseudoHeader:
		acc = inet.SumPseudoHeader(acc, a.Source, a.Destination, protocolVRRP, n)
	case a.Checksum == ChecksumOldUnicast:
		acc = inet.SumPseudoHeader(acc, a.Source, groupIPv4, protocolVRRP, n)
	}
	return inet.Checksum(acc)
}

// AppendBinary appends the VRRP message to b, with its checksum, as it follows the IP
// header of a packet from a.Source to a.Destination. An advertisement that
// [ParseAdvertisement] would not accept is an error.
func (a *Advertisement) AppendBinary(b []byte) ([]byte, error) {
	if err := a.validate(); err != nil {
		return b, fmt.Errorf("vrrp: advertisement of VRID %d: %w", a.VRID, err)
	}
	start := len(b)
	b = a.encode(b)
	a.putChecksum(b[start:], len(b)-start)
	return b, nil
}

// encode appends the message with a checksum of zero.
func (a *Advertisement) encode(b []byte) []byte {
	b = append(b, a.Version<<4|typeAdvertisement, a.VRID, a.Priority, uint8(len(a.Addresses)))
	if a.Version == 2 {
		b = append(b, a.AuthType, uint8(a.Interval/time.Second))
	} else {
		b = binary.BigEndian.AppendUint16(b, uint16(a.Interval/v3IntervalUnit))
	}
	b = append(b, 0, 0)
	for _, addr := range a.Addresses {
		b, _ = addr.WithZone("").AppendBinary(b) // never fails
	}
	if a.Version == 2 {
		b = append(b, a.AuthData[:]...)
	}
	return b
}

// putChecksum writes the checksum of the message of n bytes at the start of b.
func (a *Advertisement) putChecksum(b []byte, n int) {
	binary.BigEndian.PutUint16(b[checksumOffset:], a.messageChecksum(b, n))
}

// validate returns why a cannot be encoded, or nil.
func (a *Advertisement) validate() error {
	if a.Version != 2 && a.Version != 3 {
		return fmt.Errorf("version %d: want 2 or 3", a.Version)
	}
	if a.VRID == 0 {
		return fmt.Errorf("VRID 0: want 1 to 255")
	}
	if n := len(a.Addresses); n > 255 {
		return fmt.Errorf("%d addresses: want up to 255", n)
	}
	if !a.Source.IsValid() || a.Source.Is4() != a.Destination.Is4() || a.Source.Is6() != a.Destination.Is6() {
		return fmt.Errorf("from %v to %v: want two addresses of one family", a.Source, a.Destination)
	}
	for _, addr := range a.Addresses {
		if addr.Is4() != a.Source.Is4() || !addr.IsValid() {
			return fmt.Errorf("address %v: not of the family of %v", addr, a.Source)
		}
	}
	if a.Source.Is6() && len(a.Addresses) > 0 && !a.Addresses[0].IsLinkLocalUnicast() {
		return fmt.Errorf("first address %v: want link-local", a.Addresses[0])
	}
	return a.validateVersion()
}

// validateVersion returns the field that the version of a rules out, or nil.
func (a *Advertisement) validateVersion() error {
	if a.Version == 2 {
		if a.Source.Is6() {
			return fmt.Errorf("version 2: has no IPv6")
		}
		if a.Interval < time.Second || a.Interval > 255*time.Second || a.Interval%time.Second != 0 {
			return fmt.Errorf("interval %v: want 1 s to 255 s in whole seconds", a.Interval)
		}
		return nil
	}
	if a.Interval < v3IntervalUnit || a.Interval > v3IntervalMax || a.Interval%v3IntervalUnit != 0 {
		return fmt.Errorf("interval %v: want 10 ms to 40.95 s in steps of 10 ms", a.Interval)
	}
	if a.AuthType != 0 || a.AuthData != [8]byte{} {
		return fmt.Errorf("version 3: has no authentication fields")
	}
	return nil
}
