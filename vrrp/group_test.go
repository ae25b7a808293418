package vrrp

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// team is a group in virtual time that writes down what its members do.
type team struct {
	*testing.T
	g     *Group
	rigs  []*rig
	leave []func(time.Time)
	log   []string
}

// newTeam makes a group of routers named in, out and so on, which have not
// started.
func newTeam(t *testing.T, cfgs ...Config) *team {
	t.Helper()
	tm := &team{T: t, g: NewGroup("G")}
	for i, cfg := range cfgs {
		cfg.Name = []string{"in", "out", "dmz"}[i]
		r := newRig(t, cfg)
		tm.rigs = append(tm.rigs, r)
		tm.leave = append(tm.leave, tm.g.joinMachine(r.m, func(actions []Action) { tm.write(r, actions) }))
	}
	return tm
}

func (tm *team) write(r *rig, actions []Action) {
	if len(actions) > 0 {
		tm.log = append(tm.log, r.m.cfg.Name+": "+script(actions))
	}
}

// do uses the machine of one member at d after the epoch.
func (tm *team) do(d time.Duration, member int, use func(m *Machine, now time.Time) []Action) {
	r := tm.rigs[member]
	r.now = epoch.Add(d)
	tm.write(r, use(r.m, r.now))
	tm.g.settle(r.now)
}

func (tm *team) start(d time.Duration) {
	for i := range tm.rigs {
		tm.do(d, i, (*Machine).Start)
	}
}

func (tm *team) hear(d time.Duration, member int, priority uint8) {
	adv := &Advertisement{Source: netip.MustParseAddr("192.0.2.20"), Version: 3, Priority: priority, Interval: time.Second}
	tm.do(d, member, func(m *Machine, now time.Time) []Action { return m.Receive(now, adv) })
}

func (tm *team) fault(d time.Duration, member int, reasons ...string) {
	tm.do(d, member, func(m *Machine, now time.Time) []Action { return m.SetFaults(now, reasons) })
}

// run lets time pass until d, and ticks each member when it is due.
func (tm *team) run(d time.Duration) {
	for {
		next, at := -1, epoch.Add(d)
		for i, r := range tm.rigs {
			if deadline, ok := r.m.Deadline(); ok && !deadline.After(at) {
				next, at = i, deadline
			}
		}
		if next < 0 {
			return
		}
		tm.do(at.Sub(epoch), next, (*Machine).Tick)
	}
}

// want checks what happened since the last call, but for advertisements that
// were due.
func (tm *team) want(lines ...string) {
	tm.Helper()
	var got []string
	for _, line := range tm.log {
		_, actions, _ := strings.Cut(line, ": ")
		if actions == "Send 0" || !strings.HasPrefix(actions, "Send") || strings.Contains(actions, ",") {
			got = append(got, line)
		}
	}
	tm.log = nil
	if g, w := strings.Join(got, "\n"), strings.Join(lines, "\n"); g != w {
		tm.Fatalf("got\n%s\nwant\n%s", g, w)
	}
}

// states checks the members' states.
func (tm *team) states(want ...State) {
	tm.Helper()
	for i, r := range tm.rigs {
		if r.m.State() != want[i] {
			tm.Fatalf("%s is in %v, want %v", r.m.cfg.Name, r.m.State(), want[i])
		}
	}
}

// pair is a group of two that became Active at 3.609375 s.
func pair(t *testing.T) *team {
	t.Helper()
	return pairOf(t, Config{Priority: 100})
}

// pairOf is pair with members of a configuration, of priority 100.
func pairOf(t *testing.T, cfg Config) *team {
	t.Helper()
	tm := newTeam(t, cfg, cfg)
	tm.start(0)
	tm.run(4 * time.Second)
	tm.want("in: "+started, "out: "+started,
		"in: "+fmt.Sprintf(timedOut, 100), "out: "+fmt.Sprintf(timedOut, 100))
	return tm
}

func TestGroupFaultOfOneIsFaultOfAll(t *testing.T) {
	tm := pair(t)
	tm.fault(5*time.Second, 1, "link down")
	tm.want(
		"out: Send 0, Release, Active>Initialize (fault): link down",
		"in: Send 0, Release, Active>Initialize (fault): group G: member out: link down")
	if got, want := tm.rigs[0].m.fault(), "group G: member out: link down"; got != want {
		t.Errorf("Faults() = %q, want %q", got, want)
	}
	tm.fault(6*time.Second, 0, "check web")
	tm.want()
	if got, want := tm.rigs[0].m.fault(), "check web, group G: member out: link down"; got != want {
		t.Errorf("Faults() = %q, want %q", got, want)
	}
	tm.fault(7*time.Second, 1)
	tm.want() // in still has its own
	if got, want := tm.rigs[1].m.fault(), "group G: member in: check web"; got != want {
		t.Errorf("Faults() = %q, want %q", got, want)
	}
	tm.fault(8*time.Second, 0)
	tm.want("in: Initialize>Backup (fault cleared)", "out: Initialize>Backup (fault cleared)")
	tm.run(13 * time.Second)
	tm.states(Active, Active)
}

func TestGroupFollowsPriorityZeroOfOne(t *testing.T) {
	tm := newTeam(t, Config{Priority: 100}, Config{Priority: 100})
	tm.start(0)
	for d := time.Second; d < 5*time.Second; d += time.Second {
		tm.hear(d, 0, 200)
		tm.hear(d, 1, 200)
	}
	tm.want("in: "+started, "out: "+started)
	// The link of the other router's out is down: nothing arrives there.
	tm.hear(4500*time.Millisecond, 0, 0)
	tm.run(4500*time.Millisecond + skewOf(100, time.Second))
	tm.want("in: Send 100, Acquire, Announce, Backup>Active (active router left)",
		"out: Send 100, Acquire, Announce, Backup>Active (moved with its group): group G: member in")
}

func TestGroupWaitsForAllOtherwise(t *testing.T) {
	tm := newTeam(t, Config{Priority: 100}, Config{Priority: 100})
	tm.start(0)
	// in is cut off, out is not: the other router is alive.
	for d := time.Second; d < 60*time.Second; d += time.Second {
		tm.hear(d, 1, 200)
		tm.run(d)
	}
	tm.want("in: "+started, "out: "+started)
	tm.states(Backup, Backup)
	// The other router dies: out was the last to hear it.
	tm.run(62*time.Second + skewOf(100, time.Second) - 1)
	tm.want()
	tm.run(62*time.Second + skewOf(100, time.Second))
	tm.states(Active, Active)
}

// A claim that no longer holds is withdrawn.
func TestGroupClaimEnds(t *testing.T) {
	tm := newTeam(t, Config{Priority: 100}, Config{Priority: 100})
	tm.start(0)
	tm.hear(3*time.Second, 1, 200)
	tm.run(5 * time.Second) // in claims
	tm.hear(5*time.Second, 0, 200)
	tm.run(7 * time.Second) // out claims
	tm.states(Backup, Backup)
	tm.do(7*time.Second, 1, func(m *Machine, now time.Time) []Action { return m.SetPriority(now, 50) })
	tm.run(8*time.Second + skewOf(100, time.Second))
	tm.states(Active, Active)

	t.Run("by a lowered priority", func(t *testing.T) {
		tm := newTeam(t, Config{Priority: 100}, Config{Priority: 100})
		tm.start(0)
		for d := time.Second; d < 6*time.Second; d += time.Second {
			tm.hear(d, 0, 90) // could be preempted
			tm.hear(d, 1, 200)
			tm.run(d)
		}
		tm.do(5100*time.Millisecond, 0, func(m *Machine, now time.Time) []Action { return m.SetPriority(now, 80) })
		if got := tm.rigs[0].m.claimed; got != 0 {
			t.Errorf("still claims: %v", got)
		}
		deadline, _ := tm.rigs[0].m.Deadline()
		if got, want := deadline.Sub(epoch), 8*time.Second+skewOf(80, time.Second); got != want {
			t.Errorf("deadline %v, want %v", got, want)
		}
	})
}

func TestGroupStepsDownTogether(t *testing.T) {
	tm := pair(t)
	tm.hear(5*time.Second, 0, 150)
	tm.want("in: "+fmt.Sprintf(steppedBy, 100), "out: Release, Active>Backup (moved with its group): group G: member in")

	// And does not come back because out hears nobody.
	for d := 6 * time.Second; d < 60*time.Second; d += time.Second {
		tm.hear(d, 0, 150)
		tm.run(d)
	}
	tm.want()
}

func TestGroupResignsTogether(t *testing.T) {
	tm := pairOf(t, Config{Priority: 100, NoOverlap: true})
	tm.do(5*time.Second, 1, (*Machine).Resign)
	tm.want("out: Send 0, Release, Active>Backup (resigned)", "in: Send 0, Release, Active>Backup (resigned)")
	tm.run(9*time.Second + skewOf(100, time.Second))
	tm.want("in: Send 100, Acquire, Announce, Backup>Active (nobody took over)",
		"out: Send 100, Acquire, Announce, Backup>Active (nobody took over)")
}

func TestGroupStallsTogether(t *testing.T) {
	tm := pair(t)
	tm.do(30*time.Second, 0, (*Machine).Tick)
	tm.want("in: Release, Active>Backup (did not run for too long)",
		"out: Release, Active>Backup (did not run for too long)")
}

func TestGroupWaitsForStart(t *testing.T) {
	tm := newTeam(t, Config{Priority: 255}, Config{Priority: 255, StartDelay: 10 * time.Second})
	tm.do(0, 0, (*Machine).Start)
	tm.run(5 * time.Second)
	tm.want("in: " + started)
	tm.do(6*time.Second, 1, (*Machine).Start)
	tm.want("out: " + started)
	tm.hear(7*time.Second, 0, 0) // even so: out may not be Active yet
	tm.run(16*time.Second - 1)
	tm.want()
	tm.run(16 * time.Second)
	tm.states(Active, Active)
}

// A router that joins an Active group holds its addresses at once.
func TestGroupLateMember(t *testing.T) {
	tm := pair(t)
	r := newRig(t, Config{Name: "dmz", Priority: 100, NoOverlap: true})
	tm.rigs = append(tm.rigs, r)
	leave := tm.g.joinMachine(r.m, func(actions []Action) { tm.write(r, actions) })
	tm.run(5 * time.Second)
	tm.states(Active, Active, Initialize)
	tm.do(5*time.Second, 2, (*Machine).Start)
	tm.want("dmz: "+started, "dmz: Send 100, Acquire, Announce, Backup>Active (moved with its group): group G: member in")

	// A member that is stopped leaves the others as they are.
	tm.do(6*time.Second, 2, (*Machine).Shutdown)
	leave(r.now)
	tm.run(10 * time.Second)
	tm.want("dmz: Send 0, Release, Active>Initialize (shutdown)")
	tm.states(Active, Active, Initialize)
}

// A router that joins an Active group during its own start delay waits.
func TestGroupLateMemberWaits(t *testing.T) {
	tm := pair(t)
	r := newRig(t, Config{Name: "dmz", Priority: 100, StartDelay: 10 * time.Second})
	tm.rigs = append(tm.rigs, r)
	tm.g.joinMachine(r.m, func(actions []Action) { tm.write(r, actions) })
	tm.run(5 * time.Second)
	tm.do(5*time.Second, 2, (*Machine).Start)
	tm.want("dmz: " + started)
	tm.run(15*time.Second - 1)
	tm.want()
	tm.run(15 * time.Second)
	tm.want("dmz: " + fmt.Sprintf(timedOut, 100))
	tm.states(Active, Active, Active)
}

func TestGroupFaultyMemberLeaves(t *testing.T) {
	tm := pair(t)
	tm.fault(5*time.Second, 1, "link down")
	tm.do(6*time.Second, 1, (*Machine).Shutdown)
	tm.log = nil
	tm.leave[1](tm.rigs[1].now)
	tm.want("in: Initialize>Backup (fault cleared)")

	// A new member learns of the faults there are.
	tm.fault(7*time.Second, 0, "check web")
	tm.leave[1] = tm.g.joinMachine(tm.rigs[1].m, func(actions []Action) { tm.write(tm.rigs[1], actions) })
	tm.fault(8*time.Second, 1)
	tm.do(9*time.Second, 1, (*Machine).Start)
	tm.want("in: Backup>Initialize (fault): check web",
		"out: Initialize>Initialize (fault): group G: member in: check web")
}
