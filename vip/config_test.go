package vip

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/havip/havip/internal/field"
)

func TestConfigErrors(t *testing.T) {
	one := []Address{{Prefix: prefix("192.0.2.10/24")}}
	with := func(a Address) Config { return Config{Interface: "eth0", Addresses: []Address{a}} }
	tests := map[string]struct {
		cfg  Config
		want string
	}{
		"no interface":         {Config{Addresses: one}, "no interface"},
		"fraction of a second": {Config{Interface: "eth0", Addresses: one, Lease: time.Second + 1}, "Lease: 1.000000001s: want whole seconds"},
		"endless lease":        {Config{Interface: "eth0", Addresses: one, Lease: 2 * time.Hour}, "Lease: 2h: want whole seconds, up to 1h"},
		"zero address":         {with(Address{}), "not an address"},
		"multicast":            {with(Address{Prefix: prefix("224.0.0.18/32")}), "want a unicast address"},
		"unspecified":          {with(Address{Prefix: prefix("::/128")}), "want a unicast address"},
		"IPv4 in IPv6":         {with(Address{Prefix: prefix("::ffff:192.0.2.1/128")}), "IPv4 address in IPv6 form"},
		"IPv6 label":           {with(Address{Prefix: prefix("2001:db8::1/64"), Label: "x"}), `Addresses[0].Label: "x": want none: only an IPv4 address`},
		"long label":           {with(Address{Prefix: prefix("192.0.2.1/24"), Label: "eth0:0123456789a"}), "label of up to 15"},
		"long interface name":  {Config{Interface: "interface-with-17", Addresses: one}, "up to 15"},
		"twice": {
			Config{Interface: "eth0", Addresses: []Address{{Prefix: prefix("192.0.2.1/24")}, {Prefix: prefix("192.0.2.1/32")}}},
			"192.0.2.1: given twice",
		},
		"short MAC": {Config{Interface: "eth0", Addresses: one, VirtualMAC: []byte{0, 1}}, "want six bytes"},
		"group MAC": {Config{Interface: "eth0", Addresses: one, VirtualMAC: []byte{1, 0, 0, 0, 0, 0}}, "not a group's"},
		"MAC alone": {Config{Addresses: []Address{{Prefix: prefix("192.0.2.1/24"), Interface: "eth0"}}, VirtualMAC: VirtualMAC(1, false)}, "Interface: no interface"},
		"long macvlan name": {
			Config{Interface: "eth0", Addresses: one, VirtualMAC: VirtualMAC(1, false), MacvlanName: "interface-with-17"}, "up to 15",
		},
		"probe": {Config{Interface: "eth0", Addresses: one, Probe: time.Minute}, "Probe: 1m:"},
		"route without destination": {
			Config{Interface: "eth0", Addresses: one, Routes: []Route{{}}}, "no destination",
		},
		"route with host bits": {
			Config{Interface: "eth0", Addresses: one, Routes: []Route{{Destination: prefix("10.0.0.1/8")}}}, "bits beyond",
		},
		"route with a gateway of another family": {
			Config{Interface: "eth0", Addresses: one, Routes: []Route{{Destination: prefix("10.0.0.0/8"), Gateway: netip.MustParseAddr("fe80::1")}}},
			"Routes[0].Gateway: fe80::1: of another family",
		},
		"route with a source of another family": {
			Config{Interface: "eth0", Addresses: one, Routes: []Route{{Destination: prefix("10.0.0.0/8"), Source: netip.IPv6Loopback()}}},
			"Routes[0].Source: ::1: of another family",
		},
		"burst":   {Config{Interface: "eth0", Addresses: one, Announce: Schedule{Burst: 101}}, "Announce.Burst: 101"},
		"rounds":  {Config{Interface: "eth0", Addresses: one, Announce: Schedule{Rounds: []time.Duration{2, 1}}}, "Announce.Rounds: [2ns 1ns]: want delays that grow"},
		"refresh": {Config{Interface: "eth0", Addresses: one, Announce: Schedule{Refresh: time.Millisecond}}, "Announce.Refresh: 1ms"},
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

// TestValidateAllAtOnce: each fault is one error that names its field, that of an
// interface which addresses and routes have by default too, and looking at a
// configuration leaves it as it was.
func TestValidateAllAtOnce(t *testing.T) {
	cfg := Config{
		Interface: "eth0/1", MacvlanName: "vrrp.51", Owner: true, NoAccept: true, Takeover: true, Lease: 1500 * time.Millisecond, Probe: -1,
		Addresses: []Address{
			{Prefix: prefix("192.0.2.1/24"), Label: "a b", Scope: 7},
			{Prefix: prefix("192.0.2.1/32")},
			{Prefix: prefix("2001:db8::1/64"), Label: "x", Scope: ScopeLink, Interface: ".."},
		},
		Routes: []Route{
			{Destination: prefix("10.0.0.0/8"), Gateway: netip.IPv6LinkLocalAllNodes(), Source: netip.IPv6Loopback(), Interface: "a:b"},
			{Destination: prefix("10.0.0.1/8")},
		},
		Announce: Schedule{Rounds: []time.Duration{-1}, Burst: -1, Refresh: -1},
	}
	want := []string{
		"Interface", "MacvlanName", "NoAccept", "Takeover", "Lease", "Probe",
		"Addresses[0].Label", "Addresses[0].Scope", "Addresses[1].Prefix",
		"Addresses[2].Interface", "Addresses[2].Label", "Addresses[2].Scope",
		"Routes[0].Gateway", "Routes[0].Source", "Routes[0].Interface", "Routes[1].Destination",
		"Announce.Rounds", "Announce.Burst", "Announce.Refresh",
	}
	before := cfg.Addresses[0]
	for range 2 {
		var got []string
		for _, e := range field.All(cfg.Validate()) {
			got = append(got, e.Field)
			if name := e.Field[strings.LastIndex(e.Field, ".")+1:]; strings.HasPrefix(e.Err.Error(), name) || !strings.Contains(e.Err.Error(), "want ") {
				t.Errorf("%s: %q, want the value and what is wanted", e.Field, e.Err)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("fields (-want +got):\n%s", diff)
		}
	}
	if cfg.Addresses[0] != before || cfg.Name != "" {
		t.Errorf("Validate has changed the configuration: %+v", cfg)
	}
	if _, err := NewManager(cfg); !errors.As(err, new(*FieldError)) {
		t.Errorf("NewManager: %v, want an error of a field", err)
	}
	// A configuration without addresses is for a leader that holds none.
	for _, cfg := range []Config{{}, {Interface: "eth0"}, {VirtualMAC: VirtualMAC(51, false), Interface: "eth0"}} {
		if err := cfg.Validate(); err != nil {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}

func TestScopeText(t *testing.T) {
	for scope, word := range map[Scope]string{ScopeGlobal: "global", ScopeSite: "site", ScopeLink: "link", ScopeHost: "host"} {
		var back Scope
		text, err := scope.MarshalText()
		if err != nil || string(text) != word || scope.String() != word || back.UnmarshalText(text) != nil || back != scope {
			t.Errorf("scope %d: %q, %v, %v back", scope, text, err, back)
		}
	}
	if got := Scope(7).String(); got != "Scope(7)" {
		t.Errorf("scope 7 has the word %q", got)
	}
	var s Scope
	for _, word := range []string{"", "Global", "Scope(7)"} {
		if err := s.UnmarshalText([]byte(word)); err == nil {
			t.Errorf("%q is a scope: %d", word, s)
		}
	}
}

func TestConfigDefaults(t *testing.T) {
	caller := []Address{{Prefix: netip.PrefixFrom(netip.MustParseAddr("192.0.2.10"), 24)}}
	cfg := Config{Interface: "eth0", Addresses: caller, Routes: []Route{{Destination: prefix("0.0.0.0/0")}}}
	got := cfg.WithDefaults()
	if got.Name != "eth0" || got.Addresses[0].Interface != "eth0" || got.Routes[0].Interface != "eth0" || got.Routes[0].Table != 254 ||
		got.Lease != 3*time.Second || got.Announce.Burst != 3 || len(got.Announce.Rounds) != 3 {
		t.Errorf("defaults: %+v", got)
	}
	if got := (Config{Lease: -time.Hour}).WithDefaults(); got.Lease >= 0 || got.lifetime() != 0 {
		t.Errorf("a negative lease becomes %v", got.Lease)
	}
	if again := got.WithDefaults(); !reflect.DeepEqual(again, got) {
		t.Errorf("defaults of defaults: %+v, want %+v", again, got)
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
		cfg = cfg.WithDefaults()
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
		{255 * time.Second, 255, time.Hour},
		{100 * time.Millisecond, 25, 2 * time.Second},
	} {
		if got := LeaseFor(tt.interval, tt.intervals); got != tt.want {
			t.Errorf("LeaseFor(%v, %d) = %v, want %v", tt.interval, tt.intervals, got, tt.want)
		}
	}
}
