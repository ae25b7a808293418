package vip

import (
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
)

// TestNetnsOwner: an owner's address has its route, its lifetime and its primacy
// before, while and after it is held, and so has what a DHCP client has put on.
func TestNetnsOwner(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	h := l.MustHost("owner", "192.0.2.10/24", "2001:db8::10/64")
	putIn(t, h, "eth0", "198.51.100.10/24", 0, time.Hour)
	host := []string{"192.0.2.10/24", "2001:db8::10/64", "198.51.100.10/24"}
	before := routes(t, h)
	m, stop := runIn(t, h, Config{Owner: true, Lease: time.Second, Addresses: addrs(t,
		"192.0.2.10/24", "2001:db8::10/64", "198.51.100.10/24", "192.0.2.11/24", "2001:db8::11/64")})
	check := func(more ...string) {
		t.Helper()
		wantHeld(t, h, append(more, host...)...)
		for _, a := range []string{"192.0.2.10", "2001:db8::10"} {
			if got := find(t, h, a); got.ValidLft != 1<<32-1 {
				t.Errorf("%s has a lifetime of %d s", a, got.ValidLft)
			}
		}
		if got := find(t, h, "198.51.100.10"); got.ValidLft < 1000 {
			t.Errorf("what DHCP gave an hour has %d s", got.ValidLft)
		}
	}
	check()
	for range 2 {
		mustAcquire(t, m)
		renewed := func() time.Time {
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.lease.since
		}
		first := renewed()
		lab.Until(t, bound, "a renewal", func() bool { return renewed().After(first) })
		check("192.0.2.11/24", "2001:db8::11/64")
		if err := m.Release(t.Context()); err != nil {
			t.Error(err)
		}
		check()
	}
	stop()
	check()
	if after := routes(t, h); len(after) != len(before) {
		t.Errorf("routes are %v, were %v", after, before)
	}
}
