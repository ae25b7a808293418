package vrrp

import (
	"fmt"
	"net/netip"
)

// DropReason says why an advertisement was discarded. Counters are indexed
// with it; the zero value means that nothing was.
type DropReason uint8

const (
	// DropFamily: the packet is not of the virtual router's address family.
	DropFamily DropReason = iota + 1
	// DropOwn: this router's own advertisement, looped back.
	DropOwn
	// DropDestination: unicast to a multicast router, or the reverse. The text says
	// which.
	DropDestination
	// DropStranger: unicast from an address that is not a peer.
	DropStranger
	// DropTTL: multicast with a TTL or hop limit other than 255 (RFC 9568
	// §5.1.1.3, §5.1.2.3).
	DropTTL
	// DropTTLBelowMinimum: unicast with a TTL below Config.MinTTL.
	DropTTLBelowMinimum
	// DropTTLAboveMaximum: unicast with a TTL above Config.MaxTTL.
	DropTTLAboveMaximum
	// DropShort: fewer bytes than the message says it has, or needs.
	DropShort
	// DropLength: bytes left over, such as version 2's authentication data
	// after a version 3 message.
	DropLength
	// DropVersion: not the configured version (RFC 9568 §7.1).
	DropVersion
	// DropType: not an advertisement (RFC 9568 §5.2.2).
	DropType
	// DropVRID: another virtual router's.
	DropVRID
	// DropCount: no address at all (RFC 9568 §5.2.5), but this router has some,
	// or the other way round.
	DropCount
	// DropChecksum: the checksum is wrong, in both forms where there are two.
	DropChecksum
	// DropAuthType: not authenticated as configured.
	DropAuthType
	// DropAuth: a wrong password, or bytes that the key did not sign.
	DropAuth
	// DropReplay: authentic, but not newer than one received before, or
	// outside the freshness window.
	DropReplay
	// DropInterval: version 2 with another interval than the configured one
	// (RFC 3768 §7.1).
	DropInterval
	// DropIntervalZero: an interval of 0.
	DropIntervalZero
	// DropLinkLocal: the first IPv6 address is not link-local (RFC 9568
	// §5.2.9).
	DropLinkLocal
	// DropOwner: another router advertises the addresses that this one owns
	// and has, in version 2 (RFC 3768 §7.1).
	DropOwner
	// DropAddresses: no virtual address in common with this router's, whatever
	// the priority. It is stricter than RFC 3768 §7.1, which has it for all but
	// 255.
	DropAddresses

	numDropReasons // one more than the last reason
)

// dropTexts holds each reason's name for metrics and its words for the log.
var dropTexts = [numDropReasons]struct{ name, words string }{
	DropFamily:          {"family", "not of this address family"},
	DropOwn:             {"own", "our own, looped back"},
	DropDestination:     {"destination", "sent"},
	DropStranger:        {"stranger", "unicast, and not from a peer"},
	DropTTL:             {"ttl", "TTL"},
	DropTTLBelowMinimum: {"ttl_below_minimum", "TTL below the minimum:"},
	DropTTLAboveMaximum: {"ttl_above_maximum", "TTL above the maximum:"},
	DropShort:           {"short", "too short:"},
	DropLength:          {"length", "too long:"},
	DropVersion:         {"version", "version"},
	DropType:            {"type", "type"},
	DropVRID:            {"vrid", "VRID"},
	DropCount:           {"count", "number of addresses"},
	DropChecksum:        {"checksum", "checksum"},
	DropAuthType:        {"auth_type", "authentication"},
	DropAuth:            {"auth", "authentication failed"},
	DropReplay:          {"replay", "replayed"},
	DropInterval:        {"interval", "interval in seconds"},
	DropIntervalZero:    {"interval_zero", "interval"},
	DropLinkLocal:       {"link_local", "the first address is not link-local"},
	DropOwner:           {"owner", "another router is Active, but this one owns the addresses"},
	DropAddresses:       {"addresses", "another virtual router: no address in common"},
}

// String returns the reason as a short name for metrics, such as "checksum".
func (r DropReason) String() string {
	if r == 0 || r >= numDropReasons {
		return fmt.Sprintf("DropReason(%d)", uint8(r))
	}
	return dropTexts[r].name
}

// DropError is why one advertisement was discarded.
type DropError struct {
	Reason DropReason // never 0
	Source netip.Addr // the sender
	// What was found and what belongs there, if the two differ, or else a
	// constant text. They are put into words only if somebody asks, so that a
	// flood of bad packets costs no allocation.
	got, want uint64
	detail    string
	first     netip.Addr // of the addresses, with DropAddresses
}

// Error describes the discard in the words of a log line.
func (e *DropError) Error() string {
	words := e.Reason.String()
	if e.Reason > 0 && e.Reason < numDropReasons {
		words = dropTexts[e.Reason].words
	}
	switch {
	case e.detail != "":
		words += e.detail
	case e.first.IsValid():
		words = fmt.Sprintf("%s, it has %d, the first is %v", words, e.got, e.first)
	case e.got == e.want:
	case e.Reason == DropChecksum:
		words = fmt.Sprintf("%s %#04x, want %#04x", words, e.got, e.want)
	case e.Reason == DropAuthType:
		words = fmt.Sprintf("%s %v, want %v", words, AuthType(e.got), AuthType(e.want))
	case e.Reason == DropShort || e.Reason == DropLength:
		words = fmt.Sprintf("%s %d bytes, want %d", words, e.got, e.want)
	default:
		words = fmt.Sprintf("%s %d, want %d", words, e.got, e.want)
	}
	return fmt.Sprintf("vrrp: advertisement from %v: %s", e.Source, words)
}

// drop makes e say r and returns 0, the length of what is acceptable.
func (e *DropError) drop(r DropReason, got, want uint64) int {
	e.Reason, e.got, e.want, e.detail = r, got, want, ""
	return 0
}

// dropAddresses is drop for DropAddresses.
func (e *DropError) dropAddresses(adv *Advertisement) {
	e.drop(DropAddresses, uint64(len(adv.Addresses)), 0)
	if len(adv.Addresses) > 0 {
		e.first = adv.Addresses[0]
	}
}
