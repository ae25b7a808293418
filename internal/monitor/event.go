package monitor

import (
	"net/netip"
	"time"

	"github.com/havip/havip/internal/words"
)

// Kind says what an [Event] is about.
type Kind uint8

const (
	// KindAdvertisement: a router has sent one, right or wrong.
	KindAdvertisement Kind = iota + 1
	// KindOther: a packet of IP protocol 112 that is no VRRP, such as CARP's, or that
	// cannot be read.
	KindOther
	// KindState: a router has become Active, or has ceased to be.
	KindState
	// KindProblem: something is wrong.
	KindProblem
	// KindNote: something is odd, but nothing fails because of it.
	KindNote
	// KindOver: what a KindProblem or KindNote said is no longer so.
	KindOver
)

var kindWords = []string{KindAdvertisement: "advertisement", KindOther: "other", KindState: "state", KindProblem: "problem", KindNote: "note", KindOver: "over"}

// String returns a word for JSON, such as "problem".
func (k Kind) String() string { return words.Of(kindWords, k) }

// MarshalText returns what String does. It never fails.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Code names a problem or note for programs.
type Code string

// The codes of problems and notes.
const (
	CodeTwoActive     Code = "two-active"
	CodeNoActive      Code = "no-active"
	CodeVRIDClash     Code = "vrid-clash"
	CodeVersion       Code = "version"
	CodeInterval      Code = "interval"
	CodeAddresses     Code = "addresses"
	CodeAuthType      Code = "auth-type"
	CodePassword      Code = "password"
	CodeKey           Code = "key"
	CodeCast          Code = "unicast-multicast"
	CodeChecksumForm  Code = "checksum-form"
	CodeMalformed     Code = "malformed"
	CodeTTL           Code = "ttl"
	CodeUnknownAuth   Code = "unknown-auth"
	CodeForeignClaim  Code = "foreign-claim"
	CodeDuplicateHost Code = "duplicate-source"
	CodePace          Code = "pace"
	CodeClock         Code = "clock"
	CodeCARP          Code = "carp"
)

// Event is something that the [Watcher] has seen. It is one line of JSON.
type Event struct {
	Kind   Kind      `json:"kind"`
	Time   time.Time `json:"time"`
	Link   string    `json:"link,omitempty"`   // the interface, with the VLAN: "eth0.10"
	Family string    `json:"family,omitempty"` // "IPv4" or "IPv6"
	VRID   uint8     `json:"vrid,omitempty"`
	Code   Code      `json:"code,omitempty"`
	Text   string    `json:"text,omitempty"`
	// Next says what to look at, of a problem or note.
	Next          string         `json:"next,omitempty"`
	Advertisement *Advertisement `json:"advertisement,omitempty"`
}

// Advertisement is what was heard in one packet.
type Advertisement struct {
	Source      netip.Addr   `json:"source"`
	Destination netip.Addr   `json:"destination"`
	MAC         hardware     `json:"mac,omitzero"`
	TTL         uint8        `json:"ttl"`
	Version     uint8        `json:"version"`
	Priority    uint8        `json:"priority"`
	Interval    Seconds      `json:"interval_seconds"`
	Addresses   []netip.Addr `json:"addresses"`
	Auth        string       `json:"auth"` // "none", "pass#1", "ah", "hmac key 3"
	Checksum    string       `json:"checksum,omitempty"`
	// Gap is the time since the sender's last advertisement to the same destination.
	Gap Seconds `json:"gap_seconds,omitempty"`
	// Error is why receivers discard it, or empty.
	Error string `json:"error,omitempty"`
}

// Seconds is a duration that is a number of seconds in JSON.
type Seconds time.Duration

// MarshalJSON returns the seconds with as many decimals as it takes.
func (s Seconds) MarshalJSON() ([]byte, error) {
	return appendSeconds(nil, time.Duration(s)), nil
}
