package vrrp

import (
	"fmt"
	"testing"
	"time"
)

// A router whose process is stopped for about as long as its peer waits may wake
// up just before the peer takes over, or just after that. Whatever then runs
// first in it, and whether the kernel has removed its addresses meanwhile or
// not: the peer is not talked out of addresses that the router does not have,
// nobody waits for longer than the timers want, and the two do not both hold
// them any longer than a packet takes.
func TestWokenRouter(t *testing.T) {
	versions(t, func(t *testing.T, v uint8) {
		for _, lease := range []time.Duration{0, 3 * time.Second, time.Minute} {
			for _, first := range []string{"received packets", "lease", "priority", "shutdown"} {
				for frozen := 3 * time.Second; frozen <= 6*time.Second; frozen += 20 * time.Millisecond {
					// The parts of an interval, and of a lease, that are over.
					for _, phase := range []time.Duration{0, 250 * time.Millisecond, 500 * time.Millisecond, 990 * time.Millisecond} {
						for _, age := range []time.Duration{0, lease / renewalsOfLease} {
							w := &woken{version: v, lease: lease, first: first, frozen: frozen, phase: phase, age: age}
							if err := w.run(t); err != nil {
								t.Fatalf("lease %v old, of %v; stopped for %v, %v after an advertisement; then first %s: %v",
									age, lease, frozen, phase, first, err)
							}
						}
					}
				}
			}
		}
	})
}

// renewalsOfLease is how often package vip renews a lease within its time.
const renewalsOfLease = 4

// wokenDelay is how long a packet takes.
const wokenDelay = time.Millisecond

// woken is an Active router that is stopped for a while, and its Backup.
type woken struct {
	version       uint8
	lease         time.Duration // 0: none
	first         string        // what runs first when it wakes up
	frozen, phase time.Duration
	age           time.Duration // of the lease, when it is stopped

	node    [2]*rig
	held    [2]bool
	now     time.Time
	stopped bool
	wire    []wokenPacket
	renewed time.Time
}

// wokenPacket is an advertisement on its way to a node.
type wokenPacket struct {
	at       time.Time
	to       int
	priority uint8
}

func (w *woken) run(t *testing.T) error {
	w.node[0] = active(t, Config{Version: w.version, Priority: 120})
	w.node[0].m.lapsed = w.lapsed
	w.now = w.node[0].now
	w.node[1] = newRig(t, Config{Version: w.version, Priority: 110, Source: addrs("192.0.2.20")[0]})
	w.do(1, w.node[1].m.Start(w.now))
	w.held[0] = true
	// Long enough that the first second after the takeover is over.
	for range 5 {
		last, _ := w.node[0].m.Deadline()
		w.advance(last)
	}
	sent := w.now
	w.advance(w.now.Add(w.phase))
	w.stopped, w.renewed = true, w.now.Add(-w.age)
	wakes := w.now.Add(w.frozen)
	due := sent.Add(wokenDelay + 3*time.Second + skewOf(110, time.Second)) // the Backup is to take over
	gone := w.renewed.Add(w.lease)
	if w.lease > 0 && gone.Before(wakes) {
		w.advance(gone)
		w.held[0] = false
	}
	w.advance(wakes)
	succeeded := len(w.wire) > 0 // the router will hear of it
	w.wake()
	// As long as it takes to preempt, and then some.
	for end := latest(w.now, due).Add(10 * time.Second); w.now.Before(end); {
		then := w.next(end)
		if err := w.judge(then, due); err != nil {
			return err
		}
		if succeeded && !w.held[1] && w.now.Sub(wakes) < 3*time.Second {
			return fmt.Errorf("the Backup that had taken over let go %v after the router ran again", w.now.Sub(wakes))
		}
		w.advance(then)
		w.lose()
	}
	if w.first != "shutdown" && w.node[0].m.State() != Active {
		return fmt.Errorf("the better router did not take the addresses back")
	}
	return nil
}

// judge checks who has the addresses from now until then.
func (w *woken) judge(then, due time.Time) error {
	since := then.Sub(due)
	switch {
	case !w.held[0] && !w.held[1] && since > wokenDelay:
		return fmt.Errorf("nobody has the addresses %v after the Backup was to take over", since)
	case w.held[0] && w.held[1] && len(w.wire) == 0:
		return fmt.Errorf("both have the addresses %v after the Backup was to take over", since)
	}
	return nil
}

// wake lets the router run again. It receives what has arrived before it looks at timers,
// but the lease's timer, or a check, may run before both.
func (w *woken) wake() {
	w.stopped = false
	switch w.first {
	case "lease":
		w.lose()
	case "priority":
		w.do(0, w.node[0].m.SetPriority(w.now, 119))
	case "shutdown":
		w.do(0, w.node[0].m.Shutdown(w.now))
	}
	w.advance(w.now)
	w.lose()
}

// lapsed is what the Manager of package vip says: it makes sure of a little more
// than it needs.
func (w *woken) lapsed() bool {
	return w.lease > 0 && w.now.Sub(w.renewed) >= w.lease-w.lease/renewalsOfLease/2
}

// lose is what the Manager does about a lease: nothing when it was not stopped,
// else it puts the addresses back if they are the router's beyond doubt, or has
// the router hold the election anew.
func (w *woken) lose() {
	m := w.node[0].m
	if m.State() != Active || w.lease == 0 || w.stopped {
		return
	}
	if w.now.Sub(w.renewed) >= w.lease-50*time.Millisecond && !m.Entitled(w.now) {
		w.held[0] = false
		w.do(0, m.SetFaults(w.now, []string{"lease lapsed"}))
		w.do(0, m.SetFaults(w.now, nil))
		return
	}
	w.renewed, w.held[0] = w.now, true
}

// next returns when something happens next, or end.
func (w *woken) next(end time.Time) time.Time {
	at := end
	for i, n := range w.node {
		if d, ok := n.m.Deadline(); ok && d.Before(at) && (i == 1 || !w.stopped) {
			at = d
		}
	}
	for _, p := range w.wire {
		if p.at.Before(at) && (p.to == 1 || !w.stopped) {
			at = p.at
		}
	}
	return at
}

// advance lets the time pass.
func (w *woken) advance(until time.Time) {
	for {
		at := w.next(until)
		w.now = latest(w.now, at)
		var waiting, arrived []wokenPacket
		for _, p := range w.wire {
			if p.at.After(w.now) || w.stopped && p.to == 0 {
				waiting = append(waiting, p)
			} else {
				arrived = append(arrived, p)
			}
		}
		w.wire = waiting
		for _, p := range arrived {
			from := w.node[1-p.to].m
			w.do(p.to, w.node[p.to].m.Receive(w.now, &Advertisement{
				Source: from.source, Version: w.version, Priority: p.priority, Interval: time.Second,
			}))
		}
		for i, n := range w.node {
			if i == 1 || !w.stopped {
				w.do(i, n.m.Tick(w.now))
			}
		}
		if !w.now.Before(until) && !w.next(until.Add(1)).Before(until.Add(1)) {
			return
		}
	}
}

// do carries out what a machine wants.
func (w *woken) do(i int, actions []Action) {
	for _, a := range actions {
		switch a.Kind {
		case Send:
			w.wire = append(w.wire, wokenPacket{w.now.Add(wokenDelay), 1 - i, a.Priority})
		case Acquire:
			w.held[i] = true
			if i == 0 {
				w.renewed = w.now
			}
		case Release:
			w.held[i] = false
		}
	}
}
