package vrrp

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"testing"
	"time"

	"github.com/havip/havip/internal/inet"
)

var (
	key1 = Key{1, bytes.Repeat([]byte{1}, 32)}
	key2 = Key{2, bytes.Repeat([]byte{2}, 64)}
)

func hmacWith(h HMACConfig) func(*Config) {
	return func(c *Config) { c.Auth = Auth{Type: AuthHMAC, HMAC: h} }
}

// sequence is the sequence number of a signed packet.
func sequence(p *Packet) uint64 {
	return binary.BigEndian.Uint64(p.Data[len(p.Data)-trailerLen+4:])
}

// TestHMACLayout computes the trailer anew from the draft's description:
// version 2 and 3, IPv4 and IPv6, unicast and multicast.
func TestHMACLayout(t *testing.T) {
	unicast := advV3
	unicast.Destination = peer4
	for _, a := range []Advertisement{advV2, advV3, messageOnly(advV3), advV3IPv6, unicast} {
		cfg := configFor(t, a, hmacWith(HMACConfig{Keys: []Key{key2}}), func(c *Config) {
			c.Checksum = a.Checksum
			if a.Destination == peer4 {
				c.Peers = addrs("192.0.2.251")
			}
		})
		now := clock.Add(500 * time.Millisecond)
		w := wireFor(t, cfg)
		w.hmac.sent = 1 // not the first
		p := send(t, w, a.Priority, a.Source, a.Destination, now)

		bare, err := a.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		message, tr := p.Data[:len(bare)], p.Data[len(bare):]
		head := []byte{1, 2, 0, 0}
		head = binary.BigEndian.AppendUint32(head, uint32(now.Unix()))
		head = append(head, 0x80, 0, 0, 0)
		if !bytes.Equal(tr[:12], head) || len(tr) != 28 {
			t.Errorf("trailer %x, want %x and 16 bytes", tr, head)
		}

		signed := []byte{4, a.Version, a.VRID, 0}
		if a.Source.Is6() {
			signed[0] = 6
		}
		signed = append(signed, a.Source.AsSlice()...)
		signed = append(signed, make([]byte, 20-len(signed))...)
		signed = append(signed, message...)
		signed[20+6], signed[20+7] = 0, 0
		signed = append(signed, head...)
		signed = append(signed, make([]byte, 16)...)
		mac := hmac.New(sha256.New, key2.Secret)
		mac.Write(signed)
		if want := mac.Sum(nil)[:16]; !bytes.Equal(tr[12:], want) {
			t.Errorf("%v version %d: HMAC %x, want %x", a.Source, a.Version, tr[12:], want)
		}

		// Over IPv4 the checksum is that of the bare message; over IPv6 the
		// kernel's, which covers all.
		if a.Source.Is4() && !bytes.Equal(message, bare) {
			t.Errorf("message %x, want %x", message, bare)
		}
		if a.Source.Is6() && inet.Checksum(inet.SumPseudoHeader(inet.Sum(0, p.Data), a.Source, a.Destination, protocolVRRP, len(p.Data))) != 0 {
			t.Error("the IPv6 checksum does not cover the trailer")
		}
		accept(t, wireFor(t, cfg), p, now)
	}
}

// TestHMACVector compares with what Python's hmac module makes of the bytes
// that the draft says are signed:
//
//	import hmac
//	m = bytes.fromhex('310ac80200640000c0000201c0000202')   # checksum 0
//	t = bytes.fromhex('010100006a45010080000000')
//	p = bytes.fromhex('04030a00c00002fb') + bytes(12)
//	print(hmac.new(bytes([1])*32, p+m+t+bytes(16), 'sha256').hexdigest()[:32])
func TestHMACVector(t *testing.T) {
	w := wireFor(t, configFor(t, advV3, hmacWith(HMACConfig{Keys: []Key{key1}})))
	b, err := w.appendSigned(nil, advV3.Priority, host4, groupIPv4, 0x6a450100_8000_0000)
	want := unhex(t, vectorV3Pseudo+"010100006a45010080000000"+
		"bd6dbd011592908bb3ac70ccaf3d3133")
	if err != nil || !bytes.Equal(b, want) {
		t.Errorf("wrote %x (%v), want %x", b, err, want)
	}
}

// TestHMACModes: who accepts whom.
func TestHMACModes(t *testing.T) {
	modes := map[string]HMACMode{"enforce": HMACEnforce, "permissive": HMACPermissive, "receive-only": HMACReceiveOnly}
	tests := []struct {
		from, to string
		want     DropReason
		seen     observation
	}{
		{"enforce", "enforce", 0, 0},
		{"enforce", "permissive", 0, 0},
		{"enforce", "receive-only", 0, 0},
		{"permissive", "enforce", 0, 0},
		{"permissive", "receive-only", 0, 0},
		{"receive-only", "enforce", DropAuthType, 0},
		{"receive-only", "permissive", 0, seenUnsigned},
		{"receive-only", "receive-only", 0, seenUnsigned},
	}
	for _, tt := range tests {
		t.Run(tt.from+" to "+tt.to, func(t *testing.T) {
			sender := wireFor(t, configFor(t, advV3, hmacWith(HMACConfig{Keys: []Key{key1}, Mode: modes[tt.from]})))
			receiver := wireFor(t, configFor(t, advV3, hmacWith(HMACConfig{Keys: []Key{key1}, Mode: modes[tt.to]})))
			p := send(t, sender, 100, host4, groupIPv4, clock)
			if tt.want != 0 {
				discard(t, receiver, p, clock, tt.want)
				return
			}
			accept(t, receiver, p, clock)
			if receiver.seen != tt.seen {
				t.Errorf("observations %b, want %b", receiver.seen, tt.seen)
			}
			if tt.seen == 0 { // whatever the mode, a wrong signature is wrong
				p.Data[len(p.Data)-1] ^= 1
				discard(t, wireFor(t, receiver.cfg), p, clock, DropAuth)
			}
		})
	}
}

// TestHMACRotation: add the new key everywhere, sign with it, drop the old one.
func TestHMACRotation(t *testing.T) {
	with := func(active uint8, keys ...Key) *wire {
		return wireFor(t, configFor(t, advV3, hmacWith(HMACConfig{Keys: keys, ActiveKey: active})))
	}
	steps := []*wire{with(1, key1), with(1, key1, key2), with(2, key1, key2), with(2, key2)}
	now := clock
	for i := range steps[1:] {
		for _, pair := range [][2]*wire{{steps[i], steps[i+1]}, {steps[i+1], steps[i]}} {
			now = now.Add(2 * time.Second)
			accept(t, pair[1], send(t, pair[0], 100, host4, groupIPv4, now), now)
		}
	}
	discard(t, steps[3], send(t, steps[0], 100, host4, groupIPv4, now), now, DropAuth)
	sameID := with(1, Key{1, key2.Secret[:32]})
	discard(t, steps[0], send(t, sameID, 100, host4, groupIPv4, now), now, DropAuth)
}

// TestHMACReplay: what is fresh in both modes.
func TestHMACReplay(t *testing.T) {
	const window = 5 * time.Second
	tests := []struct {
		name      string
		at        time.Duration // the receiver's clock, relative to the sender's
		time, mon DropReason
	}{
		{"same clock", 0, 0, 0},
		{"just inside", window - 100*time.Millisecond, 0, 0},
		{"just inside, ahead", -window + 100*time.Millisecond, 0, 0},
		{"too old", window + 100*time.Millisecond, DropReplay, 0},
		{"too new", -window - 100*time.Millisecond, DropReplay, 0},
		{"a year off", 365 * 24 * time.Hour, DropReplay, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for mode, want := range map[ReplayMode]DropReason{ReplayTime: tt.time, ReplayMonotonic: tt.mon} {
				cfg := configFor(t, advV3, hmacWith(HMACConfig{Keys: []Key{key1}, Replay: mode, Window: window}))
				sender, receiver := wireFor(t, cfg), wireFor(t, cfg)
				sender.hmac.sent = 1
				p := send(t, sender, 100, host4, groupIPv4, clock)
				if want != 0 {
					discard(t, receiver, p, clock.Add(tt.at), want)
					continue
				}
				accept(t, receiver, p, clock.Add(tt.at))
				skewed := mode == ReplayTime && tt.at.Abs() > window/2
				if got := receiver.seen&seenClockSkew != 0; got != skewed {
					t.Errorf("clock skew told: %v, want %v", got, skewed)
				}
				discard(t, receiver, p, clock.Add(tt.at), DropReplay) // the same again
				accept(t, receiver, send(t, sender, 100, host4, groupIPv4, clock), clock.Add(tt.at))
			}
		})
	}
}

// TestHMACMarks: a mark belongs to one sender and moves only on proof.
func TestHMACMarks(t *testing.T) {
	cfg := configFor(t, advV3, hmacWith(HMACConfig{Keys: []Key{key1}}))
	a, b, receiver := wireFor(t, cfg), wireFor(t, cfg), wireFor(t, cfg)
	first := send(t, a, 100, host4, groupIPv4, clock)
	second := send(t, a, 100, host4, groupIPv4, clock)
	forged := *second
	forged.Data = bytes.Clone(second.Data)
	forged.Data[len(forged.Data)-1] ^= 1
	discard(t, receiver, &forged, clock, DropAuth)
	accept(t, receiver, first, clock) // or else the forged one had moved the mark
	accept(t, receiver, second, clock)
	discard(t, receiver, first, clock, DropReplay)
	b.hmac.sent = 1
	other := send(t, b, 100, peer4, groupIPv4, clock)
	if sequence(other) >= sequence(second) {
		t.Fatal("the other sender is not behind")
	}
	accept(t, receiver, other, clock)
	// Nobody can pass on a's signature as b's.
	spliced := *send(t, a, 100, host4, groupIPv4, clock)
	spliced.Source = peer4
	resum(&spliced, len(spliced.Data)-trailerLen)
	discard(t, receiver, &spliced, clock, DropAuth)
}

// TestHMACSequence: the larger of the clock and the last number plus one, in
// serial order.
func TestHMACSequence(t *testing.T) {
	cfg := configFor(t, advV3, hmacWith(HMACConfig{Keys: []Key{key1}, Window: 8 * time.Second}))
	monotonic := configFor(t, advV3, hmacWith(HMACConfig{Keys: []Key{key1}, Replay: ReplayMonotonic, Window: 8 * time.Second}))
	now := clockSequence(clock)
	const second = 1 << 32
	// In 2106 the seconds overflow, and the order goes on (RFC 1982).
	wrap := time.Unix(1<<32, 0)
	tests := []struct {
		name string
		cfg  *Config
		sent uint64
		now  time.Time
		want uint64
	}{
		{"the first is ahead of a farewell", cfg, 0, clock, now + 2*second},
		{"the clock", cfg, now - second, clock, now},
		{"the same tick", cfg, now, clock, now + 1},
		{"the counter carries", cfg, now | 0xffff, clock, now + 1<<16},
		{"the clock was set back a little", cfg, now + 7*second, clock, now + 7*second + 1},
		{"and by more than the window", cfg, now + 9*second, clock, now},
		{"which a monotonic sender may not follow", monotonic, now + 9*second, clock, now + 9*second + 1},
		{"the seconds overflow", cfg, 0xffff_ffff_ffff_ffff, wrap, 0},
	}
	for _, tt := range tests {
		w := wireFor(t, tt.cfg)
		w.hmac.sent = tt.sent
		if got := w.hmac.nextSequence(tt.now); got != tt.want {
			t.Errorf("%s: %#x, want %#x", tt.name, got, tt.want)
		}
	}
	sender, receiver := wireFor(t, cfg), wireFor(t, cfg)
	for i := range 8 {
		at := wrap.Add(time.Duration(i-5) * time.Second)
		accept(t, receiver, send(t, sender, 100, host4, groupIPv4, at), at)
	}
}

// TestHMACClockSetBack: sender and receiver recover when their clocks were
// wrong, and the receiver takes nothing twice.
func TestHMACClockSetBack(t *testing.T) {
	cfg := configFor(t, advV3, hmacWith(HMACConfig{Keys: []Key{key1}}))
	sender, receiver := wireFor(t, cfg), wireFor(t, cfg)
	future := clock.Add(time.Hour)
	accept(t, receiver, send(t, sender, 100, host4, groupIPv4, future), future)
	p := send(t, sender, 100, host4, groupIPv4, clock)
	accept(t, receiver, p, clock)
	discard(t, receiver, p, clock, DropReplay)
}

// TestHMACMonotonicRestart: a router that is started again after its clock was set back is
// accepted once it has heard another router, by all that heard that other router.
func TestHMACMonotonicRestart(t *testing.T) {
	cfg := configFor(t, advV3, hmacWith(HMACConfig{Keys: []Key{key1}, Replay: ReplayMonotonic}))
	a, b := wireFor(t, cfg), wireFor(t, cfg)
	accept(t, b, send(t, a, 100, host4, groupIPv4, clock), clock)
	accept(t, a, send(t, b, 100, peer4, groupIPv4, clock), clock)
	// Each in turn, further back each time.
	for i := range 4 {
		back := clock.Add(-time.Duration(i+1) * time.Hour)
		from, to := host4, peer4
		if i%2 == 1 {
			from, to = to, from
		}
		a = wireFor(t, cfg)
		discard(t, b, send(t, a, 100, from, groupIPv4, back), clock, DropReplay)
		accept(t, a, send(t, b, 100, to, groupIPv4, clock), back)
		accept(t, b, send(t, a, 100, from, groupIPv4, back), clock)
		a, b = b, a
	}
	// With synchronised clocks a wrong clock does not lead the others astray.
	cfg = configFor(t, advV3, hmacWith(HMACConfig{Keys: []Key{key1}}))
	a, b = wireFor(t, cfg), wireFor(t, cfg)
	accept(t, b, send(t, a, 100, host4, groupIPv4, clock.Add(3*time.Second)), clock)
	b.hmac.sent = 1 // not the first
	if got, want := sequence(send(t, b, 100, peer4, groupIPv4, clock)), clockSequence(clock); got != want {
		t.Errorf("sequence %#x, want the own clock %#x", got, want)
	}
}

// TestHMACUnknownForm: a trailer of another type or with something in the
// reserved field means something else, even if the key's holder wrote it.
func TestHMACUnknownForm(t *testing.T) {
	cfg := configFor(t, advV3, hmacWith(HMACConfig{Keys: []Key{key1}}))
	for _, offset := range []int{0, 2, 3} {
		sender := wireFor(t, cfg)
		p := send(t, sender, 100, host4, groupIPv4, clock)
		n := len(p.Data) - trailerLen
		resign := func() {
			copy(p.Data[n+trailerMAC:], sender.hmac.sign(sender.hmac.keys[sender.hmac.cfg.ActiveKey], &sender.out, p.Data[:n], p.Data[n:]))
		}
		resign()
		accept(t, wireFor(t, cfg), p, clock)
		p.Data[n+offset]++
		resign()
		discard(t, wireFor(t, cfg), p, clock, DropAuth)
	}
}

// TestHMACZone: a link-local sender has one mark, whatever its zone.
func TestHMACZone(t *testing.T) {
	cfg := configFor(t, advV3IPv6, hmacWith(HMACConfig{Keys: []Key{key1}}))
	p := send(t, wireFor(t, cfg), 100, host6, groupIPv6, clock)
	receiver := wireFor(t, cfg)
	accept(t, receiver, p, clock)
	p.Source = p.Source.WithZone("eth0")
	discard(t, receiver, p, clock, DropReplay)
}
