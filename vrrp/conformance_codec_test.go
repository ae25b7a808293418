package vrrp

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/inet"
)

// The codec's part of the conformance list, one test for each rule. A test of a discard
// first checks that the unchanged packet is accepted, so that only the change can be the
// reason.

// RFC 3768 §5.1.
func TestConformance01V2Vector(t *testing.T) { checkVector(t, vectorV2, advV2) }

// RFC 9568 §5.2.8, and RFC 5798 §5.2.8 as Keepalived and FRR read it.
func TestConformance02V3IPv4Vectors(t *testing.T) {
	t.Run("pseudo-header", func(t *testing.T) { checkVector(t, vectorV3Pseudo, advV3) })
	t.Run("message only", func(t *testing.T) { checkVector(t, vectorV3Message, messageOnly(advV3)) })
}

// RFC 9568 §5.2.8.
func TestConformance03V3IPv6Vector(t *testing.T) { checkVector(t, vectorV3IPv6, advV3IPv6) }

// RFC 2338 §5.3.10: shorter passwords are padded with zero bytes.
func TestConformance04PassPads(t *testing.T) {
	checkVector(t, vectorPass, advPass)
	w := wireFor(t, configFor(t, advPass, auth(AuthPass, "d0cker")))
	got, err := w.appendPacket(nil, advPass.Priority, advPass.Source, advPass.Destination, clock)
	if want := unhex(t, vectorPass); err != nil || !bytes.Equal(got, want) {
		t.Errorf("wrote %x (%v), want %x", got, err, want)
	}
}

// RFC 2338 §5.3.10: there is room for eight bytes, the rest does not count.
func TestConformance05PassCuts(t *testing.T) {
	long := wireFor(t, configFor(t, advV2, auth(AuthPass, "longpassword")))
	short := wireFor(t, configFor(t, advV2, auth(AuthPass, "longpass")))
	accept(t, short, send(t, long, 100, host4, groupIPv4, clock), clock)
	accept(t, long, send(t, short, 100, host4, groupIPv4, clock), clock)
	shorter := wireFor(t, configFor(t, advV2, auth(AuthPass, "longpas")))
	discard(t, shorter, send(t, long, 100, host4, groupIPv4, clock), clock, DropAuth)
}

// RFC 9568 §5.2.6: the reserved bits are ignored on receipt.
func TestConformance06ReservedBitsIgnored(t *testing.T) {
	p := packetOf(t, advV3)
	p.Data[4] |= 0xf0
	resum(p, len(p.Data))
	w := wireFor(t, configFor(t, advV3))
	if a := accept(t, w, p, clock); a.Interval != time.Second || w.seen != 0 {
		t.Errorf("interval %v, observations %b, want 1s and none", a.Interval, w.seen)
	}
}

// RFC 9568 §5.2.6: they are zero when sent, even with the longest interval.
func TestConformance07ReservedBitsZeroOnSend(t *testing.T) {
	a := advV3
	a.Interval = 4095 * 10 * time.Millisecond
	b, err := a.AppendBinary(nil)
	if err != nil || b[4] != 0x0f || b[5] != 0xff {
		t.Errorf("interval field % x (%v), want 0f ff", b[4:6], err)
	}
	a.Interval += 10 * time.Millisecond // would reach into them
	if b, err := a.AppendBinary(nil); err == nil {
		t.Errorf("interval %v was written as % x", a.Interval, b[4:6])
	}
}

// withOption inserts an IPv4 option (Router Alert, RFC 2113) into an IP packet.
func withOption(b []byte) []byte {
	out := bytes.Join([][]byte{b[:inet.IPv4Len], {0x94, 0x04, 0, 0}, b[inet.IPv4Len:]}, nil)
	out[0]++
	binary.BigEndian.PutUint16(out[inet.IPv4Total:], uint16(len(out)))
	return out
}

// RFC 791 §3.1: the header's length is not always 20.
func TestConformance08HeaderWithOptions(t *testing.T) {
	for _, name := range []string{"pass-multicast", "v3-ipv4-multicast"} {
		b := withOption(capture(t, name)[0])
		p := packetFromIP(t, append(b, make([]byte, 46-len(b))...))
		if a, _, err := ParsePacket(p); err != nil || a.VRID != 51 {
			t.Errorf("%s: VRID %d, %v", name, a.VRID, err)
		}
	}
	t.Run("AH", func(t *testing.T) {
		w := wireFor(t, configFor(t, advV2, auth(AuthAH, "d0cker")))
		b, err := w.appendPacket(nil, 100, host4, groupIPv4, clock)
		if err != nil {
			t.Fatal(err)
		}
		b = withOption(b)
		copy(b[24+ahICV:], w.ah.sign(b[:24], b[24:])) // the sender signs it, too
		accept(t, wireFor(t, w.cfg), packetFromIP(t, b), clock)
		b[23] ^= 1
		discard(t, wireFor(t, w.cfg), packetFromIP(t, b), clock, DropAuth)
	})
}

// RFC 894: Ethernet frames are padded to 46 bytes of payload.
func TestConformance09EthernetPadding(t *testing.T) {
	for _, name := range []string{"pass-multicast", "v3-ipv4-multicast"} {
		captured := capture(t, name)[0]
		p := packetFromIP(t, append(captured, make([]byte, 46-len(captured))...))
		if _, _, err := ParsePacket(p); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		p.Header = nil // then nothing tells the padding from the message
		if _, _, err := ParsePacket(p); err == nil {
			t.Errorf("%s: accepted with more bytes than it has", name)
		}
	}
}

// RFC 791 §3.1: the total length tells the payload from padding, unless it is nonsense.
func TestPayload(t *testing.T) {
	data := []byte("0123456789")
	header := func(total uint16, options int) []byte {
		return append([]byte{byte(0x45 + options/4), 0, byte(total >> 8), byte(total)}, make([]byte, inet.IPv4Len-4+options)...)
	}
	for name, tt := range map[string]struct {
		header []byte
		want   string
	}{
		"all":                     {header(30, 0), "0123456789"},
		"padding":                 {header(28, 0), "01234567"},
		"padding behind options":  {header(32, 4), "01234567"},
		"nothing but padding":     {header(20, 0), ""},
		"no header, as with IPv6": {nil, "0123456789"},
		"a header that is cut":    {header(28, 0)[:19], "0123456789"},
		"no length":               {header(0, 0), "0123456789"},
		"less than the header":    {header(23, 4), "0123456789"},
		"more than there is":      {header(31, 0), "0123456789"},
	} {
		if got := (&Packet{Header: tt.header, Data: data}).Payload(); string(got) != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// Rule 10 is FuzzParseAdvertisement.

// changed checks that a router accepts p, and after change discards it for the
// reason.
func changed(t *testing.T, cfg *Config, p *Packet, change func(*Packet), want DropReason) {
	t.Helper()
	accept(t, wireFor(t, cfg), p, clock)
	change(p)
	discard(t, wireFor(t, cfg), p, clock, want)
}

// RFC 9568 §7.1, RFC 3768 §7.1: whatever arrives is either accepted or
// discarded. No input makes the parser panic, and what it accepts it can write
// and read again.
func TestConformance10NothingPanics(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	accepted := 0
	for range 20000 {
		v6 := rng.IntN(3) == 0
		vector := [...]string{vectorV2, vectorV3Message, vectorV3Pseudo, vectorPass}[rng.IntN(4)]
		if v6 {
			vector = vectorV3IPv6
		}
		b := unhex(t, vector)
		switch rng.IntN(4) {
		case 0: // at random
			b = make([]byte, rng.IntN(64))
			for i := range b {
				b[i] = byte(rng.Uint32())
			}
		case 1: // another length
			b = append(b, make([]byte, 40)...)[:rng.IntN(len(b)+40)]
		}
		for range rng.IntN(4) {
			if len(b) > 0 {
				b[rng.IntN(len(b))] = byte(rng.Uint32())
			}
		}
		if checkParse(t, b, v6) {
			accepted++
		}
	}
	// Neither is rare, or the test would say little.
	if accepted < 1000 || accepted > 19000 {
		t.Errorf("%d of 20000 accepted", accepted)
	}
}

// RFC 9568 §5.1.1.3, §7.1; RFC 3768 §7.1.
func TestConformance11TTL(t *testing.T) {
	for _, a := range []Advertisement{advV2, advV3} {
		changed(t, configFor(t, a), packetOf(t, a), func(p *Packet) { p.TTL = 254 }, DropTTL)
	}
}

// RFC 9568 §5.1.2.3, §7.1.
func TestConformance12HopLimit(t *testing.T) {
	changed(t, configFor(t, advV3IPv6), packetOf(t, advV3IPv6), func(p *Packet) { p.TTL = 254 }, DropTTL)
}

// RFC 9568 §7.1; RFC 3768 §7.1.
func TestConformance13Version(t *testing.T) {
	v2, v3 := configFor(t, advV2), configFor(t, advV3)
	changed(t, v3, packetOf(t, advV3), func(p *Packet) { *p = *packetOf(t, advV2) }, DropVersion)
	changed(t, v2, packetOf(t, advV2), func(p *Packet) { *p = *packetOf(t, advV3) }, DropVersion)
	for _, version := range []byte{0, 1, 4, 15} {
		changed(t, v3, packetOf(t, advV3), func(p *Packet) {
			p.Data[0] = version<<4 | typeAdvertisement
			resum(p, len(p.Data))
		}, DropVersion)
	}
	v6 := packetOf(t, advV3IPv6)
	changed(t, configFor(t, advV3IPv6), v6, func(p *Packet) { p.Data[0] = 0x21 }, DropVersion)
}

// RFC 9568 §5.2.2.
func TestConformance14Type(t *testing.T) {
	changed(t, configFor(t, advV3), packetOf(t, advV3), func(p *Packet) {
		p.Data[0] = 0x32
		resum(p, len(p.Data))
	}, DropType)
}

// RFC 3768 §5.1, §7.1: the authentication data is there whatever the type.
func TestConformance15V2ShortTrailer(t *testing.T) {
	for _, missing := range []int{1, 4, 8} {
		changed(t, configFor(t, advV2), packetOf(t, advV2), func(p *Packet) {
			p.Data = p.Data[:len(p.Data)-missing]
			resum(p, len(p.Data))
		}, DropShort)
	}
}

// RFC 9568 §5.1: version 3 has no authentication data.
func TestConformance16V3WithV2Trailer(t *testing.T) {
	for _, cover := range []int{0, v2AuthLen} { // the checksum may cover it or not
		changed(t, configFor(t, advV3), packetOf(t, advV3), func(p *Packet) {
			n := len(p.Data)
			p.Data = append(p.Data, "password"...)
			resum(p, n+cover)
		}, DropLength)
	}
	if _, err := ParseAdvertisement(append(packetOf(t, advV3).Data, make([]byte, trailerLen)...), host4, groupIPv4); err == nil {
		t.Error("ParseAdvertisement accepted 28 more bytes")
	}
}

// RFC 9568 §5.2.8, §7.1.
func TestConformance17Checksum(t *testing.T) {
	for _, a := range []Advertisement{advV2, advV3, messageOnly(advV3), advV3IPv6} {
		for bit := range 16 {
			changed(t, configFor(t, a), packetOf(t, a), func(p *Packet) {
				p.Data[checksumOffset+bit/8] ^= 1 << (bit % 8)
			}, DropChecksum)
		}
		changed(t, configFor(t, a), packetOf(t, a), func(p *Packet) { p.Data[2]++ }, DropChecksum)
	}
	// With unicast, the pseudo-header holds the real destination.
	a, other := advV3, advV3
	a.Destination, other.Destination = peer4, netip.MustParseAddr("192.0.2.253")
	changed(t, configFor(t, a, unicastFrom(host4)), packetOf(t, a), func(p *Packet) {
		copy(p.Data, packetOf(t, other).Data)
	}, DropChecksum)
}

// RFC 9568 §7.1.
func TestConformance18UnknownVRID(t *testing.T) {
	for _, vrid := range []byte{11, 0} {
		changed(t, configFor(t, advV3), packetOf(t, advV3), func(p *Packet) {
			p.Data[1] = vrid
			resum(p, len(p.Data))
		}, DropVRID)
	}
	p := packetOf(t, advV3)
	p.Data[1] = 0
	resum(p, len(p.Data))
	if _, err := ParseAdvertisement(p.Data, p.Source, p.Destination); err == nil {
		t.Error("ParseAdvertisement accepted VRID 0")
	}
}

// RFC 2338 §7.1, §10.
func TestConformance19AuthMismatch(t *testing.T) {
	cfg := configFor(t, advPass, auth(AuthPass, "d0cker"))
	changed(t, cfg, packetOf(t, advPass), func(p *Packet) {
		p.Data[len(p.Data)-1] = 'x'
		resum(p, len(p.Data))
	}, DropAuth)
	changed(t, cfg, packetOf(t, advPass), func(p *Packet) {
		p.Data[4] = 0
		resum(p, len(p.Data))
	}, DropAuthType)
}

// RFC 3768 §7.1.
func TestConformance20V2IntervalMismatch(t *testing.T) {
	changed(t, configFor(t, advV2), packetOf(t, advV2), func(p *Packet) {
		p.Data[5] = 2
		resum(p, len(p.Data))
	}, DropInterval)
}

// RFC 9568 §5.2.7, §6.4.2: the Active router's interval is learned.
func TestConformance21V3IntervalMismatchAccepted(t *testing.T) {
	a := advV3
	a.Interval = 250 * time.Millisecond
	w := wireFor(t, configFor(t, advV3))
	if got := accept(t, w, packetOf(t, a), clock); got.Interval != a.Interval || w.seen != 0 {
		t.Errorf("interval %v, observations %b, want %v and none", got.Interval, w.seen, a.Interval)
	}
}

// RFC 9568 §5.2.7: an interval of 0 would be a flood.
func TestConformance22V3IntervalZero(t *testing.T) {
	for _, a := range []Advertisement{advV3, advV3IPv6} {
		for _, high := range []byte{0, 0xf0} { // the reserved bits do not make it more
			changed(t, configFor(t, a), packetOf(t, a), func(p *Packet) {
				p.Data[4], p.Data[5] = high, 0
				resum(p, len(p.Data))
			}, DropIntervalZero)
		}
	}
}

// RFC 9568 §5.2.5: the minimum is 1.
func TestConformance23CountZero(t *testing.T) {
	for _, a := range []Advertisement{advV2, advV3, advV3IPv6} {
		changed(t, configFor(t, a), packetOf(t, a), func(p *Packet) {
			p.Data = p.Data[:messageLen(a.Version, a.Source.Is6(), 0)]
			p.Data[3] = 0
			resum(p, len(p.Data))
		}, DropCount)
	}
}

// TestNoAddresses: routers without addresses hear one another, and nobody else.
func TestNoAddresses(t *testing.T) {
	for _, other := range []Advertisement{advV2, advV3, advV3IPv6} {
		a := other
		a.Addresses = nil
		cfg := configFor(t, a, func(c *Config) { c.IPv6 = a.Source.Is6() })
		w := wireFor(t, cfg)
		if got := accept(t, w, packetOf(t, a), clock); len(got.Addresses) > 0 || w.seen != 0 {
			t.Errorf("version %d: %v, observations %b, want no addresses and none", a.Version, got.Addresses, w.seen)
		}
		if sent, want := send(t, w, a.Priority, a.Source, a.Destination, clock).Data, packetOf(t, a).Data; !bytes.Equal(sent, want) {
			t.Errorf("version %d: sent %x, want %x", a.Version, sent, want)
		}
		discard(t, w, packetOf(t, other), clock, DropCount)
		discard(t, wireFor(t, configFor(t, other)), packetOf(t, a), clock, DropCount)
	}
	// Seen of Keepalived 2.2.7.
	a := advV2
	a.Source, a.VRID, a.Priority, a.Addresses = netip.MustParseAddr("10.9.0.1"), 51, 100, nil
	checkVector(t, "21336400 0001 7acb 0000000000000000", a)
}

// RFC 9568 §7.1: the addresses may be compared, to log a difference. By RFC 3768 §7.1 other
// addresses than the configured ones are a reason to discard, except with priority 255.
// Here one address in common is enough, and no priority is excepted.
func TestConformance24ListMismatch(t *testing.T) {
	const same, dropped = observation(0), observation(0xff)
	v4, v6 := "192.0.2.1 192.0.2.2 192.0.2.3", "fe80::1 2001:db8::1 2001:db8::2"
	for _, test := range []struct {
		name        string
		ours, their string
		want        observation
	}{
		{"the same", v4, v4, same},
		{"another order", v4, "192.0.2.3 192.0.2.1 192.0.2.2", same},
		{"one less", v4, "192.0.2.1 192.0.2.3", seenAddresses},
		{"one more", v4, v4 + " 192.0.2.4", seenAddresses},
		{"one in common, in another place", v4, "192.0.2.9 192.0.2.8 192.0.2.1", seenAddresses},
		{"one twice instead of another", v4, "192.0.2.1 192.0.2.1 192.0.2.2", seenAddresses},
		{"none in common", v4, "192.0.2.4 192.0.2.5 192.0.2.6", dropped},
		{"IPv6, the same", v6, v6, same},
		{"IPv6, another order", v6, "fe80::1 2001:db8::2 2001:db8::1", same},
		{"IPv6, another link-local one", v6, "fe80::2 2001:db8::1 2001:db8::2", seenAddresses},
		{"IPv6, only the link-local one in common", v6, "fe80::1 2001:db8::3", dropped},
		{"IPv6, and they have no other", v6, "fe80::1", dropped},
		{"IPv6, and we have no other", "fe80::1", v6, seenAddresses},
		{"IPv6, only link-local ones", "fe80::1 fe80::2", "fe80::3 fe80::2", seenAddresses},
		{"IPv6, none in common", "fe80::1", "fe80::2", dropped},
		{"IPv4 has no exception", "169.254.0.1 192.0.2.1", "169.254.0.1 192.0.2.2", seenAddresses},
	} {
		for _, a := range []Advertisement{advV2, advV3, advV3IPv6} {
			if a.Source.Is6() != strings.Contains(test.ours, ":") {
				continue
			}
			a.Addresses = addrs(strings.Fields(test.ours)...)
			w := wireFor(t, configFor(t, a))
			a.Addresses = addrs(strings.Fields(test.their)...)
			for _, a.Priority = range []uint8{0, 100, 255} {
				if test.want == dropped {
					discard(t, w, packetOf(t, a), clock, DropAddresses)
				} else if accept(t, w, packetOf(t, a), clock); w.seen != test.want {
					t.Errorf("%s, version %d, priority %d: observations %b, want %b", test.name, a.Version, a.Priority, w.seen, test.want)
				}
			}
		}
	}
}

// RFC 9568 §5.2.9.
func TestConformance25FirstIPv6AddressLinkLocal(t *testing.T) {
	changed(t, configFor(t, advV3IPv6), packetOf(t, advV3IPv6), func(p *Packet) {
		first, second := p.Data[fixedLen:][:16], p.Data[fixedLen+16:][:16]
		saved := bytes.Clone(first)
		copy(first, second)
		copy(second, saved)
	}, DropLinkLocal) // swapping words leaves the checksum as it was
}

// RFC 9568 §5.2.8.
func TestConformance26MessageOnlyChecksumAccepted(t *testing.T) {
	w := wireFor(t, configFor(t, advV3))
	got := accept(t, w, packetOf(t, messageOnly(advV3)), clock)
	if got.Checksum != ChecksumMessage || w.seen != 0 {
		t.Errorf("form %v, observations %b, want %v and none", got.Checksum, w.seen, ChecksumMessage)
	}
}

// TestOldUnicastChecksum: with old_unicast_checksum Keepalived sends to a peer with the
// checksum of multicast. That checksum is accepted, reported and sent.
func TestOldUnicastChecksum(t *testing.T) {
	unicast := oldUnicast(advV3)
	checkVector(t, vectorV3Pseudo, unicast)
	w := wireFor(t, configFor(t, unicast, unicastFrom(host4), func(c *Config) { c.Checksum = ChecksumOldUnicast }))
	got := accept(t, w, packetOf(t, unicast), clock)
	if got.Checksum != ChecksumOldUnicast || w.seen != 0 {
		t.Errorf("form %v, observations %b, want %v and none", got.Checksum, w.seen, ChecksumOldUnicast)
	}
	if sent, want := send(t, w, unicast.Priority, unicast.Source, unicast.Destination, clock).Data, unhex(t, vectorV3Pseudo); !bytes.Equal(sent, want) {
		t.Errorf("sent %x, want %x", sent, want)
	}
	p := packetOf(t, unicast)
	p.Destination = netip.MustParseAddr("192.0.2.253")
	accept(t, w, p, clock) // the destination is no part of this form
	p.Data[checksumOffset]++
	discard(t, w, p, clock, DropChecksum)
}

// The list of peers takes the place of RFC 9568 §5.1.1.2's link.
func TestConformance27Stranger(t *testing.T) {
	for _, tt := range []struct {
		adv      Advertisement
		dst, bad netip.Addr
	}{
		{advV2, peer4, netip.MustParseAddr("192.0.2.250")},
		{advV3, peer4, netip.MustParseAddr("192.0.2.250")},
		{advV3IPv6, netip.MustParseAddr("fe80::c9"), netip.MustParseAddr("fe80::ca")},
	} {
		a := tt.adv
		a.Destination = tt.dst
		changed(t, configFor(t, a, unicastFrom(a.Source)), packetOf(t, a), func(p *Packet) {
			p.Source = tt.bad
			resum(p, len(p.Data))
		}, DropStranger)
	}
}

// RFC 5082 §3: the TTL tells the distance.
func TestConformance28UnicastTTLBelowMinimum(t *testing.T) {
	a := advV3
	a.Destination = peer4
	cfg := configFor(t, a, unicastFrom(host4), func(c *Config) { c.MinTTL = 254 })
	p := packetOf(t, a)
	p.TTL = 254
	changed(t, cfg, p, func(p *Packet) { p.TTL = 253 }, DropTTLBelowMinimum)
	p.TTL = 1
	accept(t, wireFor(t, configFor(t, a, unicastFrom(host4))), p, clock) // without a minimum
}
