package vrrp

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"hash"
	"net/netip"
	"slices"
	"time"

	"github.com/havip/havip/internal/inet"
)

const (
	trailerLen  = 28
	trailerType = 1
	trailerMAC  = 12 // offset of the HMAC, of which 16 bytes are sent
	macLen      = trailerLen - trailerMAC

	pseudoLen = 20
)

// trailer is the state of AuthHMAC: 28 bytes behind the message that sign it
// and number it (draft-cassen-vrrp-auth-hmac).
type trailer struct {
	cfg      *HMACConfig
	keys     map[uint8]hash.Hash // by ID
	window   int64               // in units of 2^-32 s, as the sequence counts
	sent     uint64              // the last sequence number, 0 if none
	received highWaters
	// heard is the highest verified sequence number of any sender, in ReplayMonotonic;
	// 0 if none. Each sender goes on above it.
	heard uint64

	// Scratch space. Arguments of a hash would escape to the heap.
	pseudo [pseudoLen]byte
	zeros  [macLen]byte
	digest [sha256.Size]byte
}

func newTrailer(cfg *HMACConfig) *trailer {
	t := &trailer{cfg: cfg, keys: make(map[uint8]hash.Hash), window: units(cfg.Window)}
	for _, k := range cfg.Keys {
		t.keys[k.ID] = hmac.New(sha256.New, k.Secret)
	}
	return t
}

// clockSequence returns the time as a sequence number: seconds, 16 bits of their fraction,
// and a counter of 16 bits, which is 0.
func clockSequence(now time.Time) uint64 {
	fraction := uint64(now.Nanosecond()) << 16 / uint64(time.Second)
	return uint64(uint32(now.Unix()))<<32 | fraction<<16
}

// units returns d as a difference of sequence numbers.
func units(d time.Duration) int64 {
	return int64(d/time.Second)<<32 | int64(d%time.Second)<<32/int64(time.Second)
}

// after compares sequence numbers, which wrap around (RFC 1982 §3.2).
func after(a, b uint64) bool { return int64(a-b) > 0 }

// lead returns how far a farewell is signed ahead of the clock: far enough to outrank the
// advertisements of some time to come, and near enough to be fresh for peers whose clocks
// differ.
func (t *trailer) lead() int64 { return t.window / 4 }

// nextSequence returns the sequence number to send: the clock, or one more than the last.
//
// In ReplayMonotonic the highest number heard counts as the clock if it is ahead. A router
// may be started again after its clock was set back: its peers remember its former numbers,
// and would discard lower ones.
func (t *trailer) nextSequence(now time.Time) uint64 {
	clock := clockSequence(now)
	if t.heard != 0 && after(t.heard, clock) {
		clock = t.heard
	}
	ahead := int64(t.sent - clock)
	switch {
	case t.sent == 0:
		// a farewell of this process's predecessor may be that far ahead
		return clock + uint64(t.lead())
	case ahead < 0:
		return clock
	case ahead > t.window && t.cfg.Replay == ReplayTime:
		// The clock was set back. No receiver would accept a number so far ahead,
		// and receivers forget marks that lie outside their window.
		return clock
	}
	return t.sent + 1
}

// appendTrailer appends the trailer with sequence number seq to b. The message of a begins
// at start.
func (t *trailer) appendTrailer(b []byte, start int, a *Advertisement, seq uint64) []byte {
	n := len(b)
	b = append(b, trailerType, t.cfg.ActiveKey, 0, 0)
	b = binary.BigEndian.AppendUint64(b, seq)
	return append(b, t.sign(t.keys[t.cfg.ActiveKey], a, b[start:n], b[n:])...)
}

// sign computes the HMAC of message, its checksum taken as zero, with the head
// of its trailer.
func (t *trailer) sign(key hash.Hash, a *Advertisement, message, head []byte) []byte {
	t.pseudo = [pseudoLen]byte{4, a.Version, a.VRID}
	if a.Source.Is6() {
		t.pseudo[0] = 6
	}
	_, _ = a.Source.WithZone("").AppendBinary(t.pseudo[:4]) // never fails
	key.Reset()
	key.Write(t.pseudo[:])
	key.Write(message[:checksumOffset])
	key.Write(t.zeros[:2])
	key.Write(message[checksumOffset+2:])
	key.Write(head[:trailerMAC])
	key.Write(t.zeros[:])
	return key.Sum(t.digest[:0])[:macLen]
}

// verify checks the trailer tr of the message of a. It returns the oddities, and in d the
// reason of a discard. The cheap comparison with the window comes first, so that a flood
// of old packets costs no hashing. A mark moves only after the HMAC was right.
func (t *trailer) verify(a *Advertisement, message, tr []byte, now time.Time, d *DropError) observation {
	fail := func(r DropReason, detail string) observation {
		d.explain(r, detail)
		return 0
	}
	if tr[0] != trailerType || tr[2] != 0 || tr[3] != 0 {
		return fail(DropAuth, ": trailer of an unknown form")
	}
	seq, clock := binary.BigEndian.Uint64(tr[4:]), clockSequence(now)
	if t.cfg.Replay == ReplayTime && !t.withinWindow(seq, clock, t.window) {
		return fail(DropReplay, ": outside the window, or the clocks differ")
	}
	key := t.keys[tr[1]]
	if key == nil {
		return fail(DropAuth, ": key ID not configured")
	}
	if subtle.ConstantTimeCompare(t.sign(key, a, message, tr), tr[trailerMAC:trailerLen]) != 1 {
		return fail(DropAuth, ": the keys differ, or it was changed on the way")
	}
	mark, known := t.received.of(a.Source.WithZone(""))
	if known && t.cfg.Replay == ReplayTime && !t.withinWindow(mark.seq, clock, t.window) {
		known = false // the mark is from before a clock was set
	}
	if known && !after(seq, mark.seq) {
		return fail(DropReplay, ": old sequence number")
	}
	*mark = highWater{a.Source.WithZone(""), seq}
	if t.cfg.Replay == ReplayMonotonic && (t.heard == 0 || after(seq, t.heard)) {
		t.heard = seq
	}
	if t.cfg.Replay == ReplayTime && !t.withinWindow(seq, clock, t.window/2) {
		return seenClockSkew
	}
	return 0
}

// withinWindow reports whether seq is no further from clock than window.
func (t *trailer) withinWindow(seq, clock uint64, window int64) bool {
	ahead := int64(seq - clock)
	return -window <= ahead && ahead <= window
}

const (
	ahLen    = 24 // RFC 4302 §2 with 12 bytes of authentication data
	ahICV    = 12 // offset and length of these
	ahICVLen = 12
)

// ahLead is how many numbers a farewell is ahead: more than one round of advertisements to
// 255 peers takes.
const ahLead = 1024

// authHeader is the state of AuthAH: an IP Authentication Header (RFC 4302) in
// front of the message, with HMAC-MD5-96 (RFC 2403) and without any key
// exchange, as Keepalived writes it.
type authHeader struct {
	cfg *Config
	mac hash.Hash // keyed with the password
	// sent is the last sequence number sent, or accepted from any sender. Keepalived
	// has one counter for all senders: a router that takes over must go on above its
	// predecessor's numbers.
	sent     uint32
	sentAt   time.Time
	received highWaters
	id       uint16 // of the last IPv4 packet

	// Scratch space. Arguments of a hash would escape to the heap.
	head   [inet.IPv4MaxLen + ahLen]byte
	digest [md5.Size]byte
}

// password cuts or pads secret to the eight bytes of RFC 2338 §5.3.10.
func password(secret string) (p [v2AuthLen]byte) {
	copy(p[:], secret)
	return p
}

// nextSequence returns the sequence number to send: the clock, so that a restarted router
// is above its former numbers, or more if the group is further already.
//
// A router that takes over skips the numbers that its predecessor may have sent meanwhile.
// When both meet again, Keepalived discards numbers that are not above its own, and puts
// off its own advertisement each time.
func (h *authHeader) nextSequence(now time.Time) uint32 {
	step := uint32(1)
	if now.Sub(h.sentAt) > 2*h.cfg.Interval { // longer than an Active router pauses
		// twice, for answers
		step = uint32(2 * (h.cfg.DownMultiplier + 1) * max(1, len(h.cfg.Peers)))
	}
	return max(h.sent+step, uint32(now.Unix()))
}

// seal writes the headers of the IPv4 packet b, which has room for them, with sequence
// number seq.
func (h *authHeader) seal(b []byte, src, dst netip.Addr, ttl uint8, seq uint32) {
	// the kernel would replace an ID of 0, which breaks the signature
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
	if len(h.cfg.Peers) > 0 {
		// The TTL counts down on the way. That of multicast does not, and
		// Keepalived signs it.
		head[inet.IPv4TTL] = 0
	}
	head = append(head, payload[:ahICV]...)
	head = append(head, make([]byte, ahICVLen)...)
	h.mac.Reset()
	h.mac.Write(head)
	h.mac.Write(payload[ahLen:])
	return h.mac.Sum(h.digest[:0])[:ahICVLen]
}

// unseal verifies p with the payload data, and returns the message inside, or nil and in d
// the reason.
func (h *authHeader) unseal(p *Packet, data []byte, d *DropError) []byte {
	message := skipAH(data)
	if message == nil {
		d.drop(DropShort, uint64(len(data)), ahLen+fixedLen)
		return nil
	}
	n := len(p.Header)
	if n < inet.IPv4Len || n > inet.IPv4MaxLen {
		d.explain(DropAuth, ": no IP header to verify it with")
		return nil
	}
	if subtle.ConstantTimeCompare(h.sign(p.Header, data), data[ahICV:ahLen]) != 1 {
		d.explain(DropAuth, ": the passwords differ, or it was changed on the way")
		return nil
	}
	seq := binary.BigEndian.Uint32(data[8:])
	mark, known := h.received.of(p.Source)
	if known && uint64(seq) <= mark.seq {
		d.explain(DropReplay, ": old sequence number")
		return nil
	}
	mark.seq = uint64(seq)
	h.sent = max(h.sent, seq)
	return message
}

// skipAH returns the bytes after the AH header, or nil if b has no AH header as Keepalived
// writes it.
func skipAH(b []byte) []byte {
	if len(b) < ahLen+fixedLen || b[0] != protocolVRRP || b[1] != ahLen/4-2 {
		return nil
	}
	return b[ahLen:]
}

// maxSenders bounds the number of marks. Only senders with the key get one: these are the
// routers of one group.
const maxSenders = 64

// highWater is the last sequence number accepted from one sender.
type highWater struct {
	source netip.Addr
	seq    uint64
}

// highWaters keeps the senders' marks, the latest heard first.
type highWaters []highWater

// of returns the mark of source, which becomes the first, and whether it was known. A new
// mark may replace that of the sender that was silent for longest.
func (h *highWaters) of(source netip.Addr) (mark *highWater, known bool) {
	*h, known = toFront(*h, maxSenders, func(w highWater) bool { return w.source == source })
	if !known {
		(*h)[0] = highWater{source: source}
	}
	return &(*h)[0], known
}

// toFront moves the element of list that is meant to the front. If there is none, it moves
// a new one, or the last one if there are most.
func toFront[T any](list []T, most int, meant func(T) bool) (_ []T, found bool) {
	i := slices.IndexFunc(list, meant)
	if found = i >= 0; !found {
		if len(list) < most {
			list = append(list, *new(T))
		}
		i = len(list) - 1
	}
	first := list[i]
	copy(list[1:], list[:i])
	list[0] = first
	return list, found
}
