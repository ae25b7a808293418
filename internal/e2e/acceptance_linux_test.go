package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/scenario"
)

// TestAcceptance is the four acceptance runs with every pair of havip and
// keepalived that an operator may have on the way from one to the other, and
// real nginx web servers. The pair of two keepaliveds is the yardstick.
func TestAcceptance(t *testing.T) {
	lab.Need(t, "keepalived", "nginx", "bash")
	t.Parallel()
	exe := havip(t)
	kinds := map[string][2]scenario.Program{
		"havip":      {scenario.Havip(exe), scenario.HavipBalancer(exe)},
		"keepalived": {keepalived, nginxBalancer},
	}
	v2 := scenario.Params{Interval: time.Second, Version: 2}
	v3 := scenario.Params{Interval: time.Second, Version: 3, Multicast: true}
	for _, tc := range []struct {
		lb01, lb02 string
		params     scenario.Params
	}{
		{"havip", "havip", v2},
		{"havip", "keepalived", v2},
		{"keepalived", "havip", v2},
		{"keepalived", "keepalived", v2},
		{"havip", "havip", v3},
		{"havip", "keepalived", v3},
		{"keepalived", "havip", v3},
	} {
		cast := "unicast"
		if tc.params.Multicast {
			cast = "multicast"
		}
		t.Run(fmt.Sprintf("v%d %s/LB-01 %s/LB-02 %s", tc.params.Version, cast, tc.lb01, tc.lb02), func(t *testing.T) {
			t.Parallel()
			if tc.lb02 == "keepalived" {
				lab.NeedRoot(t) // it is LB-02's check that has to succeed
			}
			a, b := kinds[tc.lb01], kinds[tc.lb02]
			acceptance(t, scenario.Config{
				Params:   tc.params,
				VRRP:     [2]scenario.Program{a[0], b[0]},
				Balancer: [2]scenario.Program{a[1], b[1]},
				Backends: nginxBackends,
				Private:  true,
			})
		})
	}
}

// startScenario starts a scenario that ends with the test, and its client.
func startScenario(t *testing.T, dir string, cfg scenario.Config) *scenario.Scenario {
	t.Helper()
	s, err := scenario.New(lab.New(t), dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	go s.Client.Run(t.Context())
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// acceptance carries out the runs and prints the outage that the client saw.
func acceptance(t *testing.T, cfg scenario.Config) {
	s, ctx := startScenario(t, t.TempDir(), cfg), t.Context()
	for i, r := range scenario.Runs {
		res := s.Do(ctx, r)
		t.Logf("run %d: %s: longest gap %v, the timers allow %v", i+1, r.Title,
			res.Outage.Round(time.Millisecond), res.Allowed.Round(time.Millisecond))
		if res.Err != nil {
			t.Fatalf("run %d: %s: %v", i+1, r.Title, res.Err)
		}
	}
}
