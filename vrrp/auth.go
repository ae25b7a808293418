package vrrp

import (
	"time"

	"github.com/havip/havip/internal/words"
)

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
	// Window is how far a sender's clock may be off, 1 s to 300 s. It has to be
	// the same on all routers: a sender whose clock is set back by more than its
	// own window starts again from the clock, which a receiver takes for a replay
	// until the same is more than its own window. Default: three intervals, but at
	// least 5 s and at most 300 s; so it has to be set where intervals differ.
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
	// ReplayMonotonic only asks for each sender's sequence to grow. The clocks
	// need not agree, but each still begins with its own: a router that is
	// started again after its clock was set back is not believed until it has
	// heard another one, which then knows how far the sequence had come, or
	// until its clock is where it was. And a router that has just started cannot
	// tell a recorded advertisement from a new one.
	ReplayMonotonic
)

var replayWords = []string{ReplayTime: "time", ReplayMonotonic: "monotonic"}

// String returns "time" or "monotonic".
func (m ReplayMode) String() string { return words.Of(replayWords, m) }

// MarshalText returns what String does. It never fails.
func (m ReplayMode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText takes what String returns for a value that has a name.
func (m *ReplayMode) UnmarshalText(text []byte) error { return words.Parse(replayWords, text, m) }
