package vrrp

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// foreseeing is a Handler that knows its faults.
type foreseeing struct {
	Handler

	mu      sync.Mutex
	watcher func(error, []string)
	faults  []string
	silent  bool // it has not reported yet
}

func (h *foreseeing) WatchFaults(f func(error, []string)) (stop func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.watcher = f
	if !h.silent {
		go f(nil, h.faults)
	}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.watcher = nil
	}
}

func (h *foreseeing) say(faults ...string) {
	h.mu.Lock()
	h.faults = faults
	f := h.watcher
	h.mu.Unlock()
	f(nil, faults)
	synctest.Wait()
}

// lose reports that the addresses were lost, and that there is no fault now.
func (h *foreseeing) lose(why error) {
	h.mu.Lock()
	f := h.watcher
	h.mu.Unlock()
	f(why, nil)
	synctest.Wait()
}

// foresee gives a node that does not run yet a Handler that knows its faults.
func (n *node) foresee(faults ...string) *foreseeing {
	h := &foreseeing{Handler: n.handler, faults: faults}
	n.Router.handler = h
	return h
}

func (n *node) hasFault(want string) {
	n.t.Helper()
	synctest.Wait()
	if got := strings.Join(n.Status().Faults, ", "); got != want {
		n.t.Errorf("%v at %v: fault %q, want %q", n.addr, n.handler.lan.now(), got, want)
	}
}

// TestRouterForeseenFault: a router that could not hold the addresses takes nothing from
// the Active router, however long that lasts, and preempts it when it could.
func TestRouterForeseenFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		b := lan.node(t, 2, Config{Priority: 110})
		time.Sleep(10 * time.Second)
		b.is(Active)
		a := lan.prepare(t, 1, Config{Priority: 120})
		h := a.foresee("link eth1 down")
		a.run()
		a.hasFault("link eth1 down")
		time.Sleep(time.Hour)
		if sent := lan.from(a.addr); len(sent) > 0 {
			t.Errorf("%d advertisements of a router that could not serve", len(sent))
		}
		h.say()
		time.Sleep(5 * time.Second)
		a.is(Active)
		b.is(Backup)
		h.say("link eth1 down", "IPv6 disabled on eth1")
		a.hasFault("link eth1 down, IPv6 disabled on eth1")
		time.Sleep(skew3(110))
		b.is(Active)
		time.Sleep(time.Hour)
		if got := b.Status().Counters.Transitions; got != 4 { // Backup, Active, Backup, Active
			t.Errorf("%d transitions of the one that can serve, want 4", got)
		}
		// The link's own fault is not said twice.
		a.net.change(linkEvent{index: 1, name: "eth0"}, func(nif *netif) { nif.up = false })
		h.say("link eth0 down", "link eth1 down")
		a.hasFault("link eth0 down, link eth1 down")
		// Nor is another one, of who has looked earlier or later.
		a.net.change(linkEvent{index: 1, name: "eth0"}, func(nif *netif) { nif.index = 0 })
		a.hasFault("link eth0 missing, link eth1 down")
	})
}

// TestRouterLostAddresses: an Active router that has lost its addresses holds the election
// again.
func TestRouterLostAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a := lan.prepare(t, 1, Config{Priority: 120})
		h := a.foresee()
		a.run()
		time.Sleep(10 * time.Second)
		b := lan.node(t, 2, Config{Priority: 110, NoPreempt: true})
		a.is(Active)
		h.lose(errors.New("lapsed"))
		time.Sleep(skew3(110))
		b.is(Active)
		time.Sleep(5 * time.Second)
		a.is(Active)
		if got := a.history()[2:4]; got[0] != "10s Initialize: fault" || got[1] != "10s Backup: fault cleared" {
			t.Errorf("transitions %q", got)
		}
	})
}

// leased is a foreseeing Handler whose lease has lapsed.
type leased struct{ *foreseeing }

func (leased) Lapsed() bool { return true }

// TestRouterLostAddressesAndTime: an Active router that was not run, and has lost its
// addresses, steps down for the first reason alone. A Backup does not step down.
func TestRouterLostAddressesAndTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a := lan.prepare(t, 1, Config{Priority: 120})
		h := a.foresee()
		a.Router.handler, a.machine.lapsed = leased{h}, leased{h}.Lapsed
		a.run()
		time.Sleep(10 * time.Second)
		a.is(Active)
		n := len(a.history())
		a.conn.mu.Lock()
		a.machine.sent = a.machine.sent.Add(-time.Minute)
		a.conn.mu.Unlock()
		for range 2 {
			h.lose(errors.New("lapsed"))
			if got := a.history()[n:]; len(got) != 1 || got[0] != "10s Backup: did not run for too long" {
				t.Fatalf("transitions %q", got)
			}
		}
		// Nor does a Backup take over by that, before it has heard what has arrived.
		a.conn.mu.Lock()
		a.machine.timer = time.Now().Add(-time.Millisecond)
		a.conn.mu.Unlock()
		h.lose(errors.New("lapsed"))
		if got := a.history()[n+1:]; len(got) != 1 || got[0] != "10s Active: no advertisement in time" {
			t.Errorf("transitions %q of a Backup that hears nothing", got)
		}
	})
}

// TestRouterAwaitsHandler: a router takes no part, and sends nothing, before its Handler
// has reported that it could hold the addresses. A Handler that reports nothing is a fault.
func TestRouterAwaitsHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a := lan.prepare(t, 1, Config{Priority: 255})
		h := a.foresee()
		h.silent = true
		a.run()
		time.Sleep(handlerTime - time.Nanosecond)
		a.is(Initialize)
		if got := a.history(); len(got) != 0 {
			t.Errorf("transitions %q before the first word", got)
		}
		time.Sleep(time.Nanosecond)
		a.hasFault(notReady)
		if got := len(a.history()); got != 1 {
			t.Errorf("%d transitions, want 1: a fault", got)
		}
		h.say()
		a.is(Active)

		b := lan.prepare(t, 2, Config{VRID: 52, Priority: 255})
		h = b.foresee()
		h.silent = true
		b.run()
		time.Sleep(time.Second)
		h.say()
		b.is(Active)
		if got := len(b.history()); got != 1 {
			t.Errorf("%d transitions of one that waited for a second, want 1", got)
		}
		c := lan.prepare(t, 3, Config{VRID: 53})
		c.foresee().silent = true
		c.run()
		c.stop()
		select {
		case <-c.done:
			c.done <- nil
		case <-time.After(time.Second):
			t.Error("Run waits for the Handler although its context is done")
		}
	})
}

// TestRouterFutilePreemption: a router that fails to get its addresses tries again: less
// and less often while another router serves, at once when its Handler reports a change,
// and soon when the other router has gone.
func TestRouterFutilePreemption(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		b := lan.node(t, 2, Config{Priority: 110})
		a := lan.prepare(t, 1, Config{Priority: 120})
		h := a.foresee()
		var mended atomic.Bool
		a.handler.during = func(_ context.Context, call string) error {
			if call == "acquire" && !mended.Load() {
				return errors.New("no")
			}
			return nil
		}
		tries := func() (n int) {
			for _, s := range lan.from(a.addr) {
				if s.priority == 0 {
					n++
				}
			}
			return n
		}
		a.run()
		time.Sleep(2 * time.Hour)
		if got := tries(); got < 11 || got > 13 {
			t.Errorf("%d tries in two hours, want 1 and then one after each of 1, 2, 4... s", got)
		}
		a.hasFault("addresses: no")
		b.is(Active)
		before := tries()
		for range 60 {
			h.say()
			time.Sleep(10 * time.Second)
		}
		if got := tries() - before; got < 8 || got > 10 {
			t.Errorf("%d tries in ten minutes while something changes all the time, want one a minute", got)
		}
		before = tries()
		// Nobody serves: the addresses must not be orphaned.
		b.stop()
		time.Sleep(firstRetry + 4*time.Second)
		if got := tries(); got != before+1 {
			t.Errorf("%d tries within a second and a time of listening after the other one has left, want 1", got-before)
		}
		time.Sleep(time.Minute)
		if got := tries() - before; got < 4 {
			t.Errorf("%d tries in a minute while nobody serves, want one each 15 s", got)
		}
		mended.Store(true)
		time.Sleep(lonelyRetry + 5*time.Second)
		a.is(Active)
		a.hasFault("")
	})
}

// TestRouterFutileGroup: a member that could not hold its addresses keeps all of its
// group out.
func TestRouterFutileGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		g := NewGroup("G")
		in := lan.prepare(t, 1, Config{Name: "in", Group: g})
		out := lan.prepare(t, 2, Config{Name: "out", Group: g, VRID: 52, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.251")}})
		h := in.foresee("link eth1 down")
		in.run()
		out.run()
		time.Sleep(10 * time.Second)
		out.is(Initialize)
		out.hasFault("group G: member in: link eth1 down")
		h.say()
		time.Sleep(10 * time.Second)
		in.is(Active)
		out.is(Active)
	})
}

// TestRouterFailsWhileGroupMoves: an attempt fails after the group has made the router give
// way and take over once more, which its loop has not noticed yet. The router tries again.
func TestRouterFailsWhileGroupMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGroup("G")
		a := newFakeLAN().prepare(t, 1, Config{Group: g})
		fail := make(chan struct{})
		var once sync.Once
		a.handler.during = func(_ context.Context, call string) (err error) {
			if call == "acquire" {
				once.Do(func() {
					<-fail
					err = errors.New("no")
				})
			}
			return err
		}
		a.run()
		time.Sleep(5 * time.Second)
		a.is(Active)
		a.conn.mu.Lock()
		g.lock()
		a.moved = append(a.moved, Action{Kind: Release}, Action{Kind: Acquire})
		g.unlock()
		close(fail)
		a.conn.mu.Unlock()
		a.hasFault("addresses: no")
		time.Sleep(firstRetry + 5*time.Second)
		a.is(Active)
		a.hasFault("")
	})
}
