package lb

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Override is what somebody has said of a backend at run time, in place of its
// configuration. It lasts until Update, or Reconfigure, changes the very field that it
// replaces, gives the backend another address, or removes the backend. The addresses of a
// name may come and go.
type Override struct {
	// Backend is what was spoken of: a backend's Name, which stands for all addresses of a
	// name, now and later, or the Name of one of these.
	Backend string
	// Drain takes the place of the backend's Drain; nil: nothing does.
	Drain *bool
	// Weight takes the place of the backend's Weight, and of that of SRV records, 0 to
	// 65535. 0: the backend drains, whatever Drain says. nil: nothing does.
	Weight *int
	// Since is when the Override was last changed.
	Since time.Time

	origin string // the Name of the configured backend
}

// isNone reports whether o replaces nothing.
func (o *Override) isNone() bool { return o.Drain == nil && o.Weight == nil }

// Override lets change say what takes the place of a backend's configuration from now on,
// beginning with what does so already. It reports whether the pool has such a backend;
// change must not call the pool. No pick that begins afterwards goes by what was in force
// before. What was said of one address counts for more than what was said of its name.
func (p *Pool) Override(backend string, change func(*Override)) bool {
	p.updating.Lock()
	defer p.updating.Unlock()
	r := p.snap.Load().roster
	origin, ok := r.configured(backend)
	if !ok {
		return false
	}
	o := p.overrides[backend]
	o.Backend, o.origin, o.Since = backend, origin, time.Now()
	change(&o)
	if o.Weight != nil {
		o.Weight = new(min(max(*o.Weight, 0), MaxWeight))
	}
	// Whoever asks for the overrides has a map that does not change.
	next := maps.Clone(p.overrides)
	if next == nil {
		next = make(map[string]Override)
	}
	if next[backend] = o; o.isNone() {
		delete(next, backend)
	}
	p.setOverrides(next)
	p.update(r.cfg, r.backends)
	return true
}

// Overrides returns what takes the place of the configuration now, by the names that were
// spoken of.
func (p *Pool) Overrides() []Override {
	p.mu.Lock()
	all := p.overrides
	p.mu.Unlock()
	return slices.SortedFunc(maps.Values(all), func(a, b Override) int { return cmp.Compare(a.Backend, b.Backend) })
}

// setOverrides makes other overrides count. p.updating is held.
func (p *Pool) setOverrides(next map[string]Override) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.overrides = next
}

// configured returns the Name of the configured backend that a name belongs to.
func (r *roster) configured(name string) (backend string, ok bool) {
	if slices.ContainsFunc(r.backends, func(b Backend) bool { return b.Name == name }) {
		return name, true
	}
	if m := r.byName[name]; m != nil && m.origin != nil {
		return m.origin.backend, true
	}
	return "", false
}

// pruneOverrides forgets what a change of the configured backends ends. p.updating is held.
func (p *Pool) pruneOverrides(before *roster, backends []Backend) {
	if len(p.overrides) == 0 {
		return
	}
	byName := func(list []Backend) map[string]Backend {
		m := make(map[string]Backend, len(list))
		for _, b := range list {
			m[b.Name] = b
		}
		return m
	}
	was, is := byName(before.backends), byName(backends)
	next := make(map[string]Override)
	for name, o := range p.overrides {
		a, b := was[o.origin], is[o.origin]
		if a.Address != b.Address { // or it is gone
			continue
		}
		if a.Drain != b.Drain {
			o.Drain = nil
		}
		if a.Weight != b.Weight {
			o.Weight = nil
		}
		if !o.isNone() {
			next[name] = o
		}
	}
	p.setOverrides(next)
}

// override puts into m what takes the place of its configuration: what was said of the
// backend, and then what was said of m alone. p.updating is held.
func (p *Pool) override(m *member, backend string) {
	m.configured = m.Weight
	for _, name := range []string{backend, m.Name} {
		o := p.overrides[name]
		if o.Drain != nil {
			m.Drain = *o.Drain
		}
		if o.Weight != nil {
			m.Weight = cmp.Or(*o.Weight, -1) // as in a configuration
		}
	}
}

// Cut ends the connections, requests and sessions that a backend has now, or all addresses
// of its name, as PoolConfig.KillOnDown does. It reports whether the pool has such a
// backend. Only a backend that drains has no new ones afterwards.
func (p *Pool) Cut(backend string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	members, n := p.snap.Load().allOf(backend)
	for _, m := range members {
		p.doom(m.server)
	}
	p.cutGone()
	return n != nil || members != nil
}
