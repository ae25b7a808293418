package daemon

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/vrrp"
)

// group is a set of routers that move together.
type group struct {
	cfg   config.Group
	group *vrrp.Group

	mu      sync.Mutex
	states  map[string]string // by router: its state in Keepalived's words
	outside map[string]bool   // routers that cannot run: the others go on without them
	state   atomic.Value      // of the group, a string; none: not known yet
	tellers map[string]*teller
}

func newGroup(cfg config.Group) *group {
	return &group{cfg: cfg, group: vrrp.NewGroup(cfg.Name), states: map[string]string{}, outside: map[string]bool{}, tellers: map[string]*teller{}}
}

// reconfigure goes on with other members.
func (g *group) reconfigure(cfg config.Group) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cfg = cfg
	gone := func(name string) bool { return !slices.Contains(cfg.Routers, name) }
	maps.DeleteFunc(g.states, func(name, _ string) bool { return gone(name) })
	maps.DeleteFunc(g.outside, func(name string, _ bool) bool { return gone(name) })
	maps.DeleteFunc(g.tellers, func(name string, _ *teller) bool { return gone(name) })
}

// report takes in the state of a member, and tells that of the group if it has
// changed: before the next report, so that changes are told in their order.
// tell must not block.
func (g *group) report(router, state string, tell func(state string)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.states[router] = state
	delete(g.outside, router)
	g.tellChange(tell)
}

// leave is report for a member that cannot run.
func (g *group) leave(router string, tell func(state string)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.states, router)
	g.outside[router] = true
	g.tellChange(tell)
}

// tellChange tells the state of the group if that has changed. Called with g.mu
// locked.
func (g *group) tellChange(tell func(state string)) {
	if now := g.common(); now != "" && now != g.lastState() {
		g.state.Store(now)
		tell(now)
	}
}

// lastState is the state that was told last; empty: none. It takes no lock.
func (g *group) lastState() string {
	state, _ := g.state.Load().(string)
	return state
}

// common is the state of the members together; empty while some of them are on
// their way.
func (g *group) common() string {
	count := map[string]int{}
	for _, s := range g.states {
		count[s]++
	}
	switch n := len(g.cfg.Routers) - len(g.outside); {
	case count["FAULT"] > 0 || n == 0:
		return "FAULT"
	case len(g.states) < n || count["STOP"] > 0 && count["STOP"] < n:
		return ""
	case count["STOP"] == n:
		return "STOP"
	case count["MASTER"] == n:
		return "MASTER"
	}
	return "BACKUP"
}

// teller tells the notifiers of a router and of its group what becomes of it.
type teller struct {
	name       string
	own, whole *notifier
	group      *group             // nil: none
	status     func() vrrp.Status // the router's

	mu sync.Mutex
	// start is what a router says that has just begun and waits for the first
	// results of its checks. That is no fault yet, and is told only if it
	// becomes one.
	start *vrrp.Transition
}

// newTeller returns what hears of the transitions of a router, which status is of.
func (d *Daemon) newTeller(name, groupName string, status func() vrrp.Status) *teller {
	t := &teller{name: name, own: d.notifiers[notifierKey(kindInstance, name)], status: status}
	if g := d.groups[groupName]; g != nil {
		t.group, t.whole = g, d.notifiers[notifierKey(kindGroup, groupName)]
		g.add(t)
	}
	return t
}

// transition tells of one.
func (t *teller) transition(tr vrrp.Transition) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.start = nil
	if tr.From == vrrp.Initialize && tr.Waiting {
		t.start = &tr
		t.look() // what it waits for may have come meanwhile
		return
	}
	t.tell(tr)
}

// cannotRun tells of a router that does not take part in the election at all. Its
// group goes on without it.
func (t *teller) cannotRun(why error) {
	t.own.send(instanceNotice(vrrp.Transition{
		From: vrrp.Initialize, To: vrrp.Initialize, Cause: vrrp.CauseFault, Reason: why.Error(),
		Priority: t.status().Priority, Time: time.Now(),
	}))
	if t.group != nil {
		t.group.leave(t.name, t.tellGroup)
	}
}

// tellGroup tells what becomes of the group. Keepalived gives it priority 0.
func (t *teller) tellGroup(state string) { t.whole.send(notice{state: state}) }

// recheck is to be called when the faults of the router may be others, which
// is no transition, and which those of its group share.
func (t *teller) recheck() {
	for _, o := range t.group.with(t) {
		o.mu.Lock()
		o.look()
		o.mu.Unlock()
	}
}

// add makes t hear of the faults of the group.
func (g *group) add(t *teller) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tellers[t.name] = t
}

// with returns the tellers of the members.
func (g *group) with(t *teller) []*teller {
	if g == nil {
		return []*teller{t}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Collect(maps.Values(g.tellers))
}

// look tells that the router does not start if that has become a fault.
func (t *teller) look() {
	if t.start == nil {
		return
	}
	now := t.status()
	if len(now.Faults) == 0 || now.Waiting {
		return
	}
	tr := *t.start
	tr.Waiting, tr.Reason, tr.Priority, tr.Time = false, strings.Join(now.Faults, ", "), now.Priority, time.Now()
	t.start = nil
	t.tell(tr)
}

func (t *teller) tell(tr vrrp.Transition) {
	n := instanceNotice(tr)
	t.own.send(n)
	if t.group != nil {
		t.group.report(t.name, n.state, t.tellGroup)
	}
}
