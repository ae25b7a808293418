package vrrp

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/havip/havip/internal/inet"
)

// FuzzParseAdvertisement goes on where TestConformance10 ends.
func FuzzParseAdvertisement(f *testing.F) {
	for _, seed := range []string{
		vectorV2, vectorV3Message, vectorV3Pseudo, vectorV3IPv6, vectorPass,
		// Version 3, VRID 1, owner, one address, reserved bits set, 10 ms.
		"3101ff01 f001 0000 c0000201",
		// The same with version 2's authentication data behind it.
		"3101ff01 0001 0000 c0000201 0000000000000000",
		// The same with a trailer of AuthHMAC: type 1, key 1, reserved, time,
		// fraction, counter, HMAC.
		"3101ff01 0001 0000 c0000201 01010000 6a450100 8000 0000 00112233445566778899aabbccddeeff",
		// Version 2, authentication type 2 (AH), 255 s, priority 0.
		"21330001 02ff 0000 c0000264 0000000000000000",
		// Says it has 255 addresses and has none.
		"310164ff 0064 0000",
		// No addresses.
		"310a6400 0064 0000",
		// The same in version 2, as Keepalived sends it.
		"21336400 0001 7acb 0000000000000000",
		// No addresses, interval 0, VRID 0.
		"31006400 0000 0000",
		// Version 15, type 15.
		"ff016401 0064 0000 c0000201",
		// IPv6, the first address global.
		"310a6401 0064 0000 20010db8000000000000000000000001",
		// IPv6, an IPv4-mapped address second.
		"310a6402 0064 0000 fe800000000000000000000000000001 00000000000000000000ffffc0000201",
		"",
	} {
		f.Add(unhex(f, seed), false)
		f.Add(unhex(f, seed), true)
	}
	f.Fuzz(func(t *testing.T, b []byte, v6 bool) { checkParse(t, b, v6) })
}

// checkParse reports whether b was accepted, and checks that it can be written
// then and read again. Random bytes rarely have the right checksum, so b is
// also tried with its checksum put right.
func checkParse(t *testing.T, b []byte, v6 bool) (accepted bool) {
	t.Helper()
	src, dst := host4, groupIPv4
	if v6 {
		src, dst = host6, groupIPv6
	}
	for range 2 {
		a, err := ParseAdvertisement(b, src, dst)
		if err == nil {
			accepted = true
			checkRoundTrip(t, a)
		}
		if len(b) < fixedLen {
			break
		}
		b = bytes.Clone(b)
		resum(&Packet{Data: b, Source: src, Destination: dst}, len(b))
	}
	return accepted
}

// checkRoundTrip checks that an accepted advertisement can be written, and
// reads as the same.
func checkRoundTrip(t *testing.T, a Advertisement) {
	t.Helper()
	if a.VRID == 0 || a.Interval <= 0 {
		t.Fatalf("accepted %+v", a)
	}
	encoded, err := a.AppendBinary(nil)
	if err != nil {
		t.Fatalf("accepted %+v, but cannot write it: %v", a, err)
	}
	again, err := ParseAdvertisement(encoded, a.Source, a.Destination)
	if err != nil {
		t.Fatalf("wrote %x, which is not acceptable: %v", encoded, err)
	}
	// Both checksums are right if the pseudo-header adds up to nothing.
	again.Checksum = a.Checksum
	if !slices.Equal(a.Addresses, again.Addresses) {
		t.Fatalf("addresses %v became %v", a.Addresses, again.Addresses)
	}
	a.Addresses, again.Addresses = nil, nil
	if !equalButAddresses(a, again) {
		t.Fatalf("%+v became %+v", a, again)
	}
}

func equalButAddresses(a, b Advertisement) bool {
	return a.Source == b.Source && a.Destination == b.Destination &&
		a.Version == b.Version && a.VRID == b.VRID && a.Priority == b.Priority &&
		a.Interval == b.Interval && a.AuthType == b.AuthType && a.AuthData == b.AuthData &&
		a.Checksum == b.Checksum
}

// FuzzWireParse: no packet makes the receiver panic, and none that differs
// from what the key's holder sent is accepted with AH or HMAC. The input
// changes a good packet: its payload is cut or extended to size, and mask is
// combined with it from offset on; the checksum of the message is put right.
func FuzzWireParse(f *testing.F) {
	f.Add(uint8(0), 0, 100, []byte{})              // AH as it was sent
	f.Add(uint8(0), 8, 100, []byte{0, 0, 0, 1})    // its sequence number
	f.Add(uint8(0), 1, 100, []byte{0xff})          // its length
	f.Add(uint8(0), 0, 30, []byte{})               // cut within the message
	f.Add(uint8(0), 26, 100, []byte{0xff})         // the priority inside
	f.Add(uint8(1), 0, 100, []byte{})              // HMAC as it was sent
	f.Add(uint8(1), 2, 100, []byte{0xff})          // the priority
	f.Add(uint8(1), 17, 100, []byte{3})            // the key ID
	f.Add(uint8(1), 18, 100, []byte{1})            // the reserved field
	f.Add(uint8(1), 20, 100, []byte{0, 0, 0, 1})   // the time
	f.Add(uint8(1), 0, 16, []byte{})               // the trailer cut off
	f.Add(uint8(1), 0, 200, []byte{0, 0, 0, 1, 0}) // bytes behind it
	f.Add(uint8(2), 2, 100, []byte{0xff})          // HMAC over IPv6
	wires := []struct {
		cfg      *Config
		src, dst netip.Addr
	}{
		{configFor(f, advV2, auth(AuthAH, "d0cker")), host4, groupIPv4},
		{configFor(f, advV3, hmacWith(HMACConfig{Keys: []Key{key1, key2}})), host4, groupIPv4},
		{configFor(f, advV3IPv6, hmacWith(HMACConfig{Keys: []Key{key1}})), host6, groupIPv6},
	}
	f.Fuzz(func(t *testing.T, kind uint8, offset, size int, mask []byte) {
		w := wires[int(kind)%len(wires)]
		good := send(t, wireFor(t, w.cfg), 100, w.src, w.dst, clock)
		p := *good
		p.Data = changedBytes(good.Data, offset, size, mask)
		p.Header = bytes.Clone(good.Header)
		if len(p.Header) > 0 { // so that size is not taken for padding
			p.Header[inet.IPv4Total+1] = uint8(len(p.Header) + len(p.Data))
		} else if len(p.Data) >= fixedLen {
			resum(&p, min(len(p.Data), messageLen(3, w.src.Is6(), 2)))
		}
		peekVRID(&p)
		_, _, _ = ParsePacket(&p)
		var a Advertisement
		err := wireFor(t, w.cfg).parse(&a, &p, clock.Add(time.Second))
		if same := bytes.Equal(p.Data, good.Data); (err == nil) != same {
			t.Fatalf("%x, the same as sent: %v: %v", p.Data, same, err)
		}
	})
}

// changedBytes is b with mask applied from offset on, cut or filled up to size.
func changedBytes(b []byte, offset, size int, mask []byte) []byte {
	out := bytes.Clone(b)
	if offset >= 0 && offset < len(out) {
		for i := range min(len(mask), len(out)-offset) {
			out[offset+i] ^= mask[i]
		}
	}
	if size = min(max(size, 0), 200); size < len(out) {
		return out[:size]
	} else if size > 100 {
		return append(out, make([]byte, size-100)...)
	}
	return out
}
