package vrrp

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// reconfigure changes a machine's configuration.
func (r *rig) reconfigure(change func(*Config)) []Action {
	r.Helper()
	cfg := r.m.cfg
	change(&cfg)
	actions, err := r.m.Reconfigure(r.now, cfg)
	if err != nil {
		r.Fatal(err)
	}
	return actions
}

func TestMachineReconfigureActive(t *testing.T) {
	t.Run("tells at once", func(t *testing.T) {
		r := active(t, Config{Priority: 100})
		r.at(r.since(300 * time.Millisecond))
		r.want(r.reconfigure(func(c *Config) { c.Addresses = addrs("192.0.2.1", "192.0.2.2") }), "Send 100")
		r.wantDeadline(r.since(time.Second))
	})
	t.Run("priority", func(t *testing.T) {
		r := active(t, Config{Priority: 100})
		r.want(r.reconfigure(func(c *Config) { c.Priority = 120 }), "Send 120")
		r.m.SetPriority(r.now, 90)
		r.want(r.reconfigure(func(c *Config) { c.NoPreempt = true }), "Send 90")
		r.want(r.reconfigure(func(c *Config) { c.Priority = 130 }), "Send 130")
	})
	t.Run("shorter interval", func(t *testing.T) {
		r := active(t, Config{Interval: 10 * time.Second})
		r.want(r.reconfigure(func(c *Config) { c.Interval = time.Second }), "Send 100")
		for range 3 {
			r.tick(r.since(time.Second), "Send 100")
		}
	})
	// A Backup that does not hear three of four does not take over either.
	t.Run("longer interval", func(t *testing.T) {
		r := active(t, Config{})
		r.want(r.reconfigure(func(c *Config) { c.Interval = 10 * time.Second }), "Send 100")
		for range 3 {
			r.tick(r.since(time.Second), "Send 100")
		}
		r.tick(r.since(10*time.Second), "Send 100")
		if got := r.m.Interval(); got != 10*time.Second {
			t.Errorf("interval %v, want 10s", got)
		}
	})
	t.Run("longer interval, then another state", func(t *testing.T) {
		r := active(t, Config{})
		r.reconfigure(func(c *Config) { c.Interval = 10 * time.Second })
		r.hearInterval(r.since(time.Second/2), 20, 200, time.Second, fmt.Sprintf(steppedBy, 100))
		r.wantDeadline(r.since(3*time.Second + skewOf(100, time.Second)))
	})
	t.Run("start delay that is over", func(t *testing.T) {
		r := active(t, Config{})
		r.reconfigure(func(c *Config) { c.StartDelay = time.Hour })
		r.wantDeadline(r.since(time.Second))
	})
}

func TestMachineReconfigureBackup(t *testing.T) {
	skew := skewOf(100, time.Second)
	t.Run("down multiplier", func(t *testing.T) {
		r := backup(t, Config{DownMultiplier: 5})
		r.hear(time.Second, 20, 150, "")
		r.want(r.reconfigure(func(c *Config) { c.DownMultiplier = 3 }), "")
		r.wantDeadline(4*time.Second + skew)
		r.hear(2*time.Second, 20, 0, "")
		r.reconfigure(func(c *Config) { c.DownMultiplier = 10 })
		r.wantDeadline(2*time.Second + skew)
	})
	t.Run("never in the past", func(t *testing.T) {
		r := backup(t, Config{DownMultiplier: 50})
		r.at(20 * time.Second)
		r.reconfigure(func(c *Config) { c.DownMultiplier = 1 })
		r.tick(20*time.Second, fmt.Sprintf(timedOut, 100))
	})
	t.Run("interval: as the Active router says", func(t *testing.T) {
		r := backup(t, Config{})
		r.hear(time.Second, 20, 150, "")
		r.reconfigure(func(c *Config) { c.Interval = 10 * time.Millisecond })
		r.wantDeadline(4*time.Second + skew)
		r.hearInterval(2*time.Second, 20, 150, time.Second, "")
		r.tick(5*time.Second+skew, fmt.Sprintf(timedOut, 100))
		r.wantDeadline(r.since(10 * time.Millisecond))
	})
	t.Run("preempts no more", func(t *testing.T) {
		r := backup(t, Config{})
		r.hear(3*time.Second, 20, 50, "")
		r.wantDeadline(3*time.Second + skew)
		r.reconfigure(func(c *Config) { c.NoPreempt = true })
		r.wantDeadline(6*time.Second + skew)
	})
	t.Run("preempts from now on", func(t *testing.T) {
		r := backup(t, Config{NoPreempt: true})
		r.hear(3*time.Second, 20, 50, "")
		r.reconfigure(func(c *Config) { c.NoPreempt = false })
		r.hear(4*time.Second, 20, 50, "")
		r.tick(6*time.Second+skew, "Send 100, Acquire, Announce, Backup>Active (preempting a lower priority)")
	})
	t.Run("preempt delay anew", func(t *testing.T) {
		r := backup(t, Config{})
		r.hear(3*time.Second, 20, 50, "")
		r.reconfigure(func(c *Config) { c.PreemptDelay = 20 * time.Second })
		for d := 4 * time.Second; d < 24*time.Second; d += time.Second {
			r.hear(d, 20, 50, "")
		}
		r.tick(24*time.Second, "Send 100, Acquire, Announce, Backup>Active (preempting a lower priority)")
	})
	t.Run("start delay", func(t *testing.T) {
		r := backup(t, Config{StartDelay: time.Minute})
		r.at(10 * time.Second)
		r.reconfigure(func(c *Config) { c.StartDelay = 30 * time.Second })
		r.wantDeadline(30 * time.Second)
		r.reconfigure(func(c *Config) { c.StartDelay = 0 })
		r.tick(10*time.Second, fmt.Sprintf(timedOut, 100))
	})
	t.Run("in Initialize", func(t *testing.T) {
		r := newRig(t, Config{})
		r.want(r.reconfigure(func(c *Config) { c.Interval, c.Priority = 2*time.Second, 200 }), "")
		r.want(r.m.Start(r.now), started)
		r.tick(6*time.Second+skewOf(200, 2*time.Second), fmt.Sprintf(timedOut, 200))
	})
}

// fixed are changes that need another Router, by the field that Fixed names.
var fixed = map[string]func(*Config){
	"VRID":       func(c *Config) { c.VRID++ },
	"Version":    func(c *Config) { c.Version = 2 },
	"Priority":   func(c *Config) { c.Priority = 255 },
	"Addresses":  func(c *Config) { c.Addresses, c.Peers, c.Source = addrs("fe80::1"), nil, netip.Addr{} },
	"VirtualMAC": func(c *Config) { c.VirtualMAC, c.Peers = true, nil },
	"Auth":       func(c *Config) { c.Version, c.Auth = 2, Auth{Type: AuthAH, Password: "d0cker"} },
	"Group":      func(c *Config) { c.Group = NewGroup("G") },
}

// TestFixed: a change that needs another Router is named, and refused.
func TestFixed(t *testing.T) {
	for name, change := range fixed {
		r := active(t, Config{})
		before := snapshot(r.m)
		cfg := r.m.cfg
		cfg.Peers = addrs("192.0.2.20")
		change(&cfg)
		_, err := r.m.Reconfigure(r.now, cfg)
		if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "make another Router") {
			t.Errorf("%s: error %v", name, err)
		}
		if got := snapshot(r.m); got != before {
			t.Errorf("%s: %s, was %s", name, got, before)
		}
		was := Config{Addresses: r.m.cfg.Addresses, VRID: r.m.cfg.VRID}
		if got := was.Fixed(cfg); !slices.Contains(got, name) {
			t.Errorf("%s: Fixed returns %q", name, got)
		}
		if got := was.Fixed(r.m.cfg); got != nil {
			t.Errorf("a default is no difference, but Fixed returns %q", got)
		}
	}
}

// TestReconfigureInPlace: every other change is made on one router after the other: none of
// them notices more than the change itself.
func TestReconfigureInPlace(t *testing.T) {
	unicast := func(c *Config) { c.Peers = addrs("192.0.2.1", "192.0.2.2") }
	for name, test := range map[string]struct {
		before, change func(*Config)
	}{
		"an address more": {nil, func(c *Config) { c.Addresses = addrs("192.0.2.250", "192.0.2.251") }},
		"an address less": {func(c *Config) { c.Addresses = addrs("192.0.2.250", "192.0.2.251") },
			func(c *Config) { c.Addresses = addrs("192.0.2.251") }},
		"a peer more":       {unicast, func(c *Config) { c.Peers = addrs("192.0.2.1", "192.0.2.2", "192.0.2.3") }},
		"a peer less":       {func(c *Config) { c.Peers = addrs("192.0.2.1", "192.0.2.2", "192.0.2.3") }, unicast},
		"a longer interval": {nil, func(c *Config) { c.Interval = 20 * time.Second }},
		"a shorter one":     {nil, func(c *Config) { c.Interval = 10 * time.Millisecond }},
		"no preemption":     {nil, func(c *Config) { c.NoPreempt = true }},
		"a preempt delay":   {nil, func(c *Config) { c.PreemptDelay = time.Minute }},
		"a start delay":     {nil, func(c *Config) { c.StartDelay = time.Hour }},
		"a down multiplier": {nil, func(c *Config) { c.DownMultiplier = 10 }},
		"a TTL":             {unicast, func(c *Config) { c.TTL = 64 }},
		"a checksum":        {nil, func(c *Config) { c.Checksum = ChecksumMessage }},
		"nothing":           {nil, func(*Config) {}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lan := newFakeLAN()
				cfg := Config{Priority: 120}
				if test.before != nil {
					test.before(&cfg)
				}
				a := lan.node(t, 1, cfg)
				cfg.Priority = 110
				b := lan.node(t, 2, cfg)
				time.Sleep(10 * time.Second)
				before := len(a.history()) + len(b.history())
				for _, n := range []*node{a, b} {
					if err := n.reconfigure(test.change); err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Minute)
				}
				synctest.Wait()
				a.is(Active)
				b.is(Backup)
				if got := len(a.history()) + len(b.history()); got != before {
					t.Errorf("transitions: %v, %v", a.history(), b.history())
				}
				if got := b.Status().Counters; len(got.Dropped) > 0 {
					t.Errorf("dropped: %v", got.Dropped)
				}
			})
		})
	}
}

// TestReconfigureTellsAtOnce: a new peer hears of an Active router at once, and a former
// peer is forgotten.
func TestReconfigureTellsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a := lan.node(t, 1, Config{Priority: 120, Peers: addrs("192.0.2.2")})
		time.Sleep(10500 * time.Millisecond)
		b := lan.node(t, 2, Config{Priority: 200, Peers: addrs("192.0.2.1"), NoPreempt: true})
		c := lan.node(t, 3, Config{Priority: 110, Peers: addrs("192.0.2.1")})
		b.is(Backup)
		if err := a.reconfigure(func(c *Config) { c.Peers = addrs("192.0.2.3") }); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := c.Status().Peers; len(got) != 1 || got[0].Address != a.addr || got[0].LastHeard.Sub(lan.start) != 10500*time.Millisecond {
			t.Errorf("the new peer has heard %v", got)
		}
		time.Sleep(10 * time.Second) // the former peer takes over
		b.is(Active)
		a.is(Active)
		c.is(Backup)
		if got := a.Status().Peers; len(got) > 0 {
			t.Errorf("a hears %v", got)
		}
	})
}

// TestReconfigureErrors: nothing has changed after an error.
func TestReconfigureErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a := lan.node(t, 1, Config{Peers: addrs("192.0.2.2")})
		a.net.change(linkEvent{index: 1}, func(n *netif) { n.multicast = false })
		changes := maps.Clone(fixed)
		changes["no multicast"] = func(c *Config) { c.Peers, c.Addresses = nil, addrs("192.0.2.99") }
		changes["Addresses[1]"] = func(c *Config) { c.Interval, c.Addresses = 2*time.Second, addrs("192.0.2.1", "192.0.2.1") }
		for want, change := range changes {
			before := a.cfg
			if err := a.reconfigure(change); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want one about %s", err, want)
			}
			if !reflect.DeepEqual(stripped(before), stripped(a.cfg)) || a.wire.out.Interval != time.Second {
				t.Errorf("%s: the configuration is %+v, was %+v", want, a.cfg, before)
			}
		}
	})
}

// stripped is a configuration that can be compared.
func stripped(c Config) Config {
	c.OnTransition, c.Logger = nil, nil
	return c
}

// TestReconfigureAnyTime: before Run, after it, and in a group.
func TestReconfigureAnyTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		g := NewGroup("G")
		a := lan.prepare(t, 1, Config{Group: g, Name: "VI_1"})
		if err := a.reconfigure(func(c *Config) {
			c.Interval, c.Priority, c.Name, c.Logger = 100*time.Millisecond, 120, "other", slog.Default()
		}); err != nil {
			t.Fatal(err)
		}
		a.run()
		time.Sleep(300*time.Millisecond + skewOf(120, 100*time.Millisecond))
		a.is(Active)
		if got := a.Status(); got.Name != "VI_1" || got.Priority != 120 || got.Interval != 100*time.Millisecond {
			t.Errorf("%+v", got)
		}
		if err := a.reconfigure(func(c *Config) { c.Interval = 200 * time.Millisecond }); err != nil {
			t.Fatal(err)
		}
		sent := len(lan.from(a.addr))
		time.Sleep(300*time.Millisecond + 10*200*time.Millisecond + time.Millisecond)
		if got := len(lan.from(a.addr)) - sent; got != 13 {
			t.Errorf("%d advertisements, want 3 at the old pace and 10 at the new one", got)
		}
		a.stop()
		time.Sleep(2 * time.Second)
		if err := a.reconfigure(func(c *Config) { c.Interval = time.Second }); !errors.Is(err, ErrClosed) {
			t.Errorf("a router that has ended: %v, want ErrClosed", err)
		}
	})
}

// TestReconfigureWhileRunBegins: the race detector sees whether Run and Reserve read what
// Reconfigure writes.
func TestReconfigureWhileRunBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newFakeLAN().prepare(t, 1, Config{})
		var all sync.WaitGroup
		all.Go(func() {
			release, err := a.Reserve(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			release()
		})
		all.Go(func() {
			if err := a.reconfigure(func(c *Config) { c.Priority = 120 }); err != nil {
				t.Error(err)
			}
		})
		a.run()
		all.Wait()
		if got := a.Status().Priority; got != 120 {
			t.Errorf("priority %d, want 120", got)
		}
	})
}

// TestReconfigureInGroup: the members of a group are changed one by one, and the group
// keeps its state. A member that meets a better router takes the other members with it.
func TestReconfigureInGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		var nodes []*node
		for host, priority := range []uint8{120, 110} {
			g := NewGroup("G")
			for vrid := range uint8(2) {
				nodes = append(nodes, lan.node(t, byte(1+host), Config{VRID: 51 + vrid, Priority: priority, Group: g}))
			}
			time.Sleep(5 * time.Second)
		}
		changes := func() (n int) {
			for _, n1 := range nodes {
				n += len(n1.history())
			}
			return n
		}
		before := changes()
		for _, n := range nodes {
			if err := n.reconfigure(func(c *Config) { c.Addresses, c.Interval = addrs("192.0.2.249", "192.0.2.250"), 2*time.Second }); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
		}
		if got := changes(); got != before {
			t.Errorf("%d transitions", got-before)
		}
		lan.node(t, 3, Config{VRID: 52, Priority: 200, Addresses: newList})
		time.Sleep(10 * time.Second)
		if err := nodes[1].reconfigure(func(c *Config) { c.Addresses = newList }); err != nil {
			t.Fatal(err)
		}
		nodes[0].is(Backup)
		nodes[1].is(Backup)
	})
}

// TestReconfigureFarewell: a farewell after the change has the new addresses.
func TestReconfigureFarewell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newFakeLAN().node(t, 1, Config{Peers: addrs("192.0.2.2")})
		time.Sleep(10 * time.Second)
		want := addrs("192.0.2.250", "192.0.2.251")
		if err := a.reconfigure(func(c *Config) { c.Addresses, c.Peers = want, addrs("192.0.2.3") }); err != nil {
			t.Fatal(err)
		}
		packets, _, err := a.Farewell()
		if err != nil || len(packets) != 1 || packets[0].Destination != addrs("192.0.2.3")[0] {
			t.Fatalf("%v, %v", packets, err)
		}
		if adv, _, err := ParsePacket(&packets[0]); err != nil || !slices.Equal(adv.Addresses, want) || adv.Priority != 0 {
			t.Errorf("%+v, %v", adv, err)
		}
	})
}

// TestReconfigureSource: the router sends from a new source at once. A source that the
// interface does not have is a fault.
func TestReconfigureSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a := lan.node(t, 1, Config{})
		other := addrs("192.0.2.77")[0]
		a.net.change(linkEvent{index: 1}, func(n *netif) { n.addrs = append(n.addrs, ifaddr{addr: other}) })
		time.Sleep(10 * time.Second)
		for _, test := range []struct {
			source string
			want   State
		}{{"192.0.2.77", Active}, {"192.0.2.78", Initialize}} {
			if err := a.reconfigure(func(c *Config) { c.Source = addrs(test.source)[0] }); err != nil {
				t.Fatal(err)
			}
			a.is(test.want)
		}
		sent := lan.from(other)
		if len(sent) != 2 || sent[0].priority != 100 || sent[1].priority != 0 {
			t.Errorf("from the new source: %v, want an advertisement, and the last one", sent)
		}
	})
}

// TestReconfigureVirtual: an address that becomes a virtual one is no source any more, and
// a former virtual address may be one.
func TestReconfigureVirtual(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newFakeLAN().node(t, 1, Config{})
		count := func() string { return fmt.Sprint(a.conn.virtual) }
		if err := a.reconfigure(func(c *Config) { c.Addresses = addrs("192.0.2.251", "192.0.2.252") }); err != nil {
			t.Fatal(err)
		}
		if got, want := count(), "map[192.0.2.251:{1 1} 192.0.2.252:{1 1}]"; got != want {
			t.Errorf("virtual addresses %v, want %v", got, want)
		}
		a.stop()
		synctest.Wait()
		if got := count(); got != "map[]" {
			t.Errorf("virtual addresses after the end: %v", got)
		}
	})
}

// TestConfigFields: every field is listed, with whether it can be changed in place.
func TestConfigFields(t *testing.T) {
	inPlace := []string{
		"Interval", "NoPreempt", "PreemptDelay", "StartDelay", "DownMultiplier", "Source", "Peers", "TTL", "MinTTL", "MaxTTL", "Checksum",
		"NoOverlap",
	}
	stays := []string{"Name", "OnTransition", "Logger"}
	inPlace = append(inPlace, "IPv6") // a matter of Addresses
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		if fixed[f.Name] == nil && !slices.Contains(inPlace, f.Name) && !slices.Contains(stays, f.Name) {
			t.Errorf("Config.%s: can it be changed in place?", f.Name)
		}
	}
}
