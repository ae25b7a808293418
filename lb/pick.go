package lb

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"
)

// maxTries bounds the backends that one flow may try.
const maxTries = 8

// Flow is one connection or request that needs a backend. The zero value will do
// for balancers that do not hash. Picking again with the same Flow avoids the
// backends it was given before; it is not safe for concurrent use.
type Flow struct {
	Client netip.AddrPort // For SourceHash and Maglev.
	Key    string         // For KeyHash.

	tried [maxTries]*server
	tries int
}

// Result is the outcome of using a backend.
type Result uint8

// Outcomes. Only those that the backend is responsible for count.
const (
	Neutral Result = iota // Nothing learned: for instance, the client went away.
	Success               // The backend answered.
	Failure               // The backend refused, timed out or broke off.
)

// Pick is a backend given to one flow. Done must be called, of one copy only. The
// methods of the zero Pick, which has no backend, do nothing.
type Pick struct {
	pool   *Pool
	member *member
	done   bool
}

// Backend returns the backend's name.
func (k Pick) Backend() string {
	if k.member == nil {
		return ""
	}
	return k.member.Name
}

// Address returns where to connect: host:port, or unix: and a path.
func (k Pick) Address() string {
	if k.member == nil {
		return ""
	}
	return *k.member.address.Load()
}

// Report records an outcome before the connection is over: of a long one it is
// known early whether the backend accepted it.
func (k Pick) Report(r Result) {
	switch {
	case k.member == nil:
	case r == Failure:
		k.pool.failed(k.member)
	case r == Success:
		if k.member.fails.Load() != 0 {
			k.pool.succeeded(k.member)
		}
	}
}

// Done returns the backend to the pool and records the outcome. A second call does
// nothing.
func (k *Pick) Done(r Result) {
	if k.member == nil || k.done {
		return
	}
	k.done = true
	k.Report(r)
	k.member.active.Add(-1)
	if k.pool.queue.waiting.Load() > 0 {
		k.pool.serveQueue()
	}
}

// Connected records how long it took to connect to the backend.
func (k Pick) Connected(took time.Duration) {
	if k.member == nil {
		return
	}
	k.member.connects.Add(1)
	k.member.connectTime.Add(uint64(max(took, 0)))
}

// Transferred records bytes sent to and received from the backend.
func (k Pick) Transferred(sent, received int64) {
	if k.member == nil {
		return
	}
	k.member.sent.Add(uint64(sent))
	k.member.received.Add(uint64(received))
}

// Pick chooses a backend for f. It fails with ErrBusy if only MaxConns stands in
// the way, and with ErrNoBackend otherwise. It takes no account of flows that
// wait in the queue: Acquire does. nil stands for a new Flow.
func (p *Pool) Pick(f *Flow) (Pick, error) {
	if f == nil {
		f = new(Flow)
	}
	s := p.snap.Load()
	c := chooser{pool: p, cfg: s.cfg, flow: f}
	if p.restless.Load() != 0 {
		c.now = p.now()
	}
	for i := range s.tiers {
		if m := s.tiers[i].choose(&c); m != nil {
			return Pick{pool: p, member: m}, nil
		}
	}
	if c.now != 0 && c.passedOver {
		// Nobody else is left: rather one that failed of late than none.
		c.now, c.passedOver = 0, false
		for i := range s.tiers {
			if m := s.tiers[i].choose(&c); m != nil {
				return Pick{pool: p, member: m}, nil
			}
		}
	}
	if c.full {
		return Pick{}, ErrBusy
	}
	return Pick{}, ErrNoBackend
}

// chooser holds the circumstances of one pick.
type chooser struct {
	pool       *Pool
	cfg        *PoolConfig
	flow       *Flow
	now        int64   // 0: ejections and slow starts do not matter.
	key        uint64  // What the flow hashes to, if the balancer hashes.
	lot        float64 // See draw; 0: not drawn.
	full       bool    // A member was refused for its MaxConns,
	passedOver bool    // or for an ejection or its slow start.
}

// usable tells whether m may be picked, without taking it.
func (c *chooser) usable(m *member) bool { return c.admits(m, true) }

// open is usable but for slow start.
func (c *chooser) open(m *member) bool { return c.admits(m, false) }

func (c *chooser) admits(m *member, byRamp bool) bool {
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
	// One flow per FailTimeout tries a server whose ejection has expired; the
	// others keep away until that one has succeeded.
	until, next := m.ejected.Load(), c.now+int64(c.cfg.FailTimeout)
	trial := until != 0 && c.now != 0
	if trial && (until > c.now || !m.ejected.CompareAndSwap(until, next)) {
		c.passedOver = true
		return false
	}
	if !m.reserve() {
		if trial {
			m.ejected.CompareAndSwap(next, until) // Somebody else's then.
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

// reserve counts a connection, unless MaxConns is reached. It never counts one
// too many, not even for a moment: a Done at that moment would find no room for
// those who wait, and nobody would look again.
func (m *member) reserve() bool {
	if m.MaxConns == 0 {
		m.active.Add(1)
		return true
	}
	for {
		n := m.active.Load()
		if n >= int64(m.MaxConns) {
			return false
		}
		if m.active.CompareAndSwap(n, n+1) {
			return true
		}
	}
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
			c.pool.restless.Add(-1)
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
		if !c.cfg.Balance.hashes() {
			h = rand.Uint64()
		}
		c.lot = unit(h)
	}
	return c.lot
}

// failed counts a failure and ejects the server when they are too many.
func (p *Pool) failed(m *member) {
	m.failures.Add(1)
	cfg := p.config()
	if cfg.MaxFails >= 0 && p.eject(m, cfg) {
		p.review()
	}
}

// eject reports whether the server is ejected from now on.
func (p *Pool) eject(m *member, cfg *PoolConfig) bool {
	now := p.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.removed {
		return false
	}
	if now-m.lastFail > int64(cfg.FailTimeout) {
		m.fails.Store(0)
	}
	m.lastFail = now
	// A failure on probation renews the ejection at once.
	if m.fails.Add(1) < int64(cfg.MaxFails) && m.ejected.Load() == 0 {
		return false
	}
	if m.ejected.Swap(now+int64(cfg.FailTimeout)) != 0 {
		return false
	}
	p.restless.Add(1)
	m.ejects.Add(1)
	snap := p.snap.Load()
	up, _, _, _ := snap.census()
	p.log.Warn("backend ejected", "pool", cfg.Name, "backend", m.Name, "up", up, "backends", len(snap.all),
		"failures", m.fails.Load(), "for", cfg.FailTimeout)
	return true
}

// succeeded ends an ejection whose probation went well. As in nginx a success
// within FailTimeout of a failure proves nothing: it may belong to a connection
// made before.
func (p *Pool) succeeded(m *member) {
	if p.readmit(m) {
		p.review()
	}
}

// readmit reports whether an ejection has ended.
func (p *Pool) readmit(m *member) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.now()-m.lastFail <= int64(p.config().FailTimeout) {
		return false
	}
	m.fails.Store(0)
	if !p.settle(&m.ejected) {
		return false
	}
	p.log.Info("backend readmitted", "pool", p.config().Name, "backend", m.Name)
	return true
}

// rampUp begins a server's slow start. How long that lasts is up to the
// configuration at each pick.
func (p *Pool) rampUp(s *server, cfg *PoolConfig) {
	if cfg.SlowStart > 0 && s.ramp.Swap(p.now()) == 0 {
		p.restless.Add(1)
	}
}

// settle ends an ejection or slow start, and reports whether there was one.
func (p *Pool) settle(until *atomic.Int64) bool {
	if until.Swap(0) == 0 {
		return false
	}
	p.restless.Add(-1)
	return true
}
