package vrrp

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// watchedHandler is a FaultSource that counts who watches it.
type watchedHandler struct {
	fakeHandler
	watched, stopped int
}

func (h *watchedHandler) WatchFaults(f func(error, []string)) (stop func()) {
	h.watched++
	f(nil, nil)
	return func() { h.stopped++ }
}

// TestRunTwice: a second Run is an error, whenever it comes, and changes nothing for
// the first one.
func TestRunTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newFakeLAN().prepare(t, 1, Config{})
		h := &watchedHandler{}
		h.lan = a.handler.lan
		a.Router.handler = h
		a.run()
		time.Sleep(10 * time.Second)
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if err := a.Run(t.Context()); !errors.Is(err, ErrRunTwice) {
					t.Errorf("a second Run: %v, want ErrRunTwice", err)
				}
			})
		}
		all.Wait()
		a.is(Active)
		if h.watched != 1 || h.stopped != 0 {
			t.Errorf("the Handler was watched %d times and let go %d times, want 1 and 0", h.watched, h.stopped)
		}
		a.stop()
		if err := <-a.done; err != nil {
			t.Errorf("the first Run: %v", err)
		}
		a.done <- nil
		if err := a.Run(t.Context()); !errors.Is(err, ErrRunTwice) {
			t.Errorf("Run after Run: %v, want ErrRunTwice", err)
		}
	})
}

// TestUseAfterClose: after Close a method that cannot work returns ErrClosed, and a method
// for an Active router ErrNotActive. Other methods do nothing.
func TestUseAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		ran, idle := lan.prepare(t, 1, Config{}), lan.prepare(t, 2, Config{VRID: 52, Group: NewGroup("G")})
		ran.run()
		time.Sleep(10 * time.Second)
		ran.is(Active)
		cfg := ran.cfg
		for range 2 {
			if err := errors.Join(ran.conn.Close(), idle.conn.Close()); err != nil {
				t.Fatal(err)
			}
		}
		if err := <-ran.done; !errors.Is(err, ErrClosed) {
			t.Errorf("Run: %v, want ErrClosed", err)
		}
		ran.done <- nil
		for _, n := range []*node{ran, idle} {
			n.SetPriority(7)
			n.Hold("held")()
			n.Await("waiting")()
			_, reserveErr := n.Reserve(t.Context())
			_, _, farewellErr := n.Farewell()
			for what, err := range map[string]error{
				"Reserve":     reserveErr,
				"Reconfigure": n.Reconfigure(cfg),
				"Check":       n.conn.Check(cfg),
			} {
				if !errors.Is(err, ErrClosed) {
					t.Errorf("%v: %s: %v, want ErrClosed", n.name, what, err)
				}
			}
			for what, err := range map[string]error{"Resign": n.Resign(), "Farewell": farewellErr} {
				if !errors.Is(err, ErrNotActive) {
					t.Errorf("%v: %s: %v, want ErrNotActive", n.name, what, err)
				}
			}
			if s := n.Status(); s.State != Initialize || n.Entitled() || n.Meets(cfg) {
				t.Errorf("%v: state %v, entitled %v, meets %v", n.name, s.State, n.Entitled(), n.Meets(cfg))
			}
		}
		if err := idle.Run(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("Close before Run: %v, want ErrClosed", err)
		}
	})
}

// TestCloseWhileRunsBegin: many Runs begin while the Conn is closed. Each of them ends with
// ErrClosed, after its router has released the addresses.
func TestCloseWhileRunsBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := newFakeLAN().prepare(t, 1, Config{})
		routers := []*Router{first.Router}
		for vrid := uint8(1); vrid <= 20; vrid++ {
			r, err := NewRouter(Config{VRID: vrid, Source: first.addr}, first.conn, nil)
			if err != nil {
				t.Fatal(err)
			}
			routers = append(routers, r)
		}
		var all sync.WaitGroup
		for _, r := range routers {
			all.Go(func() {
				if err := r.Run(t.Context()); !errors.Is(err, ErrClosed) {
					t.Errorf("%v: %v, want ErrClosed", r.name, err)
				}
			})
		}
		all.Go(func() { first.conn.Close() })
		all.Wait()
	})
}

// TestNilArguments: a required argument that is nil is an error.
func TestNilArguments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newFakeLAN().prepare(t, 1, Config{})
		var none context.Context
		_, routerErr := NewRouter(Config{VRID: 51}, nil, nil)
		_, reserveErr := a.Reserve(none)
		conn, listenErr := Listen(ListenConfig{Interface: "eth0", Open: func(uint8) (PacketConn, error) { return nil, nil }})
		if listenErr == nil { // a fault of its routers
			defer conn.Close()
			listenErr = conn.Check(Config{VRID: 51, Source: a.addr})
		}
		for what, err := range map[string]error{
			"NewRouter without a Conn":        routerErr,
			"Run without a context":           a.Run(none),
			"Reserve without a context":       reserveErr,
			"Open that returns no PacketConn": listenErr,
		} {
			if err == nil {
				t.Errorf("%s: no error", what)
			}
		}
	})
}

// TestFarewellOfBackup: a router that is not Active has no farewell: that would take the
// addresses from the Active router.
func TestFarewellOfBackup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a, b := lan.node(t, 1, Config{Priority: 120, Group: NewGroup("G")}), lan.node(t, 2, Config{Priority: 110})
		time.Sleep(10 * time.Second)
		packets, _, err := a.Farewell()
		if err != nil || len(packets) != 1 || packets[0].Header != nil {
			t.Errorf("the Active one: %v, header %v; want one packet without a header", err, packets)
		}
		if packets, _, err := b.Farewell(); !errors.Is(err, ErrNotActive) || packets != nil {
			t.Errorf("the Backup: %v, %v, want ErrNotActive", packets, err)
		}
		defer a.Hold("check web failed")()
		if _, _, err := a.Farewell(); !errors.Is(err, ErrNotActive) {
			t.Errorf("one with a fault: %v, want ErrNotActive", err)
		}
	})
}

// TestVRIDInUse: the error names the router that has the VRID, and is an ErrVRIDInUse.
func TestVRIDInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newFakeLAN().node(t, 1, Config{})
		r, err := NewRouter(Config{VRID: 51, Name: "second"}, a.conn, nil)
		if err != nil {
			t.Fatal(err)
		}
		want := "vrrp: second: interface eth0: VRID 51 is taken by router 51/IPv4"
		for range 2 {
			if err := r.Run(t.Context()); !errors.Is(err, ErrVRIDInUse) || err.Error() != want {
				t.Errorf("Run: %v, want %s, ErrVRIDInUse", err, want)
			}
		}
	})
}
