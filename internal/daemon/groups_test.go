package daemon

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/vrrp"
)

// TestGroupState: a group is reported when all of its members are there, but a
// fault at once.
func TestGroupState(t *testing.T) {
	g := newGroup(config.Group{Name: "G", Routers: []string{"a", "b"}})
	for i, s := range []struct{ router, state, want string }{
		{"a", "BACKUP", ""}, {"b", "BACKUP", "BACKUP"},
		{"b", "MASTER", ""}, {"a", "MASTER", "MASTER"},
		{"a", "FAULT", "FAULT"}, {"b", "FAULT", ""},
		{"a", "BACKUP", ""}, {"b", "BACKUP", "BACKUP"},
		{"a", "MASTER", ""}, {"b", "MASTER", "MASTER"},
		{"a", "BACKUP", "BACKUP"}, {"b", "BACKUP", ""},
		{"a", "STOP", ""}, {"b", "STOP", "STOP"},
		{"a", "MASTER", ""}, {"b", "MASTER", "MASTER"},
	} {
		got := ""
		g.reportState(s.router, s.state, func(state string) { got = state })
		if got != s.want {
			t.Errorf("step %d, %s %s: group %q, want %q", i, s.router, s.state, got, s.want)
		}
	}
	g.reconfigure(config.Group{Name: "G", Routers: []string{"a", "c"}})
	g.reportState("a", "BACKUP", func(s string) { t.Errorf("%s, although nothing is known of a new member", s) })
	told := ""
	g.reportState("c", "BACKUP", func(s string) { told = s })
	if told != "BACKUP" {
		t.Errorf("%q with the new member", told)
	}
}

// record is a notifier whose only listener notes what it is told.
type record struct {
	*notifier
	mu   sync.Mutex
	told []string
}

func newRecord(name string) *record {
	r := &record{notifier: newNotifier(notifyConfig{kind: kindInstance, name: name}, slog.New(slog.DiscardHandler))}
	r.programs = []*queue{{to: r, all: r.forAll, last: r.forLast}}
	return r
}

func (r *record) wants(notice) bool { return true }

func (r *record) tell(_ context.Context, _ *notifier, x notice) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = append(r.told, x.state)
}

// heard waits until all is told that was sent.
func (r *record) heard() []string {
	r.busy.Wait()
	return r.told
}

// TestGroupNoticesInOrder: whoever reports last, that is what is told last.
func TestGroupNoticesInOrder(t *testing.T) {
	g := newGroup(config.Group{Name: "G", Routers: []string{"a", "b"}})
	var told []string
	tell := func(s string) { told = append(told, s) } // by one at a time, or -race complains
	var all sync.WaitGroup
	for _, name := range g.cfg.Routers {
		all.Go(func() {
			for range 1000 {
				g.reportState(name, "FAULT", tell)
				g.reportState(name, "BACKUP", tell)
			}
		})
	}
	all.Wait()
	for i, s := range told {
		if i > 0 && s == told[i-1] {
			t.Fatalf("%s is told twice in a row", s)
		}
	}
	if last := told[len(told)-1]; last != g.lastState() {
		t.Errorf("the group is %s, and %s was told last", g.lastState(), last)
	}
}

const noResult = " has no result yet"

// onlyWaits reports whether a router says of a fault that it waits.
func onlyWaits(reasons string) bool {
	return !slices.ContainsFunc(strings.Split(reasons, ", "), func(r string) bool { return !strings.HasSuffix(r, noResult) })
}

// listed are the reasons of a transition.
func listed(reasons string) []string {
	if reasons == "" {
		return nil
	}
	return strings.Split(reasons, ", ")
}

// TestStartIsNoFault: a router that waits for the first results of its checks
// has no fault to tell. It has one once a check has failed, or for another
// reason.
func TestStartIsNoFault(t *testing.T) {
	initial := func(reason string) vrrp.Transition {
		return vrrp.Transition{From: vrrp.Initialize, To: vrrp.Initialize, Cause: vrrp.CauseFault, Reason: reason, Waiting: onlyWaits(reason)}
	}
	backup := vrrp.Transition{From: vrrp.Initialize, To: vrrp.Backup, Cause: vrrp.CauseStart}
	const waits = "check a" + noResult
	for _, tc := range []struct {
		name  string
		start vrrp.Transition
		fault []string // one after the other
		then  *vrrp.Transition
		want  []string
	}{
		{"the checks succeed", initial(waits), []string{waits, ""}, &backup, []string{"BACKUP"}},
		{"a check fails", initial(waits), []string{waits, "check a"}, &backup, []string{"FAULT", "BACKUP"}},
		{"a check fails, and then another", initial(waits), []string{"check a", "check a, check b"}, nil, []string{"FAULT"}},
		{"a check has failed by now", initial(waits), nil, nil, []string{"FAULT"}},
		{"of two checks one has failed", initial(waits), []string{waits, "check a, check b" + noResult}, nil, []string{"FAULT"}},
		{"nothing happens", initial(waits + ", check b" + noResult), []string{waits, waits}, nil, nil},
		{"the link is down", initial("interface eth0 is down, " + waits), nil, nil, []string{"FAULT"}},
		{"the link goes down meanwhile", initial(waits), []string{waits, "interface eth0 is down"}, nil, []string{"FAULT"}},
		{"another member waits", initial("group G: member b: " + waits), []string{waits, ""}, &backup, []string{"BACKUP"}},
		{"a member that waits is new", vrrp.Transition{From: vrrp.Active, To: vrrp.Initialize, Cause: vrrp.CauseFault, Reason: "group G: member b: " + waits, Waiting: true},
			nil, nil, []string{"FAULT"}},
		{"the end", initial(waits), []string{waits}, &vrrp.Transition{From: vrrp.Initialize, To: vrrp.Initialize, Cause: vrrp.CauseShutdown}, []string{"STOP"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRecord("VI_1")
			fault := "check a" // when nothing else is said
			if len(tc.fault) > 0 {
				fault = tc.fault[0]
			}
			own := &teller{name: "VI_1", own: r.notifier, status: func() vrrp.Status { return vrrp.Status{Faults: listed(fault), Waiting: onlyWaits(fault)} }}
			own.tellTransition(tc.start)
			for _, fault = range tc.fault {
				own.recheckFaults()
			}
			if tc.then != nil {
				own.tellTransition(*tc.then)
			}
			if got := r.heard(); !slices.Equal(got, tc.want) {
				t.Errorf("told %q, want %q", got, tc.want)
			}
		})
	}
}

// TestGroupStartIsNoFault: all members hear of the check of one.
func TestGroupStartIsNoFault(t *testing.T) {
	g := newGroup(config.Group{Name: "G", Routers: []string{"a", "b"}})
	whole, fault := newRecord("G"), ""
	var tellers []*teller
	var records []*record
	for _, name := range g.cfg.Routers {
		r := newRecord(name)
		own := &teller{name: name, own: r.notifier, whole: whole.notifier, group: g, status: func() vrrp.Status { return vrrp.Status{Faults: listed(fault), Waiting: onlyWaits(fault)} }}
		g.addTeller(own)
		tellers, records = append(tellers, own), append(records, r)
	}
	fault = "check x" + noResult
	for _, own := range tellers {
		own.tellTransition(vrrp.Transition{From: vrrp.Initialize, To: vrrp.Initialize, Cause: vrrp.CauseFault, Reason: fault, Waiting: true})
	}
	fault = "check x"
	tellers[0].recheckFaults()
	for _, r := range append(records, whole) {
		if got := r.heard(); !slices.Equal(got, []string{"FAULT"}) {
			t.Errorf("%s: told %q", r.name, got)
		}
	}
}

// TestNobodyTookOverIsNotTold: programs do not hear MASTER again when a router that has
// resigned goes on.
func TestNobodyTookOverIsNotTold(t *testing.T) {
	r := newRecord("VI_1")
	own := &teller{name: "VI_1", own: r.notifier, status: func() vrrp.Status { return vrrp.Status{} }}
	own.tellTransition(vrrp.Transition{From: vrrp.Backup, To: vrrp.Active, Cause: vrrp.CauseTimeout})
	own.tellTransition(vrrp.Transition{From: vrrp.Active, To: vrrp.Active, Cause: vrrp.CauseUnclaimed})
	own.tellTransition(vrrp.Transition{From: vrrp.Active, To: vrrp.Backup, Cause: vrrp.CauseResign})
	if got := r.heard(); !slices.Equal(got, []string{"MASTER", "BACKUP"}) {
		t.Errorf("told %q", got)
	}
}

// TestGroupNotifyWithoutOne: a group whose member cannot run goes on without it, and
// so do its notify programs.
func TestGroupNotifyWithoutOne(t *testing.T) {
	g := newGroup(config.Group{Name: "G", Routers: []string{"a", "b"}})
	whole, own := newRecord("G"), newRecord("b")
	a := &teller{name: "a", own: newRecord("a").notifier, group: g, whole: whole.notifier, status: func() vrrp.Status { return vrrp.Status{} }}
	b := &teller{name: "b", own: own.notifier, group: g, whole: whole.notifier, status: func() vrrp.Status { return vrrp.Status{} }}
	g.addTeller(a)
	g.addTeller(b)
	b.tellCannotRun(errors.New("no multicast"))
	a.tellTransition(vrrp.Transition{From: vrrp.Initialize, To: vrrp.Backup, Cause: vrrp.CauseStart})
	a.tellTransition(vrrp.Transition{From: vrrp.Backup, To: vrrp.Active, Cause: vrrp.CauseTimeout})
	a.tellCannotRun(errors.New("no multicast"))
	if diff := cmp.Diff([]string{"BACKUP", "MASTER", "FAULT"}, whole.heard()); diff != "" {
		t.Errorf("the group's programs were told (-want +got):\n%s", diff)
	}
	for _, m := range []*teller{a, b} {
		m.tellTransition(vrrp.Transition{From: vrrp.Initialize, To: vrrp.Backup, Cause: vrrp.CauseStart})
	}
	a.tellTransition(vrrp.Transition{From: vrrp.Backup, To: vrrp.Active, Cause: vrrp.CauseTimeout})
	if told := whole.heard(); told[len(told)-1] != "BACKUP" {
		t.Errorf("the group's programs were told %v, want BACKUP in the end: one of two is Active", told)
	}
}
