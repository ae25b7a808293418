package vrrp

import (
	"testing"
	"testing/synctest"
	"time"
)

// entitled checks what the machine says at d after the epoch, without running
// it.
func (r *rig) entitled(d time.Duration, want bool) {
	r.Helper()
	if got := r.m.Entitled(epoch.Add(d)); got != want {
		r.Errorf("at %v: entitled %v, want %v", d, got, want)
	}
}

// A Backup that has heard the last advertisement waits for DownMultiplier intervals and its
// skew time. The Active router is entitled for exactly DownMultiplier intervals.
func TestMachineEntitled(t *testing.T) {
	versions(t, func(t *testing.T, v uint8) {
		for multiplier, until := range map[int]time.Duration{2: 2 * time.Second, 3: 3 * time.Second, 5: 5 * time.Second} {
			r := backup(t, Config{Version: v, Priority: 100, DownMultiplier: multiplier})
			r.entitled(0, false)
			at := time.Duration(multiplier)*time.Second + skewOf(100, time.Second)
			r.entitled(at, false)
			r.now = epoch.Add(at)
			r.m.Tick(r.now)
			r.entitled(at, true)
			r.entitled(at+until, true)
			r.entitled(at+until+1, false)
			at += time.Second
			r.tick(at, "Send 100")
			r.entitled(at+until, true)
			r.entitled(at+until+1, false)
		}
	})
	t.Run("stepping down", func(t *testing.T) {
		for name, step := range map[string]func(*rig){
			"better router": func(r *rig) {
				r.hear(r.since(0), 20, 200, "Send 100, Release, Active>Backup (another router has the better claim)")
			},
			"fault":    func(r *rig) { r.m.SetFaults(r.now, []string{"link down"}) },
			"resigned": func(r *rig) { r.m.Resign(r.now) },
			"shutdown": func(r *rig) { r.m.Shutdown(r.now) },
		} {
			r := active(t, Config{Priority: 100, NoOverlap: true})
			r.entitled(r.since(0), true)
			step(r)
			if r.entitled(r.since(0), false); t.Failed() {
				t.Fatal(name)
			}
		}
	})
	t.Run("handing over", func(t *testing.T) {
		for name, leave := range map[string]func(*Machine, time.Time) []Action{"resigned": (*Machine).Resign, "shutdown": (*Machine).Shutdown} {
			r := active(t, Config{Priority: 100})
			r.want(leave(r.m, r.now), "Send 0")
			r.entitled(r.since(1200*time.Millisecond), true)
			r.entitled(r.since(1200*time.Millisecond+1), false)
			r.m.Receive(r.at(r.since(time.Second)), &Advertisement{Priority: 50, Interval: time.Second})
			if r.entitled(r.since(0), false); t.Failed() {
				t.Fatal(name)
			}
		}
	})
	t.Run("a rival that gives way", func(t *testing.T) {
		r := active(t, Config{Priority: 100})
		r.hear(r.since(0), 20, 50, "Send 100")
		r.entitled(r.since(0), true)
	})
}

// A frozen process that wakes up finds out with its first call of any method, whenever that
// is: while its peers still wait, when a peer has taken over but the machine may go on, and
// after that.
func TestMachineEntitledAfterFreeze(t *testing.T) {
	down := 3*time.Second + skewOf(100, time.Second)
	for name, tc := range map[string]struct {
		frozen time.Duration // since the last advertisement
		state  State         // when it has run again, unless it hears an Active router first
	}{
		"within three intervals":      {3*time.Second + 1, Active},
		"before a peer takes over":    {down - 1, Active},
		"after a peer has taken over": {down + time.Millisecond, Active},
		"as the machine's patience":   {down + time.Second, Active},
		"after that":                  {down + time.Second + 1, Backup},
		"long after":                  {time.Hour, Backup},
	} {
		steps := map[string]func(r *rig){
			"Tick":    func(r *rig) { r.m.Tick(r.now) },
			"Receive": func(r *rig) { r.m.Receive(r.now, &Advertisement{Priority: 50, Interval: time.Second}); r.m.Tick(r.now) },
			"left": func(r *rig) {
				r.m.Receive(r.now, &Advertisement{Priority: 0, Interval: time.Second})
				r.m.Tick(r.now)
			},
		}
		for first, step := range steps {
			t.Run(name+"/"+first, func(t *testing.T) {
				r := active(t, Config{Priority: 100})
				at := r.since(-time.Millisecond) + tc.frozen
				r.entitled(at, false)
				r.now = epoch.Add(at)
				step(r)
				want := tc.state
				if first == "Receive" {
					want = Backup
				}
				if r.m.State() != want {
					t.Fatalf("state %v, want %v", r.m.State(), want)
				}
				r.entitled(at, false)
				if want == Backup {
					return
				}
				// Nobody objects: at least two advertisements later it is certain.
				for n := range 3 {
					r.entitled(r.since(0), n == 2 && first != "left")
					r.now, _ = r.m.Deadline()
					r.m.Tick(r.now)
				}
				r.entitled(r.since(0), true)
				// The peer has the better claim: it is not.
				r.hear(r.since(1), 20, 200, "Send 100, Release, Active>Backup (another router has the better claim)")
				r.entitled(r.since(0), false)
			})
		}
	}
}

func TestRouterEntitled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		group := NewGroup("G")
		alone, member := lan.node(t, 1, Config{}), lan.node(t, 2, Config{VRID: 52, Group: group})
		for _, n := range []*node{alone, member} {
			if n.Entitled() {
				t.Error("a Backup is entitled")
			}
		}
		time.Sleep(5 * time.Second)
		for _, n := range []*node{alone, member} {
			n.is(Active)
			if !n.Entitled() {
				t.Error("an Active router is not entitled")
			}
			n.stop()
			time.Sleep(1200*time.Millisecond - 1)
			if !n.Entitled() {
				t.Error("a router that hands over is not entitled")
			}
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			if n.Entitled() {
				t.Error("a router that has ended is entitled")
			}
		}
	})
}
