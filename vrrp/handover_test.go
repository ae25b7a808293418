package vrrp

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

const (
	resigned  = "Release, Active>Backup (resigned)"
	unclaimed = "Send %d, Announce, Active>Active (nobody took over)"
)

// leaves are the planned ways to leave, with what follows when a successor is heard.
var leaves = map[string]struct {
	begin func(m *Machine, now time.Time) []Action
	ends  string
}{
	"resign":   {(*Machine).Resign, resigned},
	"shutdown": {(*Machine).Shutdown, "Release, Active>Initialize (shutdown)"},
	"reconfigured": {func(m *Machine, now time.Time) []Action {
		return m.shutdown(now, CauseReconfigured, "vrid", false)
	}, "Release, Active>Initialize (reconfigured): vrid"},
	"stand down": {standDown, "Release, Active>Initialize (fault): maintenance"},
}

func standDown(m *Machine, now time.Time) []Action {
	return m.setFaults(now, []string{"maintenance"}, planned)
}

func fails(m *Machine, now time.Time) []Action { return m.SetFaults(now, []string{"link down"}) }

// eachLeave runs f with a machine of each version that has begun to leave in each planned
// way, and the time since the epoch when it began.
func eachLeave(t *testing.T, f func(r *rig, at time.Duration, ends string)) {
	versions(t, func(t *testing.T, v uint8) {
		for name, leave := range leaves {
			t.Run(name, func(t *testing.T) {
				r := active(t, Config{Version: v, Priority: 100})
				r.want(leave.begin(r.m, r.now), "Send 0")
				if r.m.State() != Active || !r.m.HandingOver() {
					t.Fatalf("state %v, handing over: %v", r.m.State(), r.m.HandingOver())
				}
				f(r, r.since(0), leave.ends)
			})
		}
	})
}

// TestHandOver: a router that leaves as planned sends priority 0 and nothing more, and keeps
// its addresses until it hears its successor, whatever the successor's priority.
func TestHandOver(t *testing.T) {
	for _, priority := range []uint8{1, 100, 200, 255} {
		eachLeave(t, func(r *rig, at time.Duration, ends string) {
			r.hear(at+900*time.Millisecond, 20, priority, ends)
			peer := r.m.actions[1].Transition.Peer
			if peer.Address != netip.MustParseAddr("192.0.2.20") || peer.Priority != priority {
				r.Errorf("peer %v, want the successor", peer)
			}
			r.hear(at+950*time.Millisecond, 20, priority, "")
			if r.m.HandingOver() {
				r.Error("still handing over")
			}
		})
	}
}

// TestHandOverOwnPacket: what loops back is no successor.
func TestHandOverOwnPacket(t *testing.T) {
	eachLeave(t, func(r *rig, at time.Duration, ends string) {
		r.hear(at+time.Millisecond, 10, 100, "")
		r.hear(at+time.Second, 20, 90, ends)
	})
}

// TestHandOverToLeaver: a successor that was not heard, and hands on, is one as well.
func TestHandOverToLeaver(t *testing.T) {
	eachLeave(t, func(r *rig, at time.Duration, ends string) { r.hear(at+time.Second, 20, 0, ends) })
	r := active(t, Config{Priority: 100})
	at := r.since(0)
	r.want(r.m.Resign(r.now), "Send 0")
	r.hear(at+time.Second, 20, 0, resigned)
	r.tick(at+time.Second+skewOf(100, time.Second), "Send 100, Acquire, Announce, Backup>Active (active router left)")
}

// TestHandOverEnds: without a successor the router that must leave does so after the longest
// skew time of a Backup and 200 ms.
func TestHandOverEnds(t *testing.T) {
	for _, tc := range []struct {
		version  uint8
		interval time.Duration
		wait     time.Duration
	}{
		{2, time.Second, 1200 * time.Millisecond},
		{2, 10 * time.Second, 1200 * time.Millisecond},
		{3, time.Second, 1200 * time.Millisecond},
		{3, 10 * time.Millisecond, 210 * time.Millisecond},
		{3, 40 * time.Second, 40200 * time.Millisecond},
	} {
		for name, leave := range leaves {
			if name == "resign" {
				continue
			}
			r := active(t, Config{Version: tc.version, Interval: tc.interval, Priority: 100})
			r.want(leave.begin(r.m, r.now), "Send 0")
			r.tick(r.since(tc.wait), leave.ends)
			if peer := r.m.actions[1].Transition.Peer; peer.Address.IsValid() {
				t.Errorf("peer %v, want none", peer)
			}
			if d, ok := r.m.Deadline(); ok {
				t.Errorf("deadline %v after the end", d)
			}
		}
	}
}

// TestHandOverSlows: Backups have learned the interval that an Active router is about to
// have, and wait for their skew time of that.
func TestHandOverSlows(t *testing.T) {
	r := active(t, Config{Priority: 100})
	if _, err := r.m.Reconfigure(r.now, Config{VRID: 51, Priority: 100, Interval: 5 * time.Second, Addresses: r.m.cfg.Addresses}); err != nil {
		t.Fatal(err)
	}
	r.want(r.m.Shutdown(r.now), "Send 0")
	r.wantDeadline(r.since(5200 * time.Millisecond))
}

// TestHandOverUnclaimed: a router that resigns in vain asks twice, and then goes on as if
// nothing had been. Nobody else has the addresses, so none may be without a holder.
func TestHandOverUnclaimed(t *testing.T) {
	versions(t, func(t *testing.T, v uint8) {
		for _, priority := range []uint8{100, 255} {
			r := active(t, Config{Version: v, Priority: priority})
			at := r.since(0)
			r.want(r.m.Resign(r.now), "Send 0")
			r.want(r.m.Resign(r.now), "")
			r.tick(at+1200*time.Millisecond, "Send 0")
			r.tick(at+2400*time.Millisecond, fmt.Sprintf(unclaimed, priority))
			r.entitled(r.since(0), true)
			r.tick(at+3400*time.Millisecond, fmt.Sprintf("Send %d", priority))
			if priority == 100 {
				r.hear(at+3500*time.Millisecond, 20, 0, "Send 100, Announce")
			}
		}
	})
	t.Run("the second one is heard", func(t *testing.T) {
		r := active(t, Config{Priority: 100})
		at := r.since(0)
		r.want(r.m.Resign(r.now), "Send 0")
		r.tick(at+1200*time.Millisecond, "Send 0")
		r.hear(at+2*time.Second, 20, 50, resigned)
		r.tick(at+5*time.Second+skewOf(100, time.Second), fmt.Sprintf(timedOut, 100))
	})
	t.Run("late", func(t *testing.T) {
		// A successor may have been missed: the router listens before it takes the addresses.
		r := active(t, Config{Priority: 100})
		r.want(r.m.Resign(r.now), "Send 0")
		r.now = epoch.Add(r.since(1200*time.Millisecond + r.m.downInterval() + 1))
		r.want(r.m.Tick(r.now), resigned)
		r.tick(r.since(4*time.Second+skewOf(100, time.Second)), "Send 100, Acquire, Announce, Backup>Active (nobody took over)")
	})
	t.Run("lapsed", func(t *testing.T) {
		r := active(t, Config{Priority: 100})
		r.m.lapsed = func() bool { return true }
		at := r.since(0)
		r.want(r.m.Resign(r.now), "Send 0")
		r.tick(at+1200*time.Millisecond, resigned)
	})
}

// TestHandOverFault: a fault does not wait for the successor, and needs no second priority 0.
func TestHandOverFault(t *testing.T) {
	ends := map[string]string{
		"resign":       "Release, Active>Initialize (fault): link down",
		"stand down":   "Release, Active>Initialize (fault): link down",
		"shutdown":     leaves["shutdown"].ends,
		"reconfigured": leaves["reconfigured"].ends,
	}
	for name, leave := range leaves {
		r := active(t, Config{Priority: 100})
		r.want(leave.begin(r.m, r.now), "Send 0")
		r.now = epoch.Add(r.since(100 * time.Millisecond))
		r.want(fails(r.m, r.now), ends[name])
		if d, ok := r.m.Deadline(); ok {
			t.Errorf("deadline %v after a fault", d)
		}
	}
	r := active(t, Config{Priority: 100})
	r.m.Resign(r.now)
	fails(r.m, r.now)
	r.want(r.m.SetFaults(r.now, nil), "Initialize>Backup (fault cleared)")
	r.hear(r.since(time.Second), 20, 50, "")
	r.tick(r.since(3*time.Second+skewOf(100, time.Second)), fmt.Sprintf(timedOut, 100)) // it has resigned, and preempts nobody
	// One after the other.
	r = active(t, Config{Priority: 100})
	r.want(r.m.setFaults(r.now, []string{"maintenance"}, planned), "Send 0")
	r.want(r.m.setFaults(r.now, []string{"maintenance", "more"}, planned), "")
	r.want(r.m.setFaults(r.now, []string{"link down", "maintenance"}, sudden), "Release, Active>Initialize (fault): link down, maintenance")
}

// TestHandOverTurns: while a router leaves it is told to leave in another way. The wait for
// the successor goes on.
func TestHandOverTurns(t *testing.T) {
	for name, tc := range map[string]struct{ first, second, ends string }{
		"stop while it resigns":         {"resign", "shutdown", leaves["shutdown"].ends},
		"stop while it stands down":     {"stand down", "shutdown", leaves["shutdown"].ends},
		"stand down while it resigns":   {"resign", "stand down", leaves["stand down"].ends},
		"resign while it stands down":   {"stand down", "resign", leaves["stand down"].ends},
		"resign while it stops":         {"shutdown", "resign", leaves["shutdown"].ends},
		"stand down while it stops":     {"shutdown", "stand down", leaves["shutdown"].ends},
		"stop a second time":            {"shutdown", "reconfigured", leaves["shutdown"].ends},
		"replace while it stands down":  {"stand down", "reconfigured", leaves["reconfigured"].ends},
		"resign a second time":          {"resign", "resign", leaves["resign"].ends},
		"stand down for the same cause": {"stand down", "stand down", leaves["stand down"].ends},
	} {
		for _, heard := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, successor %v", name, heard), func(t *testing.T) {
				r := active(t, Config{Priority: 100})
				at := r.since(0)
				r.want(leaves[tc.first].begin(r.m, r.now), "Send 0")
				r.at(at + 500*time.Millisecond)
				r.want(leaves[tc.second].begin(r.m, r.now), "")
				switch {
				case heard:
					r.hear(at+time.Second, 20, 90, tc.ends)
				case tc.ends == resigned:
					r.tick(at+1200*time.Millisecond, "Send 0")
				default:
					r.tick(at+1200*time.Millisecond, tc.ends)
				}
			})
		}
	}
	t.Run("at once", func(t *testing.T) {
		for name, leave := range leaves {
			r := active(t, Config{Priority: 100})
			r.want(leave.begin(r.m, r.now), "Send 0")
			ends := leaves["shutdown"].ends
			if name == "reconfigured" {
				ends = leave.ends
			}
			r.want(r.m.shutdown(r.now, CauseShutdown, "", true), ends)
			r.want(r.m.SetFaults(r.now, nil), "")
			r.want(r.m.Start(r.now), started)
		}
	})
	t.Run("start while it stops", func(t *testing.T) {
		r := active(t, Config{Priority: 100})
		r.want(r.m.Shutdown(r.now), "Send 0")
		r.want(r.m.Start(r.now), "")
		r.hear(r.since(time.Second), 20, 90, leaves["shutdown"].ends)
		r.want(r.m.Start(r.now), started)
	})
}

// TestHandOverReasonEnds: the planned reason is over before a successor is heard.
func TestHandOverReasonEnds(t *testing.T) {
	for _, priority := range []uint8{100, 255} {
		back := func(t *testing.T) (*rig, time.Duration) {
			r := active(t, Config{Priority: priority})
			r.want(standDown(r.m, r.now), "Send 0")
			at := r.since(0)
			r.at(at + 100*time.Millisecond)
			r.want(r.m.SetFaults(r.now, nil), "")
			return r, at
		}
		r, at := back(t)
		next := "Initialize>Backup (fault cleared)"
		if priority == 255 {
			next = "Send 255, Acquire, Announce, Initialize>Active (address owner)"
		}
		r.hear(at+time.Second, 20, 50, leaves["stand down"].ends+", "+next)
		r, at = back(t)
		r.tick(at+1200*time.Millisecond, "Send 0")
		r.tick(at+2400*time.Millisecond, fmt.Sprintf(unclaimed, priority))
		r, at = back(t)
		r.want(standDown(r.m, r.now), "")
		r.tick(at+1200*time.Millisecond, leaves["stand down"].ends)
	}
}

// TestHandOverMeanwhile: what changes while the router leaves makes it send nothing.
func TestHandOverMeanwhile(t *testing.T) {
	eachLeave(t, func(r *rig, at time.Duration, ends string) {
		r.want(r.m.SetPriority(r.at(at+100*time.Millisecond), 200), "")
		cfg := r.m.cfg
		cfg.Addresses = append(cfg.Addresses, netip.MustParseAddr("192.0.2.2"))
		actions, err := r.m.Reconfigure(r.at(at+200*time.Millisecond), cfg)
		if err != nil {
			r.Fatal(err)
		}
		r.want(actions, "")
		r.want(r.m.Tick(r.at(at+300*time.Millisecond)), "")
		r.wantDeadline(at + 1200*time.Millisecond)
		r.hear(at+time.Second, 20, 150, ends)
	})
}

// TestHandOverAtOnce: where two holders would be one too many, or may be there already, the
// addresses go with priority 0.
func TestHandOverAtOnce(t *testing.T) {
	for name, tc := range map[string]struct {
		cfg    Config
		before func(r *rig)
		silent bool
	}{
		"on request":                   {cfg: Config{NoOverlap: true}},
		"one hardware address for two": {cfg: Config{VirtualMAC: true}},
		"a leader without addresses":   {cfg: Config{Addresses: []netip.Addr{}}},
		"another router is Active as well": {before: func(r *rig) {
			r.hear(r.since(2*time.Second), 20, 50, "Send 100, Announce")
		}},
		"it was late": {before: func(r *rig) {
			r.now = epoch.Add(r.since(3*time.Second + 100*time.Millisecond))
			r.want(r.m.Tick(r.now), "Send 100")
		}},
		"it is late": {silent: true, before: func(r *rig) {
			r.now = epoch.Add(r.since(3*time.Second + 100*time.Millisecond))
		}},
	} {
		for way, leave := range leaves {
			t.Run(name+"/"+way, func(t *testing.T) {
				tc.cfg.Priority = 100
				r := active(t, tc.cfg)
				if tc.before != nil {
					tc.before(r)
				}
				want := "Send 0, " + leave.ends
				if tc.silent {
					want = leave.ends
				}
				r.want(leave.begin(r.m, r.now), want)
			})
		}
	}
	r := active(t, Config{Priority: 100})
	r.want(fails(r.m, r.now), "Send 0, Release, Active>Initialize (fault): link down")
	r = active(t, Config{Priority: 100})
	r.want(r.m.setFaults(r.now, []string{"check web has no result yet"}, awaited), "Send 0, Release, Active>Initialize (fault): check web has no result yet")
}

// TestGroupHandsOver: the members of a group send priority 0 together, and each waits for
// its own successor.
func TestGroupHandsOver(t *testing.T) {
	both := []string{"out: Send 0", "in: Send 0"}
	t.Run("resign", func(t *testing.T) {
		tm := pair(t)
		tm.do(5*time.Second, 1, (*Machine).Resign)
		tm.want(both...)
		tm.hear(5500*time.Millisecond, 0, 50)
		tm.want("in: " + resigned)
		tm.states(Backup, Active)
		tm.hear(5600*time.Millisecond, 1, 50)
		tm.want("out: " + resigned)
		tm.states(Backup, Backup)
	})
	t.Run("one has no successor", func(t *testing.T) {
		tm := pair(t)
		tm.do(5*time.Second, 1, (*Machine).Resign)
		tm.hear(5500*time.Millisecond, 0, 50)
		tm.run(6300 * time.Millisecond)
		tm.want(append(both, "in: "+resigned, "out: Send 0")...)
		tm.hear(7300*time.Millisecond, 0, 50)
		tm.run(7400 * time.Millisecond)
		tm.want("out: " + resigned)
		tm.states(Backup, Backup)
	})
	t.Run("nobody has one", func(t *testing.T) {
		tm := pair(t)
		tm.do(5*time.Second, 1, (*Machine).Resign)
		tm.run(7400 * time.Millisecond)
		tm.want(append(both, "out: Send 0", "in: Send 0",
			"in: "+fmt.Sprintf(unclaimed, 100), "out: "+fmt.Sprintf(unclaimed, 100))...)
		tm.run(20 * time.Second)
		tm.want()
		tm.states(Active, Active)
	})
	t.Run("the last one has", func(t *testing.T) {
		tm := newTeam(t, Config{Priority: 100, Interval: 100 * time.Millisecond}, Config{Priority: 100})
		tm.start(0)
		tm.run(5 * time.Second)
		tm.log = nil
		tm.do(5*time.Second, 0, (*Machine).Resign)
		tm.run(6 * time.Second)
		tm.want("in: Send 0", "out: Send 0", "in: Send 0") // and in waits for out
		tm.states(Active, Active)
		tm.hear(6100*time.Millisecond, 1, 50)
		tm.want("out: "+resigned, "in: "+resigned)
	})
	t.Run("the first successor leaves before the last one comes", func(t *testing.T) {
		tm := pair(t)
		tm.do(5*time.Second, 1, (*Machine).Resign)
		tm.hear(5100*time.Millisecond, 0, 50)
		tm.hear(5200*time.Millisecond, 0, 0)
		tm.run(6100 * time.Millisecond) // in would take over, but out is on its way
		tm.want(append(both, "in: "+resigned)...)
		tm.hear(6150*time.Millisecond, 1, 50)
		tm.want("out: "+resigned,
			"in: Send 100, Acquire, Announce, Backup>Active (active router left)",
			"out: Send 100, Acquire, Announce, Backup>Active (moved with its group): group G: member in")
	})
	t.Run("told to leave while it waits for the last one", func(t *testing.T) {
		for _, way := range []string{"shutdown", "stand down"} {
			tm := newTeam(t, Config{Priority: 100, Interval: 100 * time.Millisecond}, Config{Priority: 100})
			tm.start(0)
			tm.run(5 * time.Second)
			tm.log = nil
			tm.do(5*time.Second, 0, (*Machine).Resign)
			tm.run(6 * time.Second)
			tm.log = nil
			tm.do(6*time.Second, 0, leaves[way].begin)
			tm.run(7 * time.Second)
			if got := tm.log[0]; got != "in: "+leaves[way].ends {
				t.Errorf("%s: %s", way, got)
			}
		}
	})
	t.Run("stand down", func(t *testing.T) {
		tm := pair(t)
		tm.do(5*time.Second, 1, standDown)
		tm.want(both...)
		tm.hear(5500*time.Millisecond, 0, 50)
		tm.hear(5600*time.Millisecond, 1, 50)
		tm.want("in: Release, Active>Initialize (fault): group G: member out: maintenance",
			"out: Release, Active>Initialize (fault): maintenance")
	})
	t.Run("a fault meanwhile", func(t *testing.T) {
		tm := pair(t)
		tm.do(5*time.Second, 1, (*Machine).Resign)
		tm.fault(5500*time.Millisecond, 0, "link down")
		tm.want(append(both, "in: Release, Active>Initialize (fault): link down",
			"out: Release, Active>Initialize (fault): group G: member in: link down")...)
	})
	t.Run("stop", func(t *testing.T) {
		tm := pair(t)
		tm.do(5*time.Second, 0, (*Machine).Shutdown)
		tm.do(5*time.Second, 1, (*Machine).Shutdown)
		tm.hear(5500*time.Millisecond, 0, 50)
		tm.run(6200 * time.Millisecond)
		tm.want("in: Send 0", "out: Send 0", "in: "+leaves["shutdown"].ends, "out: "+leaves["shutdown"].ends)
	})
	t.Run("a better router comes", func(t *testing.T) {
		tm := pair(t)
		tm.do(5*time.Second, 0, (*Machine).Shutdown)
		tm.hear(5500*time.Millisecond, 1, 200)
		tm.want("in: Send 0", "out: "+fmt.Sprintf(steppedBy, 100))
		tm.run(6200 * time.Millisecond)
		tm.want("in: " + leaves["shutdown"].ends)
	})
}
