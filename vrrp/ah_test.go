package vrrp

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/havip/havip/internal/inet"
)

// TestAHSignedBytes: RFC 4302 §3.3.3.1.1. What a router may change on the way
// is not signed, all else is.
func TestAHSignedBytes(t *testing.T) {
	for _, unicast := range []bool{false, true} {
		dst, change := groupIPv4, []func(*Config){auth(AuthAH, "d0cker")}
		if unicast {
			dst, change = peer4, append(change, unicastFrom(host4))
		}
		cfg := configFor(t, advV2, change...)
		b, err := wireFor(t, cfg).appendPacket(nil, 100, host4, dst, clock)
		if err != nil {
			t.Fatal(err)
		}
		mutable := map[int]bool{inet.IPv4TOS: true, inet.IPv4Fragment: true, inet.IPv4Fragment + 1: true,
			inet.IPv4Checksum: true, inet.IPv4Checksum + 1: true, inet.IPv4TTL: unicast}
		for i := range b {
			p := packetFromIP(t, b)
			p.Header, p.Data = bytes.Clone(p.Header), bytes.Clone(p.Data)
			if i < inet.IPv4Len {
				p.Header[i] ^= 0x80
			} else {
				p.Data[i-inet.IPv4Len] ^= 0x80
			}
			var a Advertisement
			if err := wireFor(t, cfg).parse(&a, p, clock); (err == nil) != mutable[i] {
				t.Errorf("unicast %v: byte %d changed: %v", unicast, i, err)
			}
		}
	}
}

// TestAHSequence: numbers only grow, for each sender, and a router that takes
// over goes on above the one before it, as Keepalived expects.
func TestAHSequence(t *testing.T) {
	cfg := configFor(t, advV2, auth(AuthAH, "d0cker"))
	a, b, receiver := wireFor(t, cfg), wireFor(t, cfg), wireFor(t, cfg)
	number := func(p *Packet) uint32 { return binary.BigEndian.Uint32(p.Data[8:]) }
	first := send(t, a, 100, host4, groupIPv4, clock)
	second := send(t, a, 100, host4, groupIPv4, clock)
	accept(t, receiver, second, clock)
	discard(t, receiver, second, clock, DropReplay)
	discard(t, receiver, first, clock, DropReplay)
	accept(t, receiver, send(t, b, 100, peer4, groupIPv4, clock), clock) // not above a's

	if got, want := number(first), uint32(clock.Unix()); got != want {
		t.Errorf("first number %d, want the clock's %d", got, want)
	}
	if number(second) != number(first)+1 {
		t.Errorf("numbers %d and %d, want one more", number(first), number(second))
	}
	a.ah.sent = 1<<31 + 5
	accept(t, b, send(t, a, 100, host4, groupIPv4, clock), clock)
	if got, want := number(send(t, b, 100, peer4, groupIPv4, clock)), uint32(1<<31+7); got != want {
		t.Errorf("number after taking over %d, want %d", got, want)
	}
	later := clock.Add(3500 * time.Millisecond)
	if got, want := number(send(t, b, 100, peer4, groupIPv4, later)), uint32(1<<31+7+8); got != want {
		t.Errorf("number of a router that takes over after a silence %d, want %d: above what another one may be at", got, want)
	}
	if got, want := number(send(t, b, 100, peer4, groupIPv4, later.Add(time.Second))), uint32(1<<31+7+9); got != want {
		t.Errorf("number after that %d, want %d", got, want)
	}
	wrong := wireFor(t, configFor(t, advV2, auth(AuthAH, "docker")))
	discard(t, receiver, send(t, wrong, 100, host4, groupIPv4, clock.Add(time.Hour)), clock, DropAuth)
	bare := send(t, a, 100, host4, groupIPv4, clock)
	bare.Header = nil
	discard(t, receiver, bare, clock, DropAuth)
}

// TestAHHeader: the header has the configured TTL, an ID other than 0 and a right checksum.
func TestAHHeader(t *testing.T) {
	w := wireFor(t, configFor(t, advV2, auth(AuthAH, "d0cker"), unicastFrom(host4), func(c *Config) { c.TTL = 7 }))
	w.ah.id = 0xfffe
	for _, id := range []uint16{0xffff, 1} { // 0 would have the kernel choose one
		b, err := w.appendPacket([]byte("before"), 0, host4, peer4, clock)
		if err != nil {
			t.Fatal(err)
		}
		b = b[len("before"):]
		if got := binary.BigEndian.Uint16(b[4:]); got != id || b[inet.IPv4TTL] != 7 || inet.Checksum(inet.Sum(0, b[:20])) != 0 {
			t.Errorf("header %x: ID %d, TTL %d, want %d, 7 and a right checksum", b[:20], got, b[inet.IPv4TTL], id)
		}
	}
	if b, err := w.appendPacket([]byte("before"), 0, netip.Addr{}, peer4, clock); err == nil || string(b) != "before" {
		t.Errorf("without a source: %q, %v", b, err)
	}
}
