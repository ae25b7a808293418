package lb

import (
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// cutFunc is a cutter that is all function.
type cutFunc struct{ f func(*server) }

func (c *cutFunc) cut(gone servers) {
	for s := range gone {
		c.f(s)
	}
}

// onCut has a pool call f in place of a plane.
func onCut(t *testing.T, p *Pool, f func(*server)) {
	r := new(registry)
	r.add(&cutFunc{f})
	p.watchGone(r)
	t.Cleanup(func() { runtime.KeepAlive(r) })
}

func TestDrainDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bs := backends(1, 1, 1)
		p := newPool(t, PoolConfig{Backends: bs, DrainTimeout: time.Minute})
		cut := make(map[*server]bool)
		servers := p.snap.Load().all
		onCut(t, p, func(s *server) { cut[s] = true })
		p.SetDrain("a", true)
		p.SetDrain("b", true)
		time.Sleep(30 * time.Second)
		p.SetDrain("b", false)
		if err := p.Update(bs[:2]); err != nil {
			t.Fatal(err)
		}
		time.Sleep(31 * time.Second)
		synctest.Wait()
		p.mu.Lock()
		if !cut[servers[0].server] || len(cut) != 1 {
			t.Errorf("after 61 s: %v cut, want a's only", len(cut))
		}
		p.mu.Unlock()
		time.Sleep(30 * time.Second)
		synctest.Wait()
		p.mu.Lock()
		if !cut[servers[2].server] || len(cut) != 2 {
			t.Errorf("a minute after c was removed: %v cut, want a's and c's", len(cut))
		}
		p.mu.Unlock()
	})
}

// A change of DrainTimeout is for those that drain already.
func TestDrainTimeoutChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := PoolConfig{Backends: backends(1, 1), DrainTimeout: time.Minute}
		p := newPool(t, cfg)
		start, cuts := time.Now(), ""
		onCut(t, p, func(*server) { cuts += fmt.Sprint(time.Since(start), " ") })
		step := func(what string, timeout, sleep time.Duration, want string) {
			t.Helper()
			cfg.DrainTimeout = timeout
			if err := p.Reconfigure(cfg); err != nil {
				t.Fatal(err)
			}
			time.Sleep(sleep)
			synctest.Wait()
			p.mu.Lock()
			defer p.mu.Unlock()
			if cuts != want {
				t.Errorf("%s: cuts at %q, want %q", what, cuts, want)
			}
		}
		p.SetDrain("a", true)
		step("off", 0, 20*time.Second, "")
		p.SetDrain("a", false)
		step("off, and a in use again", 0, time.Hour, "")
		start = time.Now()
		p.SetDrain("a", true)
		step("on while a drains", time.Minute, 20*time.Second, "")
		step("longer", 2*time.Minute, time.Minute, "")
		step("shorter", 90*time.Second, time.Hour, "1m30.01s ") // drains that end together are one pass
	})
}

// The drain ends at its deadline, when the timer cannot be stopped any more.
func TestDrainEndsAtTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, PoolConfig{Backends: backends(1, 1), DrainTimeout: time.Minute})
		cuts := 0
		onCut(t, p, func(*server) { cuts++ })
		p.SetDrain("a", true)
		p.mu.Lock()
		s := p.find("a").server
		time.Sleep(time.Minute)
		if s.drainTimer.Stop() {
			t.Fatal("the timer has not fired")
		}
		p.drain(s, false)
		p.mu.Unlock()
		synctest.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		if cuts != 0 {
			t.Errorf("%d cuts although the drain has ended", cuts)
		}
	})
}

// A pool keeps no plane that nobody uses any more, and no trace of it.
func TestPoolKeepsNoPlane(t *testing.T) {
	p := newPool(t, PoolConfig{Backends: backends(1)})
	plane := func() *TCP {
		tc, err := NewTCP(TCPConfig{Pool: p})
		if err != nil {
			t.Fatal(err)
		}
		return tc
	}
	for range 3 {
		plane()
	}
	if n := len(p.onGone); n < 1 {
		t.Errorf("the pool knows %d planes, want 1 at least", n)
	}
	waitFor(t, "the planes to be freed", func() bool { return watchers(p) == 0 })
	last := plane()
	if n := len(p.onGone); n != 1 {
		t.Errorf("the pool knows %d planes, want 1", n)
	}
	runtime.KeepAlive(last)
}
