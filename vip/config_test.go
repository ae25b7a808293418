package vip

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestConfigErrors(t *testing.T) {
	one := []Address{{Prefix: prefix("192.0.2.10/24")}}
	with := func(a Address) Config { return Config{Interface: "eth0", Addresses: []Address{a}} }
	tests := map[string]struct {
		cfg  Config
		want string
	}{
		"no interface":        {Config{Addresses: one}, "no interface"},
		"negative lease":      {Config{Interface: "eth0", Addresses: one, Lease: -1}, "lease -1ns"},
		"zero address":        {with(Address{}), "not an address"},
		"multicast":           {with(Address{Prefix: prefix("224.0.0.18/32")}), "not a unicast address"},
		"unspecified":         {with(Address{Prefix: prefix("::/128")}), "not a unicast address"},
		"IPv4 in IPv6":        {with(Address{Prefix: prefix("::ffff:192.0.2.1/128")}), "IPv4 address in IPv6 form"},
		"IPv6 label":          {with(Address{Prefix: prefix("2001:db8::1/64"), Label: "x"}), "only an IPv4 address"},
		"long label":          {with(Address{Prefix: prefix("192.0.2.1/24"), Label: "eth0:0123456789a"}), "longer than 15"},
		"long interface name": {Config{Interface: "interface-with-17", Addresses: one}, "longer than 15"},
		"twice": {
			Config{Interface: "eth0", Addresses: []Address{{Prefix: prefix("192.0.2.1/24")}, {Prefix: prefix("192.0.2.1/32")}}},
			"192.0.2.1: given twice",
		},
		"short MAC": {Config{Interface: "eth0", Addresses: one, VirtualMAC: []byte{0, 1}}, "want six bytes"},
		"group MAC": {Config{Interface: "eth0", Addresses: one, VirtualMAC: []byte{1, 0, 0, 0, 0, 0}}, "not a group's"},
		"MAC alone": {Config{Addresses: []Address{{Prefix: prefix("192.0.2.1/24"), Interface: "eth0"}}, VirtualMAC: VirtualMAC(1, false)}, "needs Interface"},
		"long macvlan name": {
			Config{Interface: "eth0", Addresses: one, VirtualMAC: VirtualMAC(1, false), MacvlanName: "interface-with-17"}, "longer than 15",
		},
		"probe": {Config{Interface: "eth0", Addresses: one, Probe: time.Minute}, "probe 1m0s"},
		"route without destination": {
			Config{Interface: "eth0", Addresses: one, Routes: []Route{{}}}, "no destination",
		},
		"route with host bits": {
			Config{Interface: "eth0", Addresses: one, Routes: []Route{{Destination: prefix("10.0.0.1/8")}}}, "bits beyond",
		},
		"route with a gateway of another family": {
			Config{Interface: "eth0", Addresses: one, Routes: []Route{{Destination: prefix("10.0.0.0/8"), Gateway: netip.IPv6LinkLocalAllNodes()}}},
			"gateway is of another family",
		},
		"route with a source of another family": {
			Config{Interface: "eth0", Addresses: one, Routes: []Route{{Destination: prefix("10.0.0.0/8"), Source: netip.IPv6Loopback()}}},
			"source is of another family",
		},
		"burst":   {Config{Interface: "eth0", Addresses: one, Announce: Schedule{Burst: 101}}, "burst 101"},
		"rounds":  {Config{Interface: "eth0", Addresses: one, Announce: Schedule{Rounds: []time.Duration{2, 1}}}, "delays that grow"},
		"refresh": {Config{Interface: "eth0", Addresses: one, Announce: Schedule{Refresh: time.Millisecond}}, "refresh 1ms"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := NewManager(tt.cfg)
			if err == nil || !strings.HasPrefix(err.Error(), "vip: ") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one that says %q", err, tt.want)
			}
		})
	}
}

func TestConfigDefaults(t *testing.T) {
	caller := []Address{{Prefix: netip.PrefixFrom(netip.MustParseAddr("192.0.2.10"), 24)}}
	cfg := Config{Interface: "eth0", Addresses: caller, Lease: 2100 * time.Millisecond}
	if err := cfg.validate(); err != nil {
		t.Fatal(err)
	}
	if cfg.Name != "eth0" || cfg.Lease != 3*time.Second || cfg.Addresses[0].Interface != "eth0" || cfg.Logger == nil {
		t.Errorf("defaults: %+v", cfg)
	}
	if caller[0].Interface != "" {
		t.Error("the caller's slice was written to")
	}
}

func TestVirtualMAC(t *testing.T) {
	for _, tt := range []struct {
		vrid      uint8
		ipv6      bool
		mac, name string
	}{
		{51, false, "00:00:5e:00:01:33", "vrrp.51"},
		{255, true, "00:00:5e:00:02:ff", "vrrp6.255"},
	} {
		cfg := Config{Interface: "eth0", Addresses: []Address{{Prefix: prefix("192.0.2.10/24")}}, VirtualMAC: VirtualMAC(tt.vrid, tt.ipv6)}
		if err := cfg.validate(); err != nil {
			t.Fatal(err)
		}
		if cfg.VirtualMAC.String() != tt.mac || cfg.MacvlanName != tt.name || cfg.Addresses[0].Interface != tt.name {
			t.Errorf("VRID %d: %v on %s, want %s on %s", tt.vrid, cfg.VirtualMAC, cfg.Addresses[0].Interface, tt.mac, tt.name)
		}
	}
}

func TestParseAddress(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.10":      "192.0.2.10/32",
		"192.0.2.10/24":   "192.0.2.10/24",
		"2001:db8::1":     "2001:db8::1/128",
		"2001:db8::1/64":  "2001:db8::1/64",
		"192.0.2.10/33":   "",
		"192.0.2":         "",
		"":                "",
		"192.0.2.10 /24":  "",
		"192.0.2.10/24 x": "",
	} {
		got, err := ParseAddress(in)
		if want == "" {
			if err == nil {
				t.Errorf("ParseAddress(%q) = %v, want an error", in, got.Prefix)
			}
		} else if err != nil || got.Prefix.String() != want {
			t.Errorf("ParseAddress(%q) = %v, %v; want %s", in, got.Prefix, err, want)
		}
	}
}

// A lease that lapses only after a peer may have taken over would let the
// address be held twice; the kernel cannot do less than a second.
func TestLeaseFor(t *testing.T) {
	for _, tt := range []struct {
		interval  time.Duration
		intervals int
		want      time.Duration
	}{
		{10 * time.Millisecond, 3, time.Second},
		{100 * time.Millisecond, 3, time.Second},
		{500 * time.Millisecond, 3, time.Second},
		{time.Second, 3, 3 * time.Second},
		{1500 * time.Millisecond, 3, 4 * time.Second},
		{255 * time.Second, 3, 765 * time.Second},
		{time.Second, 2, 2 * time.Second},
		{time.Second, 1, time.Second},
		{100 * time.Millisecond, 25, 2 * time.Second},
	} {
		if got := LeaseFor(tt.interval, tt.intervals); got != tt.want {
			t.Errorf("LeaseFor(%v, %d) = %v, want %v", tt.interval, tt.intervals, got, tt.want)
		}
	}
}
