package vrrp

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestMachineResign is about a router that releases the addresses at once; see
// TestHandOver for one that need not.
func TestMachineResign(t *testing.T) {
	resign := "Send 0, Release, Active>Backup (resigned)"
	versions(t, func(t *testing.T, v uint8) {
		r := active(t, Config{Version: v, Priority: 100, NoOverlap: true})
		at := r.since(0)
		r.want(r.m.Resign(r.now), resign)
		// No other router: it takes the addresses back, after every Backup had
		// its chance, also one that missed the priority 0 (skew up to 1 s).
		r.tick(at+4*time.Second+skewOf(100, time.Second),
			"Send 100, Acquire, Announce, Backup>Active (nobody took over)")
		r.want(r.m.Resign(r.now), resign)
	})
	t.Run("does not preempt its successor", func(t *testing.T) {
		for _, priority := range []uint8{200, 255} {
			r := active(t, Config{Priority: priority, NoOverlap: true})
			at := r.since(0)
			r.want(r.m.Resign(r.now), resign)
			for range 20 {
				at += time.Second
				r.hear(at, 20, 50, "")
			}
			// The other router fails: nothing keeps this one from taking over.
			at += 3*time.Second + skewOf(int(priority), time.Second)
			r.tick(at, fmt.Sprintf(timedOut, priority))
			r.hear(at+time.Millisecond, 20, 50, fmt.Sprintf("Send %d", priority))
		}
	})
	t.Run("takes over when the successor leaves", func(t *testing.T) {
		r := active(t, Config{Priority: 200, NoOverlap: true})
		at := r.since(0)
		r.want(r.m.Resign(r.now), resign)
		r.hear(at+time.Second, 20, 50, "")
		r.hear(at+2*time.Second, 20, 0, "")
		r.tick(at+2*time.Second+skewOf(200, time.Second),
			"Send 200, Acquire, Announce, Backup>Active (active router left)")
	})
	t.Run("a fault does not end it", func(t *testing.T) {
		for _, priority := range []uint8{200, 255} {
			r := active(t, Config{Priority: priority, NoOverlap: true})
			at := r.since(0)
			r.want(r.m.Resign(r.now), resign)
			r.hear(at+time.Second, 20, 50, "")
			r.want(r.m.SetFaults(r.now, []string{"link down"}), "Backup>Initialize (fault): link down")
			r.want(r.m.SetFaults(r.now, nil), "Initialize>Backup (fault cleared)")
			for range 20 {
				at += time.Second
				r.hear(at, 20, 50, "")
			}
			at += 3*time.Second + skewOf(int(priority), time.Second)
			r.tick(at, fmt.Sprintf(timedOut, priority))
			// It has been Active since: another router does not keep it from preempting.
			r.want(r.m.SetFaults(r.now, []string{"link down"}), "Send 0, Release, Active>Initialize (fault): link down")
			r.m.SetFaults(r.now, nil)
			if r.m.resigned {
				t.Error("still resigned")
			}
		}
	})
	t.Run("a new start ends it", func(t *testing.T) {
		r := active(t, Config{Priority: 255, NoOverlap: true})
		r.m.Resign(r.now)
		r.m.Shutdown(r.now)
		r.want(r.m.Start(r.now), "Send 255, Acquire, Announce, Initialize>Active (address owner)")
	})
	t.Run("nothing to hand over", func(t *testing.T) {
		r := newRig(t, Config{})
		r.want(r.m.Resign(r.now), "")
		r.want(r.m.Start(r.now), started)
		before := snapshot(r.m)
		r.want(r.m.Resign(r.now), "")
		if after := snapshot(r.m); after != before {
			t.Errorf("Resign of a Backup changed\n%s to\n%s", before, after)
		}
	})
}

// A process that was stopped, or a host that was overloaded, must not go on as
// if nothing had happened.
func TestMachineStall(t *testing.T) {
	const stalled = "Release, Active>Backup (did not run for too long)"
	down := 3*time.Second + skewOf(100, time.Second)
	steps := map[string]struct {
		step func(*rig) []Action
		want string
	}{
		"Tick":        {func(r *rig) []Action { return r.m.Tick(r.now) }, stalled},
		"SetPriority": {func(r *rig) []Action { return r.m.SetPriority(r.now, 50) }, stalled},
		"Resign":      {func(r *rig) []Action { return r.m.Resign(r.now) }, stalled},
		"Shutdown":    {func(r *rig) []Action { return r.m.Shutdown(r.now) }, stalled + ", Backup>Initialize (shutdown)"},
		"SetFaults": {func(r *rig) []Action { return r.m.SetFaults(r.now, []string{"x"}) },
			stalled + ", Backup>Initialize (fault): x"},
		"Receive lower": {func(r *rig) []Action {
			return r.m.Receive(r.now, &Advertisement{Source: netip.MustParseAddr("192.0.2.9"), Priority: 50, Interval: time.Second})
		}, stalled},
		"Receive priority 0": {func(r *rig) []Action {
			return r.m.Receive(r.now, &Advertisement{Source: netip.MustParseAddr("192.0.2.9"), Interval: time.Second})
		}, stalled},
	}
	for name, test := range steps {
		t.Run(name, func(t *testing.T) {
			r := active(t, Config{Priority: 100})
			deadline, _ := r.m.Deadline()
			r.now = deadline.Add(down + 1)
			r.want(test.step(r), test.want)
		})
	}
	t.Run("in time by a hair", func(t *testing.T) {
		r := active(t, Config{Priority: 100})
		deadline, _ := r.m.Deadline()
		r.now = deadline.Add(down)
		r.want(r.m.Tick(r.now), "Send 100")
		r.wantDeadline(r.since(time.Second))
	})
	t.Run("claims again after a whole Down interval", func(t *testing.T) {
		r := active(t, Config{Priority: 100})
		r.now = r.now.Add(time.Minute)
		r.want(r.m.Tick(r.now), stalled)
		r.tick(r.since(down), fmt.Sprintf(timedOut, 100))
	})
	t.Run("the owner listens too", func(t *testing.T) {
		r := active(t, Config{Priority: 255})
		r.now = r.now.Add(time.Minute)
		at := r.since(0)
		r.want(r.m.Tick(r.now), stalled)
		r.hear(at+time.Second, 20, 200, "")
		r.tick(at+3*time.Second+skewOf(255, time.Second),
			"Send 255, Acquire, Announce, Backup>Active (preempting a lower priority)")
	})
	t.Run("a Backup listens again", func(t *testing.T) {
		r := backup(t, Config{Priority: 100})
		r.now = epoch.Add(2*down + 1)
		at := r.since(0)
		r.want(r.m.Tick(r.now), "")
		r.tick(at+down, fmt.Sprintf(timedOut, 100))
	})
}

// Another owner's claim does not make an Active owner step down at once. See Machine.
func TestMachineOwner(t *testing.T) {
	const greater, lesser = 20, 5 // than its own address
	t.Run("version 2 discards", func(t *testing.T) {
		r := active(t, Config{Version: 2, Priority: 255})
		for _, want := range []string{"", "Announce", "", "", ""} {
			r.hear(r.since(0), greater, 255, want)
			r.hear(r.since(0), greater, 0, "")
			r.hear(r.since(0), greater, 100, "")
			r.wantDeadline(r.since(time.Second - time.Millisecond))
			r.at(r.since(time.Second))
		}
		// One advertisement since has had no answer: the rival has gone.
		r.tick(r.since(time.Second-time.Millisecond), "Send 255, Announce")
	})
	t.Run("version 3", func(t *testing.T) {
		r := active(t, Config{Priority: 255})
		r.hear(r.since(0), 20, 0, "Send 255")
		r.hear(r.since(0), greater, 254, "Send 255")
		r.hear(r.since(0), lesser, 255, "Send 255")
		// As many as there may be in one interval.
		at := r.since(0)
		for i := range 9 {
			r.hear(at+time.Duration(i)*100*time.Millisecond, greater, 255, "")
		}
		r.tick(at+time.Second, "Send 255")
		r.hear(at+1500*time.Millisecond, greater, 255, "Announce")
		r.tick(at+2*time.Second, "Send 255")
		r.tick(at+3*time.Second, "Send 255, Announce") // not in a row
		for i := range time.Duration(2) {
			r.hear(at+(3+i)*time.Second+500*time.Millisecond, greater, 255, "")
			r.tick(at+(4+i)*time.Second, "Send 255")
		}
		r.hear(at+5500*time.Millisecond, greater, 255, fmt.Sprintf(steppedBy, 255))
		// Which follows it then.
		r.hear(at+8*time.Second, greater, 255, "")
		r.wantDeadline(at + 11*time.Second + skewOf(255, time.Second))
		r.tick(at+11*time.Second+skewOf(255, time.Second), fmt.Sprintf(timedOut, 255))
		// A conflict in the past does not count.
		r.hear(r.since(0), greater, 255, "")
	})
}

func TestMachineStartDelay(t *testing.T) {
	r := backup(t, Config{Priority: 100, StartDelay: 20 * time.Second})
	r.wantDeadline(20 * time.Second)
	r.hear(time.Second, 20, 0, "")
	r.wantDeadline(20 * time.Second)
	r.hear(18*time.Second, 20, 150, "")
	r.wantDeadline(21*time.Second + skewOf(100, time.Second))

	r = backup(t, Config{Priority: 100, StartDelay: time.Second})
	r.wantDeadline(3*time.Second + skewOf(100, time.Second))

	r = backup(t, Config{Priority: 255, StartDelay: 20 * time.Second})
	r.tick(20*time.Second, "Send 255, Acquire, Announce, Backup>Active (address owner)")

	// Raising the priority shortens the skew, not the delay.
	r = backup(t, Config{Priority: 100, StartDelay: 20 * time.Second})
	r.want(r.m.SetPriority(r.now, 200), "")
	r.wantDeadline(20 * time.Second)
}

func TestMachineFault(t *testing.T) {
	t.Run("before the start", func(t *testing.T) {
		r := newRig(t, Config{Priority: 100})
		r.want(r.m.SetFaults(r.now, []string{"link down"}), "")
		r.want(r.m.Start(r.now), "Initialize>Initialize (fault): link down")
		r.hear(time.Second, 20, 0, "")
		if d, ok := r.m.Deadline(); ok {
			t.Fatalf("deadline %v in Initialize", d)
		}
		r.want(r.m.SetFaults(r.now, nil), "Initialize>Backup (fault cleared)")
		r.wantDeadline(4*time.Second + skewOf(100, time.Second))
	})
	t.Run("cleared before the start", func(t *testing.T) {
		r := newRig(t, Config{Priority: 100})
		r.m.SetFaults(r.now, []string{"link down"})
		r.want(r.m.SetFaults(r.now, nil), "")
		r.want(r.m.Start(r.now), started)
	})
	t.Run("owner", func(t *testing.T) {
		r := active(t, Config{Priority: 255})
		r.want(r.m.SetFaults(r.now, []string{"x"}), "Send 0, Release, Active>Initialize (fault): x")
		r.want(r.m.SetFaults(r.now, nil), "Send 255, Acquire, Announce, Initialize>Active (address owner)")
	})
	t.Run("backup", func(t *testing.T) {
		r := backup(t, Config{Priority: 100})
		r.want(r.m.SetFaults(r.now, []string{"x"}), "Backup>Initialize (fault): x")
		r.want(r.m.Shutdown(r.now), "Initialize>Initialize (shutdown)")
	})
	t.Run("forgets what was learned", func(t *testing.T) {
		r := backup(t, Config{Priority: 100})
		r.hearInterval(time.Second, 20, 150, 30*time.Second, "")
		r.m.SetFaults(r.now, []string{"x"})
		r.m.SetFaults(r.now, nil)
		r.wantDeadline(4*time.Second + skewOf(100, time.Second))
		r.m.SetPriority(r.now, 50) // below what was heard
		r.wantDeadline(4*time.Second + skewOf(50, time.Second))
	})
	t.Run("forgets whom it waited to preempt", func(t *testing.T) {
		r := backup(t, Config{Priority: 100, PreemptDelay: 30 * time.Second})
		r.hear(time.Second, 20, 50, "")
		r.m.SetFaults(r.at(2*time.Second), []string{"x"})
		r.m.SetFaults(r.at(10*time.Second), nil)
		for d := 11 * time.Second; d <= 40*time.Second; d += time.Second {
			r.hear(d, 20, 50, "")
		}
		r.tick(41*time.Second, "Send 100, Acquire, Announce, Backup>Active (preempting a lower priority)")
	})
}

func TestMachineSetPriority(t *testing.T) {
	t.Run("raised above the Active router's: preempts", func(t *testing.T) {
		r := backup(t, Config{Priority: 100})
		r.hear(time.Second, 20, 150, "")
		r.want(r.m.SetPriority(r.at(1500*time.Millisecond), 200), "")
		want := 4*time.Second + skewOf(200, time.Second)
		r.wantDeadline(want)
		r.hear(2*time.Second, 20, 150, "")
		r.tick(want, "Send 200, Acquire, Announce, Backup>Active (preempting a lower priority)")
	})
	t.Run("lowered again in time: follows", func(t *testing.T) {
		r := backup(t, Config{Priority: 200})
		r.hear(3*time.Second, 20, 150, "")
		r.want(r.m.SetPriority(r.at(3100*time.Millisecond), 100), "")
		r.tick(6*time.Second+skewOf(100, time.Second), fmt.Sprintf(timedOut, 100))
	})
	t.Run("never in the past", func(t *testing.T) {
		r := backup(t, Config{Priority: 1})
		r.want(r.m.SetPriority(r.at(3900*time.Millisecond), 254), "")
		r.tick(3900*time.Millisecond, fmt.Sprintf(timedOut, 254))
	})
	t.Run("after priority 0", func(t *testing.T) {
		r := backup(t, Config{Priority: 100})
		r.hear(time.Second, 20, 0, "")
		r.want(r.m.SetPriority(r.now, 50), "")
		r.wantDeadline(time.Second + skewOf(50, time.Second))
	})
	t.Run("Active: with the next advertisement", func(t *testing.T) {
		r := active(t, Config{Priority: 100})
		deadline, _ := r.m.Deadline()
		r.want(r.m.SetPriority(r.now, 50), "")
		r.tick(deadline.Sub(epoch), "Send 50")
		r.hear(r.since(0), 5, 60, fmt.Sprintf(steppedBy, 50))
	})
	t.Run("owner", func(t *testing.T) {
		r := active(t, Config{Priority: 255})
		r.want(r.m.SetPriority(r.now, 50), "")
		if got := r.m.Priority(); got != 255 {
			t.Errorf("Priority() = %d", got)
		}
	})
	for set, want := range map[uint8]uint8{0: 1, 1: 1, 254: 254, 255: 254} {
		r := backup(t, Config{Priority: 100})
		r.m.SetPriority(r.now, set)
		if got := r.m.Priority(); got != want {
			t.Errorf("SetPriority(%d): %d, want %d", set, got, want)
		}
	}
}

// A late call delays its own advertisement and no other.
func TestMachineKeepsCadence(t *testing.T) {
	r := active(t, Config{Priority: 100})
	deadline, _ := r.m.Deadline()
	first := deadline.Sub(epoch)
	for i := range 10 {
		r.now = deadline.Add(time.Duration(i) * 50 * time.Millisecond)
		r.want(r.m.Tick(r.now), "Send 100")
		deadline, _ = r.m.Deadline()
		if got, want := deadline.Sub(epoch), first+time.Duration(i+1)*time.Second; got != want {
			t.Fatalf("advertisement %d due at %v, want %v", i+1, got, want)
		}
	}
	r.now = deadline.Add(2500 * time.Millisecond)
	r.want(r.m.Tick(r.now), "Send 100")
	r.wantDeadline(r.since(time.Second)) // those that were missed are not sent
}

// Time that goes backwards stands still, and a jump of the wall clock does not
// show in times with a monotonic reading.
func TestMachineClock(t *testing.T) {
	r := backup(t, Config{Priority: 100})
	r.hear(2*time.Second, 20, 150, "")
	r.now = epoch
	r.want(r.m.Receive(r.now, &Advertisement{Source: netip.MustParseAddr("192.0.2.20"), Priority: 150, Interval: time.Second}), "")
	r.wantDeadline(5*time.Second + skewOf(100, time.Second))

	r = newRig(t, Config{Priority: 100})
	now := time.Now()
	r.m.Start(now)
	deadline, _ := r.m.Deadline()
	if got := deadline.Sub(now); got != 3*time.Second+skewOf(100, time.Second) {
		t.Errorf("deadline in %v", got)
	}
	if !strings.Contains(deadline.String(), "m=+") {
		t.Errorf("deadline %v lost its monotonic reading", deadline)
	}
}

// A zone does not make another address of the router's own.
func TestMachineSourceZone(t *testing.T) {
	r := active(t, Config{Addresses: addrs("fe80::1"), Source: netip.MustParseAddr("fe80::10")})
	r.m.SetSource(netip.MustParseAddr("fe80::20%eth0"))
	for _, own := range addrs("fe80::20", "fe80::20%eth0") {
		r.want(r.m.Receive(r.now, &Advertisement{Source: own, Priority: 255, Interval: time.Second}), "")
	}
	r.want(r.m.Receive(r.now, &Advertisement{Source: addrs("fe80::10%eth0")[0], Priority: 100, Interval: time.Second}), "Send 100")
}

// The transition tells the observer everything.
func TestMachineTransition(t *testing.T) {
	r := active(t, Config{Priority: 100})
	r.m.SetPriority(r.now, 70)
	actions := r.m.SetFaults(r.now, []string{"a", "b"})
	got := actions[len(actions)-1].Transition
	want := Transition{From: Active, To: Initialize, Cause: CauseFault, Reason: "a, b", Priority: 70, Time: r.now}
	if got != want {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}
