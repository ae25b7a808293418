package vrrp

import (
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// traffic is one router's advertisements, ready to be received, which a
// receiver with replay protection accepts only once each.
type traffic struct {
	cfg     *Config
	wire    *wire
	packets []*Packet
}

func trafficOf(t testing.TB, a Advertisement, n int, change ...func(*Config)) *traffic {
	t.Helper()
	cfg := configFor(t, a, change...)
	out := &traffic{cfg: cfg, wire: wireFor(t, cfg)}
	for range n {
		out.packets = append(out.packets, send(t, out.wire, 100, a.Source, a.Destination, clock))
	}
	return out
}

// kinds are the shapes of a wire that differ in what they compute.
var kinds = []struct {
	name   string
	adv    Advertisement
	change []func(*Config)
}{
	{"v2", advV2, nil},
	{"v2 PASS", advV2, []func(*Config){auth(AuthPass, "d0cker")}},
	{"v2 AH", advV2, []func(*Config){auth(AuthAH, "d0cker")}},
	{"v3 IPv4", advV3, nil},
	{"v3 IPv4 message checksum", messageOnly(advV3), []func(*Config){func(c *Config) { c.Checksum = ChecksumMessage }}},
	{"v3 IPv6", advV3IPv6, nil},
	{"v3 HMAC", advV3, []func(*Config){hmacWith(HMACConfig{Keys: []Key{key1}})}},
	{"v3 IPv6 HMAC", advV3IPv6, []func(*Config){hmacWith(HMACConfig{Keys: []Key{key1}})}},
}

// TestNoAllocation: nothing that happens for each packet allocates: neither
// sending, nor receiving, nor discarding, nor the exported codec.
func TestNoAllocation(t *testing.T) {
	const runs = 100
	check := func(name string, f func()) {
		t.Helper()
		if n := testing.AllocsPerRun(runs, f); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
	for _, k := range kinds {
		tr := trafficOf(t, k.adv, runs+2, k.change...)
		receiver, next := wireFor(t, tr.cfg), 1
		adv := accept(t, receiver, tr.packets[0], clock) // has the room from now on
		check(k.name+": parse", func() {
			if err := receiver.parse(&adv, tr.packets[next], clock); err != nil {
				t.Fatal(err)
			}
			next++
		})
		bad := *tr.packets[0]
		for name, change := range map[string]func(){
			"old":      func() {},
			"short":    func() { bad.Data = bad.Data[:9] },
			"far":      func() { bad.TTL = 1 },
			"stranger": func() { bad.Destination = bad.Source },
		} {
			bad = *tr.packets[0]
			change()
			check(k.name+": parse "+name, func() { _ = receiver.parse(&adv, &bad, clock) })
		}
		b := make([]byte, 0, 256)
		check(k.name+": append", func() {
			if _, err := tr.wire.appendPacket(b, 100, k.adv.Source, k.adv.Destination, clock); err != nil {
				t.Fatal(err)
			}
		})
	}
	b, adv := packetOf(t, advV2).Data, Advertisement{}
	check("Parse", func() {
		if err := adv.Parse(b, host4, groupIPv4); err != nil {
			t.Fatal(err)
		}
	})
	check("AppendBinary", func() {
		if _, err := adv.AppendBinary(b[:0]); err != nil {
			t.Fatal(err)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	for _, k := range kinds {
		b.Run(k.name, func(b *testing.B) {
			tr := trafficOf(b, k.adv, 1, k.change...)
			receiver, adv := wireFor(b, tr.cfg), Advertisement{}
			b.ReportAllocs()
			for b.Loop() {
				receiver.forget()
				if err := receiver.parse(&adv, tr.packets[0], clock); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// forget makes the wire accept the same packet again.
func (w *wire) forget() {
	if w.ah != nil {
		w.ah.received = w.ah.received[:0]
	}
	if w.hmac != nil {
		w.hmac.received = w.hmac.received[:0]
	}
}

// BenchmarkDiscard is what each packet of a flood costs.
func BenchmarkDiscard(b *testing.B) {
	tests := []struct {
		name   string
		change func(*Packet)
	}{
		{"TTL", func(p *Packet) { p.TTL = 64 }},
		{"checksum", func(p *Packet) { p.Data[2]++ }},
		{"password", func(p *Packet) { p.Data[len(p.Data)-1]++; resum(p, len(p.Data)) }},
	}
	for _, tt := range tests {
		b.Run(tt.name, func(b *testing.B) {
			tr := trafficOf(b, advV2, 1, auth(AuthPass, "d0cker"))
			tt.change(tr.packets[0])
			var adv Advertisement
			b.ReportAllocs()
			for b.Loop() {
				if tr.wire.parse(&adv, tr.packets[0], clock) == nil {
					b.Fatal("accepted")
				}
			}
		})
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, k := range kinds {
		b.Run(k.name, func(b *testing.B) {
			w := wireFor(b, configFor(b, k.adv, k.change...))
			buf, now := make([]byte, 0, 256), clock
			b.ReportAllocs()
			for b.Loop() {
				now = now.Add(time.Second)
				if _, err := w.appendPacket(buf, 100, k.adv.Source, k.adv.Destination, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkGopacket is another decoder at the same message, for comparison:
// gopacket's knows version 2 only and verifies no checksum, Parse does.
func BenchmarkGopacket(b *testing.B) {
	message := packetOf(b, advV2).Data
	b.Run("gopacket VRRPv2", func(b *testing.B) {
		var v layers.VRRPv2
		b.ReportAllocs()
		for b.Loop() {
			if err := v.DecodeFromBytes(message, gopacket.NilDecodeFeedback); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Parse", func(b *testing.B) {
		var a Advertisement
		b.ReportAllocs()
		for b.Loop() {
			if err := a.Parse(message, host4, groupIPv4); err != nil {
				b.Fatal(err)
			}
		}
	})
}
