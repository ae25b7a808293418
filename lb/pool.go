package lb

import (
	"fmt"
	"time"
	"weak"

	"github.com/havip/havip/internal/quietlog"
)

// NewPool returns a pool whose backends all count as up.
func NewPool(cfg PoolConfig) (*Pool, error) {
	p := &Pool{log: quietlog.New(cfg.Logger), epoch: time.Now(), logged: poolLog{quorum: true},
		onGone: make(map[weak.Pointer[registry]]struct{}), watchers: make(audience)}
	p.queue.choose, p.queue.stale = p.choose, p.stale
	return configured(p, cfg)
}

// Reconfigure replaces all settings, except for Logger, and the backends as Update
// does. Connections stay, and so do health, counters and ejections. On error
// nothing changes.
func (p *Pool) Reconfigure(cfg PoolConfig) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("lb: pool %q: %w", cfg.Name, err)
	}
	cfg = cfg.WithDefaults()
	p.updating.Lock()
	defer p.updating.Unlock()
	p.update(&cfg, cfg.Backends)
	return nil
}

// Update replaces the set of backends. One that keeps its name and address keeps
// its health, counters and connections, whatever else of it changes. On error
// nothing changes.
func (p *Pool) Update(backends []Backend) error {
	backends = backendsWithDefaults(backends)
	if err := validateBackends(backends); err != nil {
		return fmt.Errorf("lb: pool %q: %w", p.config().Name, err)
	}
	p.updating.Lock()
	defer p.updating.Unlock()
	p.update(p.config(), backends)
	return nil
}

// update makes a roster of cfg and backends, both valid, current. p.updating is held.
func (p *Pool) update(cfg *PoolConfig, backends []Backend) {
	var before *roster
	if prev := p.snap.Load(); prev != nil {
		before = prev.roster
	}
	all := make([]*member, 0, len(backends))
	for i, b := range backends {
		m := &member{Backend: b, index: i, hash: hashString(b.Name)}
		if o := before.find(b.Name); o != nil && o.Address == b.Address {
			m.server = o.server
		} else {
			m.server = new(server)
			m.moveTo(b.Address)
			if before != nil {
				p.rampUp(m.server, cfg)
			}
		}
		if cfg.SlowStart == 0 {
			p.settle(&m.ramp)
		}
		all = append(all, m)
	}
	r := newRoster(all, cfg, before)

	p.building.Lock()
	defer p.building.Unlock()
	s := p.buildAhead(r)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count(before, r)
	p.publish(r, s)
	p.retire(before)
	for _, m := range r.all {
		p.drain(m.server, m.isDraining())
	}
}

// count takes the census of r, which takes the place of before. p.mu is held.
func (p *Pool) count(before, r *roster) {
	if before != nil {
		for _, m := range before.all {
			m.server.member = nil
		}
	}
	p.census = census{}
	for _, m := range r.all {
		m.server.member = m
		p.census[m.state()]++
	}
}

// retire retires the servers of before that are in use no more: they drain, and restless
// does not count them. p.mu is held.
func (p *Pool) retire(before *roster) {
	if before == nil {
		return
	}
	for _, m := range before.all {
		if m.server.member != nil {
			continue
		}
		p.settle(&m.ejected)
		p.settle(&m.ramp)
		p.drain(m.server, true)
	}
}

// SetHealth tells what a probe found out about a backend: why it is down, or nil if
// it is up. A name that the pool does not have is logged and otherwise ignored:
// probes of a backend that was just removed may still be under way.
//
// No pick that begins afterwards gets a backend that is down, unless health is not
// believed. What else follows has happened when SetHealth returns: a backend that is up
// is used, the quorum is lost or there, and so on. Only in a pool of more than 256
// backends, where thousands may go down one after the other, it happens within 10 ms or
// ten times as long as a look at all backends takes, or before a pick fails or Status
// returns.
func (p *Pool) SetHealth(backend string, why error) {
	up := why == nil
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.find(backend)
	if m == nil {
		p.log.Warn("health of an unknown backend", "pool", p.config().Name, "backend", backend, "up", up)
		return
	}
	if m.down.Load() == !up {
		return
	}
	m.changed.Store(p.now())
	p.alter(m.server, func() {
		m.down.Store(!up)
		if up {
			// What happened before the backend went down says nothing any more.
			m.fails.Store(0)
			p.settle(&m.ejected)
		}
	})
	log := p.log.With("pool", p.config().Name, "backend", backend, "up", p.census[isUp], "backends", len(p.snap.Load().all))
	if up {
		log.Info("backend is up")
		p.rampUp(m.server, p.config())
	} else {
		log.Warn("backend is down", "err", why)
		p.settle(&m.ramp)
	}
	p.changed()
	if !up && p.config().KillOnDown {
		p.cut(m.server)
	}
}

// SetDrain starts or ends keeping new connections away from a backend, on top of
// what its configuration says, until the backend is removed. It reports
// whether the pool has such a backend. When SetDrain returns, the same has happened as
// with SetHealth.
func (p *Pool) SetDrain(backend string, drain bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.find(backend)
	if m == nil {
		return false
	}
	if m.draining.Load() != drain {
		p.alter(m.server, func() { m.draining.Store(drain) })
		p.log.Info("backend drain", "pool", p.config().Name, "backend", backend, "drain", drain)
		p.changed()
		p.drain(m.server, m.isDraining())
	}
	return true
}

// drain arms or disarms the end of a server's connections. p.mu is held.
func (p *Pool) drain(s *server, draining bool) {
	timeout := p.config().DrainTimeout
	switch {
	case !draining:
		s.drains, timeout = 0, 0
	case s.drains == 0:
		s.drains = p.now()
	}
	if timeout == s.drainTimeout {
		return
	}
	if s.drainTimer != nil {
		s.drainTimer.Stop()
		s.drainTimer = nil
	}
	if s.drainTimeout = timeout; timeout == 0 {
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(timeout-time.Duration(p.now()-s.drains), func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		// It may have been too late for Stop.
		if s.drainTimer == timer {
			p.cut(s)
		}
	})
	s.drainTimer = timer
}
