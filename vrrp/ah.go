package vrrp

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/subtle"
	"encoding/binary"
	"hash"
	"net/netip"
	"time"

	"github.com/havip/havip/internal/inet"
)

const (
	ahLen    = 24 // RFC 4302 §2 with 12 bytes of authentication data
	ahICV    = 12 // offset and length of these
	ahICVLen = 12
)

// ahLead is by how many numbers a farewell is ahead: more than one round of
// advertisements to 255 peers takes.
const ahLead = 1024

// authHeader is the state of AuthAH: an IP Authentication Header (RFC 4302) in
// front of the message, with HMAC-MD5-96 (RFC 2403) and without any key
// exchange, as Keepalived writes it.
type authHeader struct {
	mac     hash.Hash
	unicast bool
	silence time.Duration // longer than between two packets of an Active router
	lead    uint32        // how much a router that takes over is ahead
	// sent is the last sequence number sent or accepted, from whomever:
	// Keepalived has one counter for all senders, so that a router which takes
	// over must go on above the one before it.
	sent     uint32
	sentAt   time.Time
	received highWaters
	id       uint16 // of the last IPv4 packet

	// Scratch space, here because what is handed to mac would escape.
	head   [inet.IPv4MaxLen + ahLen]byte
	digest [md5.Size]byte
}

func newAuthHeader(cfg *Config) *authHeader {
	key := password(cfg.Auth.Password)
	return &authHeader{
		mac:     hmac.New(md5.New, key[:]),
		unicast: len(cfg.Peers) > 0,
		silence: 2 * cfg.Interval,
		// Twice over, for answers.
		lead: uint32(2 * (cfg.DownMultiplier + 1) * max(1, len(cfg.Peers))),
	}
}

// password cuts or pads secret to the eight bytes of RFC 2338 §5.3.10.
func password(secret string) (p [v2AuthLen]byte) {
	copy(p[:], secret)
	return p
}

// next is the sequence number to send: the clock, so that a restarted router
// is above what it sent before, unless the group is further already.
//
// A router that takes over leaves room for what the one before it may have
// sent meanwhile. When they meet again Keepalived would discard what is not
// above its own numbers, and put off its own advertisement each time.
func (h *authHeader) next(now time.Time) uint32 {
	step := uint32(1)
	if now.Sub(h.sentAt) > h.silence {
		step = h.lead
	}
	return max(h.sent+step, uint32(now.Unix()))
}

// seal completes the IPv4 packet b, in which the headers' room is empty, with
// sequence number seq.
func (h *authHeader) seal(b []byte, src, dst netip.Addr, ttl uint8, seq uint32) {
	// The kernel replaces an ID of 0, which would break the signature.
	if h.id++; h.id == 0 {
		h.id = 1
	}
	ip := inet.Header{Source: src, Destination: dst, Protocol: protocolAH, TTL: ttl, Class: inet.NetworkControl, ID: h.id}
	header, ah := ip.Append(b[:0], len(b)-inet.IPv4Len), b[inet.IPv4Len:]
	spi := src.As4()
	ah[0], ah[1] = protocolVRRP, ahLen/4-2
	copy(ah[4:], spi[:])
	binary.BigEndian.PutUint32(ah[8:], seq)
	copy(ah[ahICV:ahLen], h.sign(header, ah))
}

// sign computes the authentication data of payload, which begins with the AH
// header, behind the IPv4 header (RFC 4302 §3.3.3).
func (h *authHeader) sign(header, payload []byte) []byte {
	head := append(h.head[:0], header...)
	head[inet.IPv4TOS] = 0
	clear(head[inet.IPv4Fragment : inet.IPv4Fragment+2])
	clear(head[inet.IPv4Checksum : inet.IPv4Checksum+2])
	if h.unicast {
		// It counts down on the way. Multicast ones stay on the link, and
		// Keepalived signs theirs.
		head[inet.IPv4TTL] = 0
	}
	head = append(head, payload[:ahICV]...)
	head = append(head, make([]byte, ahICVLen)...)
	h.mac.Reset()
	h.mac.Write(head)
	h.mac.Write(payload[ahLen:])
	return h.mac.Sum(h.digest[:0])[:ahICVLen]
}

// open verifies p, of which data is the payload, and returns the message
// inside, or nil and in d the reason.
func (h *authHeader) open(p *Packet, data []byte, d *DropError) []byte {
	message := skipAH(data)
	if message == nil {
		d.drop(DropShort, uint64(len(data)), ahLen+fixedLen)
		return nil
	}
	n := len(p.Header)
	if n < inet.IPv4Len || n > inet.IPv4MaxLen {
		d.drop(DropAuth, 0, 0)
		d.Detail = ": no IP header to verify it with"
		return nil
	}
	if subtle.ConstantTimeCompare(h.sign(p.Header, data), data[ahICV:ahLen]) != 1 {
		d.drop(DropAuth, 0, 0)
		d.Detail = ": the passwords differ, or it was changed on the way"
		return nil
	}
	seq := binary.BigEndian.Uint32(data[8:])
	mark, known := h.received.of(p.Source)
	if known && uint64(seq) <= mark.seq {
		d.drop(DropReplay, 0, 0)
		d.Detail = ": old sequence number"
		return nil
	}
	mark.seq = uint64(seq)
	h.sent = max(h.sent, seq)
	return message
}

// skipAH returns what follows the AH header, or nil if it is not one as
// Keepalived writes it.
func skipAH(b []byte) []byte {
	if len(b) < ahLen+fixedLen || b[0] != protocolVRRP || b[1] != ahLen/4-2 {
		return nil
	}
	return b[ahLen:]
}
