package vrrp

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
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
			if got := strings.Join(a.Status().Faults, ", "); got != want {
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
		if n := len(a.net.opened); n != 2 || !a.net.opened[0].Closed {
			t.Errorf("%d sockets opened, the first closed: %v; want 2, true", n, a.net.opened[0].Closed)
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

// TestRouterAnotherLink: when the name is another interface's from one moment to
// the next, the router leaves the old link with priority 0, and listens on the new
// one before it is Active there.
func TestRouterAnotherLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a := lan.node(t, 1, Config{})
		time.Sleep(10 * time.Second)
		a.is(Active)
		a.net.change(linkEvent{index: 2, name: "eth0"}, func(nif *netif) { nif.index = 2 })
		a.is(Backup)
		if list := lan.from(a.addr); list[len(list)-1].priority != 0 {
			t.Error("it left without a word")
		}
		if !a.net.opened[0].Closed || len(a.net.opened) != 2 {
			t.Error("it listens to the old link")
		}
		time.Sleep(10 * time.Second)
		a.is(Active)
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
		if got, want := strings.Join(a.Status().Faults, ", "), "link eth0: not yet"; got != want {
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
		others := addrs("192.0.2.71", "192.0.2.72", "192.0.2.73")
		a.net.change(linkEvent{index: 1, name: "eth0"}, func(nif *netif) {
			nif.addrs = sources("--v-", a.addr, others[0], others[1], virtual)
		})
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
			{"another address comes", linkEvent{index: 1, addr: others[0]}, false},
			{"another address goes", linkEvent{index: 1, addr: others[0], gone: true}, true},
			{"one that moves goes", linkEvent{index: 1, addr: others[1], gone: true}, false},
			{"a virtual address goes", linkEvent{index: 1, addr: virtual, gone: true}, false},
			{"one that nobody has seen goes", linkEvent{index: 1, addr: others[2], gone: true}, false},
		} {
			if got := a.conn.concernsEvent(test.e); got != test.want {
				t.Errorf("%s: %v, want %v", test.name, got, test.want)
			}
		}
		a.net.change(linkEvent{index: 1, addr: a.addr}, func(nif *netif) { nif.addrs = sources("t", a.addr) })
		if !a.conn.concernsEvent(linkEvent{index: 1, addr: netip.MustParseAddr("192.0.2.9")}) {
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
		if got, want := strings.Join(ai.Status().Faults, ", "), "group G1: member outside: link eth0 down"; got != want {
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
		"the Conn has its VRID already": {51, context.Background(), "VRID 51 is taken by router"},
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

// TestRouterUnicastSource: with peers, a router whose address is away for a while
// hands over and is in fault meanwhile, whatever other addresses there are. It
// then sends from its own again. That is another one when the peers are.
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

// TestRouterVirtual: what moves by the word of ListenConfig.Virtual is no source,
// and is asked about anew when a router begins.
func TestRouterVirtual(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var excluded atomic.Pointer[netip.Addr]
		excluded.Store(new(netip.Addr))
		conn, err := newConn(ListenConfig{
			Interface: "eth0",
			Virtual:   func(a netip.Addr) bool { return a == *excluded.Load() },
		}, &fakeNetwork{lan: newFakeLAN(), events: make(chan linkEvent), nif: netif{
			name: "eth0", index: 1, up: true, multicast: true, addrs: sources("--", addrs("192.0.2.251", "192.0.2.1")...),
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		r, err := NewRouter(Config{VRID: 51, Addresses: addrs("192.0.2.250")}, conn, nil)
		if err != nil {
			t.Fatal(err)
		}
		excluded.Store(&addrs("192.0.2.251")[0])
		go r.Run(t.Context())
		synctest.Wait()
		if got, want := r.Status().Source, netip.MustParseAddr("192.0.2.1"); got != want {
			t.Errorf("source %v, want %v", got, want)
		}
	})
}

// TestRouterHearsOfHome: that its first address is back concerns a router that
// sends from another one meanwhile.
func TestRouterHearsOfHome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newFakeLAN().node(t, 1, Config{Priority: 255})
		other := netip.MustParseAddr("192.0.2.77")
		a.net.change(linkEvent{index: 1, addr: a.addr, gone: true}, func(nif *netif) { nif.addrs = sources("-", other) })
		if got := a.Status().Source; got != other {
			t.Fatalf("source %v, want %v", got, other)
		}
		a.net.change(linkEvent{index: 1, addr: a.addr}, func(nif *netif) { nif.addrs = sources("-a", other, a.addr) })
		if got := a.Status().Source; got != a.addr {
			t.Errorf("source %v, want %v again", got, a.addr)
		}
	})
}

// TestRouterAddedLater: a router finds a source that came after everything else
// on its Conn, when it begins and when it is told of it.
func TestRouterAddedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newFakeLAN().node(t, 1, Config{})
		late := netip.MustParseAddr("192.0.2.77")
		a.net.change(linkEvent{index: 1, addr: late}, func(nif *netif) { nif.addrs = append(nif.addrs, ifaddr{addr: late}) })
		b, err := NewRouter(Config{VRID: 52, Addresses: addrs("192.0.2.252"), Source: late}, a.conn, nil)
		if err != nil {
			t.Fatal(err)
		}
		go b.Run(t.Context())
		synctest.Wait()
		next := a.cfg
		next.Source = late
		if err := a.Reconfigure(next); err != nil {
			t.Error(err)
		}
		for _, s := range []Status{a.Status(), b.Status()} {
			if s.Source != late || strings.Join(s.Faults, ", ") != "" {
				t.Errorf("%s: source %v, fault %q; want %v and none", s.Name, s.Source, strings.Join(s.Faults, ", "), late)
			}
		}
	})
}

// TestRouterRejoins: whatever may have made the kernel forget that a socket is a
// member of the group makes it join again, and nothing else does.
func TestRouterRejoins(t *testing.T) {
	up := func(nif *netif) { nif.up = true }
	for _, test := range []struct {
		name string
		do   func(n *fakeNetwork, own netip.Addr)
		want bool
	}{
		{"nothing", func(n *fakeNetwork, _ netip.Addr) { n.change(linkEvent{index: 1, name: "eth0"}, up) }, false},
		{"another address", func(n *fakeNetwork, own netip.Addr) {
			n.change(linkEvent{index: 1, name: "eth0"}, func(nif *netif) { nif.addrs = sources("--", own, own.Next()) })
		}, false},
		{"the link was down", func(n *fakeNetwork, _ netip.Addr) {
			n.change(linkEvent{index: 1, name: "eth0"}, func(nif *netif) { nif.up = false })
			n.change(linkEvent{index: 1, name: "eth0"}, up)
		}, true},
		{"the interface is back before anybody looked", func(n *fakeNetwork, _ netip.Addr) {
			n.change(linkEvent{index: 1, name: "eth0", gone: true}, up)
		}, true},
		{"the address is back before anybody looked", func(n *fakeNetwork, own netip.Addr) {
			n.change(linkEvent{index: 1, addr: own, gone: true}, up)
		}, true},
		{"the addresses were away", func(n *fakeNetwork, own netip.Addr) {
			n.change(linkEvent{index: 1, addr: own}, func(nif *netif) { nif.addrs = nil })
			n.change(linkEvent{index: 1, addr: own}, func(nif *netif) { nif.addrs = sources("-", own) })
		}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newFakeLAN().node(t, 1, Config{Priority: 255})
				test.do(a.net, a.addr)
				a.is(Active)
				if got := a.port().joined > 0; got != test.want {
					t.Errorf("joined again: %v, want %v", got, test.want)
				}
			})
		})
	}
}

// TestRouterRejoinFails: a router that hears nobody stays out of the election
// until it can hear again.
func TestRouterRejoinFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a := lan.node(t, 1, Config{Priority: 255})
		lan.Mu.Lock()
		a.net.opened[0].fail = errors.New("no room")
		lan.Mu.Unlock()
		a.net.change(linkEvent{index: 1, addr: a.addr, gone: true}, func(*netif) {})
		a.is(Initialize)
		if got, want := strings.Join(a.Status().Faults, ", "), "link eth0: no room"; got != want {
			t.Errorf("fault %q, want %q", got, want)
		}
		time.Sleep(retryLink)
		a.is(Active) // with another socket
	})
}
