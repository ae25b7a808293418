package vrrp

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The vectors of the conformance list.
const (
	vectorV2        = "210ac802 0001 92ed c0000201 c0000202 00000000 00000000"
	vectorV3Message = "310ac802 0064 828a c0000201 c0000202"
	vectorV3Pseudo  = "310ac802 0064 defb c0000201 c0000202"
	vectorV3IPv6    = "310a6402 0064 3f5d fe800000000000000000000000000001 20010db8000000000000000000000001"
	vectorPass      = "21336401 0101 8a2c c0a801e7 6430636b65720000"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

var (
	host4 = netip.MustParseAddr("192.0.2.251")
	host6 = netip.MustParseAddr("fe80::c8")

	advV2 = Advertisement{
		Source: host4, Destination: groupIPv4,
		Version: 2, VRID: 10, Priority: 200, Interval: time.Second,
		Addresses: addrs("192.0.2.1", "192.0.2.2"),
	}
	advV3 = Advertisement{
		Source: host4, Destination: groupIPv4,
		Version: 3, VRID: 10, Priority: 200, Interval: time.Second,
		Addresses: addrs("192.0.2.1", "192.0.2.2"),
	}
	advV3IPv6 = Advertisement{
		Source: host6, Destination: groupIPv6,
		Version: 3, VRID: 10, Priority: 100, Interval: time.Second,
		Addresses: addrs("fe80::1", "2001:db8::1"),
	}
	advPass = Advertisement{
		Source: netip.MustParseAddr("192.168.1.100"), Destination: groupIPv4,
		Version: 2, VRID: 51, Priority: 100, Interval: time.Second,
		Addresses: addrs("192.168.1.231"),
		AuthType:  1, AuthData: [8]byte{'d', '0', 'c', 'k', 'e', 'r'},
	}
)

// messageOnly returns a with the checksum of RFC 9568.
func messageOnly(a Advertisement) Advertisement {
	a.Checksum = ChecksumMessage
	return a
}

// oldUnicast returns a as Keepalived's old_unicast_checksum sends it to a peer.
func oldUnicast(a Advertisement) Advertisement {
	a.Checksum, a.Destination = ChecksumOldUnicast, netip.MustParseAddr("192.0.2.252")
	return a
}

// compareAddr lets cmp look at addresses.
var compareAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

// checkVector parses vector and expects want, and encodes want and expects
// vector.
func checkVector(t *testing.T, vector string, want Advertisement) {
	t.Helper()
	b := unhex(t, vector)
	got, err := ParseAdvertisement(b, want.Source, want.Destination)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, compareAddr); diff != "" {
		t.Errorf("parsed (-want +got):\n%s", diff)
	}
	encoded, err := want.AppendBinary([]byte("before"))
	if err != nil {
		t.Fatal(err)
	}
	if encoded, found := bytes.CutPrefix(encoded, []byte("before")); !found || !bytes.Equal(encoded, b) {
		t.Errorf("encoded %x, want %x", encoded, b)
	}
}

// TestAppendBinaryRefuses: what no receiver would accept is not written.
func TestAppendBinaryRefuses(t *testing.T) {
	tests := []struct {
		name   string
		base   Advertisement
		change func(*Advertisement)
		want   string
	}{
		{"version", advV3, func(a *Advertisement) { a.Version = 4 }, "version 4: want 2 or 3"},
		{"VRID", advV3, func(a *Advertisement) { a.VRID = 0 }, "VRID 0: want 1 to 255"},
		{"too many", advV3, func(a *Advertisement) { a.Addresses = make([]netip.Addr, 256) }, "256 addresses"},
		{"no source", advV3, func(a *Advertisement) { a.Source = netip.Addr{} }, "two addresses of one family"},
		{"mixed path", advV3, func(a *Advertisement) { a.Destination = groupIPv6 }, "two addresses of one family"},
		{"mixed addresses", advV3, func(a *Advertisement) { a.Addresses = addrs("192.0.2.1", "fe80::1") }, "address fe80::1"},
		{"zero address", advV3IPv6, func(a *Advertisement) { a.Addresses = append(addrs("fe80::1"), netip.Addr{}) }, "address invalid IP"},
		{"global first", advV3IPv6, func(a *Advertisement) { a.Addresses = addrs("2001:db8::1") }, "want link-local"},
		{"version 2 over IPv6", advV3IPv6, func(a *Advertisement) { a.Version = 2 }, "has no IPv6"},
		{"version 2, 1.5 s", advV2, func(a *Advertisement) { a.Interval = 1500 * time.Millisecond }, "interval 1.5s"},
		{"version 2, 256 s", advV2, func(a *Advertisement) { a.Interval = 256 * time.Second }, "interval 4m16s"},
		{"version 3, 0", advV3, func(a *Advertisement) { a.Interval = 0 }, "interval 0s"},
		{"version 3, 15 ms", advV3, func(a *Advertisement) { a.Interval = 15 * time.Millisecond }, "interval 15ms"},
		{"version 3, 40.96 s", advV3, func(a *Advertisement) { a.Interval = 40960 * time.Millisecond }, "interval 40.96s"},
		{"version 3 with PASS", advV3, func(a *Advertisement) { a.AuthType = 1 }, "no authentication fields"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := tt.base
			tt.change(&a)
			b, err := a.AppendBinary([]byte("before"))
			if err == nil || !strings.HasPrefix(err.Error(), "vrrp: ") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if string(b) != "before" {
				t.Errorf("left %q", b)
			}
		})
	}
}

// TestAppendBinaryZones: the zone of an address is not on the wire.
func TestAppendBinaryZones(t *testing.T) {
	a := advV3IPv6
	a.Source, a.Destination, a.Addresses = a.Source.WithZone("eth0"), a.Destination.WithZone("eth0"), slices.Clone(a.Addresses)
	for i := range a.Addresses {
		a.Addresses[i] = a.Addresses[i].WithZone("eth0")
	}
	b, err := a.AppendBinary(nil)
	if err != nil || !bytes.Equal(b, unhex(t, vectorV3IPv6)) {
		t.Errorf("encoded %x, error %v, want %s", b, err, vectorV3IPv6)
	}
}

// TestDropReasons: every reason has a name for metrics and words of its own.
func TestDropReasons(t *testing.T) {
	names, words := map[string]bool{}, map[string]bool{}
	for r := DropReason(1); r < numDropReasons; r++ {
		d := &DropError{Reason: r, Source: host4, Got: 1, Want: 2}
		if name := r.String(); name == "" || names[name] {
			t.Errorf("reason %d is named %q", r, name)
		}
		const prefix = "vrrp: advertisement from 192.0.2.251: "
		text, found := strings.CutPrefix(d.Error(), prefix)
		// The two authentication reasons tell themselves apart by detail.
		if !found || text == "" || words[text] {
			t.Errorf("reason %d says %q", r, d.Error())
		}
		names[r.String()], words[text] = true, true
	}
	for _, r := range []DropReason{0, numDropReasons} {
		if got, want := r.String(), fmt.Sprintf("DropReason(%d)", r); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestDropErrorTexts: the log line says what was found and what was wanted.
func TestDropErrorTexts(t *testing.T) {
	patched := func(a Advertisement, i int, v byte) []byte {
		p := packetOf(t, a)
		p.Data[i] = v
		return p.Data
	}
	tests := []struct {
		b    []byte
		want string
	}{
		{patched(advV3, 7, 0), "checksum 0xde00, want 0xdefb"},
		{patched(advV3, 0, 0x41), "version 4, want 3"},
		{patched(advV3, 0, 0x32), "type 2, want 1"},
		{patched(advV3, 3, 9), "too short: 16 bytes, want 44"},
		{append(packetOf(t, advV3).Data, 0), "too long: 17 bytes, want 16"},
	}
	for _, tt := range tests {
		_, err := ParseAdvertisement(tt.b, host4, groupIPv4)
		if want := "vrrp: advertisement from 192.0.2.251: " + tt.want; err == nil || err.Error() != want {
			t.Errorf("error %v, want %v", err, want)
		}
	}
	w := wireFor(t, configFor(t, advV2, auth(AuthPass, "d0cker")))
	var a Advertisement
	err := w.parse(&a, packetOf(t, advV2), clock)
	if want := "vrrp: advertisement from 192.0.2.251: authentication none, want pass"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %v", err, want)
	}
}

// TestParsePacketDiscarded: of an advertisement that receivers discard for its content, a
// monitor gets what it says.
func TestParsePacketDiscarded(t *testing.T) {
	good := unhex(t, vectorPass)
	for _, tc := range []struct {
		name   string
		change func(b []byte)
		reason DropReason
	}{
		{"a wrong checksum", func(b []byte) { b[6]++ }, DropChecksum},
		{"an interval of 0, with a checksum that fits", func(b []byte) { b[5], b[7] = 0, b[7]+1 }, DropIntervalZero},
	} {
		b := bytes.Clone(good)
		tc.change(b)
		p := &Packet{Data: b, Source: netip.MustParseAddr("192.168.1.231"), Destination: groupIPv4, TTL: 255, Protocol: protocolVRRP}
		a, auth, err := ParsePacket(p)
		if d, ok := err.(*DropError); !ok || d.Reason != tc.reason {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.reason)
		}
		if a.VRID != 51 || a.Priority != 100 || auth != AuthPass || string(a.AuthData[:6]) != "d0cker" || !slices.Equal(a.Addresses, addrs("192.168.1.231")) {
			t.Errorf("%s: %+v, %v", tc.name, a, auth)
		}
	}
}
