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
