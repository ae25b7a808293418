package report

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// explainFaults is about a router that stays out of the election.
func (x *explainer) explainFaults() {
	r := x.r
	out := "stays out of the election"
	if r.Waiting {
		out = "waits before it takes part in the election"
	}
	if len(r.Faults) == 0 {
		out = "does not take part in the election yet, or not any more"
	}
	x.say("%s does not have %s: its router %s %s%s.", x.host, x.addr, r.Name, out, x.since(r.Since))
	for _, fault := range r.Faults {
		x.explainFault(fault)
	}
	if len(r.Faults) == 0 && r.Cause != "" {
		x.say("The last that happened to it: %s.", r.Cause)
	}
	if r.Cause == causeStalled {
		x.sayStalled(r.Since)
	}
	if a := x.activePeer(); a != nil {
		x.say("%s has it: Active with priority %d, heard %s.", a.Address, a.Priority, x.ago(a.LastHeard))
	} else {
		x.say("No other router is heard that has it.")
		x.next("on the other host: havip explain %s", x.addr)
	}
}

// explainFault says what a reason to stay out means, and what ends it.
func (x *explainer) explainFault(fault string) {
	if m := x.s.Node.Maintenance; m != nil && strings.HasPrefix(fault, maintenanceFault) {
		reason := ""
		if m.Reason != "" {
			reason = ": " + m.Reason
		}
		x.say("The node is in maintenance%s%s.", x.since(m.Since), reason)
		x.next("havip maintenance off, when the work is done")
		return
	}
	if name, ok := strings.CutPrefix(fault, "check "); ok {
		if name, ok := strings.CutSuffix(name, " is down"); ok {
			x.explainDown(name)
			return
		}
		if name, ok := strings.CutSuffix(name, " has no result yet"); ok {
			x.explainWait(name)
			return
		}
	}
	if name, ok := strings.CutPrefix(fault, "link "); ok {
		x.explainLink(name)
		return
	}
	if rest, ok := strings.CutPrefix(fault, "group "); ok {
		name, member, _ := strings.Cut(rest, ": ")
		x.say("It moves together with its group %s, of which another router cannot serve: %s.", name, plainError(member, x.r))
		x.next("havip status shows the routers of the group; mend that one first")
		return
	}
	x.say("The reason is: %s.", plainError(fault, x.r))
	if strings.Contains(fault, "another program's") {
		x.next("who has put it there, before it is removed: ip -d addr show, the network manager, a Keepalived that was killed")
	}
}

// explainDown is about a check that releases the address.
func (x *explainer) explainDown(name string) {
	c := x.check(name)
	if c == nil {
		x.say("Its check %s is down.", name)
		return
	}
	x.say("Its check %s is down%s: %s.", name, x.since(c.Since), checkError(c))
	if c.Paused {
		x.say("The check is paused: it keeps this result.")
		x.next("havip check resume %s", name)
	}
	x.next("look at what the check probes: %s", c.Target)
	x.next("havip check now %s probes at once; the check itself stands under checks in %s", name, x.file())
}

// explainWait is about a check whose first result is awaited.
func (x *explainer) explainWait(name string) {
	c := x.check(name)
	switch {
	case c == nil:
		x.say("It waits for the first result of its check %s.", name)
		return
	case c.Error != "":
		x.say("Its check %s has not succeeded yet: %s.", name, checkError(c))
		x.next("look at what the check probes: %s", c.Target)
	default:
		x.say("It waits for the first result of its check %s, which probes every %s.", name, lasting(time.Duration(c.Interval)))
	}
	if c.Paused {
		x.say("The check is paused.")
		x.next("havip check resume %s", name)
	}
}

// explainLink is about an interface that is missing or down.
func (x *explainer) explainLink(what string) {
	name, state, _ := strings.Cut(what, " ")
	switch state {
	case "down":
		x.say("Interface %s is down: the cable or the switch's port is off, or somebody has set the interface down.", name)
		x.next("ip link show %s: NO-CARRIER is the cable or the switch, otherwise: ip link set %s up", name, name)
	case "missing":
		x.say("There is no interface %s: it is not made yet, or has another name.", name)
		x.next("ip link shows the interfaces; the key is interface of router %s in %s", x.r.Name, x.file())
	default:
		x.say("Interface %s: %s.", name, strings.TrimPrefix(state, ": "))
		x.next("ip addr show %s", name)
	}
}

// check finds a check by its name; nil: there is none.
func (x *explainer) check(name string) *Check {
	i := slices.IndexFunc(x.s.Checks, func(c Check) bool { return c.Name == name })
	if i < 0 {
		return nil
	}
	return &x.s.Checks[i]
}

// checkError is what a check has found last.
func checkError(c *Check) string {
	if c.Error == "" {
		return "it has succeeded again, but not often enough yet"
	}
	return strings.TrimPrefix(c.Error, "healthcheck: ")
}

// causeStalled and the others are the words of package vrrp.
const (
	causeTimeout   = "no advertisement in time"
	causeLeft      = "active router left"
	causePreempt   = "preempting a lower priority"
	causeHigher    = "another router has the better claim"
	causeFault     = "fault"
	causeResign    = "resigned"
	causeUnclaimed = "nobody took over"
	causeStalled   = "did not run for too long"
	causeOwner     = "address owner"
	causeGroup     = "moved with its group"
)

// sayStalled is about a process that stood still.
func (x *explainer) sayStalled(t time.Time) {
	x.say("This process did not run for too long until %s (stopped, suspended, or starved of the processor): whoever stands still may not keep the address.", x.at(t))
	x.nextStalled()
}

func (x *explainer) nextStalled() {
	x.next("what held the process up: journalctl -k, dmesg (a pause of the virtual machine, swapping, SIGSTOP); havip run --realtime 50 helps against a busy processor")
}

// weights says which checks have changed the priority.
func (x *explainer) weights() (list []string) {
	for _, t := range x.r.Tracks {
		c := x.check(t.Check)
		if c == nil || t.Weight == 0 {
			continue
		}
		switch {
		case t.Weight < 0 && c.State == stateDown:
			list = append(list, fmt.Sprintf("%d while check %s is down (%s)", t.Weight, t.Check, checkError(c)))
		case t.Weight > 0 && c.State == "up":
			list = append(list, fmt.Sprintf("+%d while check %s is up", t.Weight, t.Check))
		}
	}
	return list
}
