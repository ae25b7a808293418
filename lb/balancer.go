package lb

// Balancer is a way of choosing that this package does not have. It may be called
// concurrently and must not block: a pick waits for it, maybe under the lock of the
// pool's queue.
type Balancer interface {
	// Pick returns the index of the backend that f is given. The candidates are those
	// that may be used now, primaries or backups, in the order of the configuration;
	// there is at least one. An index out of range stands for none of them.
	Pick(f Flow, candidates []Candidate) int
}

// Candidate is a backend among which a Balancer chooses.
type Candidate struct{ m *member }

// Backend returns the backend's configuration.
func (c Candidate) Backend() Backend { return c.m.Backend }

// Active returns how many picks of the backend are not done.
func (c Candidate) Active() int64 { return c.m.active.Load() }

// custom asks the configuration's Balancer.
func (t *tier) custom(c *chooser) *member {
	var candidates []Candidate
	for _, m := range t.live {
		if c.usable(m) {
			candidates = append(candidates, Candidate{m})
		}
	}
	if len(candidates) == 0 {
		return nil
	}
	// By value: what a Balancer is given escapes to the heap, and picks by the
	// methods of this package must not pay for it.
	i := c.cfg.Balancer.Pick(*c.flow, candidates)
	if i < 0 || i >= len(candidates) {
		return nil
	}
	return candidates[i].m
}
