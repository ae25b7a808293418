package vrrp

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// absent makes an interface one that does not exist yet.
func absent(nif *netif) { nif.index, nif.up, nif.addrs = 0, false, nil }

// TestRouterInterfaceLater: an interface that comes after the Conn was opened is
// no reason not to begin: its routers have a fault until then, and take part at
// once, with sockets of every kind that they need.
func TestRouterInterfaceLater(t *testing.T) {
	for name, cfg := range map[string]Config{
		"v3": {}, "IPv6": {Addresses: addrs("fe80::250")},
		"AH":          {Version: 2, Auth: Auth{Type: AuthAH, Password: "d0cker"}},
		"virtual MAC": {VirtualMAC: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lan := newFakeLAN()
				cfg.Priority = 255
				a := lan.prepareOn(t, 1, cfg, absent)
				a.run()
				a.hasFault("link eth0 missing")
				if err := a.conn.Check(a.cfg); err == nil || err.Error() != "vrrp: 51/"+cfg.family().String()+": link eth0 missing" {
					t.Errorf("Check: %v", err)
				}
				time.Sleep(time.Hour)
				a.is(Initialize)
				came := time.Now()
				a.net.change(linkEvent{index: 7, name: "eth0"}, func(nif *netif) {
					nif.index, nif.up, nif.ethernet, nif.addrs = 7, true, true, []ifaddr{{addr: a.addr}}
				})
				a.is(Active)
				if late := time.Since(came); late > 0 {
					t.Errorf("Active %v after the interface came", late)
				}
				if err := a.conn.Check(a.cfg); err != nil {
					t.Error(err)
				}
				cfg.Priority = 110
				b := lan.prepareOn(t, 2, cfg, func(nif *netif) { nif.ethernet = true })
				b.run()
				time.Sleep(10 * time.Second)
				b.hears(a)
			})
		})
	}
}

// hears checks that a Backup hears an Active router.
func (n *node) hears(active *node) {
	n.t.Helper()
	n.is(Backup)
	for _, p := range n.Status().Peers {
		if p.Address == active.addr && time.Since(p.LastHeard) <= time.Second {
			return
		}
	}
	n.t.Errorf("%v does not hear %v: %+v", n.addr, active.addr, n.Status().Peers)
}

// TestRouterNoSocketYet: an interface on which no socket can be opened for now is
// a fault as well, at the start and afterwards.
func TestRouterNoSocketYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNetwork(newFakeLAN(), netip.MustParseAddr("192.0.2.1"))
		n.fail = errors.New("no IPv6 here")
		conn, err := newConn(ListenConfig{Interface: "eth0"}, n)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		r, err := NewRouter(Config{VRID: 51, Addresses: addrs("192.0.2.250"), Priority: 255}, conn, nil)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		go r.Run(t.Context())
		for range 3 {
			synctest.Wait()
			before := n.lookups()
			if s := r.Status(); strings.Join(s.Faults, ", ") != "link eth0: no IPv6 here" {
				t.Errorf("%v, fault %q", s.State, strings.Join(s.Faults, ", "))
			}
			time.Sleep(time.Minute)
			if got := n.lookups() - before; got < 59 || got > 61 {
				t.Errorf("%d looks in a minute, want one in a second", got)
			}
		}
		n.mu.Lock()
		n.fail = nil
		n.mu.Unlock()
		time.Sleep(retryLink)
		synctest.Wait()
		if s := r.Status(); s.State != Active {
			t.Errorf("%v, fault %q", s.State, strings.Join(s.Faults, ", "))
		}
		before := n.lookups()
		time.Sleep(time.Minute)
		if got := n.lookups() - before; got != 0 {
			t.Errorf("%d more looks", got)
		}
	})
}

// TestRouterBegunWhileAway: a router that begins while the interface is away gets
// its sockets when that is back, under whichever index.
func TestRouterBegunWhileAway(t *testing.T) {
	for name, index := range map[string]int{"the same": 1, "another": 2} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lan := newFakeLAN()
				a := lan.node(t, 1, Config{})
				a.net.change(linkEvent{index: 1, name: "eth0", gone: true}, absent)
				ah := Config{VRID: 52, Version: 2, Addresses: addrs("192.0.2.252"), Auth: Auth{Type: AuthAH, Password: "d0cker"}}
				b, err := NewRouter(ah, a.conn, nil)
				if err != nil {
					t.Fatal(err)
				}
				go b.Run(t.Context())
				time.Sleep(time.Minute)
				a.net.change(linkEvent{index: index, name: "eth0"}, func(nif *netif) {
					nif.index, nif.up, nif.addrs = index, true, []ifaddr{{addr: a.addr}}
				})
				time.Sleep(10 * time.Second)
				c := lan.node(t, 2, ah)
				time.Sleep(10 * time.Second)
				c.hears(a)
			})
		})
	}
}

// TestRouterWrongKind: an interface without multicast is a fault of the routers that need
// multicast. When the interface has it, they hear what is sent to the group.
func TestRouterWrongKind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		kind := func(multicast bool) func(*netif) { return func(nif *netif) { nif.multicast = multicast } }
		a := lan.prepareOn(t, 1, Config{Priority: 255}, kind(false))
		a.run()
		a.hasFault("interface eth0 has no multicast: want unicast peers")
		unicast, err := NewRouter(Config{VRID: 52, Addresses: addrs("192.0.2.252"), Peers: addrs("192.0.2.9"), Priority: 255}, a.conn, nil)
		if err != nil {
			t.Fatal(err)
		}
		go unicast.Run(t.Context())
		synctest.Wait()
		if s := unicast.Status(); s.State != Active {
			t.Errorf("the router with peers: %v, fault %q", s.State, strings.Join(s.Faults, ", "))
		}
		event := linkEvent{index: 1, name: "eth0"}
		for range 2 {
			before := len(a.net.opened)
			a.net.change(event, kind(true))
			a.is(Active)
			if got := len(a.net.opened) - before; got != 1 {
				t.Errorf("%d sockets opened, want 1: the one before is no member of the group", got)
			}
			a.net.change(event, kind(false))
			a.is(Initialize)
			if err := a.reconfigure(func(c *Config) { c.Interval += time.Second }); err != nil {
				t.Errorf("what is nobody's fault but the interface's does not keep a router from changing: %v", err)
			}
		}
	})
}
