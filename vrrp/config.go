package vrrp

import (
	"log/slog"
	"net/netip"
	"time"

	"github.com/havip/havip/internal/words"
)

// Config describes one virtual router. The zero value of every field but VRID
// is a usable default.
type Config struct {
	// Name is used in log lines and errors. Default: "VRID/family", such as
	// "51/IPv4".
	Name string
	// VRID is the virtual router identifier, 1 to 255. Required.
	VRID uint8
	// Version is the protocol version, 2 or 3. Default 3; IPv6 needs 3.
	Version uint8
	// Priority is 1 to 254, or 255 for the owner of the addresses, whose host
	// has them anyway (RFC 9568 §6.1). Default 100. An owner sends from another
	// address if its interface has one. An owner without another address is heard
	// by routers of this package. Other routers on Linux do not hear it while they
	// have the address themselves, unless net.ipv4.conf.*.accept_local is set there.
	Priority uint8
	// Interval is the time between advertisements: version 2, whole seconds
	// from 1 s to 255 s; version 3, 10 ms to 40.95 s in steps of 10 ms.
	// Default 1 s.
	Interval time.Duration
	// NoPreempt keeps a router with a higher priority from taking the
	// addresses from a live Active router (Preempt_Mode False, RFC 9568 §6.1).
	// The address owner always preempts.
	NoPreempt bool
	// PreemptDelay is how long a router waits before it preempts. It holds only
	// while a live Active router is heard. Default 0. Not with NoPreempt, nor for
	// the address owner. At most 1 h.
	PreemptDelay time.Duration
	// StartDelay is how long a router waits after its start before it may become
	// Active. Default 0, at most 1 h.
	StartDelay time.Duration
	// DownMultiplier is how many intervals without an advertisement make the
	// Active router count as dead, before skew is added. Default 3, the
	// protocol's value; range 1 to 255.
	DownMultiplier int
	// Addresses are the virtual addresses listed in advertisements, in this
	// order, all of one family, up to 255 of them. For IPv6 the first must be
	// link-local (RFC 9568 §5.2.9). An advertisement that lists none of them belongs
	// to another pair and is discarded, see DropAddresses; a link-local IPv6 address
	// in common counts only if this router has no other kind.
	//
	// Addresses may be empty: then the routers elect a leader for something else,
	// such as an address that a cloud's API moves. Such a router hears only routers
	// without addresses: those of this package, and Keepalived with
	// no_virtual_ipaddress, or in version 2 without addresses.
	Addresses []netip.Addr
	// IPv6 selects the family of a router without Addresses, Peers and Source.
	// Default: the family of these, or IPv4.
	IPv6 bool
	// Source is the address that advertisements are sent from. Default: the interface's
	// primary IPv4 or its link-local IPv6 address when the router begins. When that address
	// goes, the router sends from another one, and returns to the first when that comes
	// back. With Peers, which know the router by its address, it has a fault until then.
	// Source may be one of Addresses only with priority 255, and must never be an address
	// that another router moves.
	Source netip.Addr
	// Peers are the other routers' addresses, none of them one of Addresses.
	// Not empty means unicast: only these addresses are sent to and heard.
	Peers []netip.Addr
	// TTL is the TTL or hop limit of unicast advertisements. Default 255.
	// Multicast always uses 255.
	TTL uint8
	// MinTTL and MaxTTL bound the TTL or hop limit of unicast advertisements
	// that are accepted. Default 0 and 255: any. If all routers are on one link, a
	// MinTTL of 255 keeps out forged packets from beyond that link, since each
	// forwarding hop counts the TTL down. Multicast always requires 255.
	MinTTL, MaxTTL uint8
	// VirtualMAC makes multicast advertisements come from the virtual router's
	// hardware address, 00:00:5e:00:01:VRID, or 00:00:5e:00:02:VRID for IPv6
	// (RFC 9568 §7.2, §7.3), so that switches learn where that address is. The
	// owner of the addresses must answer for them with the same hardware address.
	// An advertisement longer than the interface's MTU comes from the interface's
	// own hardware address: the kernel has to fragment it. A Keepalived with
	// vmac_xmit_base hears no advertisement from a virtual hardware address, see
	// [Status.Deaf]. Not for Peers, whose hardware addresses only the kernel finds.
	// Default false.
	VirtualMAC bool
	// NoOverlap makes a planned hand-over release the addresses at once, so that no
	// host has them until the successor does, after its skew time. Otherwise this host
	// keeps them until it hears the successor. VirtualMAC, and no Addresses, imply
	// NoOverlap. Default false.
	NoOverlap bool
	// Checksum is the form of the version 3 IPv4 checksum on advertisements
	// that are sent. All forms are accepted. ChecksumOldUnicast is for Peers.
	// Default ChecksumPseudoHeader.
	Checksum ChecksumForm
	// Auth authenticates advertisements. The zero value: no authentication.
	Auth Auth
	// Group holds routers that are Active together or not at all. Default:
	// none.
	Group *Group
	// OnTransition, if set, is called after every state change, one call at a time
	// and in order. The Handler has returned by then: a router that has become Active
	// has its addresses, unless the state has changed again. A slow OnTransition
	// delays later calls and the return of Run, but neither the protocol nor the
	// Handler. While it blocks, the latest 256 changes are kept.
	OnTransition func(Transition)
	// Logger receives log lines, from a goroutine that nothing waits for.
	// Default: silent.
	Logger *slog.Logger
}

// AuthType selects how advertisements are authenticated.
type AuthType uint8

const (
	// AuthNone: not at all.
	AuthNone AuthType = iota
	// AuthPass: a password in clear, version 2 only (RFC 2338 §5.3.10). It
	// keeps out misconfigured neighbours, not attackers.
	AuthPass
	// AuthAH: an IP Authentication Header with HMAC-MD5-96, version 2 over
	// IPv4 only, as Keepalived writes it.
	AuthAH
	// AuthHMAC: a trailer with HMAC-SHA256 and replay protection, any version
	// and family (draft-cassen-vrrp-auth-hmac).
	AuthHMAC
)

var authWords = []string{AuthNone: "none", AuthPass: "pass", AuthAH: "ah", AuthHMAC: "hmac"}

// String returns "none", "pass", "ah" or "hmac".
func (t AuthType) String() string { return words.Of(authWords, t) }

// MarshalText returns what String does. It never fails.
func (t AuthType) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText takes what String returns for a value that has a name.
func (t *AuthType) UnmarshalText(text []byte) error { return words.Parse(authWords, text, t) }

// Auth says how advertisements are authenticated.
type Auth struct {
	// Type selects how. Default AuthNone.
	Type AuthType
	// Password is the secret of AuthPass and AuthAH. Only its first 8 bytes
	// count, as in Keepalived; shorter ones are padded with zero bytes.
	Password string
	// HMAC configures AuthHMAC.
	HMAC HMACConfig
}

// HMACConfig configures AuthHMAC. Keepalived has it from version 2.4.2 on.
type HMACConfig struct {
	// Keys are all the keys accepted from others, for rotation: see
	// [Router.Reconfigure]. At least one.
	Keys []Key
	// ActiveKey is the ID of the key that signs. Default: the first of Keys.
	ActiveKey uint8
	// Mode says what is signed and what is accepted. Default HMACEnforce.
	Mode HMACMode
	// Replay says how freshness is judged. Default ReplayTime.
	Replay ReplayMode
	// Window is how far a sender's clock may be off, 1 s to 300 s. It must be the
	// same on all routers: a sender whose clock was set back by more than its Window
	// numbers its advertisements by the new clock, and a receiver with a longer Window
	// takes these for replays. Default: three intervals, but at least 5 s and at most
	// 300 s; set it where intervals differ.
	Window time.Duration
}

// Key is one shared secret of AuthHMAC.
type Key struct {
	ID     uint8  // 1 to 255
	Secret []byte // 32 to 64 bytes
}

// HMACMode is how strictly AuthHMAC is applied.
type HMACMode uint8

const (
	// HMACEnforce signs, and drops what is not signed.
	HMACEnforce HMACMode = iota
	// HMACPermissive signs, and accepts what is not signed.
	HMACPermissive
	// HMACReceiveOnly does not sign, and verifies what is signed.
	HMACReceiveOnly
)

var hmacWords = []string{HMACEnforce: "enforce", HMACPermissive: "permissive", HMACReceiveOnly: "receive-only"}

// String returns "enforce", "permissive" or "receive-only".
func (m HMACMode) String() string { return words.Of(hmacWords, m) }

// MarshalText returns what String does. It never fails.
func (m HMACMode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText takes what String returns for a value that has a name.
func (m *HMACMode) UnmarshalText(text []byte) error { return words.Parse(hmacWords, text, m) }

// ReplayMode is how AuthHMAC judges whether an advertisement is fresh.
type ReplayMode uint8

const (
	// ReplayTime compares with the clock; all hosts need synchronised time.
	ReplayTime ReplayMode = iota
	// ReplayMonotonic only wants each sender's sequence to grow. The clocks need not agree,
	// but each sequence begins with its sender's clock. Peers therefore discard what a
	// router sends that was started again after its clock was set back, until the router
	// has heard another router and goes on above its sequence, or until the clock is where
	// it was. A router that has just started cannot tell a recorded advertisement from a
	// new one.
	ReplayMonotonic
)

var replayWords = []string{ReplayTime: "time", ReplayMonotonic: "monotonic"}

// String returns "time" or "monotonic".
func (m ReplayMode) String() string { return words.Of(replayWords, m) }

// MarshalText returns what String does. It never fails.
func (m ReplayMode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText takes what String returns for a value that has a name.
func (m *ReplayMode) UnmarshalText(text []byte) error { return words.Parse(replayWords, text, m) }
