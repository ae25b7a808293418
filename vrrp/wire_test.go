package vrrp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/inet"
)

var (
	peer4 = netip.MustParseAddr("192.0.2.252")
	clock = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
)

// configFor is the validated configuration of a router that accepts a.
func configFor(t testing.TB, a Advertisement, change ...func(*Config)) *Config {
	t.Helper()
	cfg := &Config{VRID: a.VRID, Version: a.Version, Interval: a.Interval, Addresses: a.Addresses}
	for _, f := range change {
		f(cfg)
	}
	valid, err := cfg.complete()
	if err != nil {
		t.Fatal(err)
	}
	return &valid
}

func unicastFrom(peers ...netip.Addr) func(*Config) {
	return func(c *Config) { c.Peers = peers }
}

func auth(kind AuthType, password string) func(*Config) {
	return func(c *Config) { c.Auth = Auth{Type: kind, Password: password} }
}

func wireFor(t testing.TB, cfg *Config) *wire {
	t.Helper()
	return newWire(cfg)
}

// packetOf is the packet that carries a, by the multicast group unless a says
// otherwise.
func packetOf(t testing.TB, a Advertisement) *Packet {
	t.Helper()
	b, err := a.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &Packet{Data: b, Source: a.Source, Destination: a.Destination, TTL: 255, Protocol: protocolVRRP}
}

// resum writes the checksum that fits the changed bytes of p, the first n of
// which are the message.
func resum(p *Packet, n int) {
	a := Advertisement{Source: p.Source, Destination: p.Destination, Version: p.Data[0] >> 4}
	a.putChecksum(p.Data, n)
}

// send makes w send one packet.
func send(t testing.TB, w *wire, priority uint8, src, dst netip.Addr, now time.Time) *Packet {
	t.Helper()
	p := &Packet{Source: src, Destination: dst, TTL: 255, Protocol: protocolVRRP}
	b, err := w.appendPacket(nil, priority, src, dst, now)
	if err != nil {
		t.Fatal(err)
	}
	if p.Data = b; w.ah != nil {
		p = packetFromIP(t, b)
	}
	return p
}

// packetFromIP takes an IP packet apart.
func packetFromIP(t testing.TB, b []byte) *Packet {
	t.Helper()
	if b[0]>>4 == 6 {
		return &Packet{
			Data:        b[40:],
			Source:      netip.AddrFrom16([16]byte(b[8:])),
			Destination: netip.AddrFrom16([16]byte(b[24:])),
			TTL:         b[7],
			Protocol:    b[6],
		}
	}
	n := int(b[0]&0xf) * 4
	return &Packet{
		Data:        b[n:],
		Header:      b[:n],
		Source:      netip.AddrFrom4([4]byte(b[12:])),
		Destination: netip.AddrFrom4([4]byte(b[16:])),
		TTL:         b[inet.IPv4TTL],
		Protocol:    b[inet.IPv4Protocol],
	}
}

func accept(t testing.TB, w *wire, p *Packet, now time.Time) Advertisement {
	t.Helper()
	var a Advertisement
	if err := w.parse(&a, p, now); err != nil {
		t.Fatal(err)
	}
	return a
}

func discard(t testing.TB, w *wire, p *Packet, now time.Time, want DropReason) {
	t.Helper()
	var a Advertisement
	var d *DropError
	err := w.parse(&a, p, now)
	if !errors.As(err, &d) || d.Reason != want {
		t.Fatalf("parse returned %v, want reason %v", err, want)
	}
}

// capture reads a file of packets that keepalived sent.
func capture(t testing.TB, name string) [][]byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "keepalived", name+".hex"))
	if err != nil {
		t.Fatal(err)
	}
	var packets [][]byte
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "#") {
			packets = append(packets, unhex(t, line))
		}
	}
	if len(packets) != 4 {
		t.Fatalf("%s has %d packets, want 4", name, len(packets))
	}
	return packets
}

// TestKeepalivedPackets holds the wire against what keepalived 2.2.7 sent:
// each capture is accepted, and a wire with the same configuration writes the
// same bytes, for AH the whole packet.
func TestKeepalivedPackets(t *testing.T) {
	one := addrs("192.0.2.100")
	peer := unicastFrom(netip.MustParseAddr("192.0.2.1"))
	tests := []struct {
		name    string
		version uint8
		addrs   []netip.Addr
		change  []func(*Config)
	}{
		{"pass-multicast", 2, one, []func(*Config){auth(AuthPass, "longpassword")}},
		{"pass-unicast", 2, one, []func(*Config){auth(AuthPass, "d0cker"), peer}},
		{"ah-multicast", 2, addrs("192.0.2.100", "192.0.2.101"), []func(*Config){auth(AuthAH, "d0cker")}},
		{"ah-unicast", 2, one, []func(*Config){auth(AuthAH, "d0cker"), peer}},
		{"v3-ipv4-multicast", 3, one, nil},
		{"v3-ipv4-unicast", 3, one, []func(*Config){peer}},
		{"v3-ipv6-multicast", 3, addrs("fe80::1", "2001:db8::1"), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := configFor(t, Advertisement{Version: tt.version, VRID: 51, Interval: time.Second, Addresses: tt.addrs}, tt.change...)
			receiver, sender := wireFor(t, cfg), wireFor(t, cfg)
			for i, captured := range capture(t, tt.name) {
				p := packetFromIP(t, captured)
				a := accept(t, receiver, p, clock)
				wantPriority := uint8(100)
				if i == 3 {
					wantPriority = 0
				}
				if a.Priority != wantPriority || receiver.seen != 0 {
					t.Errorf("packet %d: priority %d, observations %b, want %d and none", i, a.Priority, receiver.seen, wantPriority)
				}
				var err error
				got, want := []byte(nil), p.Data
				if cfg.Auth.Type == AuthAH {
					want = captured
					got, err = sender.appendSealed(nil, a.Priority, p.Source, p.Destination, uint32(i+1))
				} else {
					got, err = sender.appendPacket(nil, a.Priority, p.Source, p.Destination, clock)
				}
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("packet %d: wrote %x (%v), want %x", i, got, err, want)
				}
			}
		})
	}
}

// TestAuthTypes: an advertisement that is authenticated in another way than configured is
// discarded for just that reason, in each of the combinations.
func TestAuthTypes(t *testing.T) {
	kinds := []struct {
		name   string
		change func(*Config)
	}{
		{"none", auth(AuthNone, "")},
		{"pass", auth(AuthPass, "d0cker")},
		{"ah", auth(AuthAH, "d0cker")},
		{"hmac", hmacWith(HMACConfig{Keys: []Key{key1}})},
	}
	for _, from := range kinds {
		for _, to := range kinds {
			t.Run(from.name+" to "+to.name, func(t *testing.T) {
				sender := wireFor(t, configFor(t, advV2, from.change))
				receiver := wireFor(t, configFor(t, advV2, to.change))
				p := send(t, sender, 100, host4, groupIPv4, clock)
				if from.name == to.name {
					accept(t, receiver, p, clock)
				} else {
					discard(t, receiver, p, clock, DropAuthType)
				}
				if _, got, err := ParsePacket(p); got.String() != from.name || err != nil {
					t.Errorf("ParsePacket says %v, %v, want %v", got, err, from.name)
				}
			})
		}
	}
	t.Run("type 3", func(t *testing.T) {
		p := packetOf(t, advV2)
		p.Data[4] = 3 // not defined by RFC 2338 §5.3.6, and not AuthHMAC
		resum(p, len(p.Data))
		w := wireFor(t, configFor(t, advV2))
		discard(t, w, p, clock, DropAuthType)
		if got := w.drop.Error(); strings.Contains(got, "hmac") {
			t.Errorf("error %q takes it for another type", got)
		}
	})
}

// TestObservations: what is odd but acceptable is reported, or stands in the advertisement.
func TestObservations(t *testing.T) {
	other := advV3
	other.Addresses = addrs("192.0.2.2", "192.0.2.1", "192.0.2.9")
	slow := advV3
	slow.Interval = 2 * time.Second
	tests := []struct {
		name     string
		adv      Advertisement
		want     observation
		interval time.Duration
		form     ChecksumForm
	}{
		{"nothing", advV3, 0, advV3.Interval, ChecksumPseudoHeader},
		{"interval", slow, 0, slow.Interval, ChecksumPseudoHeader},
		{"addresses", other, seenAddresses, advV3.Interval, ChecksumPseudoHeader},
		{"checksum", messageOnly(advV3), 0, advV3.Interval, ChecksumMessage},
		{"all", messageOnly(Advertisement{
			Source: host4, Destination: groupIPv4, Version: 3, VRID: 10,
			Interval: 10 * time.Millisecond, Addresses: addrs("192.0.2.9", "192.0.2.2"),
		}), seenAddresses, 10 * time.Millisecond, ChecksumMessage},
		{"nothing again", advV3, 0, advV3.Interval, ChecksumPseudoHeader},
	}
	w := wireFor(t, configFor(t, advV3))
	for _, tt := range tests {
		got := accept(t, w, packetOf(t, tt.adv), clock)
		if w.seen != tt.want || got.Interval != tt.interval || got.Checksum != tt.form {
			t.Errorf("%s: observations %b, interval %v, form %v", tt.name, w.seen, got.Interval, got.Checksum)
		}
	}
}

// TestPath: what the receiver discards for where it comes from and goes to,
// apart from the rules of the conformance list.
func TestPath(t *testing.T) {
	toUs := netip.MustParseAddr("192.0.2.1")
	tests := []struct {
		name   string
		change func(*Config)
		packet func(*Packet)
		want   DropReason
	}{
		{"own", func(c *Config) { c.Source = host4 }, func(p *Packet) {}, DropOwn},
		{"unicast to a multicast router", func(c *Config) {}, func(p *Packet) { p.Destination = toUs }, DropDestination},
		{"multicast to a unicast router", unicastFrom(host4), func(p *Packet) {}, DropDestination},
		{"IPv6", func(c *Config) {}, func(p *Packet) { p.Source, p.Destination = host6, groupIPv6 }, DropFamily},
		{"no source", func(c *Config) {}, func(p *Packet) { p.Source = netip.Addr{} }, DropFamily},
		{"truncated", func(c *Config) {}, func(p *Packet) { p.Data = p.Data[:5] }, DropShort},
		{"TTL above the maximum", func(c *Config) { c.Peers, c.MaxTTL = addrs("192.0.2.251"), 254 },
			func(p *Packet) { p.Destination = toUs }, DropTTLAboveMaximum},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := packetOf(t, advV3)
			tt.packet(p)
			discard(t, wireFor(t, configFor(t, advV3, tt.change)), p, clock, tt.want)
		})
	}
	t.Run("a zone is no difference", func(t *testing.T) {
		a := advV3IPv6
		a.Destination = netip.MustParseAddr("fe80::1234")
		p := packetOf(t, a)
		p.Source, p.Destination = p.Source.WithZone("eth0"), p.Destination.WithZone("eth0")
		accept(t, wireFor(t, configFor(t, a, unicastFrom(host6))), p, clock)
		w := wireFor(t, configFor(t, advV3IPv6))
		w.own = host6
		p.Destination = groupIPv6.WithZone("eth0")
		discard(t, w, p, clock, DropOwn)
	})
}

// TestPeekVRID: the virtual router is found without reading the message.
func TestPeekVRID(t *testing.T) {
	sealed := send(t, wireFor(t, configFor(t, advV2, auth(AuthAH, "x"))), 1, host4, groupIPv4, clock)
	tests := []struct {
		name   string
		packet *Packet
		ok     bool
	}{
		{"version 2", packetOf(t, advV2), true},
		{"version 3", packetOf(t, advV3), true},
		{"AH", sealed, true},
		{"AH of something else", &Packet{Data: append([]byte{6}, sealed.Data[1:]...), Protocol: protocolAH}, false},
		{"short", &Packet{Data: make([]byte, 7), Protocol: protocolVRRP}, false},
		{"empty AH", &Packet{Protocol: protocolAH}, false},
	}
	for _, tt := range tests {
		vrid, ok := peekVRID(tt.packet)
		if ok != tt.ok || ok && vrid != 10 {
			t.Errorf("%s: VRID %d, %v; want 10, %v", tt.name, vrid, ok, tt.ok)
		}
	}
}

// TestReplayMarks: senders are independent, and many new senders displace only those that
// were silent for longest.
func TestReplayMarks(t *testing.T) {
	var marks highWaters
	addr := func(i int) netip.Addr {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(i))
		return netip.AddrFrom4(b)
	}
	for i := range maxSenders {
		if m, known := marks.of(addr(i)); known {
			t.Fatalf("sender %d is known before it sent", i)
		} else {
			m.seq = uint64(i)
		}
	}
	if m, known := marks.of(addr(0)); !known || m.seq != 0 {
		t.Errorf("sender 0 lost its mark: %v", m)
	}
	marks.of(addr(maxSenders)) // one too many: 1 has been silent for longest
	for _, i := range []int{0, 2, maxSenders} {
		if _, known := marks.of(addr(i)); !known {
			t.Errorf("sender %d was forgotten", i)
		}
	}
	if _, known := marks.of(addr(1)); known {
		t.Error("sender 1 is still known")
	}
	if len(marks) != maxSenders {
		t.Errorf("%d marks, want %d", len(marks), maxSenders)
	}
}
