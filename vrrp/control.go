package vrrp

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// SetPriority changes the priority at run time. It is 1 to 254; 0 counts as 1, and 255
// as 254. The priority of an address owner, 255, does not change.
func (r *Router) SetPriority(priority uint8) {
	r.useMachine(func(now time.Time) []Action { return r.machine.SetPriority(now, priority) })
}

// Resign begins to hand the addresses over to a Backup, as [Machine.Resign] does, and
// returns at once: the router is Active until it hears its successor. If there is no Backup
// it goes on. A router that must release the addresses at once takes them back after about
// four intervals. Unless the router is Active the error is [ErrNotActive].
func (r *Router) Resign() error {
	var state State
	r.useMachine(func(now time.Time) []Action {
		state = r.machine.State()
		return r.machine.Resign(now)
	})
	if state != Active {
		return fmt.Errorf("vrrp: %s: resign in state %v: %w", r.name, state, ErrNotActive)
	}
	return nil
}

// Entitled reports whether the addresses are this router's now, as [Machine.Entitled]
// does.
func (r *Router) Entitled() bool {
	r.conn.mu.Lock()
	defer r.conn.mu.Unlock()
	r.cfg.Group.lock()
	defer r.cfg.Group.unlock()
	return r.runs() && r.machine.Entitled(time.Now())
}

// Hold keeps the router out of the election for a reason, such as "check web
// failed", until release is called; an empty reason counts as "held". An Active
// router gives up its addresses at once. Each hold lasts until its own release is called,
// also when several have the same reason. The second call of a release does nothing.
func (r *Router) Hold(reason string) (release func()) {
	return r.keepOut(r.holds, reason)
}

// StandDown is Hold for planned work, such as maintenance. An Active router first hands
// over as [Router.Resign] does: it sends priority 0, and keeps its addresses until it hears
// its successor, for one interval and 200 ms at most, or 1.2 s in version 2. If there is no
// successor nobody has the addresses then. While a fault or a Hold is in force as well, the
// addresses go at once.
func (r *Router) StandDown(reason string) (release func()) {
	return r.keepOut(r.standdowns, reason)
}

// Await is Hold for something that is not known yet, such as the first result of a
// check. A router that only awaits at its start has no fault: the log, [Transition] and
// [Status] say "waiting", and the cause of its first change is CauseStart.
func (r *Router) Await(reason string) (release func()) {
	return r.keepOut(r.awaited, reason)
}

func (r *Router) keepOut(reasons map[string]int, reason string) (release func()) {
	if reason == "" {
		reason = "held" // an empty fault would be none
	}
	count := func(n int) {
		r.useMachine(func(now time.Time) []Action {
			if reasons[reason] += n; reasons[reason] == 0 {
				delete(reasons, reason)
			}
			return r.setFaults(now)
		})
	}
	count(1)
	return sync.OnceFunc(func() { count(-1) })
}

// setFaults tells the machine its faults.
func (r *Router) setFaults(now time.Time) []Action {
	return r.machine.setFaults(now, r.faults(), r.faultKind())
}

// faultKind returns what the reasons to stay out of the election have in common.
func (r *Router) faultKind() faultKind {
	switch {
	case len(r.holds) > 0, r.unable(), len(r.standdowns) > 0 && len(r.awaited) > 0:
		return sudden
	case len(r.standdowns) > 0:
		return planned
	}
	return awaited
}

// faults returns the reasons to stay out of the election, the link's first. Empty ones are
// none. The Handler may report the link as well, sooner or later than the Conn: such a fault
// counts once.
func (r *Router) faults() []string {
	reasons := []string{r.linkFault}
	own := func(fault string) bool { return strings.HasPrefix(fault, "link "+r.conn.name+" ") }
	for _, fault := range r.addresses.foreseen {
		if fault != r.linkFault && !(own(fault) && own(r.linkFault)) {
			reasons = append(reasons, fault)
		}
	}
	var held []string
	for _, kept := range []map[string]int{r.holds, r.standdowns, r.awaited} {
		held = slices.AppendSeq(held, maps.Keys(kept))
	}
	slices.Sort(held)
	return slices.Concat(reasons, []string{r.addresses.fault}, slices.Compact(held))
}

// setLink tells the router the address to send from, or the fault of the interface.
// conn.mu is held.
func (r *Router) setLink(source netip.Addr, fault string) {
	if r.sourceless = !source.IsValid(); r.sourceless {
		source = r.source // the last one: priority 0 may have to be sent yet
	}
	if !r.sourceless && !r.home.IsValid() && !r.cfg.owns(source) {
		r.home = source
	}
	if source == r.source && fault == r.linkFault {
		return
	}
	r.source, r.wire.own, r.linkFault = source, source, fault
	r.to = r.destinations()
	r.useMachineLocked(func(now time.Time) []Action {
		r.machine.SetSource(source)
		return r.setFaults(now)
	})
}

// step calls f, which may use the machine, carries out the actions that f returns, lets
// the group follow, and re-arms the router's timer. f is called with the group's lock
// held, if there is a group. conn.mu is held.
func (r *Router) step(now time.Time, f func(now time.Time) []Action) {
	g := r.cfg.Group
	g.lock()
	defer g.unlock()
	r.followGroup()
	r.carryOutActions(now, f(now))
	if g != nil {
		g.settle(now)
		r.followGroup()
	}
	r.observeSplit()
	r.observeFault()
	r.observeHandOver(now)
	if r.loop == nil || r.phase == stopped {
		return
	}
	if r.hasLeft() && !slices.Contains(r.loop.left, r) {
		r.loop.left = append(r.loop.left, r)
	}
	r.loop.deadlines[r.cfg.VRID] = never
	if at, ok := r.machine.Deadline(); ok {
		r.loop.deadlines[r.cfg.VRID] = at.Sub(r.conn.base)
	}
}

// movedByGroup keeps actions that the group brought about for the router's own loop: the
// caller may be the loop of another Conn.
func (r *Router) movedByGroup(actions []Action) {
	r.moved = append(r.moved, actions...)
	if r.loop != nil {
		r.loop.wakeFor(r)
	}
}

// followGroup carries out the actions that the group brought about. conn.mu is held, and
// the group's.
func (r *Router) followGroup() {
	if len(r.moved) > 0 {
		r.carryOutActions(time.Now(), r.moved)
		r.moved = r.moved[:0]
	}
}

// carryOutActions sends and logs, and queues calls of the Handler.
func (r *Router) carryOutActions(now time.Time, actions []Action) {
	for i, a := range actions {
		switch a.Kind {
		case Send:
			r.loop.queueAdvertisement(r, a.Priority, now)
		case Changed:
			r.noteChange(&a.Transition)
			r.logState(a.Transition)
			r.queueTask(task{kind: Changed, transition: a.Transition})
		case Acquire:
			r.queueTask(task{kind: Acquire, id: r.addresses.beginAttempt(r.acquireFailed)})
		case Release:
			r.addresses.endAttempt()
			r.queueTask(task{kind: Release, rival: r.rivalSince(actions[i:])})
		default:
			r.queueTask(task{kind: a.Kind})
		}
	}
}

// queueTask keeps a task until the queued packets have been sent: peers hear of a new
// Active router before it touches an address.
func (r *Router) queueTask(e task) {
	r.loop.tasks = append(r.loop.tasks, routerTask{r, e})
}

// useMachine is step, and sends the packets at once.
func (r *Router) useMachine(f func(now time.Time) []Action) {
	r.conn.mu.Lock()
	defer r.conn.mu.Unlock()
	r.useMachineLocked(f)
}

// useMachineLocked is useMachine with conn.mu held.
func (r *Router) useMachineLocked(f func(now time.Time) []Action) {
	if r.phase == stopped {
		return
	}
	r.step(time.Now(), f)
	if r.loop != nil {
		r.loop.sendQueued()
		r.loop.advanceDeadline()
	}
}
