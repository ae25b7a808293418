package vrrp

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// logged starts a node whose log can be read, as text at a level.
func (l *fakeLAN) logged(t *testing.T, host byte, cfg Config, level slog.Level) (*node, *lockedBuffer) {
	t.Helper()
	var log lockedBuffer
	cfg.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: level}))
	return l.node(t, host, cfg), &log
}

// says checks that the last of the lines with what has all the parts.
func (b *lockedBuffer) says(t *testing.T, what string, parts ...string) {
	t.Helper()
	synctest.Wait()
	list := b.Lines(what)
	if len(list) == 0 {
		t.Fatalf("nothing said with %q in\n%s", what, strings.Join(b.Lines(""), ""))
	}
	for _, part := range parts {
		if last := list[len(list)-1]; !strings.Contains(last, part) {
			t.Errorf("%q lacks %q", last, part)
		}
	}
}

// TestTakeOverNamesTheLost: the line about a router that has become Active, or has stepped
// down, names the other router that is the reason, and when that was last heard.
func TestTakeOverNamesTheLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a, ofA := lan.logged(t, 1, Config{Priority: 120}, slog.LevelInfo)
		time.Sleep(10 * time.Second)
		ofA.says(t, "to=Active", "level=INFO", `cause="no advertisement in time"`, "last_heard=nobody")
		b, ofB := lan.logged(t, 2, Config{Priority: 110}, slog.LevelInfo)
		time.Sleep(1500 * time.Millisecond)
		ofB.says(t, "another router is Active", "peer=192.0.2.1 peer_priority=120 interval=1s")

		lan.cut(a.addr, true)
		time.Sleep(10 * time.Second)
		ofB.says(t, "to=Active", "level=WARN", `cause="no advertisement in time"`, "priority=110 peer=192.0.2.1 peer_priority=120 last_heard=\"3.57")
		b.Hold("check web is down")()
		time.Sleep(10 * time.Second)
		ofB.says(t, "to=Active", "level=INFO", "last_heard=nobody")
		lan.cut(a.addr, false)
		time.Sleep(5 * time.Second)
		ofB.says(t, "to=Backup", "level=INFO", `cause="another router has the better claim" priority=110 peer=192.0.2.1 peer_priority=120`)
		if n := len(ofB.Lines("another router is Active")); n != 1 {
			t.Errorf("the Active router was named %d times, want 1: the line about the change has it", n)
		}

		a.Resign()
		time.Sleep(time.Second)
		ofB.says(t, "to=Active", "level=INFO", `cause="active router left"`, "peer=192.0.2.1 left=\"570ms ago\" hint=\"planned or not: see its log\"")
		b.mu.Lock()
		last := b.transitions[len(b.transitions)-1]
		b.mu.Unlock()
		if p := last.Peer; p.Address != a.addr || p.Version != 3 || last.Time.Sub(p.LastHeard) != skew3(110) {
			t.Errorf("the last transition is about %+v", p)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		lan.node(t, 1, Config{Priority: 100})
		time.Sleep(5 * time.Second)
		_, log := lan.logged(t, 2, Config{Priority: 200}, slog.LevelInfo)
		time.Sleep(5 * time.Second)
		log.says(t, "to=Active", `cause="preempting a lower priority"`, "peer=192.0.2.1 peer_priority=100 last_heard=")
	})
}

// TestTakeOverMentionsDiscarded: a router that takes over because it discards the Active
// router's advertisements mentions that in the same line. Discards before the last accepted
// advertisement are no explanation. Without any discard the line says so: then the fault is
// in the network.
func TestTakeOverMentionsDiscarded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		secret := func(s string) Auth { return Auth{Type: AuthPass, Password: s} }
		a := lan.node(t, 1, Config{Version: 2, Priority: 120, Auth: secret("one")})
		b, log := lan.logged(t, 2, Config{Version: 2, Priority: 110, Auth: secret("two")}, slog.LevelInfo)
		time.Sleep(10 * time.Second)
		log.says(t, "to=Active", "level=WARN", "last_heard=nobody discarded=1 ", `discarded_last="vrrp: advertisement from 192.0.2.1: authentication failed: the passwords differ"`,
			`warning="192.0.2.1 is alive: both may have the addresses now"`)
		if err := b.reconfigure(func(c *Config) { c.Auth = secret("one") }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		b.is(Backup)
		lan.cut(a.addr, true)
		time.Sleep(10 * time.Second)
		log.says(t, "to=Active", "peer=192.0.2.1")
		if list := log.Lines("to=Active"); !strings.HasSuffix(list[len(list)-1], " discarded=0\n") {
			t.Errorf("%q: nothing was discarded since it was heard", list[len(list)-1])
		}
	})
	for name, test := range map[string]func(a, b *node, bad func()){
		"heard since": func(a, b *node, bad func()) {
			bad()
			time.Sleep(2 * time.Second)
			a.handler.lan.cut(a.addr, true)
		},
		"another change since": func(a, b *node, bad func()) {
			a.handler.lan.cut(a.addr, true)
			time.Sleep(10 * time.Second)
			bad()
			b.Hold("check web is down")()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lan := newFakeLAN()
				a := lan.node(t, 1, Config{Priority: 120})
				b, log := lan.logged(t, 2, Config{Priority: 110}, slog.LevelInfo)
				time.Sleep(10 * time.Second)
				test(a, b, func() {
					b.conn.mu.Lock()
					defer b.conn.mu.Unlock()
					b.loop.receivePacket(packetOf(t, Advertisement{
						Source: a.addr, Destination: groupIPv4, Version: 2, VRID: 51, Priority: 120, Interval: time.Second, Addresses: b.cfg.Addresses,
					}), time.Now())
				})
				time.Sleep(10 * time.Second)
				log.says(t, "to=Active")
				if list := log.Lines("to=Active"); !strings.HasSuffix(list[len(list)-1], " discarded=0\n") {
					t.Errorf("%q: nothing was discarded since", list[len(list)-1])
				}
				if n := len(log.Lines("msg=discarded")); n != 1 {
					t.Errorf("%d discarded, want 1", n)
				}
			})
		})
	}
}

// TestTakeOverFromOneOfTwoPairs: a peer heard with the right VRID may belong to another
// pair as well, which does not mean that it is alive in this one.
func TestTakeOverFromOneOfTwoPairs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a := lan.node(t, 1, Config{Priority: 120, Peers: addrs("192.0.2.2")})
		b, log := lan.logged(t, 2, Config{Priority: 110, Peers: addrs("192.0.2.1")}, slog.LevelInfo)
		time.Sleep(10 * time.Second)
		lan.cut(a.addr, true)
		b.conn.mu.Lock()
		b.loop.receivePacket(packetOf(t, Advertisement{
			Source: a.addr, Destination: b.addr, Version: 3, VRID: 52, Priority: 200, Interval: time.Second, Addresses: addrs("192.0.2.77"),
		}), time.Now())
		b.conn.mu.Unlock()
		time.Sleep(10 * time.Second)
		log.says(t, "to=Active", "level=WARN", "peer=192.0.2.1", "discarded=1 ", "VRID 52, want 51")
		if list := log.Lines("both may have"); len(list) > 0 {
			t.Errorf("said %q", list)
		}
	})
}

// TestOtherVRIDIsLogged: an advertisement with a VRID that no router here has is logged if it
// comes from a configured peer or has the addresses of a router here. Advertisements of
// another pair, which are normal on a link, are not logged.
func TestOtherVRIDIsLogged(t *testing.T) {
	peers := func(host byte) []netip.Addr { return []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, host})} }
	for _, tc := range []struct {
		name       string
		own, other Config
		said       bool
		which      string
	}{
		{"from a peer", Config{Peers: peers(2)}, Config{VRID: 52, Peers: peers(1)}, true, "may be "},
		{"with the same address", Config{}, Config{VRID: 52}, true, "is "},
		{"of another pair", Config{}, Config{VRID: 52, Addresses: addrs("192.0.2.77")}, false, ""},
		{"by unicast from a stranger", Config{Peers: peers(3)}, Config{VRID: 52, Peers: peers(1)}, false, ""},
		{"by unicast to a multicast router", Config{}, Config{VRID: 52, Peers: peers(1)}, false, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lan := newFakeLAN()
				tc.other.Priority = 120
				lan.node(t, 2, tc.other)
				time.Sleep(5 * time.Second)
				a, log := lan.logged(t, 1, tc.own, slog.LevelInfo)
				time.Sleep(30 * time.Second)
				a.is(Active)
				list := log.Lines("another VRID: one of the two ")
				if tc.said != (len(list) == 1) {
					t.Fatalf("said %q", list)
				}
				f := a.Status().Foreign
				if tc.said != (f != nil) || f != nil && (f.VRID != 52 || f.Source != netip.MustParseAddr("192.0.2.2") || time.Since(f.At) > 2*time.Second) {
					t.Errorf("the status has %+v", f)
				}
				if !tc.said {
					return
				}
				log.says(t, "another VRID", "level=WARN", `VRID: one of the two `+tc.which+`wrong" router=51/IPv4 interface=eth0 from=192.0.2.2 got=52 want=[51] times=1`)
				log.says(t, "to=Active", "last_heard=nobody discarded=", `discarded_last="vrrp: advertisement from 192.0.2.2: VRID 52, want 51"`)
				time.Sleep(noteInterval)
				if n := len(log.Lines("another VRID")); n != 2 {
					t.Errorf("said %d times within ten minutes, want 2", n)
				}
			})
		})
	}
}

// TestForeignersBounded: others cannot fill the memory, nor the log, with VRIDs.
func TestForeignersBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a, log := lan.logged(t, 1, Config{}, slog.LevelInfo)
		for i := range 1000 {
			a.conn.mu.Lock()
			a.loop.receivePacket(packetOf(t, Advertisement{
				Source: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), Destination: groupIPv4,
				Version: 3, VRID: 52, Priority: 200, Interval: time.Second, Addresses: addrs("192.0.2.250"),
			}), time.Now())
			a.conn.mu.Unlock()
			time.Sleep(foreignPace)
		}
		synctest.Wait()
		if lines := len(log.Lines("another VRID")); lines != maxForeigners {
			t.Errorf("%d lines, want %d", lines, maxForeigners)
		}
	})
}

// TestGroupWaits: a reason that one member awaits at its start is no fault of the other
// members either. A real fault beside it is.
func TestGroupWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		g := NewGroup("G")
		var logs [2]lockedBuffer
		var nodes [2]*node
		for i := range nodes {
			nodes[i] = lan.prepare(t, byte(i+1), Config{Group: g, VRID: uint8(51 + i), Addresses: addrs(fmt.Sprintf("192.0.2.25%d", i)),
				Logger: slog.New(slog.NewTextHandler(&logs[i], nil))})
		}
		result := nodes[0].Await("check web has no result yet")
		for _, n := range nodes {
			n.run()
			if s := n.Status(); s.State != Initialize || !s.Waiting {
				t.Errorf("status %+v, want that it waits", s)
			}
		}
		logs[1].says(t, "msg=waiting", "level=INFO", "group G: member 51/IPv4: check web has no result yet")
		fails := nodes[0].Hold("check dns is down")
		if s := nodes[1].Status(); s.Waiting || strings.Join(s.Faults, ", ") == "" {
			t.Errorf("status %+v, want a fault", s)
		}
		logs[1].says(t, "msg=fault", "level=WARN", "check dns is down")
		result()
		fails()
		for i := range nodes {
			logs[i].says(t, "msg=state", "to=Backup", `cause="fault cleared"`)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		g := NewGroup("G")
		var logs [2]lockedBuffer
		a := lan.prepare(t, 1, Config{Group: g, Logger: slog.New(slog.NewTextHandler(&logs[0], nil))})
		b := lan.prepare(t, 2, Config{Group: g, VRID: 52, Addresses: addrs("192.0.2.77"), Logger: slog.New(slog.NewTextHandler(&logs[1], nil))})
		result := a.Await("check web has no result yet")
		a.run()
		b.run()
		result()
		for i := range logs {
			logs[i].says(t, "msg=state", "level=INFO", "from=Initialize to=Backup cause=start")
			if list := logs[i].Lines("fault"); len(list) > 0 {
				t.Errorf("a start at which all is well says %q", list)
			}
		}
	})
}

// TestGroupLogsAlone: the lines of a router's start do not read the state of another member
// of its group, which changes at that time on another Conn. For the race detector.
func TestGroupLogsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		g := NewGroup("G")
		config := Config{Group: g, Logger: slog.New(slog.DiscardHandler)}
		a := lan.prepare(t, 1, config)
		a.run()
		var changing sync.WaitGroup
		changing.Go(func() {
			for i := range 1000 {
				a.Hold(fmt.Sprint("reason ", i))()
			}
		})
		for i := range 20 {
			config.VRID, config.Addresses = uint8(100+i), addrs(fmt.Sprintf("192.0.2.%d", 100+i))
			b := lan.prepare(t, byte(100+i), config)
			b.Hold("check web is down")
			b.run()
		}
		changing.Wait()
	})
}

// TestStartIsLogged: the logs of two nodes show by one line each whether they can be one
// virtual router.
func TestStartIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		_, log := lan.logged(t, 1, Config{}, slog.LevelInfo)
		log.says(t, "msg=begins", "router=51/IPv4 interface=eth0 source=192.0.2.1 version=3 vrid=51 priority=100 interval=1s addresses=[192.0.2.250] auth_type=none group=224.0.0.18")
		_, log = lan.logged(t, 2, Config{Version: 2, Peers: addrs("192.0.2.1"), Auth: Auth{Type: AuthPass, Password: "secret"}}, slog.LevelInfo)
		log.says(t, "msg=begins", "source=192.0.2.2 version=2 vrid=51 ", "auth_type=pass peers=[192.0.2.1]")
		if list := log.Lines("secret"); len(list) > 0 {
			t.Errorf("the log says %q", list)
		}
		if first := log.Lines("")[0]; !strings.Contains(first, "msg=begins") {
			t.Errorf("the log begins with %q", first)
		}
	})
}

// TestCastIsNamed: a router that uses multicast and one with peers do not hear each
// other, and each says which of the two it is.
func TestCastIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		_, multicast := lan.logged(t, 1, Config{}, slog.LevelInfo)
		_, unicast := lan.logged(t, 2, Config{Peers: addrs("192.0.2.1")}, slog.LevelInfo)
		time.Sleep(10 * time.Second)
		multicast.says(t, "msg=discarded", "from 192.0.2.2: sent by unicast, but this router has no peers and uses multicast")
		unicast.says(t, "msg=discarded", "from 192.0.2.1: sent by multicast, but this router has peers and uses unicast", "peers=[192.0.2.1]")
	})
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		_, log := lan.logged(t, 1, Config{Peers: addrs("192.0.2.3")}, slog.LevelInfo)
		lan.node(t, 2, Config{Peers: addrs("192.0.2.1")})
		time.Sleep(10 * time.Second)
		log.says(t, "msg=discarded", "from 192.0.2.2: unicast, and not from a peer", "peers=[192.0.2.3]")
	})
}

// TestWordsInJSON: states and causes are words there, too.
func TestWordsInJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		var log lockedBuffer
		a := lan.node(t, 1, Config{Logger: slog.New(slog.NewJSONHandler(&log, nil))})
		time.Sleep(10 * time.Second)
		log.says(t, `"msg":"state"`, `"from":"Backup","to":"Active","cause":"no advertisement in time","priority":100,"last_heard":"nobody"`)
		lan.cut(a.addr, true)
		b := lan.node(t, 2, Config{Priority: 90})
		time.Sleep(10 * time.Second)
		b.is(Active)
		lan.cut(a.addr, false)
		time.Sleep(10 * time.Second)
		log.says(t, "split: another", `"from":"192.0.2.2"`)
		log.says(t, "split: over", `"state":"Active"`)
	})
}

// TestDeedsAreLogged: the log says that the addresses were added, and that they were
// removed, after the change of the state that was the reason.
func TestDeedsAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a, log := lan.logged(t, 1, Config{}, slog.LevelInfo)
		time.Sleep(10 * time.Second)
		a.stop()
		time.Sleep(2 * time.Second)
		var got []string
		for _, line := range log.Lines("") {
			for _, what := range []string{"to=Active", `msg="addresses acquired" router=51/IPv4 addresses=[192.0.2.250] took=0s`, "to=Initialize", `msg="addresses released"`} {
				if strings.Contains(line, what) {
					got = append(got, what)
				}
			}
		}
		want := `to=Active|msg="addresses acquired" router=51/IPv4 addresses=[192.0.2.250] took=0s|to=Initialize|msg="addresses released"`
		if strings.Join(got, "|") != want {
			t.Errorf("said %q in\n%s", got, strings.Join(log.Lines(""), ""))
		}
	})
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		var log lockedBuffer
		a := lan.prepare(t, 1, Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		a.handler.during = func(_ context.Context, call string) error {
			if call == "acquire" {
				return context.DeadlineExceeded
			}
			return nil
		}
		a.run()
		time.Sleep(5 * time.Second)
		if list := log.Lines("addresses acquired"); len(list) > 0 {
			t.Errorf("said %q of addresses that are not there", list)
		}
	})
}

// TestDebugTellsAdvertisements: at level Debug, and at no other, each advertisement is
// logged.
func TestDebugTellsAdvertisements(t *testing.T) {
	for level, want := range map[slog.Level]int{slog.LevelDebug: 1, slog.LevelInfo: 0} {
		synctest.Test(t, func(t *testing.T) {
			lan := newFakeLAN()
			_, sender := lan.logged(t, 1, Config{Priority: 120}, level)
			_, hearer := lan.logged(t, 2, Config{Priority: 110}, level)
			time.Sleep(10 * time.Second)
			synctest.Wait()
			sent := sender.Lines(`level=DEBUG msg="advertisement sent" router=51/IPv4 to=224.0.0.18 priority=120`)
			heard := hearer.Lines(`level=DEBUG msg="advertisement heard" router=51/IPv4 from=192.0.2.1 priority=120 interval=1s`)
			if len(sent) != 7*want || len(heard) != 7*want {
				t.Errorf("%v: %d sent, %d heard, want %d", level, len(sent), len(heard), 7*want)
			}
		})
	}
}

// TestFaultsAreLogged: a router that waits for something at its start is no warning, a
// router without a link is, and an Active router that loses its link is an error. Another
// reason for the same state is logged as well.
func TestFaultsAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		var log lockedBuffer
		a := lan.prepare(t, 1, Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		result := a.Await("check web has no result yet")
		a.run()
		log.says(t, "msg=waiting", "level=INFO", `reason="check web has no result yet"`)
		fails := a.Hold("check web is down")
		result()
		log.says(t, "msg=fault", "level=INFO", `reason="check web is down"`)
		a.net.change(linkEvent{index: 1}, func(n *netif) { n.up = false })
		log.says(t, "msg=fault", "level=WARN", `reason="link eth0 down, check web is down"`)
		n := len(log.Lines("msg=fault"))
		fails()
		a.net.change(linkEvent{index: 1}, func(n *netif) { n.up = true })
		log.says(t, "msg=state", "to=Backup", `cause="fault cleared"`)
		time.Sleep(10 * time.Second)
		a.net.change(linkEvent{index: 1}, func(n *netif) { n.up = false })
		log.says(t, "msg=state", "level=ERROR", `from=Active to=Initialize cause=fault reason="link eth0 down"`)
		if got := len(log.Lines("msg=fault")); got != n+1 {
			t.Errorf("%d lines about faults, want %d: the change of the state has the others", got, n+1)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		var log lockedBuffer
		a := lan.prepare(t, 1, Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		first, second := a.Await("check dns has no result yet"), a.Await("check web has no result yet")
		a.run()
		first()
		log.says(t, "msg=waiting", "level=INFO", `reason="check web has no result yet"`)
		second()
		log.says(t, "msg=state", "level=INFO", "from=Initialize to=Backup cause=start")
		if list := log.Lines("fault"); len(list) > 0 {
			t.Errorf("a start at which all is well says %q", list)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		var log lockedBuffer
		a := lan.prepare(t, 1, Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		a.net.nif.up = false
		defer a.Await("check web has no result yet")()
		a.run()
		log.says(t, "msg=state", "level=WARN", `reason="link eth0 down, check web has no result yet"`)
	})
}
