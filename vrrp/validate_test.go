package vrrp

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/field"
)

// withIPv4 and the like are starting points for one change.
func withIPv4() Config {
	return Config{Name: "VI_1", VRID: 51, Addresses: addrs("192.0.2.1")}
}

func withIPv6() Config {
	return Config{Name: "VI_1", VRID: 51, Addresses: addrs("fe80::1", "2001:db8::1")}
}

func withPass() Config {
	c := withIPv4()
	c.Version = 2
	c.Auth = Auth{Type: AuthPass, Password: "d0cker"}
	return c
}

func withHMAC() Config {
	c := withIPv4()
	c.Auth = Auth{Type: AuthHMAC, HMAC: HMACConfig{Keys: []Key{
		{ID: 7, Secret: make([]byte, 32)}, {ID: 9, Secret: make([]byte, 64)},
	}}}
	return c
}

// validateCase is one Config. err is empty if it is valid, or the errors with
// "; " between them.
type validateCase struct {
	base func() Config
	set  func(*Config)
	err  string
}

// validateCases account for every field: its limits, and what it excludes.
var validateCases = map[string][]validateCase{
	"Config.Name":      {{withIPv4, func(c *Config) {}, ""}},
	"Config.NoOverlap": {{withIPv4, func(c *Config) { c.NoOverlap = true }, ""}},
	"Config.VRID": {
		{withIPv4, func(c *Config) { c.VRID = 0 }, "VRID: 0: want 1 to 255"},
		{withIPv4, func(c *Config) { c.VRID = 255 }, ""},
	},
	"Config.Version": {
		{withIPv4, func(c *Config) { c.Version = 2 }, ""},
		{withIPv4, func(c *Config) { c.Version = 1 }, "Version: 1: want 2 or 3"},
		{withIPv4, func(c *Config) { c.Version = 4 }, "Version: 4: want 2 or 3"},
		{withIPv6, func(c *Config) { c.Version = 2 }, "Version: 2: want 3 for IPv6"},
	},
	"Config.Priority": {{withIPv4, func(c *Config) { c.Priority = 255 }, ""}},
	"Config.Interval": {
		{withIPv4, func(c *Config) { c.Interval = 10 * time.Millisecond }, ""},
		{withIPv4, func(c *Config) { c.Interval = 40950 * time.Millisecond }, ""},
		{withIPv4, func(c *Config) { c.Interval = 40960 * time.Millisecond }, "Interval: 40.96s: want 10ms to 40.95s in steps of 10ms"},
		{withIPv4, func(c *Config) { c.Interval = 15 * time.Millisecond }, "Interval: 15ms: want 10ms to 40.95s in steps of 10ms"},
		{withIPv4, func(c *Config) { c.Interval = -time.Second }, "Interval: -1s: want 10ms to 40.95s in steps of 10ms"},
		{withPass, func(c *Config) { c.Interval = 255 * time.Second }, ""},
		{withPass, func(c *Config) { c.Interval = 256 * time.Second }, "Interval: 4m16s: want 1s to 255s in whole seconds, or version 3"},
		{withPass, func(c *Config) { c.Interval = 1500 * time.Millisecond }, "Interval: 1.5s: want 1s to 255s in whole seconds, or version 3"},
	},
	"Config.NoPreempt": {{withIPv4, func(c *Config) { c.NoPreempt = true }, ""}},
	"Config.PreemptDelay": {
		{withIPv4, func(c *Config) { c.PreemptDelay = time.Hour }, ""},
		{withIPv4, func(c *Config) { c.PreemptDelay = -1 }, "PreemptDelay: -1ns: want 0s to 1h"},
		{withIPv4, func(c *Config) { c.PreemptDelay = 2 * time.Hour }, "PreemptDelay: 2h: want 0s to 1h"},
		{withIPv4, func(c *Config) { c.PreemptDelay, c.NoPreempt = 1e9, true }, "PreemptDelay: 1s: want 0 for a router that does not preempt"},
		{withIPv4, func(c *Config) { c.PreemptDelay, c.Priority = 1e9, 255 }, "PreemptDelay: 1s: want 0 with priority 255, which preempts at once"},
	},
	"Config.StartDelay": {
		{withIPv4, func(c *Config) { c.StartDelay = time.Hour }, ""},
		{withIPv4, func(c *Config) { c.StartDelay = -1 }, "StartDelay: -1ns: want 0s to 1h"},
		{withIPv4, func(c *Config) { c.StartDelay = 2 * time.Hour }, "StartDelay: 2h: want 0s to 1h"},
	},
	"Config.DownMultiplier": {
		{withIPv4, func(c *Config) { c.DownMultiplier = 1 }, ""},
		{withIPv4, func(c *Config) { c.DownMultiplier = 255 }, ""},
		{withIPv4, func(c *Config) { c.DownMultiplier = 256 }, "DownMultiplier: 256: want 1 to 255"},
		{withIPv4, func(c *Config) { c.DownMultiplier = -1 }, "DownMultiplier: -1: want 1 to 255"},
	},
	"Config.Addresses": {
		{withIPv4, func(c *Config) { c.Addresses = nil }, ""},
		{withIPv4, func(c *Config) { c.Addresses = slices.Repeat(c.Addresses, 256) }, "Addresses: 256 addresses: want up to 255"},
		{withIPv4, func(c *Config) { c.Addresses = addrs("192.0.2.1", "fe80::1") }, "Addresses[1]: fe80::1: want IPv4, the family of this router: IPv6 needs a router of its own"},
		{withIPv6, func(c *Config) { c.Addresses = addrs("fe80::1", "192.0.2.1") }, "Addresses[1]: 192.0.2.1: want IPv6, the family of this router: IPv4 needs a router of its own"},
		{withIPv4, func(c *Config) { c.Addresses = addrs("192.0.2.1", "192.0.2.1") }, "Addresses[1]: 192.0.2.1: want each address once"},
		{withIPv4, func(c *Config) { c.Addresses = addrs("0.0.0.0") }, "Addresses[0]: 0.0.0.0: want the address of a host"},
		{withIPv4, func(c *Config) { c.Addresses = addrs("224.0.0.18") }, "Addresses[0]: 224.0.0.18: want the address of a host"},
		{withIPv4, func(c *Config) { c.Addresses = addrs("255.255.255.255") }, "Addresses[0]: 255.255.255.255: want the address of a host"},
		{withIPv4, func(c *Config) { c.Addresses = addrs("::ffff:192.0.2.1") }, "Addresses[0]: ::ffff:192.0.2.1: want 192.0.2.1"},
		{withIPv4, func(c *Config) { c.Addresses = make([]netip.Addr, 1) }, "Addresses[0]: missing: want an address"},
		{withIPv6, func(c *Config) { c.Addresses = addrs("fe80::1%eth0") }, "Addresses[0]: fe80::1%eth0: want no zone: the Conn has the interface"},
		{withIPv6, func(c *Config) { c.Addresses = addrs("2001:db8::1", "fe80::1") }, "Addresses[0]: 2001:db8::1: want a link-local address before the others, such as fe80::51"},
	},
	"Config.IPv6": {
		{withIPv6, func(c *Config) { c.IPv6 = true }, ""},
		{withIPv4, func(c *Config) { c.IPv6 = true }, "IPv6: true: want false with addresses of IPv4"},
		{withIPv4, func(c *Config) { c.Addresses, c.IPv6 = nil, true }, ""},
		{withIPv4, func(c *Config) { c.Addresses, c.IPv6, c.Version = nil, true, 2 }, "Version: 2: want 3 for IPv6"},
		{withIPv4, func(c *Config) { c.Addresses, c.IPv6, c.Peers = nil, true, addrs("192.0.2.1") }, "IPv6: true: want false with addresses of IPv4"},
		{withIPv4, func(c *Config) { c.Addresses, c.Peers, c.Source = nil, addrs("fe80::2"), addrs("fe80::1")[0] }, ""},
		{withIPv4, func(c *Config) { c.Addresses, c.Peers = nil, addrs("fe80::2", "192.0.2.1") },
			"Peers[1]: 192.0.2.1: want IPv6, the family of this router: IPv4 needs a router of its own"},
	},
	"Config.Source": {
		{withIPv4, func(c *Config) { c.Source = addrs("192.0.2.10")[0] }, ""},
		{withIPv4, func(c *Config) { c.Source = addrs("fe80::1")[0] }, "Source: fe80::1: want IPv4, the family of this router: IPv6 needs a router of its own"},
		{withIPv6, func(c *Config) { c.Source = addrs("fe80::2")[0] }, ""},
		{withIPv6, func(c *Config) { c.Source = addrs("2001:db8::2")[0] }, "Source: 2001:db8::2: want a link-local address, fe80::/10, for multicast"},
		{withIPv6, func(c *Config) { c.Source, c.Peers = addrs("2001:db8::2")[0], addrs("2001:db8::3") }, ""},
		{withIPv4, func(c *Config) { c.Source = c.Addresses[0] }, "Source: 192.0.2.1: want the host's own address, not a virtual one"},
		{withIPv4, func(c *Config) { c.Source, c.Priority = c.Addresses[0], 255 }, ""},
	},
	"Config.Peers": {
		{withIPv4, func(c *Config) { c.Peers = addrs("192.0.2.11", "192.0.2.12") }, ""},
		{withIPv4, func(c *Config) { c.Peers = addrs("192.0.2.11", "192.0.2.11") }, "Peers[1]: 192.0.2.11: want each address once"},
		{withIPv4, func(c *Config) { c.Peers = addrs("fe80::2") }, "Peers[0]: fe80::2: want IPv4, the family of this router: IPv6 needs a router of its own"},
		{withIPv4, func(c *Config) { c.Source, c.Peers = addrs("192.0.2.11")[0], addrs("192.0.2.11") }, "Peers[0]: 192.0.2.11: want only the other routers: this one has that source"},
		{withIPv4, func(c *Config) { c.Peers = addrs("192.0.2.11", "192.0.2.1") }, "Peers[1]: 192.0.2.1: want the other router's own address, not a virtual one"},
		{withIPv4, func(c *Config) { c.Peers, c.Priority = addrs("192.0.2.11", "192.0.2.1"), 255 }, ""},
	},
	"Config.TTL": {
		{withIPv4, func(c *Config) { c.TTL = 64 }, "TTL: 64: want 255, or peers: multicast always uses 255"},
		{withIPv4, func(c *Config) { c.TTL, c.Peers = 64, addrs("192.0.2.11") }, ""},
	},
	"Config.MinTTL": {
		{withIPv4, func(c *Config) { c.MinTTL = 254 }, "MinTTL: 254: want 0, or peers: multicast always uses 255"},
		{withIPv4, func(c *Config) { c.MinTTL, c.Peers = 254, addrs("192.0.2.11") }, ""},
	},
	"Config.MaxTTL": {
		{withIPv4, func(c *Config) { c.MaxTTL = 64 }, "MaxTTL: 64: want 255, or peers: multicast always uses 255"},
		{withIPv4, func(c *Config) { c.MinTTL, c.MaxTTL, c.Peers = 65, 64, addrs("192.0.2.11") }, "MinTTL: 65: want at most MaxTTL, 64"},
		{withIPv4, func(c *Config) { c.MinTTL, c.MaxTTL, c.Peers = 64, 64, addrs("192.0.2.11") }, ""},
	},
	"Config.VirtualMAC": {
		{withIPv4, func(c *Config) { c.VirtualMAC = true }, ""},
		{withIPv6, func(c *Config) { c.VirtualMAC = true }, ""},
		{withIPv4, func(c *Config) { c.VirtualMAC, c.Peers = true, addrs("192.0.2.11") },
			"VirtualMAC: true: want false with peers: unicast leaves from the interface's own address"},
	},
	"Config.Checksum": {
		{withIPv4, func(c *Config) { c.Checksum = ChecksumMessage }, ""},
		{withIPv4, func(c *Config) { c.Checksum, c.Peers = ChecksumOldUnicast, addrs("192.0.2.11") }, ""},
		{withIPv4, func(c *Config) { c.Checksum = ChecksumOldUnicast },
			"Checksum: old-unicast: want pseudo-header, or peers: multicast has no such form"},
		{withIPv4, func(c *Config) { c.Checksum = 3 }, "Checksum: ChecksumForm(3): want pseudo-header, message-only or old-unicast"},
		{withIPv6, func(c *Config) { c.Checksum = ChecksumMessage }, "Checksum: message-only: want pseudo-header: only version 3 over IPv4 has a choice"},
		{withPass, func(c *Config) { c.Checksum = ChecksumMessage }, "Checksum: message-only: want pseudo-header: only version 3 over IPv4 has a choice"},
	},
	"Config.Auth":  {{withPass, func(c *Config) {}, ""}, {withHMAC, func(c *Config) {}, ""}},
	"Config.Group": {{withIPv4, func(c *Config) { c.Group = NewGroup("G") }, ""}},
	"Config.OnTransition": {
		{withIPv4, func(c *Config) { c.OnTransition = func(Transition) {} }, ""},
	},
	"Config.Logger": {{withIPv4, func(c *Config) { c.Logger = nil }, ""}},

	"Auth.Type": {
		{withIPv4, func(c *Config) { c.Auth.Type = 4 }, "Auth.Type: AuthType(4): want none, pass, ah or hmac"},
		{withPass, func(c *Config) { c.Auth.Type = AuthAH }, ""},
		{withPass, func(c *Config) { c.Version = 3 }, "Auth.Type: pass: want hmac, or version 2: version 3 has no passwords"},
		{withPass, func(c *Config) { c.Auth.Type, c.Version = AuthAH, 3 }, "Auth.Type: ah: want hmac, or version 2: version 3 has no passwords"},
	},
	"Auth.Password": {
		{withPass, func(c *Config) { c.Auth.Password = "" }, "Auth.Password: missing: want a password"},
		{withPass, func(c *Config) { c.Auth.Password = "longpassword" }, ""},
		{withIPv4, func(c *Config) { c.Auth.Password = "x" }, "Auth.Password: given: want none with type none"},
		{withHMAC, func(c *Config) { c.Auth.Password = "x" }, "Auth.Password: given: want none with type hmac"},
	},
	"Auth.HMAC": {
		{withPass, func(c *Config) { c.Auth.HMAC.Window = 1e9 }, "Auth.HMAC: given: want nothing with type pass"},
	},
	"HMACConfig.Keys": {
		{withHMAC, func(c *Config) { c.Auth.HMAC.Keys = nil }, "Auth.HMAC.Keys: missing: want at least one key"},
		{withHMAC, func(c *Config) { c.Auth.HMAC.Keys[1].ID = 7 }, "Auth.HMAC.Keys[1].ID: 7: want an ID that differs from that of key 0"},
	},
	"HMACConfig.ActiveKey": {
		{withHMAC, func(c *Config) { c.Auth.HMAC.ActiveKey = 9 }, ""},
		{withHMAC, func(c *Config) { c.Auth.HMAC.ActiveKey = 8 }, "Auth.HMAC.ActiveKey: 8: want the ID of one of the keys"},
	},
	"HMACConfig.Mode": {
		{withHMAC, func(c *Config) { c.Auth.HMAC.Mode = HMACReceiveOnly }, ""},
		{withHMAC, func(c *Config) { c.Auth.HMAC.Mode = 3 }, "Auth.HMAC.Mode: HMACMode(3): want enforce, permissive or receive-only"},
	},
	"HMACConfig.Replay": {
		{withHMAC, func(c *Config) { c.Auth.HMAC.Replay = ReplayMonotonic }, ""},
		{withHMAC, func(c *Config) { c.Auth.HMAC.Replay = 2 }, "Auth.HMAC.Replay: ReplayMode(2): want time or monotonic"},
	},
	"HMACConfig.Window": {
		{withHMAC, func(c *Config) { c.Auth.HMAC.Window = time.Second }, ""},
		{withHMAC, func(c *Config) { c.Auth.HMAC.Window = 300 * time.Second }, ""},
		{withHMAC, func(c *Config) { c.Auth.HMAC.Window = time.Second - 1 }, "Auth.HMAC.Window: 999.999999ms: want 1s to 5m"},
		{withHMAC, func(c *Config) { c.Auth.HMAC.Window = 301 * time.Second }, "Auth.HMAC.Window: 5m1s: want 1s to 5m"},
	},
	"Key.ID": {
		{withHMAC, func(c *Config) { c.Auth.HMAC.Keys[1].ID = 0 }, "Auth.HMAC.Keys[1].ID: 0: want 1 to 255"},
	},
	"Key.Secret": {
		{withHMAC, func(c *Config) { c.Auth.HMAC.Keys[1].Secret = make([]byte, 31) }, "Auth.HMAC.Keys[1].Secret: 31 bytes: want 32 to 64 bytes"},
		{withHMAC, func(c *Config) { c.Auth.HMAC.Keys[1].Secret = make([]byte, 65) }, "Auth.HMAC.Keys[1].Secret: 65 bytes: want 32 to 64 bytes"},
	},
}

func TestValidate(t *testing.T) {
	for name, cases := range validateCases {
		for _, test := range cases {
			c := test.base()
			test.set(&c)
			before := fmt.Sprintf("%#v", c)
			got := ""
			if err := c.Validate(); err != nil {
				got = strings.ReplaceAll(err.Error(), "\n", "; ")
			}
			if got != test.err {
				t.Errorf("%s:\n got %q\nwant %q", name, got, test.err)
			}
			if after := fmt.Sprintf("%#v", c); after != before {
				t.Errorf("%s: validating changed\n%s to\n%s", name, before, after)
			}
			for _, e := range field.All(c.Validate()) {
				if own := strings.TrimPrefix(name[strings.Index(name, ".")+1:], "HMAC."); e.Field == "" || strings.Contains(e.Err.Error(), own+" ") {
					t.Errorf("%s: field %q, error %q: want a field, and its name nowhere else", name, e.Field, e.Err)
				}
			}
			if got != "" {
				continue
			}
			full := c.WithDefaults()
			again := full.WithDefaults()
			c.OnTransition, full.OnTransition, again.OnTransition = nil, nil, nil // funcs are never equal
			if !reflect.DeepEqual(full, again) || full.Validate() != nil {
				t.Errorf("%s: defaults twice changed\n%+v to\n%+v, or are not valid: %v", name, full, again, full.Validate())
			}
		}
	}
}

// All faults are reported at once, each with its field.
func TestValidateReportsAllFaults(t *testing.T) {
	c := Config{Version: 2, Interval: time.Millisecond, TTL: 64, Addresses: addrs("192.0.2.1", "fe80::1"), Peers: nil,
		Auth: Auth{Type: AuthHMAC, HMAC: HMACConfig{Keys: []Key{{ID: 1}, {ID: 1, Secret: make([]byte, 32)}}}}}
	_, err := NewMachine(c)
	var got []string
	for _, e := range field.All(err) {
		got = append(got, e.Field)
	}
	want := []string{"VRID", "Interval", "Addresses[1]", "TTL", "Auth.HMAC.Keys[0].Secret", "Auth.HMAC.Keys[1].ID"}
	if !slices.Equal(got, want) || !strings.HasPrefix(fmt.Sprint(err), "vrrp: 0/IPv4: ") {
		t.Errorf("fields %q, want %q, of %v", got, want, err)
	}
}

// A new field must say above what it may be.
func TestValidateKnowsEveryField(t *testing.T) {
	known := make(map[string]bool)
	for _, typ := range []reflect.Type{
		reflect.TypeFor[Config](), reflect.TypeFor[Auth](), reflect.TypeFor[HMACConfig](), reflect.TypeFor[Key](),
	} {
		for f := range typ.Fields() {
			name := typ.Name() + "." + f.Name
			known[name] = true
			if len(validateCases[name]) == 0 {
				t.Errorf("no case in validateCases for %s", name)
			}
		}
	}
	for name := range validateCases {
		if !known[name] {
			t.Errorf("validateCases has %s, which does not exist", name)
		}
	}
}

func TestValidateDefaults(t *testing.T) {
	c, err := Config{VRID: 51, Addresses: addrs("192.0.2.1")}.complete()
	if err != nil {
		t.Fatal(err)
	}
	if c.Logger == nil {
		t.Error("Logger is nil")
	}
	c.Logger = nil
	want := Config{
		Name: "51/IPv4", VRID: 51, Version: 3, Priority: 100, Interval: time.Second,
		DownMultiplier: 3, Addresses: addrs("192.0.2.1"), TTL: 255, MaxTTL: 255,
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}

	six := withIPv6()
	six.Name = ""
	if six = six.WithDefaults(); six.Name != "51/IPv6" || !six.IPv6 {
		t.Errorf("name %q, IPv6 %v", six.Name, six.IPv6)
	}

	for interval, want := range map[time.Duration]time.Duration{
		time.Second: 5 * time.Second, 10 * time.Second: 30 * time.Second, 255 * time.Second: 300 * time.Second,
	} {
		h := withHMAC()
		h.Version, h.Interval = 2, interval
		if got := h.WithDefaults().Auth.HMAC; got.Window != want || got.ActiveKey != 7 {
			t.Errorf("interval %v: window %v and key %d, want %v and 7", interval, got.Window, got.ActiveKey, want)
		}
	}
}

// What the caller changes later does not reach into a Router's Config.
func TestCompleteCopies(t *testing.T) {
	c := withHMAC()
	c.Peers = addrs("192.0.2.11")
	mine := c
	c, err := c.complete()
	if err != nil {
		t.Fatal(err)
	}
	mine.Addresses[0], mine.Peers[0] = netip.Addr{}, netip.Addr{}
	mine.Auth.HMAC.Keys[1].Secret[0]++
	mine.Auth.HMAC.Keys[0].ID++
	if !c.Addresses[0].IsValid() || !c.Peers[0].IsValid() || c.Auth.HMAC.Keys[1].Secret[0] != 0 || c.Auth.HMAC.Keys[0].ID != 7 {
		t.Errorf("changed from outside: %+v", c)
	}
}

func TestValidateNeedsNoName(t *testing.T) {
	_, err := NewMachine(Config{Addresses: addrs("192.0.2.1")})
	if err == nil || !strings.HasPrefix(err.Error(), "vrrp: 0/IPv4: VRID: 0: ") {
		t.Errorf("got %v", err)
	}
}
