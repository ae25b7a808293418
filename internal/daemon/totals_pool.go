package daemon

import (
	"time"

	"github.com/havip/havip/lb"
)

// poolCounts are those of a pool and of its backends, by name.
type poolCounts struct {
	waits, overflow uint64
	backends        map[string]backendCounts
}

func (c poolCounts) plus(o poolCounts) poolCounts {
	c.waits += o.waits
	c.overflow += o.overflow
	switch {
	case len(o.backends) == 0:
		return c
	case len(c.backends) == 0:
		c.backends = o.backends
		return c
	}
	sum := make(map[string]backendCounts, max(len(c.backends), len(o.backends)))
	for name, b := range c.backends {
		sum[name] = b
	}
	for name, b := range o.backends {
		sum[name] = sum[name].plus(b)
	}
	c.backends = sum
	return c
}

// apply puts the counts in the place of those of a status.
func (c poolCounts) apply(s *lb.PoolStatus) {
	s.Waits, s.Overflow = c.waits, c.overflow
	for i := range s.Backends {
		b := &s.Backends[i]
		if n, ok := c.backends[b.Name]; ok {
			b.Picks, b.Failures, b.Ejects, b.Received, b.Sent, b.Connects, b.ConnectTime, b.Ended, b.Lasted =
				n.picks, n.failures, n.ejects, n.received, n.sent, n.connects, n.connectTime, n.ended, n.lasted
		}
	}
}

// backendCounts are those of a backend.
type backendCounts struct {
	picks, failures, ejects, received, sent, connects, ended uint64
	connectTime, lasted                                      time.Duration
}

func backendCountsOf(b *lb.BackendStatus) backendCounts {
	return backendCounts{picks: b.Picks, failures: b.Failures, ejects: b.Ejects, received: b.Received, sent: b.Sent,
		connects: b.Connects, connectTime: b.ConnectTime, ended: b.Ended, lasted: b.Lasted}
}

func (c backendCounts) plus(o backendCounts) backendCounts {
	return backendCounts{picks: c.picks + o.picks, failures: c.failures + o.failures, ejects: c.ejects + o.ejects, received: c.received + o.received,
		sent: c.sent + o.sent, connects: c.connects + o.connects, connectTime: c.connectTime + o.connectTime, ended: c.ended + o.ended, lasted: c.lasted + o.lasted}
}

// since reports whether the same backend may have counted o before it counted c.
func (c backendCounts) since(o backendCounts) bool {
	return c.picks >= o.picks && c.failures >= o.failures && c.ejects >= o.ejects && c.received >= o.received &&
		c.sent >= o.sent && c.connects >= o.connects && c.connectTime >= o.connectTime &&
		c.ended >= o.ended && c.lasted >= o.lasted
}

// poolMemory remembers what the backends of a pool have counted: backends come and go with
// a configuration, and by themselves with the addresses of names, and one that comes back
// counts from zero. What a backend counts between the last look and its end is lost.
type poolMemory struct {
	waits, overflow uint64
	backends        map[string]*remembered
}

// remembered is what is known of a backend, also while the pool does not have it.
type remembered struct {
	ended, latest backendCounts // of those that are no more, and of the present one
	address       string        // of the present one; empty: there is none
}

// maxAbsent is how many backends are remembered that the pool does not have, beside twice
// as many as it has. Names that change all the time must not fill the memory.
const maxAbsent = 1024

// look takes in a status of the pool.
func (m *poolMemory) look(s lb.PoolStatus) {
	m.waits, m.overflow = s.Waits, s.Overflow
	if m.backends == nil {
		m.backends = map[string]*remembered{}
	}
	present := make(map[string]bool, len(s.Backends))
	for i := range s.Backends {
		b := &s.Backends[i]
		present[b.Name] = true
		r := m.backends[b.Name]
		if r == nil {
			r = new(remembered)
			m.backends[b.Name] = r
		}
		now := backendCountsOf(b)
		if r.address != b.Resolved || !now.since(r.latest) {
			r.settle()
		}
		r.latest, r.address = now, b.Resolved
	}
	forget := len(m.backends) > 3*len(present)+maxAbsent
	for name, r := range m.backends {
		if present[name] {
			continue
		}
		r.settle()
		if forget {
			delete(m.backends, name)
		}
	}
}

// settle ends the present backend of a name.
func (r *remembered) settle() {
	r.ended, r.latest, r.address = r.ended.plus(r.latest), backendCounts{}, ""
}

// counts returns what was counted up to the last look.
func (m *poolMemory) counts() poolCounts {
	c := poolCounts{m.waits, m.overflow, make(map[string]backendCounts, len(m.backends))}
	for name, r := range m.backends {
		c.backends[name] = r.ended.plus(r.latest)
	}
	return c
}
