package vrrp

import (
	"context"
	"errors"
	"net/netip"
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

// TestRouterMeetsFailure: no event has told of a change yet, and the router that begins is the
// first to find that no socket can be opened. The Conn tries again all the same.
func TestRouterMeetsFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newFakeLAN().node(t, 1, Config{Priority: 255})
		a.net.mu.Lock()
		a.net.nif.index, a.net.fail = 2, errors.New("not yet")
		a.net.mu.Unlock()
		b, err := NewRouter(Config{VRID: 52, Addresses: addrs("192.0.2.252"), Priority: 255}, a.conn, nil)
		if err != nil {
			t.Fatal(err)
		}
		go b.Run(t.Context())
		a.is(Initialize)
		a.net.mu.Lock()
		a.net.fail = nil
		a.net.mu.Unlock()
		time.Sleep(retryLink)
		a.is(Active)
		if s := b.Status(); s.State != Active {
			t.Errorf("%s: state %v, faults %q", s.Name, s.State, s.Faults)
		}
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

		// The group does not wait for a member that has ended.
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

// TestRouterGroupWithoutOne: the group does not wait for a member that never ran.
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

// TestRouterVirtual: an address that ListenConfig.Virtual reports is no source, and Virtual
// is asked again when a router begins.
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

// TestRouterHearsOfHome: a router that sends from another address notices the return of its
// first address.
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

// TestRouterAddedLater: a router finds a source that came after everything else on its
// Conn, when the router begins and when it is reconfigured.
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

// TestRouterRejoins: every event after which the kernel may have forgotten a socket's
// membership of the group makes the socket join again. No other event does.
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
