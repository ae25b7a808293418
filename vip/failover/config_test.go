package failover

import (
	"errors"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/field"
	"github.com/havip/havip/vip"
	"github.com/havip/havip/vrrp"
)

// addresses parses the addresses of a Config.VIP.
func addresses(t *testing.T, words ...string) (list []vip.Address) {
	t.Helper()
	for _, w := range words {
		a, err := vip.ParseAddress(w)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, a)
	}
	return list
}

// TestDefaultsFollow: what router and addresses share is configured once.
func TestDefaultsFollow(t *testing.T) {
	v4, v6 := addresses(t, "192.0.2.250/24"), addresses(t, "fe80::250/64")
	router := func(v vrrp.Config) vrrp.Config { v.VRID = 51; return v }
	for _, test := range []struct {
		name   string
		vrrp   vrrp.Config
		vip    vip.Config
		listed string
		want   vip.Config // of Name, Lease, Owner and VirtualMAC
	}{
		{"nothing else", vrrp.Config{}, vip.Config{Addresses: v4}, "192.0.2.250", vip.Config{Name: "51/IPv4", Lease: 3 * time.Second}},
		{"no address", vrrp.Config{}, vip.Config{}, "", vip.Config{Name: "51/IPv4", Lease: 3 * time.Second}},
		{"a name", vrrp.Config{Name: "VI_1"}, vip.Config{Addresses: v4}, "192.0.2.250", vip.Config{Name: "VI_1", Lease: 3 * time.Second}},
		{"names of their own", vrrp.Config{Name: "VI_1"}, vip.Config{Name: "a", Addresses: v4}, "192.0.2.250", vip.Config{Name: "a", Lease: 3 * time.Second}},
		{"another interval", vrrp.Config{Interval: 5 * time.Second, DownMultiplier: 2}, vip.Config{Addresses: v4}, "192.0.2.250", vip.Config{Name: "51/IPv4", Lease: 10 * time.Second}},
		{"no lease", vrrp.Config{}, vip.Config{Addresses: v4, Lease: -1}, "192.0.2.250", vip.Config{Name: "51/IPv4", Lease: -1}},
		{"the owner", vrrp.Config{Priority: 255}, vip.Config{Addresses: v4}, "192.0.2.250", vip.Config{Name: "51/IPv4", Lease: 3 * time.Second, Owner: true}},
		{
			"virtual MAC", vrrp.Config{VirtualMAC: true}, vip.Config{Addresses: v6}, "fe80::250",
			vip.Config{Name: "51/IPv6", Lease: 3 * time.Second, VirtualMAC: net.HardwareAddr{0, 0, 0x5e, 0, 2, 51}},
		},
		{"both families", vrrp.Config{}, vip.Config{Addresses: slices.Concat(v4, v6)}, "192.0.2.250", vip.Config{Name: "51/IPv4", Lease: 3 * time.Second}},
		{"both families, the other first", vrrp.Config{}, vip.Config{Addresses: slices.Concat(v6, v4)}, "fe80::250", vip.Config{Name: "51/IPv6", Lease: 3 * time.Second}},
		{
			"both families, peers of one", vrrp.Config{Peers: []netip.Addr{netip.MustParseAddr("fe80::2")}}, vip.Config{Addresses: slices.Concat(v4, v6)}, "fe80::250",
			vip.Config{Name: "51/IPv6", Lease: 3 * time.Second},
		},
		{"none listed", vrrp.Config{Addresses: []netip.Addr{}}, vip.Config{Addresses: v4}, "", vip.Config{Name: "51/IPv4", Lease: 3 * time.Second}},
	} {
		test.vip.Interface = "eth0"
		c := Config{VRRP: router(test.vrrp), VIP: test.vip}
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		full := c.WithDefaults()
		var listed []string
		for _, a := range full.VRRP.Addresses {
			listed = append(listed, a.String())
		}
		if full.VRRP.NoOverlap != (full.VIP.VirtualMAC != nil) {
			t.Errorf("%s: no overlap %v, with the hardware address %v", test.name, full.VRRP.NoOverlap, full.VIP.VirtualMAC)
		}
		got := vip.Config{Name: full.VIP.Name, Lease: full.VIP.Lease, Owner: full.VIP.Owner, VirtualMAC: full.VIP.VirtualMAC}
		if strings.Join(listed, " ") != test.listed || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: lists %q and moves %+v, want %q and %+v", test.name, listed, got, test.listed, test.want)
		}
		if again := full.WithDefaults(); !reflect.DeepEqual(full, again) {
			t.Errorf("%s: defaults twice: %+v, then %+v", test.name, full, again)
		}
	}
}

// TestValidate: all faults of both parts are reported at once, each with its field.
func TestValidate(t *testing.T) {
	for want, c := range map[string]Config{
		"VRRP.VRID VIP.Interface": {},
		"VRRP.Interval VIP.Addresses[1].Prefix VIP.Interface VIP.Entitled VIP.OnRemovals": {
			VRRP: vrrp.Config{VRID: 51, Interval: time.Hour},
			VIP: vip.Config{
				Addresses: []vip.Address{
					{Prefix: netip.MustParsePrefix("192.0.2.250/24"), Interface: "eth0"},
					{Prefix: netip.MustParsePrefix("192.0.2.250/24"), Interface: "eth0"},
				},
				Entitled: func() bool { return true }, OnRemovals: func(vip.Removals) {},
			},
		},
	} {
		var got []string
		err := c.Validate()
		for _, e := range field.All(err) {
			got = append(got, e.Field)
		}
		if strings.Join(got, " ") != want || errors.Join(c.Validate()).Error() != errors.Join(err).Error() {
			t.Errorf("fields %q of %v, want %s", got, err, want)
		}
		if _, err := New(c); !errors.As(err, new(*FieldError)) || !strings.HasPrefix(err.Error(), "failover: ") {
			t.Errorf("New: %v", err)
		}
	}
}

// TestFixed: each change that needs another Node is named by its field.
func TestFixed(t *testing.T) {
	base := Config{VRRP: vrrp.Config{VRID: 51}, VIP: vip.Config{Interface: "eth0", Addresses: addresses(t, "192.0.2.250/24")}}
	for want, change := range map[string]func(*Config){
		"":                        func(c *Config) { c.VRRP.Interval = 5 * time.Second; c.VIP.Addresses = addresses(t, "192.0.2.251/24") },
		"VRRP.VRID VIP.Name":      func(c *Config) { c.VRRP.VRID = 52 },
		"VRRP.Priority VIP.Owner": func(c *Config) { c.VRRP.Priority = 255 },
		"VRRP.VirtualMAC VIP.VirtualMAC VIP.MacvlanName": func(c *Config) { c.VRRP.VirtualMAC = true },
		"VIP.Interface": func(c *Config) { c.VIP.Interface = "eth1" },
	} {
		next := base
		change(&next)
		if got := strings.Join(base.Fixed(next), " "); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestSameRouter: a change of VIP alone is no change for the peers.
func TestSameRouter(t *testing.T) {
	a := Config{VRRP: vrrp.Config{VRID: 51, OnTransition: func(vrrp.Transition) {}}, VIP: vip.Config{Interface: "eth0"}}.WithDefaults()
	for _, test := range []struct {
		name   string
		change func(*Config)
		same   bool
	}{
		{"nothing", func(*Config) {}, true},
		{"lease", func(c *Config) { c.VIP.Lease = 9 * time.Second }, true},
		{"who is told", func(c *Config) { c.VRRP.OnTransition = nil }, true},
		{"priority", func(c *Config) { c.VRRP.Priority = 90 }, false},
		{"group", func(c *Config) { c.VRRP.Group = vrrp.NewGroup("g") }, false},
	} {
		b := a
		test.change(&b)
		if got := a.sameRouter(b); got != test.same {
			t.Errorf("%s: %v, want %v", test.name, got, test.same)
		}
	}
}

// TestConfigFields: every field is listed here, with what Reconfigure makes of it.
func TestConfigFields(t *testing.T) {
	known := map[string]string{
		"VRRP": "followed, or named by Fixed", "VIP": "followed, or named by Fixed",
		"Conn": "stays", "Guard": "stays", "OnRetry": "stays", "Logger": "stays",
	}
	for f := range reflect.TypeFor[Config]().Fields() {
		if known[f.Name] == "" {
			t.Errorf("what becomes of %s in Reconfigure?", f.Name)
		}
	}
}
