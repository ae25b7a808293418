package vrrp

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
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

// validateCase is one Config. err is empty if it is valid, or the error
// without "vrrp: VI_1: ".
type validateCase struct {
	base func() Config
	set  func(*Config)
	err  string
}

// validateCases account for every field: its limits, and what it excludes.
var validateCases = map[string][]validateCase{
	"Config.Name": {{withIPv4, func(c *Config) {}, ""}},
	"Config.VRID": {
		{withIPv4, func(c *Config) { c.VRID = 0 }, "VRID 0: want 1 to 255"},
		{withIPv4, func(c *Config) { c.VRID = 255 }, ""},
	},
	"Config.Version": {
		{withIPv4, func(c *Config) { c.Version = 2 }, ""},
		{withIPv4, func(c *Config) { c.Version = 1 }, "version 1: want 2 or 3"},
		{withIPv4, func(c *Config) { c.Version = 4 }, "version 4: want 2 or 3"},
		{withIPv6, func(c *Config) { c.Version = 2 }, "version 2 with IPv6 addresses: use version 3"},
	},
	"Config.Priority": {{withIPv4, func(c *Config) { c.Priority = 255 }, ""}},
	"Config.Interval": {
		{withIPv4, func(c *Config) { c.Interval = 10 * time.Millisecond }, ""},
		{withIPv4, func(c *Config) { c.Interval = 40950 * time.Millisecond }, ""},
		{withIPv4, func(c *Config) { c.Interval = 40960 * time.Millisecond }, "interval 40.96s: version 3 wants 10ms to 40.95s in steps of 10ms"},
		{withIPv4, func(c *Config) { c.Interval = 15 * time.Millisecond }, "interval 15ms: version 3 wants 10ms to 40.95s in steps of 10ms"},
		{withIPv4, func(c *Config) { c.Interval = -time.Second }, "interval -1s: version 3 wants 10ms to 40.95s in steps of 10ms"},
		{withPass, func(c *Config) { c.Interval = 255 * time.Second }, ""},
		{withPass, func(c *Config) { c.Interval = 256 * time.Second }, "interval 4m16s: version 2 wants 1s to 255s in whole seconds"},
		{withPass, func(c *Config) { c.Interval = 1500 * time.Millisecond }, "interval 1.5s: version 2 wants 1s to 255s in whole seconds"},
	},
	"Config.NoPreempt": {{withIPv4, func(c *Config) { c.NoPreempt = true }, ""}},
	"Config.PreemptDelay": {
		{withIPv4, func(c *Config) { c.PreemptDelay = time.Hour }, ""},
		{withIPv4, func(c *Config) { c.PreemptDelay = -1 }, "preempt delay -1ns: want 0 or more"},
		{withIPv4, func(c *Config) { c.PreemptDelay, c.NoPreempt = 1e9, true }, "preempt delay 1s with NoPreempt, which never preempts: set only one of them"},
	},
	"Config.StartDelay": {
		{withIPv4, func(c *Config) { c.StartDelay = time.Hour }, ""},
		{withIPv4, func(c *Config) { c.StartDelay = -1 }, "start delay -1ns: want 0 or more"},
	},
	"Config.DownMultiplier": {
		{withIPv4, func(c *Config) { c.DownMultiplier = 1 }, ""},
		{withIPv4, func(c *Config) { c.DownMultiplier = 255 }, ""},
		{withIPv4, func(c *Config) { c.DownMultiplier = 256 }, "down multiplier 256: want 1 to 255"},
		{withIPv4, func(c *Config) { c.DownMultiplier = -1 }, "down multiplier -1: want 1 to 255"},
	},
	"Config.Addresses": {
		{withIPv4, func(c *Config) { c.Addresses = nil }, ""},
		{withIPv4, func(c *Config) { c.Addresses = slices.Repeat(c.Addresses, 256) }, "256 addresses: want up to 255"},
		{withIPv4, func(c *Config) { c.Addresses = addrs("192.0.2.1", "fe80::1") }, "addresses: fe80::1 is not an IPv4 address: one router serves one family, run a second one for the other"},
		{withIPv6, func(c *Config) { c.Addresses = addrs("fe80::1", "192.0.2.1") }, "addresses: 192.0.2.1 is not an IPv6 address: one router serves one family, run a second one for the other"},
		{withIPv4, func(c *Config) { c.Addresses = addrs("192.0.2.1", "192.0.2.1") }, "addresses: 192.0.2.1 is there twice"},
		{withIPv4, func(c *Config) { c.Addresses = addrs("0.0.0.0") }, "addresses: 0.0.0.0: want the address of a host"},
		{withIPv4, func(c *Config) { c.Addresses = addrs("224.0.0.18") }, "addresses: 224.0.0.18: want the address of a host"},
		{withIPv4, func(c *Config) { c.Addresses = addrs("255.255.255.255") }, "addresses: 255.255.255.255: want the address of a host"},
		{withIPv4, func(c *Config) { c.Addresses = addrs("::ffff:192.0.2.1") }, "addresses: ::ffff:192.0.2.1: write it as 192.0.2.1"},
		{withIPv4, func(c *Config) { c.Addresses = make([]netip.Addr, 1) }, "addresses: the zero Addr is no address"},
		{withIPv6, func(c *Config) { c.Addresses = addrs("fe80::1%eth0") }, "addresses: fe80::1%eth0: leave out the zone, the Conn has the interface"},
		{withIPv6, func(c *Config) { c.Addresses = addrs("2001:db8::1", "fe80::1") }, "addresses: the first is 2001:db8::1: put a link-local address (fe80::/10) first (RFC 9568 §5.2.9)"},
	},
	"Config.IPv6": {
		{withIPv6, func(c *Config) { c.IPv6 = true }, ""},
		{withIPv4, func(c *Config) { c.IPv6 = true }, "IPv6 with addresses of IPv4: leave it out"},
		{withIPv4, func(c *Config) { c.Addresses, c.IPv6 = nil, true }, ""},
		{withIPv4, func(c *Config) { c.Addresses, c.IPv6, c.Version = nil, true, 2 }, "version 2 with IPv6 addresses: use version 3"},
		{withIPv4, func(c *Config) { c.Addresses, c.IPv6, c.Peers = nil, true, addrs("192.0.2.1") }, "IPv6 with addresses of IPv4: leave it out"},
		{withIPv4, func(c *Config) { c.Addresses, c.Peers, c.Source = nil, addrs("fe80::2"), addrs("fe80::1")[0] }, ""},
		{withIPv4, func(c *Config) { c.Addresses, c.Peers = nil, addrs("fe80::2", "192.0.2.1") },
			"peers: 192.0.2.1 is not an IPv6 address: one router serves one family, run a second one for the other"},
	},
	"Config.Source": {
		{withIPv4, func(c *Config) { c.Source = addrs("192.0.2.10")[0] }, ""},
		{withIPv4, func(c *Config) { c.Source = addrs("fe80::1")[0] }, "source: fe80::1 is not an IPv4 address: one router serves one family, run a second one for the other"},
		{withIPv6, func(c *Config) { c.Source = addrs("fe80::2")[0] }, ""},
		{withIPv6, func(c *Config) { c.Source = addrs("2001:db8::2")[0] }, "source: 2001:db8::2: multicast wants a link-local address (RFC 9568 §5.1.2.1)"},
		{withIPv6, func(c *Config) { c.Source, c.Peers = addrs("2001:db8::2")[0], addrs("2001:db8::3") }, ""},
		{withIPv4, func(c *Config) { c.Source = c.Addresses[0] }, "source: 192.0.2.1 is one of Addresses: want the host's own address"},
		{withIPv4, func(c *Config) { c.Source, c.Priority = c.Addresses[0], 255 }, ""},
	},
	"Config.Peers": {
		{withIPv4, func(c *Config) { c.Peers = addrs("192.0.2.11", "192.0.2.12") }, ""},
		{withIPv4, func(c *Config) { c.Peers = addrs("192.0.2.11", "192.0.2.11") }, "peers: 192.0.2.11 is there twice"},
		{withIPv4, func(c *Config) { c.Peers = addrs("fe80::2") }, "peers: fe80::2 is not an IPv4 address: one router serves one family, run a second one for the other"},
		{withIPv4, func(c *Config) { c.Source, c.Peers = addrs("192.0.2.11")[0], addrs("192.0.2.11") }, "peers: 192.0.2.11 is this router's own Source: list only the others"},
		{withIPv4, func(c *Config) { c.Peers = addrs("192.0.2.11", "192.0.2.1") }, "peers: 192.0.2.1 is one of Addresses: list the other routers' own addresses"},
		{withIPv4, func(c *Config) { c.Peers, c.Priority = addrs("192.0.2.11", "192.0.2.1"), 255 }, ""},
	},
	"Config.TTL": {
		{withIPv4, func(c *Config) { c.TTL = 64 }, "TTL, MinTTL or MaxTTL without Peers: multicast always uses 255, leave them out"},
		{withIPv4, func(c *Config) { c.TTL, c.Peers = 64, addrs("192.0.2.11") }, ""},
	},
	"Config.MinTTL": {
		{withIPv4, func(c *Config) { c.MinTTL = 254 }, "TTL, MinTTL or MaxTTL without Peers: multicast always uses 255, leave them out"},
		{withIPv4, func(c *Config) { c.MinTTL, c.Peers = 254, addrs("192.0.2.11") }, ""},
	},
	"Config.MaxTTL": {
		{withIPv4, func(c *Config) { c.MaxTTL = 64 }, "TTL, MinTTL or MaxTTL without Peers: multicast always uses 255, leave them out"},
		{withIPv4, func(c *Config) { c.MinTTL, c.MaxTTL, c.Peers = 65, 64, addrs("192.0.2.11") }, "MinTTL 65 is above MaxTTL 64"},
		{withIPv4, func(c *Config) { c.MinTTL, c.MaxTTL, c.Peers = 64, 64, addrs("192.0.2.11") }, ""},
	},
	"Config.VirtualMAC": {
		{withIPv4, func(c *Config) { c.VirtualMAC = true }, ""},
		{withIPv6, func(c *Config) { c.VirtualMAC = true }, ""},
		{withIPv4, func(c *Config) { c.VirtualMAC, c.Peers = true, addrs("192.0.2.11") },
			"VirtualMAC with Peers: unicast advertisements leave from the interface's own address, leave it out"},
	},
	"Config.Checksum": {
		{withIPv4, func(c *Config) { c.Checksum = ChecksumMessage }, ""},
		{withIPv4, func(c *Config) { c.Checksum, c.Peers = ChecksumOldUnicast, addrs("192.0.2.11") }, ""},
		{withIPv4, func(c *Config) { c.Checksum = ChecksumOldUnicast },
			"checksum form: ChecksumOldUnicast without Peers: it is the same as ChecksumPseudoHeader, leave it out"},
		{withIPv4, func(c *Config) { c.Checksum = 3 }, "checksum form 3: want ChecksumPseudoHeader, ChecksumMessage or ChecksumOldUnicast"},
		{withIPv6, func(c *Config) { c.Checksum = ChecksumMessage }, "checksum form: only version 3 over IPv4 has a choice, leave it out"},
		{withPass, func(c *Config) { c.Checksum = ChecksumMessage }, "checksum form: only version 3 over IPv4 has a choice, leave it out"},
	},
	"Config.Auth":  {{withPass, func(c *Config) {}, ""}, {withHMAC, func(c *Config) {}, ""}},
	"Config.Group": {{withIPv4, func(c *Config) { c.Group = NewGroup("G") }, ""}},
	"Config.OnTransition": {
		{withIPv4, func(c *Config) { c.OnTransition = func(Transition) {} }, ""},
	},
	"Config.Logger": {{withIPv4, func(c *Config) { c.Logger = nil }, ""}},

	"Auth.Type": {
		{withIPv4, func(c *Config) { c.Auth.Type = 4 }, "auth: type 4: want AuthNone, AuthPass, AuthAH or AuthHMAC"},
		{withPass, func(c *Config) { c.Auth.Type = AuthAH }, ""},
		{withPass, func(c *Config) { c.Version = 3 }, "auth: version 3 has no passwords: use AuthHMAC, or version 2"},
		{withPass, func(c *Config) { c.Auth.Type, c.Version = AuthAH, 3 }, "auth: version 3 has no passwords: use AuthHMAC, or version 2"},
	},
	"Auth.Password": {
		{withPass, func(c *Config) { c.Auth.Password = "" }, "auth: no password"},
		{withPass, func(c *Config) { c.Auth.Password = "longpassword" }, ""},
		{withIPv4, func(c *Config) { c.Auth.Password = "x" }, "auth: a password, but the type is not AuthPass or AuthAH"},
		{withHMAC, func(c *Config) { c.Auth.Password = "x" }, "auth: a password, but the type is not AuthPass or AuthAH"},
	},
	"Auth.HMAC": {
		{withPass, func(c *Config) { c.Auth.HMAC.Window = 1e9 }, "auth: HMAC is set, but the type is not AuthHMAC"},
	},
	"HMACConfig.Keys": {
		{withHMAC, func(c *Config) { c.Auth.HMAC.Keys = nil }, "auth: HMAC has no keys: want at least one"},
		{withHMAC, func(c *Config) { c.Auth.HMAC.Keys[1].ID = 7 }, "auth: two HMAC keys with ID 7"},
	},
	"HMACConfig.ActiveKey": {
		{withHMAC, func(c *Config) { c.Auth.HMAC.ActiveKey = 9 }, ""},
		{withHMAC, func(c *Config) { c.Auth.HMAC.ActiveKey = 8 }, "auth: HMAC ActiveKey 8 is not the ID of one of the keys"},
	},
	"HMACConfig.Mode": {
		{withHMAC, func(c *Config) { c.Auth.HMAC.Mode = HMACReceiveOnly }, ""},
		{withHMAC, func(c *Config) { c.Auth.HMAC.Mode = 3 }, "auth: HMAC mode 3: want HMACEnforce, HMACPermissive or HMACReceiveOnly"},
	},
	"HMACConfig.Replay": {
		{withHMAC, func(c *Config) { c.Auth.HMAC.Replay = ReplayMonotonic }, ""},
		{withHMAC, func(c *Config) { c.Auth.HMAC.Replay = 2 }, "auth: HMAC replay mode 2: want ReplayTime or ReplayMonotonic"},
	},
	"HMACConfig.Window": {
		{withHMAC, func(c *Config) { c.Auth.HMAC.Window = time.Second }, ""},
		{withHMAC, func(c *Config) { c.Auth.HMAC.Window = 300 * time.Second }, ""},
		{withHMAC, func(c *Config) { c.Auth.HMAC.Window = time.Second - 1 }, "auth: HMAC window 999.999999ms: want 1s to 300s"},
		{withHMAC, func(c *Config) { c.Auth.HMAC.Window = 301 * time.Second }, "auth: HMAC window 5m1s: want 1s to 300s"},
	},
	"Key.ID": {
		{withHMAC, func(c *Config) { c.Auth.HMAC.Keys[1].ID = 0 }, "auth: HMAC key with ID 0: want 1 to 255"},
	},
	"Key.Secret": {
		{withHMAC, func(c *Config) { c.Auth.HMAC.Keys[1].Secret = make([]byte, 31) }, "auth: HMAC key 9 has 31 bytes: want 32 to 64"},
		{withHMAC, func(c *Config) { c.Auth.HMAC.Keys[1].Secret = make([]byte, 65) }, "auth: HMAC key 9 has 65 bytes: want 32 to 64"},
	},
}

func TestValidate(t *testing.T) {
	for field, cases := range validateCases {
		for _, test := range cases {
			c := test.base()
			test.set(&c)
			got := ""
			if err := c.validate(); err != nil {
				got = err.Error()
			}
			want := test.err
			if want != "" {
				want = "vrrp: VI_1: " + want
			}
			if got != want {
				t.Errorf("%s:\n got %q\nwant %q", field, got, want)
			}
			if got != "" {
				continue
			}
			again := c
			if err := again.validate(); err != nil {
				t.Errorf("%s: validating twice: %v", field, err)
			}
			c.OnTransition, again.OnTransition = nil, nil // funcs are never equal
			if !reflect.DeepEqual(c, again) {
				t.Errorf("%s: validating twice changed\n%+v to\n%+v", field, c, again)
			}
		}
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
	c := Config{VRID: 51, Addresses: addrs("192.0.2.1")}
	if err := c.validate(); err != nil {
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
	if err := six.validate(); err != nil || six.Name != "51/IPv6" || six.family() != familyIPv6 {
		t.Errorf("name %q, family %v, error %v", six.Name, six.family(), err)
	}

	for interval, want := range map[time.Duration]time.Duration{
		time.Second: 5 * time.Second, 10 * time.Second: 30 * time.Second, 255 * time.Second: 300 * time.Second,
	} {
		h := withHMAC()
		h.Version, h.Interval = 2, interval
		if err := h.validate(); err != nil {
			t.Fatal(err)
		}
		if got := h.Auth.HMAC; got.Window != want || got.ActiveKey != 7 {
			t.Errorf("interval %v: window %v and key %d, want %v and 7", interval, got.Window, got.ActiveKey, want)
		}
	}
}

// What the caller changes later does not reach into a validated Config.
func TestValidateCopies(t *testing.T) {
	c := withHMAC()
	c.Peers = addrs("192.0.2.11")
	mine := c
	if err := c.validate(); err != nil {
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
	if err == nil || !strings.HasPrefix(err.Error(), "vrrp: 0/IPv4: VRID 0: ") {
		t.Errorf("got %v", err)
	}
}
