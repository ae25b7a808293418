package vrrp

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/havip/havip/internal/words"
)

// Errors that this package wraps, to be found with [errors.Is].
var (
	// ErrClosed: the [Conn] was closed, or the [Router] has ended.
	ErrClosed = errors.New("closed")
	// ErrNotActive: only a router in the state [Active] can do that.
	ErrNotActive = errors.New("not Active")
	// ErrVRIDInUse: another router has the VRID on this interface, in this process
	// or in another one of this host.
	ErrVRIDInUse = errors.New("VRID in use")
	// ErrRunTwice: a [Router] runs only once.
	ErrRunTwice = errors.New("a Router runs only once")
	// ErrReconfigured is for the context of [Router.Run]: cancel it with ErrReconfigured,
	// or an error that wraps it, as the cause when another Router takes the place of this
	// one. The last transition then has CauseReconfigured, and as its reason what follows
	// the colon in "reconfigured: vrid".
	ErrReconfigured = errors.New("reconfigured")
)

// DropReason says why an advertisement was discarded. The zero value is no reason.
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
	// DropAddresses: no virtual address in common with this router's, whatever the
	// priority. RFC 3768 §7.1 is less strict: it excepts priority 255.
	DropAddresses

	numDropReasons // one more than the last reason
)

// dropTexts holds the words of each reason for metrics and for the log.
var dropTexts = [numDropReasons]struct{ word, text string }{
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

var dropWords = func() (list []string) {
	for _, t := range dropTexts {
		list = append(list, t.word)
	}
	return list
}()

// String returns a short name for metrics, such as "checksum".
func (r DropReason) String() string { return words.Of(dropWords, r) }

// MarshalText returns what String does. It never fails.
func (r DropReason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText takes what String returns for a value that has a name.
func (r *DropReason) UnmarshalText(text []byte) error { return words.Parse(dropWords, text, r) }

// DropError is why one advertisement was discarded.
type DropError struct {
	Reason DropReason // never 0
	Source netip.Addr // the sender
	// Got is the number that was found, and Want the one that belongs there: bytes
	// with DropShort and DropLength, an [AuthType] with DropAuthType, seconds with
	// DropInterval, addresses with DropCount and DropAddresses, otherwise what the
	// Reason names. Both are 0 where numbers say nothing. They become text only in
	// Error, so that a flood of bad packets costs no allocation.
	Got, Want uint64
	// Detail is further text for a log line, or empty.
	Detail string
	// First is the first address that was advertised, with DropAddresses.
	First netip.Addr
}

// Error describes the discard in the words of a log line.
func (e *DropError) Error() string {
	text := e.Reason.String()
	if words.Has(dropWords, e.Reason) {
		text = dropTexts[e.Reason].text
	}
	switch {
	case e.Detail != "":
		text += e.Detail
	case e.First.IsValid():
		text = fmt.Sprintf("%s, it has %d, the first is %v", text, e.Got, e.First)
	case e.Got == e.Want:
	case e.Reason == DropChecksum:
		text = fmt.Sprintf("%s %#04x, want %#04x", text, e.Got, e.Want)
	case e.Reason == DropAuthType:
		text = fmt.Sprintf("%s %v, want %v", text, AuthType(e.Got), AuthType(e.Want))
	case e.Reason == DropShort || e.Reason == DropLength:
		text = fmt.Sprintf("%s %d bytes, want %d", text, e.Got, e.Want)
	default:
		text = fmt.Sprintf("%s %d, want %d", text, e.Got, e.Want)
	}
	return fmt.Sprintf("vrrp: advertisement from %v: %s", e.Source, text)
}

// drop makes r the reason of e. It returns 0, for readers that return the length of a
// message.
func (e *DropError) drop(r DropReason, got, want uint64) int {
	e.Reason, e.Got, e.Want, e.Detail = r, got, want, ""
	return 0
}

// explain is drop with a text in place of numbers.
func (e *DropError) explain(r DropReason, detail string) {
	e.drop(r, 0, 0)
	e.Detail = detail
}

// dropAddresses is drop for DropAddresses.
func (e *DropError) dropAddresses(adv *Advertisement) {
	e.drop(DropAddresses, uint64(len(adv.Addresses)), 0)
	if len(adv.Addresses) > 0 {
		e.First = adv.Addresses[0]
	}
}
