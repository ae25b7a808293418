package report

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// TestProblems: what needs a person, and what does not.
func TestProblems(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*Status, *Router, *Check, *Service)
		want   string // part of the only problem; empty: all is well
	}{
		"all is well":     {func(*Status, *Router, *Check, *Service) {}, ""},
		"a reload failed": {func(s *Status, _ *Router, _ *Check, _ *Service) { s.Node.ReloadError = "no such file" }, "the last reload failed: no such file"},
		"maintenance is planned": {func(s *Status, r *Router, _ *Check, _ *Service) {
			s.Node.Maintenance, r.State, r.Faults = &Maintenance{}, "Initialize", []string{"maintenance"}
		}, ""},
		"what maintenance has left behind is not": {func(_ *Status, r *Router, _ *Check, _ *Service) { r.Faults = []string{"maintenance"} }, "VI_1: fault: maintenance"},
		"a fault in maintenance is not": {func(s *Status, r *Router, _ *Check, _ *Service) {
			s.Node.Maintenance, r.State, r.Faults = &Maintenance{}, "Initialize", []string{"maintenance", "link down"}
		}, "VI_1: fault: link down"},
		"a router does not run":           {func(_ *Status, r *Router, _ *Check, _ *Service) { r.NotRunning = "no interface" }, "VI_1: does not run: no interface"},
		"a fault":                         {func(_ *Status, r *Router, _ *Check, _ *Service) { r.Faults = []string{"link down"} }, "VI_1: fault: link down"},
		"a fault that is only waited for": {func(_ *Status, r *Router, _ *Check, _ *Service) { r.Faults, r.Waiting = []string{"a"}, true }, ""},
		"two are Active":                  {func(_ *Status, r *Router, _ *Check, _ *Service) { r.Rival = &Peer{Address: peer} }, "split: " + peer},
		"the other one is deaf":           {func(_ *Status, r *Router, _ *Check, _ *Service) { r.Deaf = "a firewall" }, "does not hear this one: a firewall"},
		"a password differs": {func(_ *Status, r *Router, _ *Check, _ *Service) {
			r.Drops = []Drop{{Reason: "auth", Count: 1, From: peer, Last: ago(time.Second)}}
		}, "likely to be Active as well"},
		"a password differed": {func(_ *Status, r *Router, _ *Check, _ *Service) {
			r.Drops = []Drop{{Reason: "auth", Count: 1, From: peer, Last: ago(time.Minute)}}
		}, ""},
		"a password differs, and this one is Backup": {func(_ *Status, r *Router, _ *Check, _ *Service) {
			r.State, r.Drops = "Backup", []Drop{{Reason: "auth", Count: 1, From: peer, Last: ago(time.Second)}}
		}, ""},
		"a peer has another VRID": {func(_ *Status, r *Router, _ *Check, _ *Service) {
			r.Foreign = &Foreign{From: peer, VRID: 9, Last: ago(time.Second)}
		},
			"split: " + peer + " is likely to be Active as well: it advertises VRID 9"},
		"a peer had another VRID": {func(_ *Status, r *Router, _ *Check, _ *Service) {
			r.Foreign = &Foreign{From: peer, VRID: 9, Last: ago(time.Minute)}
		}, ""},
		"another pair has the VRID": {func(_ *Status, r *Router, _ *Check, _ *Service) {
			r.Drops = []Drop{{Reason: "addresses", Count: 1, From: peer, Last: ago(time.Second)}}
		}, ""},
		"an address cannot be added": {func(_ *Status, r *Router, _ *Check, _ *Service) { r.Problem = "operation not permitted" }, "addresses: operation not permitted"},
		"a tracked check is down":    {func(_ *Status, _ *Router, c *Check, _ *Service) { c.State, c.Error = "down", "refused" }, "balancer: check is down: refused"},
		"a paused check is down":     {func(_ *Status, _ *Router, c *Check, _ *Service) { c.State, c.Paused = "down", true }, ""},
		"a check that nobody tracks": {func(_ *Status, r *Router, c *Check, _ *Service) { c.State, r.Tracks = "down", nil }, ""},
		"a service does not serve":   {func(_ *Status, _ *Router, _ *Check, v *Service) { v.Serving, v.Problem = false, "in use" }, "web: does not serve: in use"},
		"lines are lost":             {func(_ *Status, _ *Router, _ *Check, v *Service) { v.LogProblem = "access log: full" }, "web: access log: full"},
		"a backend of three is down": {func(_ *Status, _ *Router, _ *Check, v *Service) { v.Pools[0].Backends[0].InUse = false }, ""},
		"no backend works": {func(_ *Status, _ *Router, _ *Check, v *Service) {
			for i := range v.Pools[0].Backends {
				v.Pools[0].Backends[i].InUse, v.Pools[0].Backends[i].State = false, "down"
			}
		}, "web: no working backend: 3 down"},
		"no backend of a route has an address": {func(_ *Status, _ *Router, _ *Check, v *Service) {
			v.Pools = append(v.Pools, Pool{Route: "api", Unresolved: []string{"a", "b"}})
		}, "web: route api: no working backend: 2 unresolved"},
		"a service without backends of its own": {func(_ *Status, _ *Router, _ *Check, v *Service) { v.Pools = append(v.Pools, Pool{Route: "redirect"}) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := healthy()
			tt.change(s, &s.Routers[0], &s.Checks[0], &s.Services[0])
			got := s.FindProblems()
			switch {
			case tt.want == "" && len(got) > 0:
				t.Errorf("problems %q, want none", got)
			case tt.want != "" && (len(got) != 1 || !strings.Contains(got[0], tt.want)):
				t.Errorf("problems %q, want one with %q", got, tt.want)
			}
			if ok := strings.HasPrefix(s.Verdict(), "ok: "); ok != (tt.want == "") {
				t.Errorf("verdict %q", s.Verdict())
			}
		})
	}
}

// TestSelect: a name brings what belongs to it.
func TestSelect(t *testing.T) {
	s := troubled()
	for name, want := range map[string][]string{
		"VI_1": {"VI_1", "balancer"}, "balancer": {"VI_1", "balancer"}, "G1": {"VI_2", "G1"}, "web": {"web"},
	} {
		part, err := s.Select(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := part.Names(); strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("%s selects %q, want %q", name, got, want)
		}
	}
	if all, err := s.Select(); err != nil || all != s {
		t.Errorf("no name selects %p, %v, want all", all, err)
	}
	_, err := s.Select("wbe")
	if !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), `"wbe": there are VI_1, VI_2,`) {
		t.Errorf("error %v, want ErrUnknown with the names that exist", err)
	}
}
