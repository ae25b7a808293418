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
	states  map[string]string // by router: its state in Keepalived's words, or outside
	state   string            // of the group, told last; empty: not known yet
	tellers map[string]*teller
}

// outside is the state of a router that cannot run: the others go on without it.
const outside = "outside"

func newGroup(cfg config.Group) *group {
	return &group{cfg: cfg, group: vrrp.NewGroup(cfg.Name), states: map[string]string{}, tellers: map[string]*teller{}}
}

// reconfigure goes on with other members.
func (g *group) reconfigure(cfg config.Group) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cfg = cfg
	gone := func(name string) bool { return !slices.Contains(cfg.Routers, name) }
	maps.DeleteFunc(g.states, func(name, _ string) bool { return gone(name) })
	maps.DeleteFunc(g.tellers, func(name string, _ *teller) bool { return gone(name) })
}

// reportState takes in the state of a member. If that changes the state of the group,
// tell is called with it, before the next report: changes are told in their order.
// tell must not block.
func (g *group) reportState(router, state string, tell func(state string)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.states[router] = state
	if now := g.commonState(); now != "" && now != g.state {
		g.state = now
		tell(now)
	}
}

// lastState is the state that was told last; empty: none.
func (g *group) lastState() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.state
}

// commonState is the state of the members together; empty while some of them are on
// their way.
func (g *group) commonState() string {
	count := map[string]int{}
	for _, s := range g.states {
		count[s]++
	}
	switch n := len(g.cfg.Routers) - count[outside]; {
	case count["FAULT"] > 0 || n == 0:
		return "FAULT"
	case len(g.states) < len(g.cfg.Routers) || count["STOP"] > 0 && count["STOP"] < n:
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
	// start is the first transition of a router that waits for the first results of
	// its checks. That the router waits is no fault yet, and is told only if it
	// becomes a fault. Nil: the router does not wait.
	start *vrrp.Transition
	// broken is why the router cannot take part at all; nil: it can.
	broken atomic.Pointer[string]
}

// newTeller returns the teller of a router, whose Status method status is.
func (d *Daemon) newTeller(name, groupName string, status func() vrrp.Status) *teller {
	t := &teller{name: name, own: d.notifiers[notifierKey(kindInstance, name)], status: status}
	if g := d.groups[groupName]; g != nil {
		t.group, t.whole = g, d.notifiers[notifierKey(kindGroup, groupName)]
		g.addTeller(t)
	}
	return t
}

// tellTransition tells what has become of the router.
func (t *teller) tellTransition(tr vrrp.Transition) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.start = nil
	t.broken.Store(nil)
	if tr.From == vrrp.Initialize && tr.Waiting {
		t.start = &tr
		t.recheckStart() // the results may have come meanwhile
		return
	}
	t.tellState(tr)
}

// tellCannotRun tells of a router that does not take part in the election at all.
// The group goes on without that router.
func (t *teller) tellCannotRun(why error) {
	t.broken.Store(new(why.Error()))
	t.own.send(instanceNotice(vrrp.Transition{
		From: vrrp.Initialize, To: vrrp.Initialize, Cause: vrrp.CauseFault, Reason: why.Error(),
		Priority: t.status().Priority, Time: time.Now(),
	}))
	if t.group != nil {
		t.group.reportState(t.name, outside, t.tellGroup)
	}
}

// tellGroup tells what becomes of the group. Keepalived gives it priority 0.
func (t *teller) tellGroup(state string) { t.whole.send(notice{state: state}) }

// recheckFaults tells of starts that have become faults. The tracker calls it when
// the faults of the router may have changed: that is no transition, and the routers
// of a group share their faults.
func (t *teller) recheckFaults() {
	for _, o := range t.group.tellersWith(t) {
		o.mu.Lock()
		o.recheckStart()
		o.mu.Unlock()
	}
}

// addTeller makes t hear of the faults of the group.
func (g *group) addTeller(t *teller) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tellers[t.name] = t
}

// tellersWith returns the tellers of the members; without a group, t alone.
func (g *group) tellersWith(t *teller) []*teller {
	if g == nil {
		return []*teller{t}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Collect(maps.Values(g.tellers))
}

// recheckStart tells that the router does not start if that has become a fault. t.mu
// is held.
func (t *teller) recheckStart() {
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
	t.tellState(tr)
}

func (t *teller) tellState(tr vrrp.Transition) {
	if tr.From == vrrp.Active && tr.To == vrrp.Active {
		return // nobody has taken over: nothing has changed
	}
	n := instanceNotice(tr)
	t.own.send(n)
	if t.group != nil {
		t.group.reportState(t.name, n.state, t.tellGroup)
	}
}
