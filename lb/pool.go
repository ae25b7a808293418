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
	p.queue.choose = p.choose
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
	p.mu.Lock()
	defer p.mu.Unlock()
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
	p.mu.Lock()
	defer p.mu.Unlock()
	p.update(p.config(), backends)
	return nil
}

// update makes a roster of cfg and backends, both valid, current. p.mu is held.
func (p *Pool) update(cfg *PoolConfig, backends []Backend) {
	var old map[string]*member
	prev := p.snap.Load()
	if prev != nil {
		old = prev.byName
	}
	all := make([]*member, 0, len(backends))
	for i, b := range backends {
		m := &member{Backend: b, index: i, hash: hashString(b.Name)}
		o := old[b.Name]
		if o != nil && o.Address == b.Address {
			m.server = o.server
		} else {
			m.server = new(server)
			m.moveTo(b.Address)
			if prev != nil {
				p.rampUp(m.server, cfg)
			}
		}
		if cfg.SlowStart == 0 {
			p.settle(&m.ramp)
		}
		all = append(all, m)
	}
	r := newRoster(all, cfg)
	p.publish(r)
	if prev != nil {
		p.retire(prev.roster, r)
	}
}

// retire retires the servers that are in before but not in after: they drain, and
// restless does not count them.
func (p *Pool) retire(before, after *roster) {
	for _, m := range before.all {
		if now := after.byName[m.Name]; now != nil && now.server == m.server {
			continue
		}
		m.removed = true
		p.settle(&m.ejected)
		p.settle(&m.ramp)
		p.drain(m.server, true)
	}
}

// SetHealth tells what a probe found out about a backend: why it is down, or nil if
// it is up. A name that the pool does not have is logged and otherwise ignored:
// probes of a backend that was just removed may still be under way.
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
	m.down.Store(!up)
	m.changed.Store(p.now())
	snap := p.snap.Load()
	remaining, _, _, _ := snap.census()
	log := p.log.With("pool", p.config().Name, "backend", backend, "up", remaining, "backends", len(snap.all))
	if up {
		log.Info("backend is up")
		// What happened before the backend went down says nothing any more.
		m.fails.Store(0)
		p.settle(&m.ejected)
		p.rampUp(m.server, p.config())
	} else {
		log.Warn("backend is down", "err", why)
		p.settle(&m.ramp)
	}
	p.publish(p.snap.Load().roster)
	if !up && p.config().KillOnDown {
		p.cut(m.server)
	}
}

// SetDrain starts or ends keeping new connections away from a backend, on top of
// what its configuration says, until the backend is removed. It reports
// whether the pool has such a backend.
func (p *Pool) SetDrain(backend string, drain bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.find(backend)
	if m == nil {
		return false
	}
	if m.draining.Swap(drain) != drain {
		p.log.Info("backend drain", "pool", p.config().Name, "backend", backend, "drain", drain)
		p.publish(p.snap.Load().roster)
	}
	return true
}

// publish makes the next snapshot of r current. p.mu is held.
func (p *Pool) publish(r *roster) {
	prev := p.snap.Load()
	s := newSnapshot(r, prev == nil || prev.quorum, &p.turns)
	p.snap.Store(s)
	p.logged.report(p.log, s)
	p.watchers.push(s)
	for _, m := range r.all {
		p.drain(m.server, m.isDraining())
	}
	p.queue.serve()
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
