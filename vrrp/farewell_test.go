package vrrp

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestFarewell: a farewell that was prepared some time ago makes a peer take over when its
// sender has died.
func TestFarewell(t *testing.T) {
	for name, cfg := range map[string]Config{
		"multicast":    {},
		"unicast":      {Peers: addrs("192.0.2.1", "192.0.2.2")},
		"PASS":         {Version: 2, Auth: Auth{Type: AuthPass, Password: "d0cker"}},
		"AH":           {Version: 2, Auth: Auth{Type: AuthAH, Password: "d0cker"}},
		"AH, unicast":  {Version: 2, Auth: Auth{Type: AuthAH, Password: "d0cker"}, Peers: addrs("192.0.2.1", "192.0.2.2")},
		"HMAC":         {Auth: Auth{Type: AuthHMAC, HMAC: HMACConfig{Keys: []Key{{ID: 1, Secret: make([]byte, 32)}}}}},
		"HMAC, IPv6":   {Addresses: addrs("fe80::250"), Auth: Auth{Type: AuthHMAC, HMAC: HMACConfig{Keys: []Key{{ID: 1, Secret: make([]byte, 32)}}}}},
		"monotonic":    {Auth: Auth{Type: AuthHMAC, HMAC: HMACConfig{Replay: ReplayMonotonic, Keys: []Key{{ID: 1, Secret: make([]byte, 32)}}}}},
		"IPv6 unicast": {Addresses: addrs("fe80::250"), Peers: addrs("fe80::1", "fe80::2")},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lan := newFakeLAN()
				cfg.Priority = 120
				a := lan.prepare(t, 1, cfg)
				if _, _, err := a.Farewell(); err == nil {
					t.Error("a router that does not run has a farewell")
				}
				a.run()
				cfg.Priority = 110
				b := lan.node(t, 2, cfg)
				time.Sleep(10 * time.Second)
				will, validFor, err := a.Farewell()
				if err != nil || validFor <= 0 || len(will) != 1 {
					t.Fatalf("%d packets, valid for %v, error %v; want one", len(will), validFor, err)
				}
				time.Sleep(min(validFor, 10*time.Minute) - time.Millisecond)
				a.is(Active)
				b.is(Backup)
				lan.cut(a.addr, true)
				guard := lan.port(a.addr, will[0].Protocol)
				if _, err := guard.WriteBatch(will); err != nil {
					t.Fatal(err)
				}
				time.Sleep(skew3(110))
				b.is(Active)
				if d := b.Status().Counters.Dropped; len(d) > 0 {
					t.Errorf("dropped: %v", d)
				}
			})
		})
	}
}
