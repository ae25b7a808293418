package lb

import (
	"math/rand/v2"
	"slices"
	"sync/atomic"
)

// chooser holds the circumstances of one pick.
type chooser struct {
	snap       *snapshot
	cfg        *PoolConfig   // the snapshot's
	restless   *atomic.Int64 // the pool's
	flow       *Flow
	now        int64   // 0: ejections and slow starts do not matter
	hashed     bool    // the balancing method hashes,
	key        uint64  // and the flow to this
	lot        float64 // see draw; 0: not drawn
	full       bool    // a member was refused for its MaxConns,
	passedOver bool    // or for an ejection or its slow start
	outdated   bool    // or because it is not as the snapshot has it any more
}

// usable reports whether m may be picked, without taking it.
func (c *chooser) usable(m *member) bool { return c.admits(m, true) }

// open reports the same, but for slow start.
func (c *chooser) open(m *member) bool { return c.admits(m, false) }

func (c *chooser) admits(m *member, byRamp bool) bool {
	if !c.snap.uses(m) {
		c.outdated = true
		return false
	}
	return c.hasRoom(m, byRamp)
}

// keeps reports whether a flow may come back to m, which may drain, or be a backup.
func (c *chooser) keeps(m *member) bool {
	return (c.snap.panic || !m.down.Load()) && c.hasRoom(m, false)
}

// hasRoom is admits for a member that is used.
func (c *chooser) hasRoom(m *member, byRamp bool) bool {
	if c.flow.tries > 0 && slices.Contains(c.flow.tried[:c.flow.tries], m.server) {
		return false
	}
	if m.MaxConns > 0 && m.active.Load() >= int64(m.MaxConns) {
		c.full = true
		return false
	}
	if c.now == 0 {
		return true
	}
	if m.ejected.Load() > c.now || byRamp && m.ramp.Load() != 0 && c.draw() >= c.ramp(m) {
		c.passedOver = true
		return false
	}
	return true
}

// take takes a usable m, unless another flow was faster.
func (c *chooser) take(m *member) bool {
	// One flow per FailTimeout tries a server whose ejection has expired. Other flows
	// keep away until this flow has succeeded.
	until, next := m.ejected.Load(), c.now+int64(c.cfg.FailTimeout)
	trial := until != 0 && c.now != 0
	if trial && (until > c.now || !m.ejected.CompareAndSwap(until, next)) {
		c.passedOver = true
		return false
	}
	if !m.reserve() {
		if trial {
			m.ejected.CompareAndSwap(next, until) // somebody else's then
		}
		c.full = true
		return false
	}
	m.picks.Add(1)
	if c.flow.tries < maxTries {
		c.flow.tried[c.flow.tries] = m.server
		c.flow.tries++
	}
	return true
}

// preferred takes the member that the flow prefers, or is stuck to, if there is one and it may
// be used. In slow start it is no new flow.
func (s *snapshot) preferred(c *chooser) *member {
	f := c.flow
	if f.prefer != nil {
		for i, m := range s.all {
			if m.server == f.prefer && s.live[i] && c.open(m) && c.take(m) {
				return m
			}
		}
	}
	if f.stuck != nil {
		for _, m := range s.all {
			if m.server == f.stuck && c.keeps(m) && c.take(m) {
				return m
			}
		}
	}
	return nil
}

// ramp is the part of its traffic that m is given: it grows during slow start, but is
// never less than a hundredth, so that the backend does start.
func (c *chooser) ramp(m *member) float64 {
	start := m.ramp.Load()
	if start == 0 {
		return 1
	}
	passed := c.now - start
	if passed >= int64(c.cfg.SlowStart) {
		if m.ramp.CompareAndSwap(start, 0) {
			c.restless.Add(-1)
		}
		return 1
	}
	return max(float64(passed)/float64(c.cfg.SlowStart), 0.01)
}

// draw decides whether this pick is among the part that a ramp lets through. It is by
// chance, but once for all members: none gets a second one. A flow that hashes
// always draws the same lot, so it moves only once as the ramp grows.
func (c *chooser) draw() float64 {
	if c.lot == 0 {
		h := mix(c.key + 0x9e3779b97f4a7c15)
		if !c.hashed {
			h = rand.Uint64()
		}
		c.lot = unit(h)
	}
	return c.lot
}

// lessLoaded compares connections per weight, without division. In slow start the weight
// grows.
func (c *chooser) lessLoaded(m, than *member) bool {
	if c.now == 0 {
		return m.active.Load()*int64(than.Weight) < than.active.Load()*int64(m.Weight)
	}
	return float64(m.active.Load())*float64(than.Weight)*c.ramp(than) <
		float64(than.active.Load())*float64(m.Weight)*c.ramp(m)
}
