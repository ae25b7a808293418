package lb

import (
	"fmt"
	"testing"
	"time"
)

// chooserOf returns a pick's circumstances, at the pool's present time.
func chooserOf(p *Pool, f *Flow) *chooser {
	s := p.snap.Load()
	return &chooser{snap: s, cfg: s.cfg, restless: &p.restless, flow: f, now: p.now()}
}

// A backend whose ejection was renewed while a pick was under way is not taken, and one that is
// full keeps its probation for somebody else.
func TestProbationIsOneFlows(t *testing.T) {
	p := newPool(t, PoolConfig{Backends: []Backend{{Name: "a", Address: "192.0.2.1:80", MaxConns: 1}}})
	m := p.find("a")
	c := chooserOf(p, new(Flow))
	for what, step := range map[string]struct {
		until, active int64
		taken         bool
		then          int64 // the ejection's end
	}{
		"renewed": {c.now + 1, 0, false, c.now + 1},
		"full":    {c.now - 1, 1, false, c.now - 1},
		"free":    {c.now - 1, 0, true, c.now + int64(c.cfg.FailTimeout)},
	} {
		m.ejected.Store(step.until)
		m.active.Store(step.active)
		if got := c.take(m); got != step.taken || m.ejected.Load() != step.then {
			t.Errorf("%s: taken %v, ejected until %d, now %d", what, got, m.ejected.Load(), c.now)
		}
	}
}

// A backend on which a connection is bound is used while its tier serves, no longer.
func TestPreferredBackupIsNotUsedBeforeItsTime(t *testing.T) {
	bs := backends(1, 1)
	bs[1].Backup = true
	p := newPool(t, PoolConfig{Backends: bs})
	f := Flow{prefer: p.find("b").server}
	if k, err := p.Pick(&f); err != nil || k.Backend() != "a" {
		t.Errorf("%q, %v, want the primary", k.Backend(), err)
	}
}

// A connection that is bound to a backend in slow start is no new one.
func TestPreferredBackendNeedsNoLot(t *testing.T) {
	p := newPool(t, PoolConfig{SlowStart: time.Hour, Backends: backends(1, 1)})
	a := p.find("a").server
	p.rampUp(a, p.config())
	for range 20 {
		k, err := p.Pick(&Flow{prefer: a})
		if err != nil || k.Backend() != "a" {
			t.Fatalf("%q, %v", k.Backend(), err)
		}
		k.Done(Success)
	}
}

// A flow may pick more often than it is remembered.
func TestFlowMayPickForEver(t *testing.T) {
	var bs []Backend
	for i := range 2 * maxTries {
		bs = append(bs, Backend{Address: fmt.Sprintf("192.0.2.%d:80", i)})
	}
	p, f := newPool(t, PoolConfig{Backends: bs}), new(Flow)
	for range 3 * maxTries {
		if _, err := p.Pick(f); err != nil {
			t.Fatal(err)
		}
	}
}

// A pick draws one lot for all backends in slow start, whose share is never nothing.
func TestLotsOfSlowStart(t *testing.T) {
	p := newPool(t, PoolConfig{SlowStart: time.Hour, Backends: backends(1)})
	c := chooserOf(p, new(Flow))
	if lot := c.draw(); lot != c.draw() || lot <= 0 || lot >= 1 {
		t.Errorf("lots %v and %v", lot, c.draw())
	}
	m := p.find("a")
	for passed, want := range map[time.Duration]float64{0: 0.01, time.Minute / 2: 0.01, 30 * time.Minute: 0.5} {
		m.ramp.Store(c.now - int64(passed))
		if got := c.ramp(m); got != want {
			t.Errorf("after %v: a share of %v, want %v", passed, got, want)
		}
	}
}

// LeastConn compares by the weight that a slow start leaves, and takes no lots for whoever
// has less to do.
func TestLeastConnInSlowStart(t *testing.T) {
	for _, tt := range []struct {
		a, b int64 // connections; a starts, and is at half of its weight
		want string
	}{{1, 1, "b"}, {0, 10, "a"}, {4, 10, "a"}, {6, 10, "b"}} {
		p := newPool(t, PoolConfig{Balance: LeastConn, SlowStart: time.Hour, Backends: backends(1, 1)})
		a, b := p.find("a"), p.find("b")
		p.rampUp(a.server, p.config())
		a.ramp.Store(p.now() - int64(30*time.Minute))
		for range 50 {
			a.active.Store(tt.a)
			b.active.Store(tt.b)
			if k, err := p.Pick(nil); err != nil || k.Backend() != tt.want {
				t.Errorf("with %d and %d connections: %q, %v, want %q", tt.a, tt.b, k.Backend(), err, tt.want)
				break
			}
		}
	}
}

// Of more backends than LeastConn compares at once, each has its turn.
func TestLeastConnLooksEverywhere(t *testing.T) {
	var bs []Backend
	for i := range 2 * maxLook {
		bs = append(bs, Backend{Address: fmt.Sprintf("192.0.2.1:%d", i+1)})
	}
	p := newPool(t, PoolConfig{Balance: LeastConn, Backends: bs})
	for _, m := range p.snap.Load().all[:maxLook+10] {
		m.active.Store(5)
	}
	idle := 0
	for range 10 {
		k, err := p.Pick(nil)
		if err != nil {
			t.Fatal(err)
		}
		if k.member.index >= maxLook+10 {
			idle++
		}
		k.Done(Success)
	}
	if idle < 3 {
		t.Errorf("%d of 10 picks have found a backend without connections", idle)
	}
}
