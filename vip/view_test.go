package vip

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestLooks(t *testing.T) {
	now := time.Unix(1000, 0)
	var l looks
	if !l.due(false).Before(now) || !l.due(true).Before(now) {
		t.Error("the first look is not due at once")
	}
	l.begun(now)
	if got, soon := l.due(false).Sub(now), l.due(true).Sub(now); got != patrol || soon != spacing {
		t.Errorf("the next look is due after %v, and %v if something happens", got, soon)
	}
	l.soon()
	if got, soon := l.due(false).Sub(now), l.due(true).Sub(now); got != again || soon != spacing {
		t.Errorf("after a failure it is due after %v, and %v if something happens", got, soon)
	}
}

// TestForeign: whose word a sighting is, with and without a virtual MAC.
func TestForeign(t *testing.T) {
	host, other, virtual := net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 9}, VirtualMAC(51, false)
	plain := Config{Interface: "eth0", Addresses: addrs(t, "192.0.2.10/24")}
	shared := plain
	shared.VirtualMAC = virtual
	for name, tt := range map[string]struct {
		cfg     Config
		index   int
		addr    string
		mac     net.HardwareAddr
		foreign bool
	}{
		"another host":                        {plain, 2, "192.0.2.10", other, true},
		"this host":                           {plain, 2, "192.0.2.10", host, false},
		"another address":                     {plain, 2, "192.0.2.11", other, false},
		"another link":                        {plain, 7, "192.0.2.10", other, false},
		"with the virtual MAC, on the parent": {shared, 2, "192.0.2.10", virtual, true},
		"without the virtual MAC, on it":      {shared, 2, "192.0.2.10", other, false},
		"the macvlan itself":                  {shared, 3, "192.0.2.10", virtual, false},
		"without the virtual MAC, on macvlan": {shared, 3, "192.0.2.10", other, true},
	} {
		cfg := tt.cfg.WithDefaults()
		v := view{cfg: cfg}
		v.setLinks(map[string]link{
			"eth0": {index: 2, name: "eth0", mac: host}, "vrrp.51": {index: 3, name: "vrrp.51", mac: virtual},
		})
		s := sighting{index: tt.index, addr: netip.MustParseAddr(tt.addr), mac: tt.mac}
		if _, got := v.foreign(s); got != tt.foreign {
			t.Errorf("%s: foreign %v, want %v", name, got, tt.foreign)
		}
	}
}

// TestPacketFilter: a predecessor's filters go once, and one's own with each removal.
func TestPacketFilter(t *testing.T) {
	for _, drops := range []bool{false, true} {
		k := newFakeKernel()
		var ops []string
		k.hooked(func(op string) error { ops = append(ops, op); return nil })
		f := packetFilter{Filter: k.packets(), name: "VI_1", drops: drops}
		for _, do := range []func([]netip.Addr) error{f.remove, f.remove, f.install, f.remove} {
			if err := do(nil); err != nil {
				t.Error(err)
			}
		}
		want := []string{"sweep"}
		if drops {
			want = []string{"sweep", "filter", "filter"}
		}
		if !slices.Equal(ops, want) {
			t.Errorf("drops %v: %v, want %v", drops, ops, want)
		}
	}
}

// TestOwnFilterIsRemoved: the filter of addresses that are acquired and released goes with
// them, even if Run was never called and so nothing was removed before.
func TestOwnFilterIsRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		ns := newNamespace(k, nil)
		defer ns.Close()
		m, err := NewManager(Config{Interface: "eth0", Addresses: addrs(t, "192.0.2.10/24"), NoAccept: true, Namespace: ns})
		if err != nil {
			t.Fatal(err)
		}
		filters := 0 // installed and removed
		k.hooked(func(op string) error {
			if op == "filter" {
				filters++
			}
			return nil
		})
		acquire(t, m)
		if err := errors.Join(m.Release(t.Context()), m.Close()); err != nil || filters != 2 {
			t.Errorf("the filter was installed or removed %d times, want once each: %v", filters, err)
		}
	})
}

// TestHope: an Acquire that failed may succeed when the surroundings are no longer
// those in which it failed, or with another configuration.
func TestHope(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(f *knownFaults)
		want   bool
	}{
		"nothing changes":                  {func(f *knownFaults) { f.compare("a") }, false},
		"something changes":                {func(f *knownFaults) { f.compare("b") }, true},
		"something changes back":           {func(f *knownFaults) { f.compare("b"); f.compare("a") }, true},
		"another configuration":            {func(f *knownFaults) { f.changed() }, true},
		"another failure":                  {func(f *knownFaults) { f.acquired(false); f.compare("b") }, false},
		"another one once it is acquired":  {func(f *knownFaults) { f.acquired(true); f.changed() }, false},
		"something changes after failures": {func(f *knownFaults) { f.acquired(false); f.compare("b"); f.compare("c") }, true},
	} {
		var f knownFaults
		f.acquired(false)
		f.compare("a")
		tt.change(&f)
		if f.hope != tt.want {
			t.Errorf("%s: hope %v, want %v", name, f.hope, tt.want)
		}
	}
	var f knownFaults
	f.changed()
	if f.hope {
		t.Error("hope before any failure")
	}
}
