package daemon

import (
	"fmt"
	"strings"
	"testing"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/vrrp"
)

// TestRouterCountersSurviveReloads: a router that is replaced, or goes and comes back, goes
// on counting what its name has counted, with every transition by its cause.
func TestRouterCountersSurviveReloads(t *testing.T) {
	t.Parallel()
	h := lab.New(t).MustHost("lb01", "192.168.31.240/24")
	file := func(vrid int) string {
		return fmt.Sprintf(`vrrp: [{name: VI_1, interface: eth0, vrid: %d, interval: 50ms, lease: 20s, addresses: [192.168.31.250/24]}]`, vrid)
	}
	n := startNode(t, h, file(51))
	view := func() (RouterView, vrrp.Counters) {
		v := n.View().Routers[0]
		return v, v.Status().Counters
	}
	check := func(what string, before vrrp.Counters, want map[vrrp.Cause]uint64) {
		t.Helper()
		n.awaits("VI_1", vrrp.Active)
		_, now := view()
		if now.Sent <= before.Sent {
			t.Errorf("%s: %d advertisements are sent, were %d", what, now.Sent, before.Sent)
		}
		sum := uint64(0)
		for cause, got := range now.Causes {
			if sum += got; got != want[cause] {
				t.Errorf("%s: %d transitions with cause %v, want %d", what, got, cause, want[cause])
			}
		}
		if sum != now.Transitions {
			t.Errorf("%s: %d transitions, %d by cause", what, now.Transitions, sum)
		}
	}
	lives := func(n uint64, ends map[vrrp.Cause]uint64) map[vrrp.Cause]uint64 {
		all := map[vrrp.Cause]uint64{vrrp.CauseStart: n, vrrp.CauseTimeout: n}
		for cause, k := range ends {
			all[cause] = k
		}
		return all
	}
	check("at first", vrrp.Counters{}, lives(1, nil))
	_, before := view()
	n.must(file(52)) // another router takes the place
	check("with another VRID", before, lives(2, map[vrrp.Cause]uint64{vrrp.CauseReconfigured: 1}))
	old, before := view()
	n.must(strings.Replace(file(53), "VI_1", "VI_2", 1))
	n.must(file(51))
	check("gone and back", before, lives(3, map[vrrp.Cause]uint64{vrrp.CauseReconfigured: 1, vrrp.CauseShutdown: 1}))
	// Who still looks at a View of before sees what the name has counted, too.
	if _, now := view(); old.Status().Counters.Transitions != now.Transitions {
		t.Errorf("an old View has %d transitions, the present one %d", old.Status().Counters.Transitions, now.Transitions)
	}
}
