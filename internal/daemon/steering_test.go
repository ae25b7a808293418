package daemon

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/havip/havip/healthcheck"
	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/report"
	"github.com/havip/havip/vrrp"
)

// routerOf is the configuration of a router.
func routerOf(name string, priority uint8, tracks ...config.Track) config.Router {
	return config.Router{Name: name, VRRP: vrrp.Config{Priority: priority}, Track: tracks}
}

// begin has a router begin, as a reload does.
func begin(s *steering, cfg config.Router) (*fakeRouter, *tracker) {
	r := &fakeRouter{}
	t := newTracker(r, cfg, nil, func() {})
	s.beginRouter(cfg, r, t)
	return r, t
}

// A maintenance holds every router, those included that begin while it lasts.
func TestMaintenanceHolds(t *testing.T) {
	s := newSteering()
	held := func(r *fakeRouter) bool { return slices.Contains(r.holds, maintenanceFault) }
	one, _ := begin(s, routerOf("one", 100))
	if held(one) {
		t.Error("held without a maintenance")
	}
	s.setMaintenance(&report.Maintenance{})
	two, _ := begin(s, routerOf("two", 100))
	s.setMaintenance(&report.Maintenance{Reason: "another"})
	if !held(one) || !held(two) || len(one.holds) != 1 {
		t.Errorf("held: %q, %q", one.holds, two.holds)
	}
	s.endRouter("one", true)
	again, _ := begin(s, routerOf("one", 100))
	s.endRouter("two", false)
	if !held(again) {
		t.Error("a router that takes the place of another is not held")
	}
	s.setMaintenance(nil)
	if held(again) || !held(two) {
		t.Errorf("after the maintenance: %q, and what has ended %q", again.holds, two.holds)
	}
	if later, _ := begin(s, routerOf("three", 100)); held(later) {
		t.Error("a router of after the maintenance is held")
	}
}

// A priority that was said is the base of the weights of checks. It outlives all but another
// priority in the file, and the end of the router.
func TestPriorityByCommand(t *testing.T) {
	s := newSteering()
	cfg := routerOf("VI_1", 100, config.Track{Check: "a", Weight: -20})
	r, tr := begin(s, cfg)
	tr.hearCheck("a", tr.round, healthcheck.Up)
	step := func(what string, want uint8, changes int) {
		t.Helper()
		if r.priority != want {
			t.Errorf("%s: priority %d, want %d", what, r.priority, want)
		}
		if all := s.changes(); len(all) != changes {
			t.Errorf("%s: %+v, want %d changes", what, all, changes)
		}
	}
	say := func(priority int) {
		t.Helper()
		if err := s.setPriority("VI_1", priority); err != nil {
			t.Error(err)
		}
	}
	say(50)
	step("said", 50, 1)
	if c := s.changes()[0]; c.Kind != "priority" || c.Name != "VI_1" || c.Value != "50" || c.File != "100" || c.Since.IsZero() {
		t.Errorf("%+v", c)
	}
	tr.hearCheck("a", tr.round, healthcheck.Down)
	step("a check fails", 30, 1)
	cfg.Track[0].Weight = -10
	s.reconfigureTracker(tr, cfg, nil)
	step("another weight in the file", 40, 1)
	cfg.Priority = 120
	s.reconfigureTracker(tr, cfg, nil)
	step("another priority in the file", 110, 0)
	say(90)
	s.endRouter("VI_1", true)
	say(80) // between two routers
	r, tr = begin(s, cfg)
	tr.hearCheck("a", tr.round, healthcheck.Down)
	step("another router takes its place", 70, 1)
	say(120)
	step("the file's own", 110, 0)
	say(60)
	say(0)
	step("the file's again", 110, 0)
	say(60)
	s.endRouter("VI_1", true)
	cfg.Priority = 130
	r, _ = begin(s, cfg)
	step("another router, of another priority", 130, 0)
	say(60)
	s.endRouter("VI_1", false)
	r, _ = begin(s, cfg)
	step("after its end", 130, 0)
}

// What was said of a router that could not be made ends with the file that has it.
func TestRouterThatWasNeverMade(t *testing.T) {
	s := newSteering()
	begin(s, routerOf("VI_1", 100))
	s.endRouter("VI_1", true)
	if err := s.setPriority("VI_1", 50); err != nil {
		t.Fatal(err)
	}
	s.retain(&config.Config{VRRP: []config.Router{routerOf("VI_1", 100)}})
	if len(s.changes()) != 1 {
		t.Errorf("forgotten while the file has it: %v", s.changes())
	}
	s.retain(&config.Config{VRRP: []config.Router{routerOf("VI_2", 100)}})
	if err := s.setPriority("VI_1", 50); !errors.Is(err, report.ErrUnknown) || len(s.changes()) != 0 {
		t.Errorf("a router that no file has: %v, %v", err, s.changes())
	}
}

// Wrong commands change nothing, and say what is wanted.
func TestWrongCommands(t *testing.T) {
	s := newSteering()
	begin(s, routerOf("VI_1", 100))
	begin(s, routerOf("own", 255))
	s.beginCheck("web", nil)
	s.endRouter("VI_1", true)
	d := &Daemon{steering: s}
	d.view.Store(&View{Config: &config.Config{}})
	for _, tc := range []struct {
		err  error
		is   error
		says string
	}{
		{s.setPriority("VI_2", 5), report.ErrUnknown, `no router is called "VI_2": there are VI_1, own`},
		{s.setPriority("VI_1", 255), report.ErrInvalid, "want 1 to 254, or 0 for that of the file"},
		{s.setPriority("VI_1", -1), report.ErrInvalid, "want 1 to 254"},
		{s.setPriority("own", 5), report.ErrInvalid, "this host owns the addresses"},
		{d.Resign("VI_2"), report.ErrUnknown, `no router is called "VI_2": there are VI_1, own`},
		{d.Resign("VI_1"), report.ErrState, "a reload is about to begin it anew"},
		{d.SteerCheck("web", "stop"), report.ErrInvalid, "want pause, resume or now"},
		{d.SteerCheck("db", PauseCheck), report.ErrUnknown, `no check is called "db"`},
		{d.SetBackend("web", "a", BackendChange{}), report.ErrUnknown, `no service is called "web": there is none`},
		{d.SetBackend("web", "a", BackendChange{Weight: new(70000)}), report.ErrInvalid, "want 0 to 65535, or -1"},
	} {
		if !errors.Is(tc.err, tc.is) || !strings.Contains(tc.err.Error(), tc.says) {
			t.Errorf("%v, want %v: %s", tc.err, tc.is, tc.says)
		}
	}
	if len(s.changes()) != 0 {
		t.Errorf("changed: %+v", s.changes())
	}
}
