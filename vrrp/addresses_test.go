package vrrp

import (
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var renumberings = flag.Int("vrrp.renumberings", 100, "how many random renumberings TestRenumberingAtRandom runs")

// TestStrangerTakesNothing: another pair with the same VRID, any priority and other
// addresses changes nothing, and is named at once.
func TestStrangerTakesNothing(t *testing.T) {
	for _, version := range []uint8{2, 3} {
		for _, priority := range []uint8{100, 200, 255} {
			t.Run(fmt.Sprintf("version %d, priority %d", version, priority), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					lan := newFakeLAN()
					var log lockedBuffer
					logger := slog.New(slog.NewTextHandler(&log, nil))
					a := lan.node(t, 1, Config{Version: version, Priority: 120, Logger: logger})
					b := lan.node(t, 2, Config{Version: version, Priority: 110})
					time.Sleep(10 * time.Second)
					theirs := Config{Version: version, Priority: priority, Addresses: addrs("192.0.2.77", "192.0.2.78")}
					c := lan.node(t, 3, theirs)
					theirs.Priority = min(theirs.Priority, 254) - 1
					d := lan.node(t, 4, theirs)
					time.Sleep(10 * time.Second)
					c.is(Active)
					d.is(Backup)
					got := log.Lines("msg=discarded")
					want := `err="vrrp: advertisement from 192.0.2.3: another virtual router: no address in common, it has 2, the first is 192.0.2.77" ` +
						fmt.Sprintf(`priority=%d addresses="[192.0.2.77 192.0.2.78]" want=[192.0.2.250] times=1`, priority)
					if len(got) != 1 || !strings.Contains(got[0], want) {
						t.Errorf("said %q, want %s", got, want)
					}
					c.stop() // its priority 0 is not for us
					time.Sleep(10 * time.Second)
					d.is(Active)
					a.is(Active)
					b.is(Backup)
					if got := log.Lines("from 192.0.2.4"); len(got) != 1 {
						t.Errorf("of the other stranger it is said %q, want one line", got)
					}
					time.Sleep(noteInterval)
					if got := log.Lines("from 192.0.2.4"); len(got) != 2 || strings.Contains(got[1], "times=1\n") {
						t.Errorf("of the other stranger it is said %q, want another line", got)
					}
					for _, n := range []*node{a, b, c, d} {
						if got := len(n.history()); got > 3 {
							t.Errorf("%v: %v", n.addr, n.history())
						}
						if s := n.Status(); s.Counters.Dropped[DropAddresses] == 0 || s.Counters.Mismatched > 0 {
							t.Errorf("%v: %+v", n.addr, s.Counters)
						}
					}
				})
			})
		}
	}
}

// TestStrangersBounded: strangers cannot fill the memory, nor the log.
func TestStrangersBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lockedBuffer
		a := newFakeLAN().node(t, 1, Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		flood := func(net byte) {
			a.conn.mu.Lock()
			defer a.conn.mu.Unlock()
			for i := range 1000 {
				adv := Advertisement{
					Source: netip.AddrFrom4([4]byte{10, net, byte(i >> 8), byte(i)}), Destination: groupIPv4,
					Version: 3, VRID: 51, Priority: 200, Interval: time.Second, Addresses: addrs("192.0.2.77"),
				}
				a.loop.receivePacket(packetOf(t, adv), time.Now())
				a.loop.receivePacket(packetOf(t, adv), time.Now())
			}
		}
		for i := range 3 {
			flood(byte(i))
			synctest.Wait()
			// Those that are known one by one come first.
			for _, line := range log.Lines(fmt.Sprintf("from 10.%d.0.0:", i)) {
				if !strings.Contains(line, "times=1\n") {
					t.Errorf("said %q of one that was never heard before", line)
				}
			}
			if got, most := len(log.Lines("msg=discarded")), (i+1)*(maxStrangers+1); got > most || got <= i*(maxStrangers+1) {
				t.Errorf("%d lines, want some more, and %d at most", got, most)
			}
			time.Sleep(noteInterval)
		}
		if got := len(a.status.strangers); got != maxStrangers {
			t.Errorf("%d strangers are known, want %d", got, maxStrangers)
		}
	})
}

// TestFormerConfiguration: what was configured before counts for some time.
func TestFormerConfiguration(t *testing.T) {
	lists := []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}
	adv := advV2
	adv.Addresses = addrs(lists[0])
	cfg := configFor(t, adv)
	w := wireFor(t, cfg)
	at := clock
	for _, list := range lists[1:] {
		before := *cfg
		cfg.Addresses, cfg.Interval = addrs(list), cfg.Interval+time.Second
		w.keepFormer(&before, at)
		at = at.Add(formerTime / 2)
	}
	packet := func(list string, interval time.Duration) *Packet {
		adv.Addresses, adv.Interval = addrs(list), interval
		return packetOf(t, adv)
	}
	old, middle, now := packet(lists[0], time.Second), packet(lists[1], 2*time.Second), packet(lists[2], 3*time.Second)
	justBefore := at.Add(-time.Nanosecond)
	for i, p := range []*Packet{old, middle, now} {
		accept(t, w, p, justBefore)
		if want := i < 2; want != (w.seen&seenFormer != 0) || want != (w.seen&seenAddresses != 0) {
			t.Errorf("list %d: observations %b", i, w.seen)
		}
	}
	accept(t, w, packet(lists[2], time.Second), justBefore)
	discard(t, w, packet(lists[2], 4*time.Second), justBefore, DropInterval)
	discard(t, w, packet("192.0.2.9", time.Second), justBefore, DropAddresses)
	discard(t, w, old, at, DropAddresses)
	discard(t, w, packet(lists[2], time.Second), at, DropInterval)
	accept(t, w, middle, at)
	discard(t, w, middle, at.Add(formerTime/2), DropAddresses)
	// "No addresses" is a former configuration too.
	before := *cfg
	before.Addresses = nil
	w.keepFormer(&before, at)
	adv.Addresses, adv.Interval = nil, 3*time.Second
	none := packetOf(t, adv)
	accept(t, w, none, at)
	discard(t, w, none, at.Add(formerTime), DropCount)
	// A former configuration that is over, or equal to the present one, is not kept.
	before = *cfg
	w.keepFormer(&before, at.Add(formerTime))
	if got := len(w.formers); got != 0 {
		t.Errorf("%d former configurations are kept, want none", got)
	}
}

// renumbered is a node whose addresses are changed from one list to another.
type renumbered struct {
	*node
	held       []netip.Addr // if it is Active; written with the LAN's mutex held
	keepalived bool
}

// renumber changes the addresses as the daemon does: those that go are removed first.
func (n *renumbered) renumber(to []netip.Addr) {
	n.t.Helper()
	n.has(nil)
	if err := n.reconfigure(func(c *Config) { c.Addresses = to }); err != nil {
		n.t.Fatal(err)
	}
	synctest.Wait()
	n.has(to)
}

func (n *renumbered) has(list []netip.Addr) {
	n.handler.lan.Mu.Lock()
	defer n.handler.lan.Mu.Unlock()
	n.held = list
}

// likeKeepalived makes a node deaf for other lists than its own, as Keepalived is
// before 2.3.3.
func (n *renumbered) likeKeepalived() {
	n.keepalived = true
	port := n.port()
	n.handler.lan.Mu.Lock()
	defer n.handler.lan.Mu.Unlock()
	port.Ignore = func(p Packet) bool {
		adv, _, err := ParsePacket(&p)
		return err == nil && !slices.Equal(adv.Addresses, n.held)
	}
}

// holders returns which of the nodes hold a list.
func holders(nodes []*renumbered, list []netip.Addr) (who []netip.Addr) {
	for _, n := range nodes {
		n.handler.mu.Lock()
		if n.handler.held && slices.Equal(n.held, list) {
			who = append(who, n.addr)
		}
		n.handler.mu.Unlock()
	}
	return who
}

var oldList, newList = addrs("192.0.2.250", "192.0.2.251"), addrs("192.0.2.252", "192.0.2.253")

// TestRenumbering: two nodes are changed to other addresses, one after the other. If the
// Backup is first, no client notices. If the Active router is first, one node holds the old
// and one the new addresses until the second node is changed.
func TestRenumbering(t *testing.T) {
	for _, version := range []uint8{2, 3} {
		for _, first := range []uint8{120, 110} { // the Active one's priority
			for _, order := range []string{"Backup first", "Active first"} {
				t.Run(fmt.Sprintf("version %d, priority %d, %s", version, first, order), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						lan := newFakeLAN()
						var log lockedBuffer
						cfg := Config{Version: version, Priority: first, NoPreempt: true, Addresses: oldList, Logger: slog.New(slog.NewTextHandler(&log, nil))}
						a := &renumbered{node: lan.node(t, 1, cfg), held: oldList}
						time.Sleep(5 * time.Second)
						cfg.Priority = 230 - first
						b := &renumbered{node: lan.node(t, 2, cfg), held: oldList}
						time.Sleep(5 * time.Second)
						nodes := []*renumbered{a, b}
						if order == "Backup first" {
							slices.Reverse(nodes)
						}
						before := len(a.history()) + len(b.history())
						nodes[0].renumber(newList)
						time.Sleep(formerTime - time.Second)
						synctest.Wait()
						a.is(Active)
						if order == "Active first" {
							b.is(Active)
						} else {
							b.is(Backup)
						}
						nodes[1].renumber(newList)
						if got := holders(nodes, newList); len(got) != 1 {
							t.Errorf("the new addresses are at %v", got)
						}
						time.Sleep(time.Minute)
						if got := holders(nodes, newList); len(got) != 1 {
							t.Errorf("the new addresses are at %v after a minute", got)
						}
						if got := len(a.history()) + len(b.history()); order == "Backup first" && got != before {
							t.Errorf("transitions: %v, %v", a.history(), b.history())
						}
						want := []string{"INFO", "WARN"} // no router knows that its peer is the last
						if order == "Active first" {
							slices.Reverse(want)
							if b.Status().State == Active {
								want[1] = "WARN" // the better one again
							}
						}
						got := log.Lines("quite other addresses than before")
						if len(got) != 2 || !strings.Contains(got[0], want[0]) || !strings.Contains(got[1], want[1]) {
							t.Errorf("said %q, want %q", got, want)
						}
					})
				})
			}
		}
	}
}

// TestRenumberingAtRandom: the nodes, one of them perhaps like Keepalived, are changed in
// any order. No address has two holders, the old addresses are held while any node has
// them, and in the end a node holds the new ones.
func TestRenumberingAtRandom(t *testing.T) {
	for range *renumberings {
		seed := rand.Uint64()
		synctest.Test(t, func(t *testing.T) { renumberAtRandom(t, seed) })
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func renumberAtRandom(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 0))
	lan := newFakeLAN()
	var nodes []*renumbered
	cfg := Config{Version: uint8(2 + rng.IntN(2)), Addresses: oldList, NoPreempt: rng.IntN(2) == 0}
	for i, p := range rng.Perm(2 + rng.IntN(2)) {
		cfg.Priority = uint8(100 + 10*p)
		nodes = append(nodes, &renumbered{node: lan.node(t, byte(1+i), cfg), held: oldList})
		time.Sleep(time.Duration(rng.IntN(5000)) * time.Millisecond)
	}
	if rng.IntN(3) == 0 {
		nodes[rng.IntN(len(nodes))].likeKeepalived()
	}
	time.Sleep(10 * time.Second)
	var twice time.Duration
	watch := func(d time.Duration) {
		const step = 50 * time.Millisecond
		for range d / step {
			for _, list := range [][]netip.Addr{oldList, newList} {
				if got := holders(nodes, list); len(got) > 1 {
					twice += step
				}
			}
			time.Sleep(step)
		}
	}
	with := func(list []netip.Addr) int {
		n := 0
		for _, o := range nodes {
			if slices.Equal(o.held, list) {
				n++
			}
		}
		return n
	}
	for _, i := range rng.Perm(len(nodes)) {
		nodes[i].renumber(newList)
		if watch(time.Duration(rng.IntN(8000)) * time.Millisecond); rng.IntN(2) == 0 {
			watch(5 * time.Second) // at rest
			if got := holders(nodes, oldList); len(got) != min(with(oldList), 1) {
				t.Errorf("the old addresses of %d nodes are at %v", with(oldList), got)
			}
		}
	}
	watch(10 * time.Second)
	if got := holders(nodes, newList); len(got) != 1 {
		t.Errorf("in the end the new addresses are at %v", got)
	}
	keepalived := slices.ContainsFunc(nodes, func(n *renumbered) bool { return n.keepalived })
	// Keepalived does not know, when it is changed, that another one has been.
	if twice > 0 && !keepalived || twice > 1050*time.Millisecond {
		t.Errorf("addresses were at two nodes for %v", twice)
	}
	for _, n := range nodes {
		if t.Failed() {
			t.Logf("%v: %v", n.addr, n.history())
		}
	}
}

// TestRenumberedMeets: a router is given addresses that another router was heard to have.
// It hears that router at once, if the other is still there.
func TestRenumberedMeets(t *testing.T) {
	for name, test := range map[string]struct {
		priority uint8
		leave    func(lan *fakeLAN, other *node)
		want     State
		sent     int // with the change
	}{
		"the better one":   {200, nil, Backup, 2},
		"the lesser one":   {50, nil, Active, 2},
		"it left":          {200, func(lan *fakeLAN, other *node) { other.stop() }, Active, 1},
		"it is long quiet": {200, func(lan *fakeLAN, other *node) { lan.cut(other.addr, true); time.Sleep(5 * time.Second) }, Active, 1},
		"it has others by now": {200, func(lan *fakeLAN, other *node) {
			other.reconfigure(func(c *Config) { c.Addresses = addrs("192.0.2.99") })
		}, Active, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lan := newFakeLAN()
				b := lan.node(t, 1, Config{Priority: 100, Addresses: oldList})
				a := lan.node(t, 2, Config{Priority: test.priority, Addresses: newList})
				third := lan.node(t, 3, Config{Priority: 254, Addresses: addrs("192.0.2.88")})
				time.Sleep(10500 * time.Millisecond)
				if test.leave != nil {
					test.leave(lan, a)
				}
				third.is(Active) // the last one to be heard
				lan.cut(a.addr, true)
				before := len(lan.from(b.addr))
				next := Config{Addresses: newList}
				if got, want := b.Meets(next), test.sent == 2; got != want {
					t.Errorf("Meets: %v, want %v", got, want)
				}
				if a.Meets(Config{Addresses: addrs("192.0.2.99")}) {
					t.Error("an address that nobody has is met")
				}
				if err := b.reconfigure(func(c *Config) { c.Addresses = newList }); err != nil {
					t.Fatal(err)
				}
				b.is(test.want)
				if b.Meets(next) {
					t.Error("it is met twice")
				}
				if got := len(lan.from(b.addr)) - before; got != test.sent {
					t.Errorf("%d advertisements, want %d", got, test.sent)
				}
			})
		})
	}
}

// TestReconfigureInterval2: two version 2 routers are given another interval. If the Backup
// is first, nothing happens. If the Active router is first, they do not hear each other
// until both have the interval, and the log says so.
func TestReconfigureInterval2(t *testing.T) {
	for _, to := range []time.Duration{time.Second, 20 * time.Second} {
		for _, order := range []string{"Backup first", "Active first"} {
			t.Run(fmt.Sprintf("%v, %s", to, order), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					lan := newFakeLAN()
					var log lockedBuffer
					cfg := Config{Version: 2, Priority: 120, Interval: 5 * time.Second, Logger: slog.New(slog.NewTextHandler(&log, nil))}
					a := lan.node(t, 1, cfg)
					cfg.Priority = 110
					b := lan.node(t, 2, cfg)
					time.Sleep(time.Minute)
					nodes := []*node{a, b}
					if order == "Backup first" {
						slices.Reverse(nodes)
					}
					before := len(a.history()) + len(b.history())
					for _, n := range nodes {
						if err := n.reconfigure(func(c *Config) { c.Interval = to }); err != nil {
							t.Fatal(err)
						}
						time.Sleep(time.Minute)
					}
					time.Sleep(to)
					a.is(Active)
					b.is(Backup)
					if got := len(a.history()) + len(b.history()); order == "Backup first" && got != before {
						t.Errorf("transitions: %v, %v", a.history(), b.history())
					}
					got, warned := log.Lines("another interval than before"), log.Lines("WARN msg=\"another interval than before")
					if len(got) != 2 || order == "Active first" && len(warned) != 2 || order == "Backup first" && len(warned) != 1 {
						t.Errorf("said %q", got)
					}
				})
			})
		}
	}
}

// TestReconfigureWarns: the log says once how peers that are not changed yet react to a
// change. Changes without a reaction are not mentioned.
func TestReconfigureWarns(t *testing.T) {
	pass := func(password string) Auth { return Auth{Type: AuthPass, Password: password} }
	for _, test := range []struct {
		name   string
		change func(*Config)
		want   string // empty: nothing
	}{
		{"an address more", func(c *Config) { c.Addresses = addrs("192.0.2.250", "192.0.2.251") }, "a Keepalived before 2.3.3 takes over"},
		{"quite other ones", func(c *Config) { c.Addresses = newList }, "both hold"},
		{"another password", func(c *Config) { c.Auth = pass("two") }, "another password than before"},
		{"none", func(c *Config) { c.Auth = Auth{} }, "another password than before"},
		{"peers", func(c *Config) { c.Peers = addrs("192.0.2.2") }, "peers instead of multicast"},
		{"another interval", func(c *Config) { c.Interval = 2 * time.Second }, "both hold"},
		{"the same", func(*Config) {}, ""},
		{"another priority", func(c *Config) { c.Priority = 90 }, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log lockedBuffer
				a := newFakeLAN().node(t, 1, Config{Version: 2, Auth: pass("one"), Logger: slog.New(slog.NewTextHandler(&log, nil))})
				time.Sleep(10 * time.Second)
				a.is(Active)
				if err := a.reconfigure(test.change); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				got := log.Lines("level=WARN")
				if len(got) > 1 || (len(got) > 0) != (test.want != "") || len(got) > 0 && !strings.Contains(got[0], test.want) {
					t.Errorf("said %q, want %q", got, test.want)
				}
			})
		})
	}
}

// TestReconfigureWarnsOfLinkLocal: the log says how peers with the old list react to a new
// list of link-local addresses.
func TestReconfigureWarnsOfLinkLocal(t *testing.T) {
	local, global := addrs("fe80::250"), addrs("fe80::250", "2001:db8::250")
	for _, test := range []struct {
		name    string
		was, is []netip.Addr
		want    string
	}{
		{"they would take over", global, local, "both hold"},
		{"they go on", local, global, "a Keepalived before 2.3.3 takes over"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log lockedBuffer
				a := newFakeLAN().node(t, 1, Config{Addresses: test.was, Logger: slog.New(slog.NewTextHandler(&log, nil))})
				time.Sleep(10 * time.Second)
				a.is(Active)
				if err := a.reconfigure(func(c *Config) { c.Addresses = test.is }); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if got := log.Lines("level=WARN"); len(got) != 1 || !strings.Contains(got[0], test.want) {
					t.Errorf("said %q, want %q", got, test.want)
				}
			})
		})
	}
}
