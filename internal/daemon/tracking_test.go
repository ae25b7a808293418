package daemon

import (
	"context"
	"net/netip"
	"slices"
	"testing"

	"github.com/havip/havip/healthcheck"
	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/vrrp"
)

// fakeRouter records what tracking asks for.
type fakeRouter struct {
	priority uint8
	holds    []string
	free     int // times that the last hold was let go of
	source   netip.Addr
	peers    []vrrp.Peer
	resigned int
}

func (r *fakeRouter) Status() vrrp.Status { return vrrp.Status{Source: r.source, Peers: r.peers} }

func (r *fakeRouter) Resign() error {
	r.resigned++
	return nil
}

func (r *fakeRouter) SetPriority(p uint8) { r.priority = p }

func (r *fakeRouter) Hold(reason string) func() {
	r.holds = append(r.holds, reason)
	return func() {
		r.holds = slices.DeleteFunc(r.holds, func(s string) bool { return s == reason })
		if len(r.holds) == 0 {
			r.free++
		}
	}
}

func (r *fakeRouter) Await(reason string) func() { return r.Hold(reason) }

func TestTracking(t *testing.T) {
	const (
		up   = healthcheck.Up
		down = healthcheck.Down
	)
	type step struct {
		check    string
		state    healthcheck.State
		priority uint8
		holds    []string
	}
	for _, tc := range []struct {
		name   string
		base   uint8
		tracks []config.Track
		start  step // only priority and holds
		steps  []step
	}{
		{
			name: "without a weight a failure holds, and so does a check without a result",
			base: 100, tracks: []config.Track{{Check: "a"}},
			start: step{priority: 100, holds: []string{"check a has no result yet"}},
			steps: []step{{"a", up, 100, nil}, {"a", down, 100, []string{"check a is down"}}, {"a", up, 100, nil}},
		},
		{
			name: "a first result that is a failure goes on holding",
			base: 100, tracks: []config.Track{{Check: "a"}},
			start: step{priority: 100, holds: []string{"check a has no result yet"}},
			steps: []step{{"a", down, 100, []string{"check a is down"}}, {"a", up, 100, nil}},
		},
		{
			name: "two checks hold for themselves",
			base: 100, tracks: []config.Track{{Check: "a"}, {Check: "b"}},
			start: step{priority: 100, holds: []string{"check a has no result yet", "check b has no result yet"}},
			steps: []step{
				{"a", up, 100, []string{"check b has no result yet"}}, {"b", up, 100, nil},
				{"b", down, 100, []string{"check b is down"}}, {"a", down, 100, []string{"check b is down", "check a is down"}},
				{"b", up, 100, []string{"check a is down"}},
			},
		},
		{
			name: "a negative weight counts while the check is down",
			base: 100, tracks: []config.Track{{Check: "a", Weight: -15}},
			start: step{priority: 100},
			steps: []step{{"a", up, 100, nil}, {"a", down, 85, nil}, {"a", up, 100, nil}},
		},
		{
			name: "a positive weight counts while the check is up",
			base: 100, tracks: []config.Track{{Check: "a", Weight: 20}},
			start: step{priority: 100},
			steps: []step{{"a", up, 120, nil}, {"a", down, 100, nil}},
		},
		{
			name: "the sum stays between 1 and 254",
			base: 200, tracks: []config.Track{{Check: "a", Weight: 100}, {Check: "b", Weight: -253}},
			start: step{priority: 200},
			steps: []step{{"a", up, 254, nil}, {"b", down, 47, nil}, {"a", down, 1, nil}},
		},
		{
			name: "the owner's priority is left alone",
			base: 255, tracks: []config.Track{{Check: "a", Weight: -15}},
			steps: []step{{"a", down, 0, nil}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := &fakeRouter{}
			tr := newTracker(r, config.Router{VRRP: vrrp.Config{Priority: tc.base}, Track: tc.tracks}, nil, func() {})
			verify := func(at int, want step) {
				t.Helper()
				if r.priority != want.priority || !slices.Equal(r.holds, want.holds) {
					t.Fatalf("step %d: priority %d, holds %q; want %d, %q", at, r.priority, r.holds, want.priority, want.holds)
				}
			}
			verify(-1, tc.start)
			for i, s := range tc.steps {
				tr.hearCheck(s.check, tr.round, s.state)
				verify(i, s)
			}
		})
	}
}

// TestFaultChangesWithoutGap: a check without a result that turns out to be down
// is a fault all the time. A router that were free for a moment would take the
// addresses in it.
func TestFaultChangesWithoutGap(t *testing.T) {
	r := &fakeRouter{}
	tr := newTracker(r, config.Router{VRRP: vrrp.Config{Priority: 100}, Track: []config.Track{{Check: "a"}}}, nil, func() {})
	tr.hearCheck("a", tr.round, healthcheck.Down)
	if r.free != 0 || !slices.Equal(r.holds, []string{"check a is down"}) {
		t.Errorf("free %d times, holds %q", r.free, r.holds)
	}
}

// TestKnownCheckHoldsNobody: a router that begins while its check has long been
// up waits for no result, and one whose check is down says so at once.
func TestKnownCheckHoldsNobody(t *testing.T) {
	for state, want := range map[healthcheck.State][]string{
		healthcheck.Up: nil, healthcheck.Down: {"check a is down"}, healthcheck.Unknown: {"check a has no result yet"},
	} {
		checks := map[string]*check{"a": {checkPlan: checkPlan{monitor: newTestMonitor(t, "a", state)}}}
		r := &fakeRouter{}
		newTracker(r, config.Router{VRRP: vrrp.Config{Priority: 100}, Track: []config.Track{{Check: "a"}}}, checks, func() {})
		if !slices.Equal(r.holds, want) {
			t.Errorf("check %v: holds %q, want %q", state, r.holds, want)
		}
	}
}

// newTestMonitor makes one that does not run and has found a state already.
func newTestMonitor(t *testing.T, name string, known healthcheck.State) *healthcheck.Monitor {
	t.Helper()
	m, err := healthcheck.NewMonitor(healthcheck.Config{Name: name, Initial: known,
		Checker: healthcheck.CheckerFunc(func(context.Context) error { return nil })})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestResign: with mode resign, a priority that falls below a peer's hands
// over, once.
func TestResign(t *testing.T) {
	a, b, own := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3")
	heard := func(addr netip.Addr, p uint8) vrrp.Peer { return vrrp.Peer{Address: addr, Priority: p} }
	for _, tc := range []struct {
		name  string
		mode  string
		peers []netip.Addr // configured
		heard []vrrp.Peer
		want  int
	}{
		{"below a peer's priority", "resign", nil, []vrrp.Peer{heard(a, 110)}, 1},
		{"still above it", "resign", nil, []vrrp.Peer{heard(a, 105)}, 0},
		{"below the best of two", "resign", nil, []vrrp.Peer{heard(a, 90), heard(b, 106)}, 1},
		{"a peer that said that it leaves", "resign", nil, []vrrp.Peer{heard(a, 0)}, 1},
		{"nobody was ever heard", "resign", nil, nil, 1},
		{"a configured peer was never heard", "resign", []netip.Addr{a, b}, []vrrp.Peer{heard(a, 90)}, 1},
		{"all configured peers are worse", "resign", []netip.Addr{a}, []vrrp.Peer{heard(a, 90)}, 0},
		{"the same list on all nodes", "resign", []netip.Addr{a, own}, []vrrp.Peer{heard(a, 90)}, 0},
		{"the same list on all nodes, one was never heard", "resign", []netip.Addr{a, b, own}, []vrrp.Peer{heard(a, 90)}, 1},
		{"mode priority", "priority", nil, []vrrp.Peer{heard(a, 110)}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := &fakeRouter{source: own, peers: tc.heard}
			tr := newTracker(r, config.Router{VRRP: vrrp.Config{Priority: 120, Peers: tc.peers},
				Track: []config.Track{{Check: "c", Weight: -15, Mode: tc.mode}, {Check: "other", Weight: 0}}}, nil, func() {})
			for _, s := range []healthcheck.State{healthcheck.Up, healthcheck.Down} {
				tr.hearCheck("c", tr.round, s)
			}
			tr.hearCheck("other", tr.round, healthcheck.Up)
			tr.hearCheck("other", tr.round, healthcheck.Down)
			if r.priority != 105 || r.resigned != tc.want {
				t.Errorf("priority %d, resigned %d times, want %d", r.priority, r.resigned, tc.want)
			}
			tr.hearCheck("c", tr.round, healthcheck.Up)
			if r.priority != 120 || r.resigned != tc.want {
				t.Errorf("on recovery: priority %d, resigned %d times", r.priority, r.resigned)
			}
		})
	}
}

// TestReconfigure: what a router follows changes under it, and it does not let
// go of its addresses for a check that has no result yet.
func TestReconfigure(t *testing.T) {
	checks := map[string]*check{}
	for _, name := range []string{"a", "b", "c"} {
		checks[name] = &check{checkPlan: checkPlan{monitor: newTestMonitor(t, name, healthcheck.Unknown)}}
	}
	r := &fakeRouter{}
	cfg := func(p uint8, tracks ...config.Track) config.Router {
		return config.Router{VRRP: vrrp.Config{Priority: p}, Track: tracks}
	}
	tr := newTracker(r, cfg(100, config.Track{Check: "a"}), checks, func() {})
	tr.hearCheck("a", tr.round, healthcheck.Up)
	step := func(what string, c config.Router, priority uint8, holds ...string) {
		t.Helper()
		tr.reconfigure(c, checks)
		if r.priority != priority || !slices.Equal(r.holds, holds) || len(tr.cancels) != len(c.Track) {
			t.Errorf("%s: priority %d, holds %q, %d followed", what, r.priority, r.holds, len(tr.cancels))
		}
	}
	step("another priority", cfg(110, config.Track{Check: "a"}), 110)
	step("another check beside it", cfg(110, config.Track{Check: "a"}, config.Track{Check: "b"}), 110)
	tr.hearCheck("b", tr.round, healthcheck.Down)
	if !slices.Equal(r.holds, []string{"check b is down"}) {
		t.Errorf("the new check fails: holds %q", r.holds)
	}
	step("a weight in its place", cfg(110, config.Track{Check: "a"}, config.Track{Check: "b", Weight: -20}), 90)
	step("no weight again", cfg(110, config.Track{Check: "a"}, config.Track{Check: "b"}), 110, "check b is down")
	step("not followed any more", cfg(110, config.Track{Check: "a"}), 110)
	tr.hearCheck("b", tr.round-1, healthcheck.Up)
	tr.hearCheck("a", tr.round-1, healthcheck.Down)
	if len(r.holds) != 0 {
		t.Errorf("a monitor that is not followed has a say: %q", r.holds)
	}
	last := tr.round
	tr.stop()
	tr.hearCheck("a", last, healthcheck.Down)
	if len(r.holds) != 0 {
		t.Errorf("after the end: holds %q", r.holds)
	}
}

func (r *fakeRouter) StandDown(reason string) func() { return r.Hold(reason) }
