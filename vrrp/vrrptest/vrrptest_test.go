package vrrptest_test

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/havip/havip/vrrp"
	"github.com/havip/havip/vrrp/vrrptest"
)

// TestFailover: when the Active router's host loses power, the Backup takes over when
// three intervals and its skew time have passed since the last advertisement (RFC 9568
// §6.1), and not a nanosecond earlier or later.
func TestFailover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := vrrptest.NewLAN()
		a, b := lan.Host("192.0.2.1"), lan.Host("192.0.2.2")
		cfg := vrrp.Config{VRID: 51, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.250")}}
		var changes []vrrp.Transition
		cfg.Priority, cfg.OnTransition = 110, func(tr vrrp.Transition) { changes = append(changes, tr) }
		standby := b.Start(t, cfg, nil)
		cfg.Priority, cfg.OnTransition = 120, nil
		a.Start(t, cfg, nil)

		time.Sleep(10*time.Second + 300*time.Millisecond)
		a.Crash()
		time.Sleep(4 * time.Second)
		synctest.Wait()
		last := changes[len(changes)-1]
		took := last.Time.Sub(last.Peer.LastHeard)
		want := 3*time.Second + (256-110)*time.Second/256
		if state := standby.Status().State; state != vrrp.Active || took != want {
			t.Errorf("state %v after %v, want Active after %v", state, took, want)
		}
	})
}

// TestCutBeforeStart: a host can be off the link before its router starts.
func TestCutBeforeStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := vrrptest.NewLAN()
		a, b := lan.Host("192.0.2.1"), lan.Host("192.0.2.2")
		a.Cut()
		late := a.Start(t, vrrp.Config{VRID: 51, Priority: 110}, nil)
		b.Start(t, vrrp.Config{VRID: 51, Priority: 120}, nil)
		time.Sleep(10 * time.Second)
		if state := late.Status().State; state != vrrp.Active {
			t.Errorf("a router that hears nobody: %v, want Active", state)
		}
	})
}

// pair runs two routers until the first is Active, and returns them.
func pair(t *testing.T, addrs [2]string, unicast bool, cfg vrrp.Config) (*vrrptest.LAN, [2]*vrrptest.Host, func(want ...vrrp.State)) {
	lan := vrrptest.NewLAN()
	hosts := [2]*vrrptest.Host{lan.Host(addrs[0]), lan.Host(addrs[1])}
	var routers []*vrrp.Router
	for i, h := range hosts {
		cfg.VRID, cfg.Priority = 51, 120-10*uint8(i)
		if other := netip.MustParseAddr(addrs[1-i]); unicast {
			cfg.Peers = []netip.Addr{other}
		}
		routers = append(routers, h.Start(t, cfg, nil))
	}
	check := func(want ...vrrp.State) {
		t.Helper()
		synctest.Wait()
		if got := []vrrp.State{routers[0].Status().State, routers[1].Status().State}; !slices.Equal(got, want) {
			t.Errorf("states %v, want %v", got, want)
		}
	}
	time.Sleep(10 * time.Second)
	check(vrrp.Active, vrrp.Backup)
	return lan, hosts, check
}

// TestFaults: what a LAN and its hosts can do to routers, in both families and with
// authentication.
func TestFaults(t *testing.T) {
	const active, backup = vrrp.Active, vrrp.Backup
	for name, test := range map[string]struct {
		addrs   [2]string
		unicast bool
		cfg     vrrp.Config
	}{
		"IPv4":    {[2]string{"192.0.2.1", "192.0.2.2"}, false, vrrp.Config{}},
		"unicast": {[2]string{"192.0.2.1", "192.0.2.2"}, true, vrrp.Config{}},
		"IPv6":    {[2]string{"fe80::1", "fe80::2"}, false, vrrp.Config{}},
		"ah":      {[2]string{"192.0.2.1", "192.0.2.2"}, false, vrrp.Config{Version: 2, Auth: vrrp.Auth{Type: vrrp.AuthAH, Password: "d0cker"}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lan, hosts, check := pair(t, test.addrs, test.unicast, test.cfg)
				hosts[0].Cut()
				time.Sleep(4 * time.Second)
				check(active, active)
				hosts[0].Join()
				time.Sleep(2 * time.Second)
				check(active, backup)
				hosts[0].Freeze()
				time.Sleep(4 * time.Second)
				check(active, active)
				hosts[0].Thaw()
				check(backup, active) // it has not run for too long
				time.Sleep(10 * time.Second)
				check(active, backup)
				lan.Drop(func(p vrrp.Packet, to netip.Addr) bool { return to == hosts[1].Addr() })
				time.Sleep(4 * time.Second)
				check(active, active)
				lan.Drop(nil)
				time.Sleep(2 * time.Second)
				check(active, backup)
				hosts[0].Crash()
				time.Sleep(4 * time.Second)
				check(active, active)
			})
		})
	}
}
