package vrrp

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestStandDown: a router that stands down hands over and stays out of the election for
// as long as the reason lasts.
func TestStandDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a, b := lan.node(t, 1, Config{Priority: 120}), lan.node(t, 2, Config{Priority: 110})
		time.Sleep(10 * time.Second)
		a.is(Active)
		release := a.StandDown("maintenance")
		time.Sleep(2 * time.Second)
		a.is(Initialize)
		b.is(Active)
		if got := a.Status().Faults; len(got) != 1 || got[0] != "maintenance" {
			t.Errorf("faults %q, want maintenance", got)
		}
		time.Sleep(time.Minute)
		a.is(Initialize)
		release()
		release() // the second call does nothing
		time.Sleep(10 * time.Second)
		a.is(Active)
		b.is(Backup)
	})
}
