package lb

import (
	"fmt"
	"net/netip"
	"time"
	"weak"

	"github.com/havip/havip/internal/quietlog"
)

// NewPool returns a pool whose backends all count as up.
func NewPool(cfg PoolConfig) (*Pool, error) {
	p := &Pool{log: quietlog.New(cfg.Logger), epoch: time.Now(), logged: poolLog{quorum: true},
		onGone: make(map[weak.Pointer[registry]]struct{}), watchers: make(audience), followers: make(map[*follower]struct{}),
		learning: make(chan struct{}, 1), ready: make(chan struct{}), renamed: make(chan struct{}, 1), hasRoute: hasRoute}
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
	if before != nil {
		p.pruneOverrides(before, backends)
	}
	names := p.namesOf(backends, before)
	var all []*member
	taken := make(map[string]bool, len(backends))
	var unresolved []string
	for _, b := range backends {
		if n := names[b.Name]; n != nil && len(n.answer) == 0 {
			unresolved = append(unresolved, b.Name)
		}
		for _, m := range b.expand(names[b.Name], before) {
			if taken[m.Name] {
				continue // by a backend that is named like an address
			}
			taken[m.Name] = true
			p.override(m, b.Name)
			m.index, m.hash = len(all), hashString(m.Name)
			m.addrPort, _ = netip.ParseAddrPort(m.connectTo)
			p.equip(m, cfg, before)
			all = append(all, m)
		}
	}
	r := newRoster(all, cfg, before)
	r.backends, r.names, r.unresolved = backends, names, unresolved

	p.building.Lock()
	defer p.building.Unlock()
	s := p.buildAhead(r)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inherit(r, before)
	p.count(before, r)
	p.publish(r, s)
	p.retire(before)
	p.tellOfNames(r, before)
	for f := range p.followers {
		f.calls.Add(f.catchUp)
	}
	for _, m := range r.all {
		p.drain(m.server, m.isDraining())
	}
}

// equip gives m the server that it has in before, or a new server, which starts slowly
// unless it, or its name, has been there from the beginning.
func (p *Pool) equip(m *member, cfg *PoolConfig, before *roster) {
	if o := before.find(m.Name); o != nil && o.Address == m.Address && o.connectTo == m.connectTo {
		m.server = o.server
	} else {
		m.server = new(server)
		if before != nil && (m.origin == nil || m.origin.added || m.origin.answered) {
			p.rampUp(m.server, cfg)
		}
	}
}

// inherit tells the new addresses of names what was said of their backend. p.mu is held.
func (p *Pool) inherit(r, before *roster) {
	for _, m := range r.all {
		n := m.origin
		if n == nil {
			continue
		}
		n.answered = len(n.answer) > 0
		if o := before.find(m.Name); (n.down || n.draining) && (o == nil || o.server != m.server) {
			m.down.Store(n.down)
			m.draining.Store(n.draining)
			p.changes.Add(1) // which a snapshot that was made ahead does not know of
		}
	}
}

// tellOfNames has Run ask for names that are new, and ask as often as it must now.
func (p *Pool) tellOfNames(r, before *roster) {
	changes := before != nil && before.cfg.ResolveInterval != r.cfg.ResolveInterval
	for _, n := range r.names {
		changes = changes || !n.asked.Load()
	}
	if changes {
		select {
		case p.renamed <- struct{}{}:
		default:
		}
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
	r := p.snap.Load().roster
	for _, m := range before.all {
		if m.server.member != nil {
			continue
		}
		p.settle(&m.ejected)
		p.settle(&m.ramp)
		if n := m.origin; n != nil && r.names[n.backend] == n {
			if !m.addrPort.IsValid() { // which address was dialled is not known: it may be among those in use
				n.early = append(n.early, m.server)
				continue
			}
			m.moved.Store(true)
		}
		p.drain(m.server, true)
	}
	for _, n := range before.names {
		if r.names[n.backend] != n {
			for _, s := range n.early {
				p.drain(s, true)
			}
		}
	}
}

// SetHealth tells what a probe found out about a backend: why it is down, or nil if
// it is up. A name that the pool does not have is logged and otherwise ignored:
// probes of a backend that was just removed may still be under way. That of a backend whose
// address is a name stands for each of its addresses, now and later: until one of them is
// spoken of alone, after which a new address is up.
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
	members, n := p.snap.Load().allOf(backend)
	switch {
	case n != nil:
		n.down = !up
	case members == nil:
		p.log.Warn("health of an unknown backend", "pool", p.config().Name, "backend", backend, "up", up)
		return
	case members[0].origin != nil:
		members[0].origin.down = false
	}
	for _, m := range members {
		p.setHealth(m, why)
	}
}

// setHealth is SetHealth for one member. p.mu is held.
func (p *Pool) setHealth(m *member, why error) {
	up := why == nil
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
	log := p.log.With("pool", p.config().Name, "backend", m.Name, "up", p.census[isUp], "backends", len(p.snap.Load().all))
	if up {
		log.Info("backend is up")
		p.rampUp(m.server, p.config())
	} else {
		log.Warn("backend is down", "err", why)
	}
	p.changed()
	if !up && p.config().KillOnDown {
		if p.doom(m.server); p.snap.Load().eager() {
			p.cutGone()
		} else {
			p.refreshSoon()
		}
	}
}

// SetDrain starts or ends keeping new connections away from a backend, or from each
// address of its name, on top of
// what its configuration says, until the backend is removed. It reports
// whether the pool has such a backend. When SetDrain returns, the same has happened as
// with SetHealth.
func (p *Pool) SetDrain(backend string, drain bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	members, n := p.snap.Load().allOf(backend)
	if n != nil {
		n.draining = drain
	}
	for _, m := range members {
		if m.draining.Load() != drain {
			p.alter(m.server, func() { m.draining.Store(drain) })
			p.log.Info("backend drain", "pool", p.config().Name, "backend", m.Name, "drain", drain)
			p.changed()
			p.drain(m.server, m.isDraining())
		}
	}
	return n != nil || members != nil
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
			p.doom(s)
			p.refreshSoon() // thousands of drains may be over, whatever the size of the pool by now
		}
	})
	s.drainTimer = timer
}
