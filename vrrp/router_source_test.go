package vrrp

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// sources makes addresses: t is tentative, a to be avoided, v virtual by
// ListenConfig.
func sources(flags string, list ...netip.Addr) (l []ifaddr) {
	for i, a := range list {
		l = append(l, ifaddr{addr: a, tentative: flags[i] == 't', avoid: flags[i] == 'a', virtual: flags[i] == 'v'})
	}
	return l
}

func TestRouterSource(t *testing.T) {
	list := func(flags string, l ...string) []ifaddr { return sources(flags, addrs(l...)...) }
	v4, v6 := addrs("192.0.2.250"), addrs("fe80::250", "2001:db8::250")
	for _, test := range []struct {
		name    string
		cfg     Config
		addrs   []ifaddr
		current string
		want    string // or the error
	}{
		{"the primary address", Config{Addresses: v4}, list("--", "192.0.2.1", "192.0.2.2"), "", "192.0.2.1"},
		{"never a virtual one", Config{Addresses: v4}, list("--", "192.0.2.250", "192.0.2.2"), "", "192.0.2.2"},
		{"a secondary one only if there is no other", Config{Addresses: v4}, list("a-", "192.0.2.1", "192.0.2.2"), "", "192.0.2.2"},
		{"the current one while it lasts", Config{Addresses: v4}, list("--", "192.0.2.1", "192.0.2.2"), "192.0.2.2", "192.0.2.2"},
		{"another when the current one is gone", Config{Addresses: v4}, list("-", "192.0.2.1"), "192.0.2.2", "192.0.2.1"},
		{"none", Config{Addresses: v4}, nil, "", "no IPv4 address on eth0"},
		{"only the virtual one", Config{Addresses: v4}, list("-", "192.0.2.250"), "", "no IPv4 address on eth0 but virtual ones, from which nobody sends"},
		{"only the virtual one, of its owner", Config{Addresses: v4, Priority: 255}, list("-", "192.0.2.250"), "", "192.0.2.250"},
		{"the owner's virtual one only if there is no other", Config{Addresses: v4, Priority: 255}, list("-a", "192.0.2.250", "192.0.2.2"), "", "192.0.2.2"},
		{"only another router's virtual one", Config{Addresses: addrs("192.0.2.251"), Priority: 255}, list("-", "192.0.2.250"), "", "no IPv4 address on eth0 but virtual ones, from which nobody sends"},
		{"the owner's link-local one", Config{Addresses: v6, Priority: 255}, list("--", "2001:db8::250", "fe80::250"), "", "fe80::250"},
		{"the configured one", Config{Addresses: v4, Source: netip.MustParseAddr("192.0.2.2")}, list("-a", "192.0.2.1", "192.0.2.2"), "", "192.0.2.2"},
		{"the configured one is not there", Config{Addresses: v4, Source: netip.MustParseAddr("192.0.2.3")}, list("-", "192.0.2.1"), "", "no source 192.0.2.3 on eth0"},
		{"the link-local one", Config{Addresses: v6}, list("---", "2001:db8::1", "fe80::250", "fe80::1"), "", "fe80::1"},
		{"not a tentative one", Config{Addresses: v6}, list("-t", "2001:db8::1", "fe80::1"), "", "no link-local address on eth0"},
		{"a global one for global peers", Config{Addresses: v6, Peers: addrs("2001:db8::2")}, list("--", "fe80::1", "2001:db8::1"), "", "2001:db8::1"},
		{"a link-local one for such peers", Config{Addresses: v6, Peers: addrs("fe80::2")}, list("--", "2001:db8::1", "fe80::1"), "", "fe80::1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			nif := netif{name: "eth0", index: 1, up: true, addrs: test.addrs}
			virtual := make(map[netip.Addr]users)
			for _, a := range slices.Concat(v4, v6) {
				virtual[a] = users{all: 1}
				if !test.cfg.owner() {
					virtual[a] = users{1, 1}
				}
			}
			var current netip.Addr
			if test.current != "" {
				current = netip.MustParseAddr(test.current)
			}
			got, err := nif.source(&test.cfg, netip.Addr{}, current, virtual)
			result := got.String()
			if err != nil {
				result = err.Error()
			}
			if result != test.want {
				t.Errorf("%v, want %v", result, test.want)
			}
		})
	}
}

// TestRouterSourceStays: a virtual or an excluded address is no source, and the
// first one is returned to.
func TestRouterSourceStays(t *testing.T) {
	const home = "192.0.2.1"
	v4 := addrs("192.0.2.250")
	peers := addrs("192.0.2.9")
	list := func(flags string, l ...string) []ifaddr { return sources(flags, addrs(l...)...) }
	for _, test := range []struct {
		name    string
		cfg     Config
		addrs   []ifaddr
		current string
		want    string // or the error
	}{
		{"back", Config{}, list("--", "192.0.2.2", home), "192.0.2.2", home},
		{"back, but secondary", Config{}, list("-a", "192.0.2.2", home), "192.0.2.2", home},
		{"another meanwhile", Config{}, list("a-", "192.0.2.2", "192.0.2.3"), "", "192.0.2.3"},
		{"no excluded one", Config{}, list("va", "192.0.2.2", "192.0.2.3"), "", "192.0.2.3"},
		{"only an excluded one", Config{}, list("v", "192.0.2.2"), "192.0.2.2", "no IPv4 address on eth0 but virtual ones, from which nobody sends"},
		{"only an excluded one, of an owner", Config{Priority: 255}, list("v", "192.0.2.2"), "", "no IPv4 address on eth0 but virtual ones, from which nobody sends"},
		{"only the owner's own", Config{Priority: 255}, list("v", "192.0.2.250"), "", "192.0.2.250"},
		{"the owner's until there is another", Config{Priority: 255}, list("--", "192.0.2.250", "192.0.2.2"), "192.0.2.250", "192.0.2.2"},
		{"with peers no other", Config{Peers: peers}, list("-", "192.0.2.2"), "", "no source 192.0.2.1 on eth0"},
		{"with peers, back", Config{Peers: peers}, list("--", "192.0.2.2", home), "192.0.2.2", home},
		{"with peers, home has become virtual", Config{Peers: peers}, list("-v", "192.0.2.2", home), "", "source 192.0.2.1 on eth0 is a virtual address"},
		{"the configured one is excluded", Config{Source: netip.MustParseAddr("192.0.2.2")}, list("v", "192.0.2.2"), "", "source 192.0.2.2 on eth0 is a virtual address"},
		{"the configured one moves", Config{Source: netip.MustParseAddr("192.0.2.252")}, list("-", "192.0.2.252"), "", "source 192.0.2.252 on eth0 is a virtual address"},
		{"the configured one is another owner's", Config{Source: netip.MustParseAddr("192.0.2.251")}, list("-", "192.0.2.251"), "", "192.0.2.251"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.cfg.Addresses = v4
			nif := netif{name: "eth0", index: 1, up: true, addrs: test.addrs}
			virtual := map[netip.Addr]users{
				v4[0]:                              {1, 1},
				netip.MustParseAddr("192.0.2.251"): {1, 0}, // an owner's
				netip.MustParseAddr("192.0.2.252"): {1, 1}, // another router's
			}
			var current netip.Addr
			if test.current != "" {
				current = netip.MustParseAddr(test.current)
			}
			got, err := nif.source(&test.cfg, netip.MustParseAddr(home), current, virtual)
			result := got.String()
			if err != nil {
				result = err.Error()
			}
			if result != test.want {
				t.Errorf("%v, want %v", result, test.want)
			}
		})
	}
}

// TestRouterUnicastSource: a router with peers whose address is away hands over and has a
// fault meanwhile, whatever other addresses there are. It then sends from its own address
// again. New peers may know it by another address.
func TestRouterUnicastSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		hosts := addrs("192.0.2.1", "192.0.2.2")
		a := lan.node(t, 1, Config{Priority: 120, Peers: hosts})
		b := lan.node(t, 2, Config{Priority: 110, Peers: hosts})
		time.Sleep(10 * time.Second)
		a.is(Active)
		b.is(Backup)
		excluded := netip.MustParseAddr("192.0.2.251")
		a.net.change(linkEvent{index: 1, addr: a.addr, gone: true}, func(nif *netif) {
			nif.addrs = []ifaddr{{addr: excluded}}
		})
		a.is(Initialize)
		if got, want := strings.Join(a.Status().Faults, ", "), "no source 192.0.2.1 on eth0"; got != want {
			t.Errorf("fault %q, want %q", got, want)
		}
		time.Sleep(2 * time.Second)
		b.is(Active)
		a.net.change(linkEvent{index: 1, addr: a.addr}, func(nif *netif) {
			nif.addrs = []ifaddr{{addr: excluded}, {addr: a.addr}}
		})
		time.Sleep(10 * time.Second)
		a.is(Active)
		b.is(Backup)
		if n := len(lan.from(excluded)); n != 0 {
			t.Errorf("%d advertisements from %v", n, excluded)
		}

		// The host is renumbered for good, and its peers know: first the one, then
		// the other, and the other way round.
		for i, moved := range addrs("192.0.2.11", "192.0.2.12") {
			next := a.cfg
			next.Peers = []netip.Addr{moved, hosts[1]}
			a.net.change(linkEvent{index: 1, addr: a.Status().Source, gone: true}, func(nif *netif) { nif.addrs = nil })
			for step := range 2 {
				a.is(Initialize)
				if step == i {
					a.net.change(linkEvent{index: 1, addr: moved}, func(nif *netif) { nif.addrs = sources("-", moved) })
				} else if err := a.Reconfigure(next); err != nil {
					t.Error(err)
				}
			}
			if s := a.Status(); s.Source != moved || strings.Join(s.Faults, ", ") != "" {
				t.Errorf("source %v, fault %q; want %v and none", s.Source, strings.Join(s.Faults, ", "), moved)
			}
		}
	})
}
