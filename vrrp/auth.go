package vrrp

import (
	"fmt"
	"time"
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

// String returns "none", "PASS", "AH" or "HMAC".
func (t AuthType) String() string {
	switch t {
	case AuthNone:
		return "none"
	case AuthPass:
		return "PASS"
	case AuthAH:
		return "AH"
	case AuthHMAC:
		return "HMAC"
	}
	return fmt.Sprintf("AuthType(%d)", uint8(t))
}

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
