package vrrp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// holds reports whether the Handler has the addresses.
func (h *fakeHandler) holds() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.held
}

// wantHolders checks which of the nodes have the addresses after everything that happens
// now has happened.
func wantHolders(t *testing.T, when string, want string, nodes ...*node) {
	t.Helper()
	synctest.Wait()
	got := ""
	for i, n := range nodes {
		if n.handler.holds() {
			got += string(rune('a' + i))
		}
	}
	if got != want {
		t.Errorf("%s: %q have the addresses, want %q", when, got, want)
	}
}

// TestRouterHandsOver: whatever the way to leave and the kind of advertisement, there is a
// holder at each moment, the next one becomes Active after its skew time, and the former
// one has the addresses for no longer than that.
func TestRouterHandsOver(t *testing.T) {
	key := HMACConfig{Keys: []Key{{ID: 1, Secret: []byte(strings.Repeat("k", 32))}}}
	v6 := addrs("fe80::250", "2001:db8::250")
	kinds := map[string]Config{
		"version 3":  {},
		"version 2":  {Version: 2},
		"100 ms":     {Interval: 100 * time.Millisecond},
		"10 ms":      {Interval: 10 * time.Millisecond},
		"unicast":    {Version: 2, NoPreempt: true, Auth: Auth{Type: AuthPass, Password: "d0cker"}, Peers: addrs("192.0.2.1", "192.0.2.2")},
		"AH":         {Version: 2, Auth: Auth{Type: AuthAH, Password: "d0cker"}},
		"HMAC":       {Auth: Auth{Type: AuthHMAC, HMAC: key}},
		"IPv6":       {Addresses: v6},
		"the owner":  {Priority: 255},
		"in a group": {Group: NewGroup("G")},
	}
	ways := map[string]func(n *node){
		"resign":     func(n *node) { n.Resign() },
		"stand down": func(n *node) { n.StandDown("maintenance") },
		"stop":       func(n *node) { n.stop() },
	}
	for kind, cfg := range kinds {
		for way, leave := range ways {
			t.Run(kind+"/"+way, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					lan := newFakeLAN()
					one, two := cfg, cfg
					if one.Priority == 0 {
						one.Priority = 120
					}
					if cfg.Group != nil {
						one.Group = NewGroup("G")
					}
					two.Priority, two.Group = 110, nil
					a, b := lan.node(t, 1, one), lan.node(t, 2, two)
					time.Sleep(10 * time.Second)
					wantHolders(t, "before", "a", a, b)
					leave(a)
					skew := skewOf(110, max(cfg.Interval, time.Duration(cfg.Version/2%2)*time.Second))
					if cfg.Interval == 0 {
						skew = skewOf(110, time.Second)
					}
					time.Sleep(skew - 1)
					wantHolders(t, "before the successor", "a", a, b)
					if s := a.Status(); !s.HandingOver || s.State != Active {
						t.Errorf("state %v, handing over: %v", s.State, s.HandingOver)
					}
					time.Sleep(time.Nanosecond)
					wantHolders(t, "at the successor's advertisement", "b", a, b)
					if s := a.Status(); s.HandingOver || s.State == Active {
						t.Errorf("state %v, handing over: %v", s.State, s.HandingOver)
					}
					b.is(Active)
					time.Sleep(20 * time.Second)
					wantHolders(t, "later", "b", a, b)
				})
			})
		}
	}
}

// TestRouterStopEnds: Run returns when the addresses are released, after 200 ms more than
// the longest skew time in the worst case.
func TestRouterStopEnds(t *testing.T) {
	for name, tc := range map[string]struct {
		cfg  Config
		more func(n *node) // half a second after the stop
		want time.Duration
		err  error
	}{
		"nobody there":   {want: 1200 * time.Millisecond},
		"a second stop":  {more: func(n *node) { n.conn.mu.Lock(); n.Router.stop(nil, nil); n.conn.mu.Unlock() }, want: 1200 * time.Millisecond},
		"resigned":       {more: func(n *node) { n.Resign() }, want: 1200 * time.Millisecond},
		"another faster": {cfg: Config{Interval: 10 * time.Millisecond}, want: 210 * time.Millisecond},
		"a fault":        {more: func(n *node) { n.Hold("check web is down") }, want: 500 * time.Millisecond},
		"the link is cut": {more: func(n *node) {
			n.net.change(linkEvent{index: 1}, func(nif *netif) { nif.up = false })
		}, want: 500 * time.Millisecond},
		"the Conn is closed": {more: func(n *node) { n.conn.Close() }, want: 500 * time.Millisecond, err: ErrClosed},
		"changed": {more: func(n *node) {
			if err := n.reconfigure(func(c *Config) { c.Addresses = addrs("192.0.2.250", "192.0.2.251") }); err != nil {
				n.t.Error(err)
			}
		}, want: 1200 * time.Millisecond},
		"no overlap": {cfg: Config{NoOverlap: true}, want: 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lan := newFakeLAN()
				n := lan.prepare(t, 1, tc.cfg)
				ctx, stop := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- n.Run(ctx) }()
				time.Sleep(10 * time.Second)
				n.is(Active)
				began := time.Now()
				stop()
				if tc.more != nil {
					time.Sleep(500 * time.Millisecond)
					n.is(Active)
					tc.more(n)
				}
				err := <-done
				if took := time.Since(began); took != tc.want || !errors.Is(err, tc.err) {
					t.Errorf("Run returned after %v with %v, want %v and %v", took, err, tc.want, tc.err)
				}
				zeros := 0
				for _, s := range lan.from(n.addr) {
					if s.priority == 0 {
						zeros++
					}
				}
				if last := lan.from(n.addr); zeros != 1 || last[len(last)-1].priority != 0 {
					t.Errorf("%d advertisements of priority 0, want one, and none after it: %v", zeros, last)
				}
				if n.handler.holds() || n.Status().State != Initialize {
					t.Errorf("state %v, addresses held: %v", n.Status().State, n.handler.holds())
				}
				if err := n.Run(t.Context()); !errors.Is(err, ErrRunTwice) {
					t.Errorf("Run again: %v", err)
				}
			})
		})
	}
}

// TestRouterHandsOverVRID: the VRID is free when Run has returned, and not before.
func TestRouterHandsOverVRID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a := lan.node(t, 1, Config{})
		time.Sleep(10 * time.Second)
		next, err := NewRouter(Config{VRID: 51, Addresses: addrs("192.0.2.250")}, a.conn, nil)
		if err != nil {
			t.Fatal(err)
		}
		a.stop()
		time.Sleep(time.Second)
		if err := next.Run(t.Context()); !errors.Is(err, ErrVRIDInUse) {
			t.Errorf("while the router hands over: %v, want ErrVRIDInUse", err)
		}
		time.Sleep(time.Second)
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		if err := next.Run(ctx); err != nil {
			t.Errorf("after that: %v", err)
		}
	})
}

// TestRouterLosesAddressesWhileLeaving: addresses that are lost are no longer kept.
func TestRouterLosesAddressesWhileLeaving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a := lan.node(t, 1, Config{})
		time.Sleep(10 * time.Second)
		if err := a.Resign(); err != nil {
			t.Fatal(err)
		}
		a.noteFaults(errors.New("somebody removed them"), nil)
		a.is(Backup)
		wantHolders(t, "after the loss", "", a)
		if packets, _, err := a.Farewell(); err == nil {
			t.Errorf("farewell %v", packets)
		}
	})
}

// departing is a Handler that is told of hand-overs.
type departing struct{ *fakeHandler }

func (d departing) Depart(ctx context.Context, within time.Duration) error {
	return d.call(ctx, "depart within "+within.String()+" at")
}

// TestHandlerHearsOfHandOver: the Handler is told when a hand-over begins, once, and learns
// how it ends.
func TestHandlerHearsOfHandOver(t *testing.T) {
	for name, tc := range map[string]struct {
		cfg   Config
		leave func(n *node)
		want  string
	}{
		"nobody takes over": {Config{}, func(n *node) { n.Resign() }, "depart within 1.2s at 10s, announce 12.4s"},
		"stop":              {Config{Interval: 10 * time.Millisecond}, func(n *node) { n.stop() }, "depart within 210ms at 10s, release 10.21s"},
		"at once":           {Config{NoOverlap: true}, func(n *node) { n.StandDown("maintenance") }, "release 10s"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newFakeLAN().prepare(t, 1, tc.cfg)
				n.Router.handler = departing{n.handler}
				n.run()
				time.Sleep(10 * time.Second)
				before := len(n.handler.log())
				tc.leave(n)
				time.Sleep(10 * time.Second)
				if got := strings.Join(n.handler.log()[before:], ", "); got != tc.want {
					t.Errorf("calls %s, want %s", got, tc.want)
				}
			})
		})
	}
}

// TestDepartIsOvertaken: a Handler that is slow to hear of a hand-over still releases in
// time.
func TestDepartIsOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeLAN().prepare(t, 1, Config{})
		n.Router.handler = departing{n.handler}
		n.handler.during = func(ctx context.Context, call string) error {
			if strings.HasPrefix(call, "depart") {
				<-ctx.Done()
			}
			return ctx.Err()
		}
		n.run()
		time.Sleep(10 * time.Second)
		n.StandDown("maintenance")
		time.Sleep(1200 * time.Millisecond)
		wantHolders(t, "at the end", "", n)
	})
}

// TestFarewellWhileLeaving: a router that has sent priority 0 leaves no second one to the
// guard: it would make the successor wait again.
func TestFarewellWhileLeaving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newFakeLAN().node(t, 1, Config{})
		time.Sleep(10 * time.Second)
		if _, _, err := a.Farewell(); err != nil {
			t.Error(err)
		}
		a.Resign()
		if _, _, err := a.Farewell(); !errors.Is(err, ErrNotActive) {
			t.Errorf("while it hands over: %v, want ErrNotActive", err)
		}
		time.Sleep(10 * time.Second)
		if _, _, err := a.Farewell(); err != nil {
			t.Errorf("as nobody has taken over: %v", err)
		}
	})
}

// TestRouterHandsOverDeaf: a router that hears nothing keeps its addresses no longer than
// the longest skew time and 200 ms.
func TestRouterHandsOverDeaf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a, b := lan.node(t, 1, Config{Priority: 120}), lan.node(t, 2, Config{Priority: 110})
		time.Sleep(10 * time.Second)
		a.StandDown("maintenance")
		synctest.Wait()
		lan.cut(a.addr, true)
		time.Sleep(1200*time.Millisecond - 1)
		wantHolders(t, "the successor is not heard", "ab", a, b)
		time.Sleep(time.Nanosecond)
		wantHolders(t, "at the end", "b", a, b)
		a.is(Initialize)
	})
}

// TestHandOverToUnread: a successor whose advertisement is discarded here has the addresses
// all the same. What another pair sends says nothing of a successor.
func TestHandOverToUnread(t *testing.T) {
	pass := func(p string) Config { return Config{Version: 2, Auth: Auth{Type: AuthPass, Password: p}} }
	skew := skewOf(110, time.Second)
	for name, tc := range map[string]struct {
		own, their Config
		foreign    byte          // sends the same before; 0: nobody does
		gone       time.Duration // it has been silent for so long; 0: it is not
		want       string
		as         State
	}{
		"another password":             {pass("secret"), pass("public"), 0, 0, "b", Backup},
		"another version":              {Config{}, Config{Version: 2}, 0, 0, "b", Backup},
		"another interval":             {Config{Version: 2}, Config{Version: 2, Interval: 2 * time.Second}, 0, 0, "b", Backup},
		"quite other addresses":        {Config{}, Config{Addresses: addrs("192.0.2.99")}, 0, 0, "ab", Active},
		"it has been Active all along": {pass("secret"), pass("public"), 2, 0, "ab", Active},
		"it was Active a minute ago":   {pass("secret"), pass("public"), 2, time.Minute, "b", Backup},
		"another pair is heard":        {pass("secret"), pass("public"), 3, 0, "b", Backup},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lan := newFakeLAN()
				tc.own.Priority, tc.their.Priority = 120, 110
				a, log := lan.logged(t, 1, tc.own, slog.LevelInfo)
				b := lan.node(t, 2, tc.own)
				time.Sleep(10 * time.Second)
				b.stop()
				time.Sleep(5 * time.Second)
				if tc.foreign != 0 {
					f := lan.node(t, tc.foreign, tc.their)
					time.Sleep(10 * time.Second)
					if tc.gone > 0 {
						f.stop()
						time.Sleep(tc.gone)
					}
				}
				if err := a.Resign(); err != nil {
					t.Fatal(err)
				}
				time.Sleep(skew)
				wantHolders(t, "before the advertisement", "a", a, b)
				lan.port(netip.AddrFrom4([4]byte{192, 0, 2, 2}), protocolVRRP).WriteBatch([]Packet{advertise(t, 2, tc.their)})
				b.handler.held = true
				wantHolders(t, "after the advertisement", tc.want, a, b)
				a.is(tc.as)
				if tc.as == Backup {
					log.says(t, "from=Active", "to=Backup cause=resigned", "successor=192.0.2.2 discarded_last=")
					time.Sleep(6 * time.Second)
					a.is(Active) // it hears nobody
				}
			})
		})
	}
}

// advertise is an advertisement of a host.
func advertise(t *testing.T, host byte, cfg Config) Packet {
	t.Helper()
	cfg.VRID = 51
	if cfg.Addresses == nil {
		cfg.Addresses = addrs("192.0.2.250")
	}
	cfg, err := cfg.complete()
	if err != nil {
		t.Fatal(err)
	}
	src := netip.AddrFrom4([4]byte{192, 0, 2, host})
	b, err := newWire(&cfg).appendPacket(nil, cfg.Priority, src, groupIPv4, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	p := Packet{Source: src, Destination: groupIPv4, TTL: 255, Protocol: protocolVRRP, Interface: 1}
	p.setPayload(b)
	return p
}

// TestHandOverIsLogged: the log says when a hand-over begins, who has the addresses then,
// and for how long both may have had them.
func TestHandOverIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a, log := lan.logged(t, 1, Config{Priority: 120}, slog.LevelInfo)
		a.handler.during = func(ctx context.Context, call string) error {
			time.Sleep(2 * time.Millisecond)
			return nil
		}
		b := lan.node(t, 2, Config{Priority: 110})
		time.Sleep(10 * time.Second)
		a.Resign()
		time.Sleep(10 * time.Second)
		b.stop()
		time.Sleep(10 * time.Second)
		a.StandDown("maintenance")
		time.Sleep(10 * time.Second)
		var got []string
		for _, line := range log.Lines("") {
			if strings.Contains(line, "hands over") || strings.Contains(line, "from=Active") || strings.Contains(line, "released") {
				_, line, _ = strings.Cut(line, "level=")
				got = append(got, strings.TrimSpace(line))
			}
		}
		want := []string{
			`INFO msg="hands over: keeps the addresses until a successor is heard" router=51/IPv4 cause=resigned longest=1.2s`,
			`INFO msg=state router=51/IPv4 from=Active to=Backup cause=resigned priority=120 successor=192.0.2.2 successor_priority=110 after=570ms`,
			`INFO msg="addresses released" router=51/IPv4 addresses=[192.0.2.250] took=2ms overlap=2ms`,
			`INFO msg="hands over: keeps the addresses until a successor is heard" router=51/IPv4 cause=fault reason=maintenance longest=1.2s`,
			`INFO msg=state router=51/IPv4 from=Active to=Initialize cause=fault reason=maintenance priority=120 successor=nobody after=1.2s`,
			`INFO msg="addresses released" router=51/IPv4 addresses=[192.0.2.250] took=2ms`,
		}
		if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
			t.Errorf("said\n%s\nwant\n%s", g, w)
		}
	})
}

// TestUnclaimedIsReported: that nobody has taken over is a transition that changes nothing.
func TestUnclaimedIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a, log := lan.logged(t, 1, Config{}, slog.LevelInfo)
		time.Sleep(10 * time.Second)
		before := a.Status()
		a.Resign()
		time.Sleep(10 * time.Second)
		after := a.Status()
		if after.State != Active || after.Since != before.Since || after.Counters.Transitions != before.Counters.Transitions {
			t.Errorf("%v since %v, %d transitions; before: %v, %d", after.State, after.Since, after.Counters.Transitions, before.Since, before.Counters.Transitions)
		}
		a.mu.Lock()
		last := a.transitions[len(a.transitions)-1]
		a.mu.Unlock()
		if last.From != Active || last.To != Active || last.Cause != CauseUnclaimed {
			t.Errorf("told of %+v", last)
		}
		want := fmt.Sprintf("level=WARN msg=state router=51/IPv4 from=Active to=Active cause=%q priority=100 successor=nobody after=2.4s", CauseUnclaimed)
		if all := strings.Join(log.Lines(""), ""); !strings.Contains(all, want) {
			t.Errorf("no line %s in\n%s", want, all)
		}
		for _, call := range a.handler.log() {
			if strings.HasPrefix(call, "release") {
				t.Errorf("%s", call)
			}
		}
	})
}

// TestRouterHandsOverFormer: who is still at the former addresses is no successor for the
// new ones.
func TestRouterHandsOverFormer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a, b := lan.node(t, 1, Config{Priority: 120}), lan.node(t, 2, Config{Priority: 110})
		time.Sleep(10 * time.Second)
		if err := a.reconfigure(func(c *Config) { c.Addresses = addrs("192.0.2.251") }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		b.is(Active) // it knows none of the new addresses
		a.StandDown("maintenance")
		time.Sleep(1100 * time.Millisecond)
		a.is(Active)
		if !a.Status().HandingOver {
			t.Error("it has handed over to a router with other addresses")
		}
		time.Sleep(time.Second)
		a.is(Initialize)
	})
}

// TestOwnerHearsSuccessor: to the owner that hands over, its successor is no rival.
func TestOwnerHearsSuccessor(t *testing.T) {
	for _, version := range []uint8{2, 3} {
		synctest.Test(t, func(t *testing.T) {
			lan := newFakeLAN()
			a := lan.node(t, 1, Config{Version: version, Priority: 255})
			lan.node(t, 2, Config{Version: version, Priority: 110})
			time.Sleep(10 * time.Second)
			a.Resign()
			time.Sleep(time.Second)
			a.is(Backup)
			if c := a.Status().Counters; c.Conflicts != 0 || c.Dropped[DropOwner] != 0 || c.Received == 0 {
				t.Errorf("version %d: %d conflicts, %d dropped, %d received", version, c.Conflicts, c.Dropped[DropOwner], c.Received)
			}
		})
	}
}

// TestHandOverToOwner: an owner sends from the address that this host still has. The Conn
// hears such a packet all the same, and Receive knows the owner as the successor.
func TestHandOverToOwner(t *testing.T) {
	r := active(t, Config{Priority: 100})
	r.want(r.m.Resign(r.now), "Send 0")
	r.want(r.m.Receive(r.at(r.since(time.Millisecond)), &Advertisement{Source: netip.MustParseAddr("192.0.2.1"), Priority: 255, Interval: time.Second}), resigned)
}
