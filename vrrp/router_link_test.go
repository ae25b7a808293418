package vrrp

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestRouterLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a, b := lan.node(t, 1, Config{Priority: 255}), lan.node(t, 2, Config{Priority: 110})
		link := linkEvent{index: 1, name: "eth0"}
		fault := func(want string) {
			t.Helper()
			if got := a.Status().Fault; got != want {
				t.Errorf("fault %q, want %q", got, want)
			}
		}
		a.is(Active)
		a.net.change(link, func(nif *netif) { nif.up = false })
		a.is(Initialize)
		fault("link eth0 down")
		a.net.change(link, func(nif *netif) { nif.up = true })
		a.is(Active)
		fault("")

		// Deleted, and made anew: the old socket would be deaf.
		a.net.change(link, func(nif *netif) { nif.index = 0 })
		a.is(Initialize)
		fault("link eth0 missing")
		lan.cut(a.addr, true)
		a.net.change(linkEvent{index: 2, name: "eth0"}, func(nif *netif) { nif.index = 2 })
		a.is(Active)
		time.Sleep(2 * time.Second)
		b.is(Backup) // b hears the new socket only
		if n := len(a.net.opened); n != 2 || !a.net.opened[0].closed {
			t.Errorf("%d sockets opened, the first closed: %v; want 2, true", n, a.net.opened[0].closed)
		}

		// The address goes, another one comes.
		addr := linkEvent{index: 2, addr: a.addr}
		a.net.change(addr, func(nif *netif) { nif.addrs[0].tentative = true })
		fault("no IPv4 address on eth0")
		// From the address that has just gone.
		if list := lan.from(a.addr); list[len(list)-1].priority != 0 || a.Status().Counters.SendErrors > 0 {
			t.Error("it left without a word")
		}
		other := netip.MustParseAddr("192.0.2.77")
		a.net.change(linkEvent{index: 2, addr: other}, func(nif *netif) { nif.addrs[0].addr, nif.addrs[0].tentative = other, false })
		a.is(Active)
		if got := a.Status().Source; got != other {
			t.Errorf("source %v, want %v", got, other)
		}
		if len(lan.from(other)) == 0 {
			t.Error("nothing was sent from the new address")
		}
	})
}

// TestRouterReopenRetries: an interface is back, but its socket cannot be opened at
// once.
func TestRouterReopenRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a := lan.node(t, 1, Config{Priority: 255})
		a.net.mu.Lock()
		a.net.fail = errors.New("not yet")
		a.net.mu.Unlock()
		a.net.change(linkEvent{index: 2, name: "eth0"}, func(nif *netif) { nif.index = 2 })
		a.is(Initialize)
		if got, want := a.Status().Fault, "link eth0: not yet"; got != want {
			t.Errorf("fault %q, want %q", got, want)
		}
		a.net.mu.Lock()
		a.net.fail = nil
		a.net.mu.Unlock()
		time.Sleep(retryLink)
		a.is(Active)
	})
}

// TestRouterForgotten: the addresses of a router that has ended are like any others.
func TestRouterForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		shared := addrs("192.0.2.250", "192.0.2.251")
		a := lan.node(t, 1, Config{Addresses: shared})
		b, err := NewRouter(Config{VRID: 52, Addresses: shared[:1]}, a.conn, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		go b.Run(ctx)
		synctest.Wait()
		virtual := func() int {
			a.conn.mu.Lock()
			defer a.conn.mu.Unlock()
			return len(a.conn.virtual)
		}
		a.stop()
		synctest.Wait()
		if got := virtual(); got != 1 {
			t.Errorf("%d addresses are virtual, want the one that another router has", got)
		}
		cancel()
		synctest.Wait()
		if got := virtual(); got != 0 {
			t.Errorf("%d addresses are virtual, want none", got)
		}
	})
}

// TestRouterConcerns: the holder of 255 addresses renews them all the time, and
// its interface need not be looked at each time.
func TestRouterConcerns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newFakeLAN().node(t, 1, Config{})
		virtual := a.cfg.Addresses[0]
		for _, test := range []struct {
			name string
			e    linkEvent
			want bool
		}{
			{"this link", linkEvent{index: 1, name: "eth0"}, true},
			{"this link renamed", linkEvent{index: 1, name: "eth7"}, true},
			{"another link takes the name", linkEvent{index: 5, name: "eth0"}, true},
			{"another link", linkEvent{index: 5, name: "eth5"}, false},
			{"the source", linkEvent{index: 1, addr: a.addr}, true},
			{"a virtual address", linkEvent{index: 1, addr: virtual}, false},
			{"the source's copy elsewhere", linkEvent{index: 5, addr: a.addr}, false},
		} {
			if got := a.conn.concerns(test.e); got != test.want {
				t.Errorf("%s: %v, want %v", test.name, got, test.want)
			}
		}
		a.net.change(linkEvent{index: 1, addr: a.addr}, func(nif *netif) { nif.addrs[0].tentative = true })
		if !a.conn.concerns(linkEvent{index: 1, addr: netip.MustParseAddr("192.0.2.9")}) {
			t.Error("a new address does not matter to a router without one")
		}
	})
}

// TestRouterGroup: two routers of a host on two LANs, with two Conns, move together.
func TestRouterGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lans := []*fakeLAN{newFakeLAN(), newFakeLAN()}
		host := func(host, priority uint8) (inside, outside *node) {
			g := NewGroup("G1")
			inside = lans[0].prepare(t, host, Config{Name: "inside", Priority: priority, Group: g})
			outside = lans[1].prepare(t, host, Config{Name: "outside", Priority: priority, Group: g})
			inside.run()
			time.Sleep(100 * time.Millisecond)
			outside.run()
			return inside, outside
		}
		ai, ao := host(1, 120)
		bi, bo := host(2, 110)
		both := func(a, b State) {
			t.Helper()
			ai.is(a)
			ao.is(a)
			bi.is(b)
			bo.is(b)
		}
		time.Sleep(10 * time.Second)
		both(Active, Backup)

		ao.net.change(linkEvent{index: 1, name: "eth0"}, func(nif *netif) { nif.up = false })
		ai.is(Initialize)
		ao.is(Initialize)
		if got, want := ai.Status().Fault, "group G1: member outside: link eth0 down"; got != want {
			t.Errorf("fault %q, want %q", got, want)
		}
		lans[1].cut(ao.addr, true)
		time.Sleep(10 * time.Second)
		both(Initialize, Active)
		if ai.handler.held || ao.handler.held || !bi.handler.held || !bo.handler.held {
			t.Error("the addresses have not moved together")
		}
		lans[1].cut(ao.addr, false)
		ao.net.change(linkEvent{index: 1, name: "eth0"}, func(nif *netif) { nif.up = true })
		time.Sleep(10 * time.Second)
		both(Active, Backup)
		if err := ai.Resign(); err != nil {
			t.Error(err)
		}
		time.Sleep(10 * time.Second)
		both(Backup, Active)

		// One that ended is not waited for.
		ai.stop()
		bi.stop()
		bo.stop()
		time.Sleep(10 * time.Second)
		ao.is(Active)
		for _, n := range []*node{ai, ao, bi, bo} {
			if got := len(n.history()); got > 7 {
				t.Errorf("%s on %v: %d transitions: %q", n.cfg.Name, n.addr, got, n.history())
			}
		}
	})
}

// TestRouterGroupWithoutOne: a member that never came to run is not waited for.
func TestRouterGroupWithoutOne(t *testing.T) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for name, test := range map[string]struct {
		vrid uint8
		ctx  context.Context
		want string // in the error; empty: none
	}{
		"its context had ended":         {52, ended, ""},
		"the Conn has its VRID already": {51, context.Background(), "VRID 51 already"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lan := newFakeLAN()
				g := NewGroup("G")
				a := lan.node(t, 1, Config{Priority: 120, Group: g})
				b, err := NewRouter(Config{VRID: test.vrid, Addresses: addrs("192.0.2.251"), Group: g}, a.conn, nil)
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(10 * time.Second)
				a.is(Backup)
				if err := b.Run(test.ctx); (err != nil) != (test.want != "") || err != nil && !strings.Contains(err.Error(), test.want) {
					t.Errorf("Run = %v, want %q", err, test.want)
				}
				time.Sleep(10 * time.Second)
				a.is(Active)
			})
		})
	}
}

func TestRouterSource(t *testing.T) {
	list := func(flags string, addrs ...string) (l []ifaddr) {
		for i, a := range addrs {
			l = append(l, ifaddr{addr: netip.MustParseAddr(a), tentative: flags[i] == 't', avoid: flags[i] == 'a'})
		}
		return l
	}
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
		{"only the virtual one", Config{Addresses: v4}, list("-", "192.0.2.250"), "", "no IPv4 address on eth0"},
		{"only the virtual one, of its owner", Config{Addresses: v4, Priority: 255}, list("-", "192.0.2.250"), "", "192.0.2.250"},
		{"the owner's virtual one only if there is no other", Config{Addresses: v4, Priority: 255}, list("-a", "192.0.2.250", "192.0.2.2"), "", "192.0.2.2"},
		{"only another router's virtual one", Config{Addresses: addrs("192.0.2.251"), Priority: 255}, list("-", "192.0.2.250"), "", "no IPv4 address on eth0"},
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
			virtual := make(map[netip.Addr]int)
			for _, a := range slices.Concat(v4, v6) {
				virtual[a] = 1
			}
			var current netip.Addr
			if test.current != "" {
				current = netip.MustParseAddr(test.current)
			}
			got, err := nif.source(&test.cfg, current, virtual)
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
