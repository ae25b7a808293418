package report

import (
	"fmt"
	"net/netip"
	"time"
)

// explainBackup is about a router that listens.
func (x *explainer) explainBackup() {
	r, a := x.r, x.activePeer()
	if a == nil {
		x.say("%s does not have %s yet: its router %s is Backup%s, hears nobody who has it, and takes it as soon as the time for that is over.",
			x.host, x.addr, r.Name, x.since(r.Since))
		x.sayHowBackup(nil)
		x.sayDiscards()
		return
	}
	x.say("%s does not have %s: %s has it, is Active with priority %d, and was heard %s.", x.host, x.addr, a.Address, a.Priority, x.ago(a.LastHeard))
	x.sayHowBackup(a)
	x.sayPriority()
	x.sayDiscards()
	x.next("whether the address answers there: on %s: havip explain %s", a.Address, x.addr)
}

// sayHowBackup says why the router is Backup, and stays so.
func (x *explainer) sayHowBackup(a *Peer) {
	r := x.r
	state := fmt.Sprintf("Router %s is Backup here%s, ", r.Name, x.since(r.Since))
	switch r.Cause {
	case causeStalled:
		x.sayStalled(r.Since)
	case causeResign:
		x.say("%sas it was asked to hand over.", state)
		x.next("havip events --kind control shows who has asked for it")
		if a != nil {
			x.next("havip resign %s on %s gives the address back", r.Name, a.Address)
		}
		return
	case causeGroup:
		x.say("%sas it moves together with %s.", state, x.group())
		return
	}
	if a != nil {
		x.say("%s%s.", state, x.claim(a))
		if r.Cause != causeStalled {
			x.sayEarlierLoss()
		}
	}
}

// group names the group that the router moved with, and why that did. A reload may have
// taken the router out of it since.
func (x *explainer) group() string {
	text := "the group that it was in"
	if x.r.Group != "" {
		text = "its group " + x.r.Group
	}
	if x.r.Reason != "" {
		text += ": " + x.r.Reason
	}
	return text
}

// claim says how the claims of the two routers compare.
func (x *explainer) claim(a *Peer) string {
	r := x.r
	switch {
	case r.Priority < a.Priority:
		return fmt.Sprintf("as its priority %d is lower than %d", r.Priority, a.Priority)
	case r.Priority > a.Priority && !r.Preempt:
		x.next("havip resign %s on %s moves the address here; preempt: true would do so by itself", r.Name, a.Address)
		return fmt.Sprintf("and does not take the address from a router that works, although its priority %d is higher than %d: preempt is false", r.Priority, a.Priority)
	case r.Priority > a.Priority:
		return fmt.Sprintf("and about to take the address: its priority %d is higher than %d (preempt_delay, or the hand-over, is still under way)", r.Priority, a.Priority)
	case lower(r.Source, a.Address):
		return fmt.Sprintf("as both have priority %d, and the higher address wins: %s has %s, and this host %s", r.Priority, "that one", a.Address, r.Source)
	default:
		return fmt.Sprintf("as both have priority %d, and that one was Active before", r.Priority)
	}
}

// lower reports whether an address is lower than another one, as elections see it.
func lower(a, b string) bool {
	x, err := netip.ParseAddr(a)
	y, other := netip.ParseAddr(b)
	return err == nil && other == nil && x.Less(y)
}

// sayPriority says why the priority in force is not the file's.
func (x *explainer) sayPriority() {
	r := x.r
	for _, c := range x.s.Node.Changes {
		if c.Kind == "priority" && c.Name == r.Name {
			x.say("The priority was changed at run time, %s: %s instead of the file's %s.", x.ago(c.Since), c.Value, c.File)
			x.next("havip priority %s file gives it the file's priority again", r.Name)
		}
	}
	if list := x.weights(); r.Priority != r.Configured && len(list) > 0 {
		x.say("The priority is %d instead of %d: %s.", r.Priority, r.Configured, joined(list))
	}
}

// activePeer is the router that has the address: the one that was heard as Active within
// the time after which it would be taken for dead. Nil: there is none.
func (x *explainer) activePeer() *Peer {
	for i := range x.r.Peers {
		p := &x.r.Peers[i]
		patience := 4*max(time.Duration(p.Interval), time.Duration(x.r.Interval)) + time.Second
		if p.Priority > 0 && x.now.Sub(p.LastHeard) < patience {
			return p
		}
	}
	return nil
}

// sayDiscards adds what is discarded beside all that is in order.
func (x *explainer) sayDiscards() {
	for _, d := range x.r.Drops {
		if x.recent(d.Last) && d.From != "" {
			x.say("What %s advertises with this VRID is discarded: %s.", d.From, dropText(d))
		}
	}
}
