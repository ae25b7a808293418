package vip

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestSharedRoute: a route of several routers is there as long as one of them is
// Active: a Backup that patrols does not take it away.
func TestSharedRoute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		k.put(on(2, "192.0.2.1/24"), false)
		route := Route{Destination: netip.MustParsePrefix("198.51.100.0/24"), Gateway: netip.MustParseAddr("192.0.2.254"), Interface: "eth0", Table: mainTable}
		k.routes = []Route{route} // a predecessor's
		ns := newNamespace(k, nil)
		defer ns.Close()
		a, stopA := startIn(t, Config{Addresses: addrs(t, "192.0.2.10/24"), Routes: []Route{route}, Namespace: ns})
		b, stopB := startIn(t, Config{Addresses: addrs(t, "192.0.2.11/24"), Routes: []Route{route}, Namespace: ns})
		want := func(when string, there bool) {
			t.Helper()
			for range 90 { // three patrols
				k.mu.Lock()
				got := slices.Contains(k.routes, route)
				k.mu.Unlock()
				if got != there {
					t.Errorf("%s: the route is there: %v", when, got)
					return
				}
				time.Sleep(time.Second)
			}
		}
		release := func(m *Manager) {
			if err := m.Release(t.Context()); err != nil {
				t.Error(err)
			}
		}
		want("nobody is Active", false)
		acquire(t, a)
		want("a is Active", true)
		acquire(t, b)
		release(a)
		want("b is Active", true)
		release(b)
		want("both are Backups again", false)
		acquire(t, b)
		acquire(t, a)
		stopB()
		want("b has ended", true)
		stopA()
		want("both have ended", false)
	})
}

// TestSharedRouteStays: a route of two routers is never taken away while one of them is
// Active, whatever the other does, and while the configuration of the one changes.
func TestSharedRouteStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		route := Route{Destination: netip.MustParsePrefix("198.51.100.0/24"), Interface: "eth0"}
		ns := newNamespace(k, nil)
		defer ns.Close()
		a, stopA := startIn(t, Config{Addresses: addrs(t, "192.0.2.10/24"), Routes: []Route{route}, Namespace: ns})
		b, stopB := startIn(t, Config{Addresses: addrs(t, "192.0.2.11/24"), Routes: []Route{route}, Namespace: ns})
		acquire(t, a)
		k.hooked(func(op string) error {
			if op == "remove route" {
				t.Error("the route was removed")
			}
			return nil
		})
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 200 {
				if err := errors.Join(b.Acquire(t.Context()), b.Release(t.Context())); err != nil {
					t.Error(err)
				}
			}
		}()
		for i := range 1000 {
			cfg := with(a, addrs(t, "192.0.2.10/24"), []Route{route})
			cfg.Announce.Burst = 1 + i%2
			if err := a.Reconfigure(t.Context(), cfg); err != nil {
				t.Error(err)
			}
		}
		<-done
		k.hooked(nil)
		stopB()
		stopA()
	})
}

// TestSharedRouteByOtherName: one interface may have two names, since a Manager follows an
// interface that was renamed. The route that both Managers have is one route.
func TestSharedRouteByOtherName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		route := Route{Destination: netip.MustParsePrefix("198.51.100.0/24")}
		ns := newNamespace(k, nil)
		defer ns.Close()
		a, stopA := startIn(t, Config{Interface: "eth0", Addresses: addrs(t, "192.0.2.10/24"), Routes: []Route{route}, Namespace: ns})
		acquire(t, a)
		k.mu.Lock()
		k.links[0].name = "lan0"
		k.mu.Unlock()
		later := addrs(t, "192.0.2.11/24")
		later[0].Interface = "lan0"
		b, stopB := startIn(t, Config{Interface: "lan0", Addresses: later, Routes: []Route{route}, Namespace: ns})
		acquire(t, b)
		k.hooked(func(op string) error {
			if op == "remove route" {
				t.Error("the route was removed")
			}
			return nil
		})
		if err := b.Release(t.Context()); err != nil {
			t.Error(err)
		}
		k.hooked(nil)
		stopB()
		stopA()
	})
}
