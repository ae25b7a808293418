package vrrp

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"hash"
	"time"
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
	keys     []signer
	active   *signer
	window   int64  // in units of 2^-32 s, as the sequence counts
	sent     uint64 // the last sequence number, 0 if none
	received highWaters
	// heard is the highest sequence number that was verified, from whomever,
	// in ReplayMonotonic; 0 if none. Others go on above it, too.
	heard uint64

	// Scratch space, here because what is handed to a signer would escape.
	pseudo [pseudoLen]byte
	zeros  [macLen]byte
	digest [sha256.Size]byte
}

// signer is one key, ready to sign.
type signer struct {
	id  uint8
	mac hash.Hash
}

func newTrailer(cfg *HMACConfig) *trailer {
	t := &trailer{cfg: cfg, window: units(cfg.Window)}
	for _, k := range cfg.Keys {
		t.keys = append(t.keys, signer{k.ID, hmac.New(sha256.New, k.Secret)})
	}
	t.active = t.key(cfg.ActiveKey)
	return t
}

func (t *trailer) key(id uint8) *signer {
	for i := range t.keys {
		if t.keys[i].id == id {
			return &t.keys[i]
		}
	}
	return nil
}

// clockSequence is the time as a sequence number: seconds, 16 bits of their
// fraction, and a counter of 16 bits, which is 0.
func clockSequence(now time.Time) uint64 {
	fraction := uint64(now.Nanosecond()) << 16 / uint64(time.Second)
	return uint64(uint32(now.Unix()))<<32 | fraction<<16
}

// units is d as a difference of sequence numbers.
func units(d time.Duration) int64 {
	return int64(d/time.Second)<<32 | int64(d%time.Second)<<32/int64(time.Second)
}

// after compares sequence numbers, which wrap around (RFC 1982 §3.2).
func after(a, b uint64) bool { return int64(a-b) > 0 }

// lead is by how much a farewell is signed ahead of the clock: so much that it
// outranks the advertisements of some time, and so little that it passes for
// fresh with peers whose clocks differ.
func (t *trailer) lead() int64 { return t.window / 4 }

// next is the sequence number to send: the clock, or one more than the last.
//
// In ReplayMonotonic what others have sent counts as the clock if it is ahead:
// a router that was started again after its clock was set back would not be
// believed otherwise, since others remember what it sent before.
func (t *trailer) next(now time.Time) uint64 {
	clock := clockSequence(now)
	if t.heard != 0 && after(t.heard, clock) {
		clock = t.heard
	}
	ahead := int64(t.sent - clock)
	switch {
	case t.sent == 0:
		// A farewell of the process before this one may be that far ahead.
		return clock + uint64(t.lead())
	case ahead < 0:
		return clock
	case ahead > t.window && t.cfg.Replay == ReplayTime:
		// The clock was set back: nobody would take what is so far ahead, and
		// receivers forget marks that lie outside their window.
		return clock
	}
	return t.sent + 1
}

// append appends the trailer with sequence number seq to b, which from start
// on is the message of a.
func (t *trailer) append(b []byte, start int, a *Advertisement, seq uint64) []byte {
	n := len(b)
	b = append(b, trailerType, t.active.id, 0, 0)
	b = binary.BigEndian.AppendUint64(b, seq)
	return append(b, t.sign(t.active, a, b[start:n], b[n:])...)
}

// sign computes the HMAC of message, its checksum taken as zero, with the head
// of its trailer.
func (t *trailer) sign(key *signer, a *Advertisement, message, head []byte) []byte {
	t.pseudo = [pseudoLen]byte{4, a.Version, a.VRID}
	if a.Source.Is4() {
		src := a.Source.As4()
		copy(t.pseudo[4:], src[:])
	} else {
		src := a.Source.As16()
		t.pseudo[0] = 6
		copy(t.pseudo[4:], src[:])
	}
	key.mac.Reset()
	key.mac.Write(t.pseudo[:])
	key.mac.Write(message[:checksumOffset])
	key.mac.Write(t.zeros[:2])
	key.mac.Write(message[checksumOffset+2:])
	key.mac.Write(head[:trailerMAC])
	key.mac.Write(t.zeros[:])
	return key.mac.Sum(t.digest[:0])[:macLen]
}

// verify judges the trailer tr of the message of a, says in d what is wrong
// with it, and returns what is worth an observation. The cheap
// comparison with the window comes first, so that a flood of old packets costs
// no hashing; a mark moves only after the HMAC was right.
func (t *trailer) verify(a *Advertisement, message, tr []byte, now time.Time, d *DropError) observation {
	fail := func(r DropReason, detail string) observation {
		d.drop(r, 0, 0)
		d.Detail = detail
		return 0
	}
	if tr[0] != trailerType || tr[2] != 0 || tr[3] != 0 {
		return fail(DropAuth, ": trailer of an unknown form")
	}
	seq, clock := binary.BigEndian.Uint64(tr[4:]), clockSequence(now)
	if t.cfg.Replay == ReplayTime && !t.within(seq, clock, t.window) {
		return fail(DropReplay, ": outside the window, or the clocks differ")
	}
	key := t.key(tr[1])
	if key == nil {
		return fail(DropAuth, ": key ID not configured")
	}
	if subtle.ConstantTimeCompare(t.sign(key, a, message, tr), tr[trailerMAC:trailerLen]) != 1 {
		return fail(DropAuth, ": the keys differ, or it was changed on the way")
	}
	mark, known := t.received.of(a.Source.WithZone(""))
	if known && t.cfg.Replay == ReplayTime && !t.within(mark.seq, clock, t.window) {
		known = false // left behind by a clock that was set
	}
	if known && !after(seq, mark.seq) {
		return fail(DropReplay, ": old sequence number")
	}
	*mark = highWater{a.Source.WithZone(""), seq}
	if t.cfg.Replay == ReplayMonotonic && (t.heard == 0 || after(seq, t.heard)) {
		t.heard = seq
	}
	if t.cfg.Replay == ReplayTime && !t.within(seq, clock, t.window/2) {
		return seenClockSkew
	}
	return 0
}

// within tells whether seq is no further from clock than window.
func (t *trailer) within(seq, clock uint64, window int64) bool {
	ahead := int64(seq - clock)
	return -window <= ahead && ahead <= window
}
