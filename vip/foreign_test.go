package vip

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// wantFault checks what is said to be in the way.
func wantFault(t *testing.T, m *Manager, want bool) {
	t.Helper()
	time.Sleep(2 * time.Second)
	synctest.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	if got := strings.Contains(strings.Join(m.faults.list, ", "), "is another program's"); got != want {
		t.Errorf("faults %q, want one: %v", m.faults.list, want)
	}
}

// TestLedger: on a kernel that keeps no marks a list on disk tells what is ours.
func TestLedger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		k.marksNothing = true
		dir := t.TempDir()
		ns := newNamespace(k, nil)
		defer ns.Close()
		ns.ledger = ledger(dir + "/run/4026531840")
		cfg := Config{Addresses: addrs(t, "192.0.2.10/24", "2001:db8::10/64"), Interface: "eth0", Namespace: ns}
		killed, err := NewManager(cfg)
		if err != nil {
			t.Fatal(err)
		}
		acquire(t, killed)
		kill(killed)

		// Its successor knows the addresses, and those of another namespace as
		// little as a person's.
		ns.ledger = ledger(dir + "/run/4026532000")
		m, stop := startIn(t, cfg)
		wantFault(t, m, true)
		stop()
		ns.ledger = ledger(dir + "/run/4026531840")
		m, stop = startIn(t, cfg)
		wantFault(t, m, false)
		if k.has("192.0.2.10") || k.has("2001:db8::10") {
			t.Error("a predecessor's addresses are there after the start")
		}
		acquire(t, m)
		if err := m.Release(t.Context()); err != nil || k.has("192.0.2.10") {
			t.Errorf("the address is there after Release (%v)", err)
		}
		k.put(on(2, "192.0.2.10/24"), true)
		wantFault(t, m, true)
		stop()
		if !k.has("192.0.2.10") {
			t.Error("what a person added was removed")
		}
		k.remove(on(2, "192.0.2.10/24"))

		// One that was killed, and whose addresses another hand removed, leaves
		// nothing that would make a person's address ours.
		killed, err = NewManager(cfg)
		if err != nil {
			t.Fatal(err)
		}
		acquire(t, killed)
		kill(killed)
		k.remove(on(2, "192.0.2.10/24"))
		m, stop = startIn(t, cfg)
		k.put(on(2, "192.0.2.10/24"), true)
		wantFault(t, m, true)
		stop()
		if !k.has("192.0.2.10") {
			t.Error("what a person added was removed")
		}
	})
}

// TestAnotherProgramTakesIt: an address that is held and becomes another
// program's, such as a DHCP client's, is not renewed, and stays when it is
// released.
func TestAnotherProgramTakesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24", "192.0.2.11/24"), Lease: 3 * time.Second})
		acquire(t, m)
		taken := on(2, "192.0.2.10/24")
		taken.valid = time.Hour
		k.put(taken, false)
		time.Sleep(10 * time.Second)
		if !m.Status().Held || !k.has("192.0.2.11") {
			t.Error("the addresses were given up")
		}
		if err := m.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		if have, _ := k.addresses(); len(have) != 1 || have[0] != taken {
			t.Errorf("addresses %v, want %v as it was", have, taken)
		}
		wantFault(t, m, true)
	})
}

// TestAnotherProgramIsFaster: it adds the address after the Manager has looked.
func TestAnotherProgramIsFaster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24"), Lease: 3 * time.Second})
		foreign := on(2, "192.0.2.10/24")
		k.hooked(func(op string) error {
			if op == "put" {
				k.hooked(nil)
				return k.put(foreign, true)
			}
			return nil
		})
		if err := m.Acquire(t.Context()); !errors.Is(err, ErrInUse) {
			t.Errorf("Acquire: %v, want ErrInUse", err)
		}
		wantFault(t, m, true)
		if have, _ := k.addresses(); len(have) != 1 || have[0] != foreign {
			t.Errorf("addresses %v, want %v as it was", have, foreign)
		}
	})
}

// TestReconfigureToAnotherPrograms: an address that is another program's is no reason
// to lose those that are held.
func TestReconfigureToAnotherPrograms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		k.put(on(2, "192.0.2.1/24"), true)
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24")})
		acquire(t, m)
		if err := m.Reconfigure(t.Context(), Config{Interface: "eth0", Addresses: addrs(t, "192.0.2.10/24", "192.0.2.1/24")}); !errors.Is(err, ErrInUse) {
			t.Errorf("Reconfigure: %v, want ErrInUse", err)
		}
		if !m.Status().Held || !k.has("192.0.2.10") || !k.has("192.0.2.1") {
			t.Errorf("held %v, addresses %v", m.Status().Held, k.list)
		}
	})
}

// TestMacvlanInUse: a macvlan on which another program has the address is not
// taken from it.
func TestMacvlanInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		mac := VirtualMAC(51, false)
		if err := k.addMacvlan("vrrp.51", 2, mac); err != nil {
			t.Fatal(err)
		}
		l, err := k.link(0, "vrrp.51")
		if err == nil {
			err = k.setUp(l.index, true)
		}
		if err != nil {
			t.Fatal(err)
		}
		k.put(on(l.index, "192.0.2.10/24"), true)
		ns := newNamespace(k, nil)
		defer ns.Close()
		m, stop := startIn(t, Config{Addresses: addrs(t, "192.0.2.10/24"), VirtualMAC: mac, Namespace: ns})
		wantFault(t, m, true)
		for _, r := range m.Removals().Requests {
			if s := string(r); s == "set down" || s == "remove 192.0.2.10/24" {
				t.Errorf("a guard would %s", r)
			}
		}
		stop()
		if l, err := k.link(0, "vrrp.51"); err != nil || !l.enabled || !k.has("192.0.2.10") {
			t.Errorf("the other program's macvlan is %+v (%v), its addresses %v", l, err, k.list)
		}
	})
}

// TestOwnerKeepsItsAddresses: an owner's addresses look like a killed Keepalived's,
// and are the host's way to the network.
func TestOwnerKeepsItsAddresses(t *testing.T) {
	for name, cfg := range map[string]Config{"Takeover": {Takeover: true}, "NoAccept": {NoAccept: true}} {
		cfg.Interface, cfg.Owner = "eth0", true
		cfg.Addresses = []Address{{Prefix: netip.MustParsePrefix("192.0.2.10/24")}}
		if err := cfg.Validate(); err == nil {
			t.Errorf("an owner with %s is accepted", name)
		}
	}
}

// TestVirtualWhoeverHasPutIt: an address that equals a virtual one is nobody's
// source, also when another program has put it there; an owner's is.
func TestVirtualWhoeverHasPutIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, owner := range []bool{false, true} {
			k := newFakeKernel()
			k.put(on(2, "192.0.2.10/24"), true)
			m := start(t, k, Config{Owner: owner, Addresses: addrs(t, "192.0.2.10/24")})
			if got := m.ns.Virtual(netip.MustParseAddr("192.0.2.10")); got == owner {
				t.Errorf("owner %v: virtual %v", owner, got)
			}
		}
	})
}

// TestForeignTwin: an address that a person adds with another length while it is
// held takes nothing away from ours, which goes when it is released.
func TestForeignTwin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24"), Lease: 3 * time.Second})
		acquire(t, m)
		twin := on(2, "192.0.2.10/32")
		k.put(twin, true)
		time.Sleep(time.Minute)
		if have, _ := k.addresses(); len(have) != 2 {
			t.Errorf("addresses %v, want both", have)
		}
		if err := m.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		if have, _ := k.addresses(); len(have) != 1 || have[0] != twin {
			t.Errorf("addresses %v, want the person's", have)
		}
		wantFault(t, m, true)
	})
}

// TestWillNamesWhatIsKnown: at no time would a guard remove an address that the host
// has anyway: neither before the first look nor after another configuration.
func TestWillNamesWhatIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, checked := range []bool{false, true} {
			k := newFakeKernel()
			k.put(on(2, "192.0.2.1/24"), true)
			k.put(on(2, "192.0.2.2/24"), true)
			var named []string
			cfg := Config{Interface: "eth0", Addresses: addrs(t, "192.0.2.1/24"), OnRemovals: func(r Removals) {
				named = append(named, removed(r.Requests))
			}}
			ns := newNamespace(k, nil)
			defer ns.Close()
			cfg.Namespace = ns
			m, err := NewManager(cfg)
			if err != nil {
				t.Fatal(err)
			}
			if checked {
				if err := m.Check(); err != nil {
					t.Error(err)
				}
			}
			go m.Run(t.Context())
			synctest.Wait()
			cfg.Addresses = addrs(t, "192.0.2.2/24", "192.0.2.10/24")
			if err := m.Reconfigure(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			if got := strings.Join(named, " "); strings.TrimSpace(got) != "remove 192.0.2.10/24" {
				t.Errorf("checked %v: a guard was told to %q", checked, named)
			}
		}
	})
}

// TestMacvlanNeverMade: where the macvlan could not be made, nothing is left of
// the addresses, and the end is not said to have failed.
func TestMacvlanNeverMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		k.failing("add macvlan", errors.New("operation not supported"))
		ns := newNamespace(k, nil)
		defer ns.Close()
		m, stop := startIn(t, Config{Addresses: addrs(t, "192.0.2.10/24"), VirtualMAC: VirtualMAC(51, false), Namespace: ns})
		if err := m.Acquire(t.Context()); err == nil || !strings.Contains(err.Error(), "operation not supported") {
			t.Errorf("acquired with %v, want an error that says why", err)
		}
		stop()
	})
}
