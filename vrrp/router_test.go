package vrrp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/havip/havip/internal/memlan"
)

// skew3 is version 3's skew at an interval of 1 s.
func skew3(priority int) time.Duration { return time.Duration(256-priority) * time.Second / 256 }

func TestRouterFailover(t *testing.T) {
	for name, cfg := range map[string]Config{
		"multicast v3":  {},
		"multicast v2":  {Version: 2},
		"unicast v3":    {Peers: addrs("192.0.2.1", "192.0.2.2", "192.0.2.3")},
		"unicast PASS":  {Version: 2, Peers: addrs("192.0.2.1", "192.0.2.2"), Auth: Auth{Type: AuthPass, Password: "d0cker"}},
		"multicast AH":  {Version: 2, Auth: Auth{Type: AuthAH, Password: "d0cker"}},
		"unicast AH":    {Version: 2, Peers: addrs("192.0.2.1", "192.0.2.2"), Auth: Auth{Type: AuthAH, Password: "d0cker"}},
		"HMAC":          {Auth: Auth{Type: AuthHMAC, HMAC: HMACConfig{Keys: []Key{{ID: 1, Secret: make([]byte, 32)}}}}},
		"IPv6":          {Addresses: addrs("fe80::250", "2001:db8::250")},
		"IPv6, unicast": {Addresses: addrs("fe80::250"), Peers: addrs("fe80::1", "fe80::2")},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lan := newFakeLAN()
				start := func(host byte, priority uint8) *node {
					cfg := cfg
					cfg.Priority = priority
					return lan.node(t, host, cfg)
				}
				a, b := start(1, 120), start(2, 110)
				down := 3*time.Second + skew3(120)
				time.Sleep(down)
				a.is(Active)
				b.is(Backup)

				// The last advertisement before the cable is out is sent at
				// down + 2 s.
				time.Sleep(2500 * time.Millisecond)
				lan.cut(a.addr, true)
				at := down + 2*time.Second + 3*time.Second + skew3(110)
				time.Sleep(at - lan.now() - 1)
				b.is(Backup)
				time.Sleep(time.Nanosecond)
				b.is(Active)
				if !b.handler.held {
					t.Error("the new Active router has no addresses")
				}

				// The split heals: the lower priority gives way at the next advertisement
				// of either router.
				lan.cut(a.addr, false)
				time.Sleep(2 * time.Second)
				a.is(Active)
				b.is(Backup)
				if b.handler.held {
					t.Error("the Backup still has the addresses")
				}
			})
		})
	}
}

func TestRouterShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a, b := lan.node(t, 1, Config{Priority: 120}), lan.node(t, 2, Config{Priority: 110})
		time.Sleep(10 * time.Second)
		a.is(Active)

		a.handler.during = func(ctx context.Context, call string) error {
			if last := lan.from(a.addr); last[len(last)-1].priority != 0 {
				t.Errorf("%s is called before priority 0 was sent", call)
			}
			select {
			case <-a.done:
				t.Error("Run returned before Release did")
			case <-ctx.Done():
				t.Error("Release must not end with the context of Run")
			case <-time.After(5 * time.Second):
			}
			return nil
		}
		a.stop()
		synctest.Wait()
		b.is(Backup)
		time.Sleep(skew3(110))
		b.is(Active) // although a's Release still runs
		a.is(Initialize)
		time.Sleep(5 * time.Second)
		if err := <-a.done; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
		a.done <- nil // for the cleanup
		if a.handler.held {
			t.Error("the addresses were not released")
		}
	})
}

// TestRouterSendsFirst: the peers hear of a change before the Handler carries it out.
func TestRouterSendsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a := lan.prepare(t, 1, Config{Priority: 255})
		calls := 0
		a.port().Refuse = func(p Packet) error {
			if got := len(a.handler.log()); got != calls || a.work.inCall() {
				t.Errorf("%d calls of the Handler before the advertisement of priority %d, want %d", got, p.Data[2], calls)
			}
			a.work.mu.Lock()
			defer a.work.mu.Unlock()
			if len(a.work.queue) != 0 {
				t.Errorf("the Handler is to be called before the advertisement of priority %d", p.Data[2])
			}
			return nil
		}
		a.run()
		lan.Mu.Lock()
		calls = 2
		lan.Mu.Unlock()
		a.Hold("test")
		synctest.Wait()
		if got := len(a.handler.log()); got != 3 {
			t.Errorf("%d calls, want acquire, announce, release", got)
		}
	})
}

// TestRouterOwnPackets: a router's own packets, looped back, are not taken for another
// router's.
func TestRouterOwnPackets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a := lan.prepare(t, 1, Config{Priority: 255})
		a.port().Refuse = func(p Packet) error {
			p.Data = slices.Clone(p.Data)
			a.port().Receive(p)
			return nil
		}
		a.run()
		time.Sleep(2500 * time.Millisecond)
		c := a.Status().Counters
		if c.Dropped[DropOwn] != 3 || c.Received != 0 {
			t.Errorf("dropped %v, received %d; want 3 own ones and 0", c.Dropped, c.Received)
		}
	})
}

func TestRouterHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a, b := lan.prepare(t, 1, Config{Priority: 120, NoPreempt: true}), lan.node(t, 2, Config{Priority: 110})
		before := a.Hold("starting")
		a.run()
		time.Sleep(10 * time.Second)
		a.is(Initialize)
		b.is(Active)
		before()
		b.stop()
		time.Sleep(10 * time.Second)
		a.is(Active)

		web1, web2, disk := a.Hold("web"), a.Hold("web"), a.Hold("disk")
		if got, want := strings.Join(a.Status().Faults, ", "), "disk, web"; got != want {
			t.Errorf("fault %q, want %q", got, want)
		}
		a.is(Initialize)
		if last := lan.from(a.addr); last[len(last)-1].priority != 0 {
			t.Error("an Active router that is held does not hand over with priority 0")
		}
		disk()
		web1()
		web1() // once more: does nothing
		if got, want := strings.Join(a.Status().Faults, ", "), "web"; got != want {
			t.Errorf("fault %q, want %q", got, want)
		}
		web2()
		a.is(Backup)

		nameless := a.Hold("")
		a.is(Initialize)
		if got, want := strings.Join(a.Status().Faults, ", "), "held"; got != want {
			t.Errorf("fault %q, want %q", got, want)
		}
		nameless()
		a.is(Backup)
	})
}

func TestRouterResign(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a, b := lan.node(t, 1, Config{Priority: 120}), lan.node(t, 2, Config{Priority: 110})
		time.Sleep(10 * time.Second)
		if err := b.Resign(); err == nil {
			t.Error("a Backup cannot resign")
		}
		if err := a.Resign(); err != nil {
			t.Error(err)
		}
		time.Sleep(skew3(110))
		b.is(Active)
		a.is(Backup)
		time.Sleep(time.Minute)
		a.is(Backup)
		b.stop()
		time.Sleep(skew3(120))
		a.is(Active)
		// Alone it keeps the addresses.
		before := a.Status().Since
		if err := a.Resign(); err != nil {
			t.Error(err)
		}
		time.Sleep(10 * time.Second)
		a.is(Active)
		if got := a.Status(); got.Since != before || got.HandingOver {
			t.Errorf("Active since %v, want %v; handing over: %v", got.Since, before, got.HandingOver)
		}
	})
}

func TestRouterSetPriority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a, b := lan.node(t, 1, Config{Priority: 120}), lan.node(t, 2, Config{Priority: 110})
		time.Sleep(10 * time.Second)
		a.is(Active)
		a.SetPriority(100)
		time.Sleep(10 * time.Second)
		a.is(Backup)
		b.is(Active)
		if got := a.Status().Priority; got != 100 {
			t.Errorf("priority %d, want 100", got)
		}
	})
}

// TestRouterHearsBeforeItActs: a Backup that was not run for a while, with an
// advertisement of the Active router at the end of a long queue, does not take over.
func TestRouterHearsBeforeItActs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a, b := lan.node(t, 1, Config{Priority: 255}), lan.node(t, 2, Config{Priority: 110})
		time.Sleep(1500 * time.Millisecond)
		freeze := func(frozen bool) { lan.Each(b.addr, func(p *memlan.Port[Packet]) { p.Frozen = frozen }) }
		freeze(true)
		lan.Mu.Lock()
		stranger := Packet{Data: make([]byte, 20), Source: a.addr, Destination: groupIPv4, TTL: 255, Protocol: protocolVRRP}
		for range 5 * readBatch {
			b.port().Receive(stranger)
		}
		lan.Mu.Unlock()
		time.Sleep(4 * time.Second)
		freeze(false)
		b.is(Backup)
		if got := b.conn.Counters().Dropped[DropVRID]; got != 5*readBatch {
			t.Errorf("%d packets of VRID 0 counted, want %d", got, 5*readBatch)
		}
		if got := b.history(); len(got) != 1 {
			t.Errorf("transitions %q, want only the first", got)
		}
	})
}

func TestRouterSendErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		// The own address may be among them: hosts like to share a list.
		peers := addrs("192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.1")
		a := lan.prepare(t, 1, Config{Priority: 255, Peers: peers})
		a.port().Refuse = func(p Packet) error {
			if p.Destination == peers[1] {
				return errors.New("network is unreachable")
			}
			return nil
		}
		a.run()
		time.Sleep(2500 * time.Millisecond)
		c := a.Status().Counters
		if c.Sent != 6 || c.SendErrors != 3 {
			t.Errorf("sent %d, errors %d; want 6 and 3: the other peers must not suffer", c.Sent, c.SendErrors)
		}
		a.is(Active)
	})
}

// TestRouterRunsAfterFailure: a router that its Conn could not take runs when the Conn can
// take it, in its group again and with its faults.
func TestRouterRunsAfterFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		g := NewGroup("G")
		a, b := lan.node(t, 1, Config{Group: g}), lan.prepare(t, 2, Config{VRID: 52, Group: g, Addresses: addrs("192.0.2.251")})
		release := b.Hold("check web")
		other, err := NewRouter(Config{VRID: 52, Addresses: addrs("192.0.2.252")}, b.conn, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, end := context.WithCancel(t.Context())
		go other.Run(ctx)
		synctest.Wait()
		for range 2 {
			if err := b.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "VRID 52 is taken by router") {
				t.Fatalf("Run: %v", err)
			}
			time.Sleep(10 * time.Second)
			a.is(Active)
		}
		end()
		time.Sleep(2 * time.Second)
		b.run()
		b.is(Initialize)
		a.is(Initialize)
		release()
		time.Sleep(10 * time.Second)
		a.is(Active)
		b.is(Active)
	})
}

// TestRouterReconfigured: the cause of Run's context can say that another router takes the
// place of this one, and why.
func TestRouterReconfigured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a := lan.prepare(t, 1, Config{})
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan error, 1)
		go func() { done <- a.Run(ctx) }()
		time.Sleep(10 * time.Second)
		a.is(Active)
		cancel(fmt.Errorf("%w: vrid, version", ErrReconfigured))
		if err := <-done; err != nil {
			t.Error(err)
		}
		tr := a.transitions[len(a.transitions)-1]
		if tr.Cause != CauseReconfigured || tr.Cause.String() != "reconfigured" || tr.Reason != "vrid, version" || tr.To != Initialize {
			t.Errorf("the last transition is %+v", tr)
		}
	})
}

func TestRouterErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a := lan.node(t, 1, Config{})
		cfg := Config{VRID: 51, Addresses: addrs("192.0.2.250")}
		again, err := NewRouter(cfg, a.conn, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := again.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "VRID 51 is taken by router") {
			t.Errorf("a second router with the VRID: %v", err)
		}
		if err := a.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "only once") {
			t.Errorf("Run twice: %v", err)
		}
		if _, err := NewRouter(Config{VRID: 1, Addresses: addrs("fe80::1")}, a.conn, nil); err == nil || !strings.Contains(err.Error(), "is for IPv4") {
			t.Errorf("IPv6 on an IPv4 Conn: %v", err)
		}
		if _, err := NewRouter(Config{}, a.conn, nil); err == nil {
			t.Error("an invalid Config is accepted")
		}
		a.conn.Close()
		synctest.Wait()
		if err := <-a.done; !errors.Is(err, ErrClosed) {
			t.Errorf("Run after Close = %v, want ErrClosed", err)
		}
		a.done <- nil
		if a.handler.held {
			t.Error("Close leaves the addresses")
		}
		if err := again.Run(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("Run again after Close = %v, want ErrClosed", err)
		}
		late, err := NewRouter(cfg, a.conn, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := late.Run(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("Run on a closed Conn = %v, want ErrClosed", err)
		}
	})
}

// TestRouterWithoutAddresses: routers without addresses elect one of them all the same, and
// ignore a router with addresses and the same VRID.
func TestRouterWithoutAddresses(t *testing.T) {
	for name, cfg := range map[string]Config{
		"version 2": {Version: 2}, "version 3": {}, "IPv6": {IPv6: true},
		"unicast": {Peers: addrs("192.0.2.1", "192.0.2.2", "192.0.2.3")},
		"HMAC":    {Auth: Auth{Type: AuthHMAC, HMAC: HMACConfig{Keys: []Key{{ID: 1, Secret: make([]byte, 32)}}}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lan := newFakeLAN()
				ours, theirs := cfg, cfg
				ours.Addresses, ours.Priority, theirs.Priority = []netip.Addr{}, 120, 200
				if cfg.IPv6 {
					theirs.Addresses = addrs("fe80::250")
				}
				a := lan.node(t, 1, ours)
				ours.Priority = 110
				b, stranger := lan.node(t, 2, ours), lan.node(t, 3, theirs)
				time.Sleep(20 * time.Second)
				a.is(Active)
				b.is(Backup)
				stranger.is(Active)
				if n := a.Status().Counters.Dropped[DropCount]; n < 10 {
					t.Errorf("%d advertisements of a router with addresses dropped, want each", n)
				}
				a.stop()
				time.Sleep(time.Second)
				b.is(Active)
				if !b.handler.held || a.handler.held {
					t.Error("the handlers do not follow the state")
				}
			})
		})
	}
}

// TestConn255Routers: one Conn, every VRID, in both roles.
func TestConn255Routers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		conns := make([]*Conn, 2)
		routers := make([][]*Router, 2)
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error)
		for i := range conns {
			source := netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)})
			var err error
			conns[i], err = Listen(ListenConfig{Interface: "lan", Open: func(protocol uint8) (PacketConn, error) {
				return lan.port(source, protocol), nil
			}})
			if err != nil {
				t.Fatal(err)
			}
			for vrid := 1; vrid <= 255; vrid++ {
				r, err := NewRouter(Config{
					VRID: uint8(vrid), Priority: uint8(100 + 10*((i+vrid)%2)), Interval: 10 * time.Millisecond,
					Addresses: []netip.Addr{netip.AddrFrom4([4]byte{198, 51, 100, byte(vrid)})}, Source: source,
				}, conns[i], nil)
				if err != nil {
					t.Fatal(err)
				}
				routers[i] = append(routers[i], r)
				go func() { done <- r.Run(ctx) }()
			}
		}
		time.Sleep(time.Second)
		for i := range routers {
			for _, r := range routers[i] {
				want := Backup
				if (i+int(r.cfg.VRID))%2 == 1 {
					want = Active
				}
				if s := r.Status(); s.State != want || s.Counters.Transitions > 2 {
					t.Errorf("node %d VRID %d: %v after %d transitions, want %v", i, r.cfg.VRID, s.State, s.Counters.Transitions, want)
				}
			}
		}
		stop()
		for range 2 * 255 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		for _, c := range conns {
			c.Close()
		}
	})
}
