package vip

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// What cannot be done at the start may be possible later: nothing is given up.
func TestRunTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		k.put(our(2, "192.0.2.10/24"), false)
		k.failing("remove", syscall.ENOBUFS)
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24")})
		ready := func() bool {
			select {
			case <-m.Ready():
				return true
			default:
				return false
			}
		}
		k.changes <- change{kind: routeRemoved} // of no consequence
		time.Sleep(10 * time.Second)
		if p := m.Status().Problem; ready() || !strings.Contains(p, "no buffer space") {
			t.Errorf("ready %v, problem %q", ready(), p)
		}
		k.failing("", nil)
		time.Sleep(2 * time.Second)
		if p := m.Status().Problem; !ready() || p != "" || k.has("192.0.2.10") {
			t.Errorf("ready %v, problem %q, leftover there: %v", ready(), p, k.has("192.0.2.10"))
		}
		acquire(t, m)
	})
}

// Where there is nothing to drop packets with, only who wants that cannot do
// without.
func TestWithoutFilter(t *testing.T) {
	for _, noAccept := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			k := newFakeKernel()
			k.hooked(func(op string) error {
				if op == "filter" || op == "sweep" {
					return errors.ErrUnsupported
				}
				return nil
			})
			m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24"), NoAccept: noAccept})
			if p := m.Status().Problem; (p != "") != noAccept {
				t.Errorf("NoAccept %v: problem %q", noAccept, p)
			}
			k.failing("", nil)
		})
	}
}

// Netlink may be slow for longer than a lease while the election goes on in
// time. Whoever knows that is not made to give up.
func TestEntitled(t *testing.T) {
	for _, slow := range []string{"link", "addresses", "put"} {
		t.Run("slow "+slow, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newFakeKernel()
				entitled := true
				m := start(t, k, Config{
					Addresses: addrs(t, "192.0.2.10/24"), Lease: time.Second,
					Announce: Schedule{Burst: 1, Rounds: []time.Duration{0}},
					Entitled: func() bool { return entitled },
				})
				acquire(t, m)
				m.Announce(t.Context())
				before := k.sent()
				k.hooked(func(op string) error {
					if op == slow {
						k.hooked(nil)
						time.Sleep(5 * time.Second)
					}
					return nil
				})
				k.changes <- change{kind: overrun} // have a look at once
				time.Sleep(time.Minute)
				if s := m.Status(); !s.Held || s.Lost != 0 || !k.has("192.0.2.10") {
					t.Errorf("status %+v, address there: %v; want it held, and never lost", s, k.has("192.0.2.10"))
				}
				if k.sent() == before {
					t.Error("an address that had gone for seconds is not announced again")
				}
				// The other side of it: another host may be the holder.
				entitled = false
				k.hooked(func(op string) error {
					if op == slow {
						k.hooked(nil)
						time.Sleep(5 * time.Second)
					}
					return nil
				})
				k.changes <- change{kind: overrun}
				time.Sleep(time.Minute)
				if s := m.Status(); s.Held || s.Lost != 1 || k.has("192.0.2.10") {
					t.Errorf("status %+v, address there: %v; want it lost", s, k.has("192.0.2.10"))
				}
			})
		})
	}
	t.Run("Acquire", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k := newFakeKernel()
			m := start(t, k, Config{
				Addresses: addrs(t, "192.0.2.10/24", "192.0.2.11/24"), Lease: time.Second,
				Entitled: func() bool { return true },
			})
			k.hooked(func(op string) error {
				if op == "put" {
					time.Sleep(600 * time.Millisecond)
				}
				return nil
			})
			acquire(t, m)
			k.hooked(nil)
			time.Sleep(10 * time.Second)
			if s := m.Status(); !s.Held || s.Lost != 0 || !k.has("192.0.2.10") || !k.has("192.0.2.11") {
				t.Errorf("status %+v", s)
			}
		})
	})
}

// Whoever asks hears of a lease that is not renewed before the kernel lets it
// lapse, and without waiting for what holds the Manager up; and of the last tenure
// nothing in the next one.
func TestLapsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24"), Lease: 4 * time.Second})
		want := func(what string, want bool) {
			t.Helper()
			if got := m.Lapsed(); got != want {
				t.Errorf("%s: lapsed %v, want %v", what, got, want)
			}
		}
		want("not acquired", false)
		acquire(t, m)
		for range 100 {
			time.Sleep(100 * time.Millisecond)
			want("renewed", false)
		}
		k.hooked(func(op string) error {
			if op == "put" {
				time.Sleep(time.Minute)
			}
			return nil
		})
		time.Sleep(2400 * time.Millisecond)
		want("not renewed for 2.4 s", false)
		time.Sleep(1200 * time.Millisecond)
		want("not renewed for 3.6 s", true)
		k.hooked(nil)
		time.Sleep(2 * time.Minute)
		want("lost", true)
		m.Release(t.Context())
		want("released", false)
		acquire(t, m)
		want("acquired again", false)
	})
	synctest.Test(t, func(t *testing.T) {
		m := start(t, newFakeKernel(), Config{Addresses: addrs(t, "192.0.2.10/24")})
		acquire(t, m)
		time.Sleep(time.Hour)
		if m.Lapsed() {
			t.Error("addresses without a lease have lapsed")
		}
	})
}

// Reconfigure adds nothing after the lease has lapsed, as nothing does.
func TestReconfigureLapsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		ns := newNamespace(k, nil)
		defer ns.Close()
		m, err := NewManager(Config{Interface: "eth0", Namespace: ns, Addresses: addrs(t, "192.0.2.10/24"), Lease: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		acquire(t, m)               // and nobody runs it:
		time.Sleep(5 * time.Second) // it is frozen
		for i, want := range []error{ErrLapsed, nil} {
			err := m.Reconfigure(t.Context(), with(m, addrs(t, "192.0.2.10/24", "192.0.2.11/24"), nil))
			if !errors.Is(err, want) {
				t.Errorf("Reconfigure %d: %v, want %v", i, err, want)
			}
			if s := m.Status(); s.Held || s.Lost != 1 || k.has("192.0.2.10") || k.has("192.0.2.11") {
				t.Errorf("status %+v after Reconfigure %d", s, i)
			}
		}
		if lost := m.lost; !errors.Is(lost, ErrLapsed) {
			t.Errorf("OnLost is to be told %v, want ErrLapsed", lost)
		}
	})
}

// A new address that another interface or another host has is refused, and all
// stays as it is.
func TestReconfigureInUse(t *testing.T) {
	for name, prepare := range map[string]func(k *fakeKernel){
		"another interface": func(k *fakeKernel) {
			k.links = append(k.links, link{index: 3, name: "eth1", mac: testMAC, up: true, ethernet: true})
			k.put(on(3, "192.0.2.11/32"), false)
		},
		"another host": func(k *fakeKernel) {
			time.AfterFunc(4*time.Second, func() { // in the second half of the probe
				k.heard <- sighting{index: 2, addr: netip.MustParseAddr("192.0.2.11"), mac: net.HardwareAddr{2, 0, 0, 0, 0, 9}, time: time.Now()}
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newFakeKernel()
				// The probe takes longer than the lease, which is renewed meanwhile.
				m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24"), Lease: time.Second, Probe: 5 * time.Second})
				acquire(t, m)
				prepare(k)
				if err := m.Reconfigure(t.Context(), with(m, addrs(t, "192.0.2.10/24", "192.0.2.11/24"), nil)); !errors.Is(err, ErrInUse) {
					t.Errorf("Reconfigure: %v, want ErrInUse", err)
				}
				if s := m.Status(); s != (Status{Held: true}) || !k.has("192.0.2.10") || len(m.cfg.Addresses) != 1 {
					t.Errorf("status %+v with %v; want nothing changed", s, m.cfg.Addresses)
				}
			})
		})
	}
}

// Another host that probes for the address is about to take it as well.
func TestProbeMeetsProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24"), Probe: 100 * time.Millisecond})
		probed := func(mac net.HardwareAddr) {
			k.heard <- sighting{index: 2, addr: netip.MustParseAddr("192.0.2.10"), mac: mac, probe: true, time: time.Now()}
		}
		time.AfterFunc(60*time.Millisecond, func() { probed(testMAC) }) // our own, come back
		acquire(t, m)
		other := net.HardwareAddr{2, 0, 0, 0, 0, 9}
		probed(other) // it is held: whoever asks gets an answer
		synctest.Wait()
		if n := m.Status().Conflicts; n != 0 {
			t.Errorf("%d conflicts because somebody asked", n)
		}
		m.Release(t.Context())
		time.AfterFunc(60*time.Millisecond, func() { probed(other) })
		if err := m.Acquire(t.Context()); !errors.Is(err, ErrInUse) {
			t.Errorf("Acquire: %v, want ErrInUse", err)
		}
	})
}

// Whoever is to clean up knows what there is to be removed before it is there.
func TestOnRemovals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		var told []string
		tells := 0
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24"), OnRemovals: func(r Removals) {
			requests := slices.Concat(r.Requests, r.Settings)
			told = nil
			tells++
			for _, r := range requests {
				told = append(told, string(r))
			}
		}})
		k.hooked(func(op string) error {
			if op == "put" {
				for _, a := range m.cfg.Addresses {
					if !slices.Contains(told, "remove "+a.Prefix.String()) {
						t.Errorf("%v is added, and %q is all that is known", a.Prefix, told)
					}
				}
			}
			return nil
		})
		want := func(want ...string) {
			t.Helper()
			if !slices.Equal(told, want) {
				t.Errorf("told %q, want %q", told, want)
			}
		}
		want("remove 192.0.2.10/24")
		acquire(t, m)
		want("remove 192.0.2.10/24", "set 20 of 2 to 0")
		if err := m.Reconfigure(t.Context(), with(m, addrs(t, "192.0.2.10/24", "192.0.2.11/24"), nil)); err != nil {
			t.Fatal(err)
		}
		want("remove 192.0.2.10/24", "remove 192.0.2.11/24", "set 20 of 2 to 0")
		before := tells
		k.changes <- change{kind: overrun}
		time.Sleep(time.Minute)
		if tells != before {
			t.Errorf("told %d times although nothing changed", tells-before)
		}
	})
}

// TestRemovalsOfMacvlan: whoever cleans up sets the macvlan down, once the addresses are off.
func TestRemovalsOfMacvlan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := start(t, newFakeKernel(), Config{Addresses: addrs(t, "192.0.2.10/24"), VirtualMAC: VirtualMAC(51, false)})
		acquire(t, m)
		if got := string(bytes.Join(m.Removals().Requests, []byte("; "))); got != "remove 192.0.2.10/24; set down" {
			t.Errorf("removals: %s", got)
		}
	})
}

// TestRemovalsOutliveFailures: while the kernel does not say whether an interface is there,
// the address on it stays among what is to be removed, and goes when the kernel answers.
func TestRemovalsOutliveFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24")})
		acquire(t, m)
		k.hooked(func(op string) error {
			if op == "link" {
				return syscall.ENOBUFS
			}
			return nil
		})
		m.disturb()
		for range 30 {
			time.Sleep(100 * time.Millisecond)
			if got := m.Removals().Requests; k.has("192.0.2.10") && len(got) == 0 {
				t.Fatal("the address is there, and nobody is told to remove it")
			}
		}
		k.hooked(nil)
		time.Sleep(2 * again)
		if k.has("192.0.2.10") || m.Status().Problem != "" {
			t.Errorf("addresses %v, status %+v", k.list, m.Status())
		}
	})
}

// TestRaisedSettingsGoWithTheInterface: however often an interface is made anew, no more is
// remembered, and restored after a death, than what is raised on the present one.
func TestRaisedSettingsGoWithTheInterface(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24")})
		present := func(links ...link) {
			k.mu.Lock()
			k.links, k.list = links, nil
			k.mu.Unlock()
			k.changes <- change{kind: overrun}
			time.Sleep(2 * again)
			synctest.Wait()
		}
		eth0 := k.links[0]
		for range 10 {
			acquire(t, m)
			want := fmt.Sprintf("set %d of %d to 0", confPromote, eth0.index)
			if got := m.Removals().Settings; len(got) != 1 || string(got[0]) != want {
				t.Errorf("settings to restore: %q, want %q", got, want)
			}
			present()
			if n := len(m.Removals().Settings) + len(m.raised) + len(m.ns.settings); n > 0 {
				t.Errorf("%d settings of an interface that is gone", n)
			}
			eth0.index++
			present(eth0)
		}
	})
}

// After a renaming an interface is known by its index.
func TestRenamedLinkIsWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24"), Announce: Schedule{Burst: 1, Rounds: []time.Duration{0}}})
		acquire(t, m)
		m.Announce(t.Context())
		set := func(f func(l *link)) {
			k.mu.Lock()
			f(&k.links[0])
			k.mu.Unlock()
			k.changes <- change{kind: linkChanged, name: "wan", index: 2}
			time.Sleep(100 * time.Millisecond)
		}
		set(func(l *link) { l.name, l.up = "wan", false })
		before := k.sent()
		set(func(l *link) { l.up = true })
		if k.sent() == before {
			t.Error("the renamed interface came up again, and nothing was announced")
		}
	})
}
