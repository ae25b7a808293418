package report

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// finding is something that is wrong, in a sentence, and what to do.
type finding struct {
	who  string // the other holder of the address; empty: unknown
	text string
	more []string // further sentences
	next []string
}

// explainActive is about the router that has the address, or should have it.
func (x *explainer) explainActive() {
	r := x.r
	split := x.findSplit()
	found := slices.Concat(split, x.findClash(), x.findServices())
	switch {
	case !r.Held:
		x.say("%s should have %s and does not: its router %s is Active%s, but the address is not on %s.", x.host, x.addr, r.Name, x.since(r.Since), r.Interface)
		x.sayProblem()
	case len(split) > 0:
		who := split[0].who
		if who == "" {
			who = "another host"
		}
		x.say("%s has %s%s, but it is not alone: %s is very likely to have it as well (split brain).", x.host, x.addr, x.since(r.Since), who)
	default:
		x.say("%s has %s%s: its router %s is Active.", x.host, x.addr, x.since(r.Since), r.Name)
	}
	if r.HandingOver {
		x.say("It is handing over: it has said that it leaves, and keeps the address for the moment until another router has taken over.")
		for _, fault := range r.Faults {
			x.explainFault(fault)
		}
	}
	for _, f := range found {
		x.tell(f)
	}
	if r.Held && r.Problem != "" {
		x.sayProblem()
	}
	lost := x.sayHowActive(len(split) > 0)
	x.sayPriority()
	x.sayOldClaim()
	x.sayHeard(len(split) > 0, lost)
	if len(split) > 0 {
		x.next("tcpdump -ni %s '%s' and havip monitor -i %s show who advertises what", r.Interface, x.filter(), r.Interface)
	}
	if len(found) == 0 && r.Held {
		x.sayAllWell()
	}
}

// tell adds what is wrong.
func (x *explainer) tell(f finding) {
	x.say("%s", f.text)
	for _, text := range f.more {
		x.say("%s", text)
	}
	for _, text := range f.next {
		x.next("%s", text)
	}
}

func (x *explainer) sayProblem() {
	r := x.r
	switch {
	case r.Problem != "":
	case x.now.Sub(r.Since) < leaveTime:
		x.say("It is about to be put there.")
		return
	default:
		x.say("It should have been put there by now.")
		x.next("havip events --kind addresses; ip addr show %s; the kernel's log: journalctl -k", r.Interface)
		return
	}
	x.say("The reason is: %s.", plainError(r.Problem, r))
	x.next("ip addr show %s; the kernel's log: journalctl -k", r.Interface)
}

// sayHowActive says why the router won. lost reports that it has done so because another
// one went away. In a split that one has not.
func (x *explainer) sayHowActive(split bool) (lost bool) {
	r, peer := x.r, x.r.CausePeer
	change := x.lastChange(stateActive)
	switch r.Cause {
	case causeTimeout:
		if peer == "" {
			x.say("It took the address at %s, as no other router was heard.", x.at(r.Since))
			return false
		}
		last := ""
		if heard := change.Attribute("last_heard"); heard != "" {
			last = fmt.Sprintf(" (the last time was %s before)", strings.TrimSuffix(heard, " ago"))
		}
		x.logOf(peer, r.Since)
		if split {
			x.say("It took over at %s, as %s was not heard in time%s.", x.at(r.Since), peer, last)
			return true
		}
		x.say("It took over at %s, as %s was not heard in time%s: that host has died, is frozen, or is cut off from this one.", x.at(r.Since), peer, last)
		return true
	case causeLeft:
		x.say("It took over at %s, as %s left and said so (priority 0): it was stopped, has a fault or a check that fails, or was killed and its guard said so.", x.at(r.Since), peer)
		x.logOf(peer, r.Since)
		return true
	case causePreempt:
		x.say("It took the address from %s at %s, as its own priority is higher.", peer, x.at(r.Since))
		x.sayEarlierLoss()
	case causeUnclaimed:
		x.say("It had handed over, and took the address back at %s, as nobody else took it.", x.at(r.Since))
		x.next("on the other host: havip status, why it did not take over")
	case causeOwner:
		x.say("It owns the address: its priority is 255.")
	case causeGroup:
		x.say("It moved at %s, together with %s.", x.at(r.Since), x.group())
	default:
		x.say("It took the address at %s: %s.", x.at(r.Since), r.Cause)
	}
	return false
}

// lossTime is for how long an earlier loss of the address is of interest.
const lossTime = 15 * time.Minute

// sayEarlierLoss says why the router had lost the address a short time before it won it
// back.
func (x *explainer) sayEarlierLoss() {
	for _, e := range slices.Backward(x.events) {
		if e.Kind != KindTransition || e.Attribute("from") != stateActive || x.now.Sub(e.Time) > lossTime || e.Time.After(x.r.Since) {
			continue
		}
		cause := e.Cause
		if reason := e.Attribute("reason"); reason != "" {
			cause += ": " + reason
		}
		if e.Cause == causeStalled {
			cause = "this process did not run for too long (stopped, suspended, or starved of the processor)"
			x.nextStalled()
		}
		last := len(x.out.Sentences) - 1
		x.out.Sentences[last] = fmt.Sprintf("%s; it had lost it at %s: %s.", strings.TrimSuffix(x.out.Sentences[last], "."), x.at(e.Time), cause)
		return
	}
}

// lastChange is the event of the router's latest change to a state.
func (x *explainer) lastChange(to string) Event {
	for _, e := range slices.Backward(x.events) {
		if e.Kind == KindTransition && e.Attribute("to") == to {
			return e
		}
	}
	return Event{}
}

// sayHeard says who else was heard. A Backup is silent, which worries those who do not
// know that.
func (x *explainer) sayHeard(split, lost bool) {
	var heard []string
	for _, p := range x.r.Peers {
		what := fmt.Sprintf("priority %d", p.Priority)
		if p.Priority == 0 {
			what = "when it left"
		}
		heard = append(heard, fmt.Sprintf("%s %s (%s)", p.Address, x.ago(p.LastHeard), what))
	}
	var silent []string
	for _, u := range x.peers() {
		if !slices.ContainsFunc(x.r.Peers, func(p Peer) bool { return p.Address == u }) {
			silent = append(silent, u)
		}
	}
	if len(heard) > 0 {
		x.say("Heard last: %s.", joined(heard))
	}
	if len(silent) > 0 && !split {
		x.say("Never heard: %s, which is a peer in the file.", joined(silent))
	}
	if split || lost {
		return
	}
	x.say("A Backup sends nothing: that nobody else is heard is in order, but does not say whether another host is ready to take over.")
	if len(silent) > 0 {
		x.next("that the other host is there, and hears this one: on %s: havip status", silent[0])
	}
}

// sayAllWell says where to look if the address does not answer in spite of all that.
func (x *explainer) sayAllWell() {
	x.next("if it does not answer from elsewhere: 'ip neigh show %s' on the client or its gateway has to show the hardware address of %s here", x.addr, x.r.Interface)
}
