package vrrp

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// Group holds virtual routers that are Active together or not at all, such as
// the inside and the outside of a firewall ("sync group" in Keepalived). A router
// names the Group in its Config, and is a member from [NewRouter] until its Run
// returns. No member becomes Active before all members run.
//
//   - A fault of one member is a fault of all members.
//   - When one member hears that its Active router left (priority 0), all members
//     become Active, also those whose link went dark.
//   - Otherwise the members become Active when each of them would. A member that
//     still follows an Active router keeps the others Backup. Without this rule a
//     host that is cut off on one side would take the addresses on the other side,
//     lose them to the better router there, and start over.
//   - When one member steps down, for a better router or by [Router.Resign], all do. Each
//     keeps its addresses until it hears its own successor; if nobody takes over, all go on.
type Group struct {
	name string

	mu      sync.Mutex // guards the members and their machines
	members []*member
	stale   bool // a member came or went: the faults must be spread again
}

// member is one router of a group.
type member struct {
	machine *Machine
	do      func([]Action)
	// The state and the machine's own faults when the group last settled.
	state  State
	faults string
	kind   faultKind
}

// NewGroup returns an empty group. The name appears in the faults of its
// routers.
func NewGroup(name string) *Group { return &Group{name: name} }

// lock locks the group of a router, which may be nil: no group.
func (g *Group) lock() {
	if g != nil {
		g.mu.Lock()
	}
}

func (g *Group) unlock() {
	if g != nil {
		g.mu.Unlock()
	}
}

// joinMachine makes m a member. From then on m may only be used with g.mu held, and settle
// must follow each use before g.mu is unlocked. When settle has changed m it calls do with
// g.mu held. do carries out the actions, of which there may be none, and must not block;
// m.Deadline may have changed. leave ends the membership and takes g.mu.
func (g *Group) joinMachine(m *Machine, do func([]Action)) (leave func(now time.Time)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	self := &member{machine: m, do: do}
	m.grouped = true
	g.members = append(g.members, self)
	g.stale = true
	return func(now time.Time) {
		g.mu.Lock()
		defer g.mu.Unlock()
		m.grouped, m.groupFault = false, ""
		g.members = slices.DeleteFunc(g.members, func(o *member) bool { return o == self })
		g.stale = true
		g.settle(now)
	}
}

// settle lets the members follow the last use of one of their machines. g.mu is held, and
// the actions of that use have been carried out.
func (g *Group) settle(now time.Time) {
	g.spreadFaults(now)
	var lost *Machine
	var resigned, joined, active, leaving bool
	for _, e := range g.members {
		m := e.machine
		if lost == nil && e.state == Active && (m.state == Backup || m.leaving.to == Backup) {
			lost = m
		}
		resigned = resigned || e.state == Active && m.resigned
		joined = joined || e.state == Initialize && m.state == Backup
		leaving = leaving || m.HandingOver()
		active = active || m.holds()
	}
	if leaving {
		g.settleUnclaimed(now)
	}
	switch {
	case lost != nil && active:
		g.stepMembers(Active, func(m *Machine) []Action {
			if resigned {
				return m.Resign(now)
			}
			return m.yieldWithGroup(now, g.because(lost))
		})
	case g.ready(now), joined && active:
		leads := g.leader()
		g.stepMembers(Backup, func(m *Machine) []Action { return m.takeOverWithGroup(now, g.because(leads)) })
	}
	for _, e := range g.members {
		e.state = e.machine.state
	}
}

// ready reports whether the members' claims make the group Active.
func (g *Group) ready(now time.Time) bool {
	claims, left := 0, false
	for _, e := range g.members {
		switch m := e.machine; {
		case m.state == Initialize, m.HandingOver():
			return false
		case m.state == Active:
			claims++
		case m.claimed != 0:
			claims++
			left = left || m.claimed == CausePriorityZero
		case now.Before(m.notBefore):
			return false
		}
	}
	return left || claims == len(g.members)
}

// leader returns the member that makes the others Active: an Active one, or one with a
// claim.
func (g *Group) leader() *Machine {
	var claims *Machine
	for _, e := range g.members {
		switch m := e.machine; {
		case m.holds():
			return m
		case m.claimed != 0 && (claims == nil || m.claimed == CausePriorityZero):
			claims = m
		}
	}
	return claims
}

// because returns the reason of a change that a member brings about for the others.
func (g *Group) because(m *Machine) string {
	return fmt.Sprintf("group %s: member %s", g.name, m.cfg.Name)
}

// stepMembers runs step on the members that are in a state and do not hand over.
func (g *Group) stepMembers(s State, step func(*Machine) []Action) {
	for _, e := range g.members {
		if e.machine.state == s && !e.machine.HandingOver() {
			e.do(step(e.machine))
		}
	}
}

// settleUnclaimed decides for members without a successor when no other member waits for
// one any more, or another member has found one.
func (g *Group) settleUnclaimed(now time.Time) {
	waits, gone := false, false
	for _, e := range g.members {
		m := e.machine
		gone = gone || m.state != Active
		waits = waits || m.mayResume() && !m.leaving.unclaimed
	}
	if waits && !gone {
		return
	}
	for _, e := range g.members {
		if e.machine.leaving.unclaimed {
			e.do(e.machine.settleUnclaimed(now, !gone))
		}
	}
}

// spreadFaults gives every member a fault of another member as a reason.
func (g *Group) spreadFaults(now time.Time) {
	for _, e := range g.members {
		g.stale = g.stale || e.faults != e.machine.faults || e.kind != e.machine.kind
		e.faults, e.kind = e.machine.faults, e.machine.kind
	}
	if !g.stale {
		return
	}
	g.stale = false
	for _, e := range g.members {
		reason, kind := "", awaited
		for _, o := range g.members {
			if o != e && o.faults != "" && (reason == "" || kind < o.kind) {
				reason, kind = fmt.Sprintf("group %s: member %s: %s", g.name, o.machine.cfg.Name, o.faults), o.kind
			}
		}
		if m := e.machine; reason != m.groupFault || kind != m.groupKind {
			e.do(m.setGroupFault(now, reason, kind))
		}
	}
}

// setGroupFault replaces the reason that the group gives. Empty: there is none.
func (m *Machine) setGroupFault(now time.Time, reason string, kind faultKind) []Action {
	m.beginStep(now)
	before := m.fault()
	m.groupFault, m.groupKind = reason, kind
	m.followFaults(before)
	return m.endStep()
}

// takeOverWithGroup makes a Backup Active because its group is. It waits for the end of
// StartDelay, when its timer makes a claim.
func (m *Machine) takeOverWithGroup(now time.Time, reason string) []Action {
	m.beginStep(now)
	if m.state == Backup && !m.now.Before(m.notBefore) {
		cause := CauseGroup
		if m.claimed != 0 {
			cause = m.claimed
		}
		m.takeOver(cause)
		if cause == CauseGroup {
			m.explainChange(reason)
		}
	}
	return m.endStep()
}

// explainChange gives the last change a reason.
func (m *Machine) explainChange(reason string) { m.actions[m.n-1].Transition.Reason = reason }

// yieldWithGroup makes an Active router Backup because another member had to step down. It
// sends no priority 0. The better router that the other member met is in a group as well
// and needs none. If it is in no group, priority 0 would make another Backup take over
// here, which would then meet the better router there and yield, and so on in turns.
func (m *Machine) yieldWithGroup(now time.Time, reason string) []Action {
	m.beginStep(now)
	if m.state == Active {
		m.emit(Release)
		m.changeState(Backup, CauseGroup)
		m.explainChange(reason)
		m.armDownTimer()
	}
	return m.endStep()
}
