package vrrp

import (
	"net/netip"
	"time"

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
	// ChecksumOldUnicast is ChecksumPseudoHeader with 224.0.0.18 for the
	// destination of what is sent to a peer: Keepalived's
	// old_unicast_checksum. To the group itself there is no difference.
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
	// Checksum is the form of the checksum, version 3 over IPv4 only: the one
	// to write, or the one that was found.
	Checksum ChecksumForm
}
