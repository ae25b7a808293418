package lb

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// server is what changes about a backend while it is in use. It outlives
// snapshots and updates.
type server struct {
	address  atomic.Pointer[string]         // Where to connect: Backend.Address, resolved.
	addrPort atomic.Pointer[netip.AddrPort] // The same, nil if it is a name or a path.

	active   atomic.Int64
	picks    atomic.Uint64
	failures atomic.Uint64
	ejects   atomic.Uint64

	received, sent        atomic.Uint64
	connects, connectTime atomic.Uint64 // Number, and nanoseconds in all.

	down       atomic.Bool
	unresolved atomic.Bool // Its name had no answer when last asked.
	draining   atomic.Bool
	changed    atomic.Int64 // Time of the last change of down, 0 if none.

	ejected atomic.Int64 // Until when; 0: not ejected.
	ramp    atomic.Int64 // When slow start began; 0: no slow start.

	mu       sync.Mutex   // Guards writing what follows.
	fails    atomic.Int64 // Failures with no more than FailTimeout between them.
	lastFail int64
	removed  bool // From the pool: what fails now does not eject it.

	// Guarded by Pool.mu: since when the server drains (0: it does not), and what
	// will cut its connections, DrainTimeout as it was then later.
	drains       int64
	drainTimer   *time.Timer
	drainTimeout time.Duration
}

func newServer(address string) *server {
	s := new(server)
	s.moveTo(address)
	return s
}

// moveTo changes where connections go.
func (s *server) moveTo(address string) {
	if ap, err := netip.ParseAddrPort(address); err == nil {
		s.addrPort.Store(&ap)
	}
	s.address.Store(&address)
}

// member is one configured backend: immutable but for its server.
type member struct {
	Backend
	*server
	index int    // In roster.all.
	hash  uint64 // Of the name.
}

// roster is a set of backends as Update made it, with what can be computed
// without knowing their health.
type roster struct {
	cfg    *PoolConfig
	all    []*member
	byName map[string]*member
	tls    bool        // some backend has a TLS of its own
	tables [2][]uint32 // Maglev tables of primaries and backups, indices into all.
}

func newRoster(all []*member, cfg *PoolConfig) *roster {
	r := &roster{cfg: cfg, all: all, byName: make(map[string]*member, len(all))}
	for _, m := range all {
		r.byName[m.Name] = m
		r.tls = r.tls || m.TLS != nil
	}
	if !cfg.Balance.hashes() {
		return r
	}
	for t := range r.tables {
		var names []string
		var weights, index []int
		for i, m := range all {
			if m.tier() == t {
				names, weights, index = append(names, m.Name), append(weights, m.Weight), append(index, i)
			}
		}
		r.tables[t] = MaglevTable(names, weights)
		for i, j := range r.tables[t] {
			r.tables[t][i] = uint32(index[j])
		}
	}
	return r
}

// tier is 0 for a primary, 1 for a backup.
func (m *member) tier() int {
	if m.Backup {
		return 1
	}
	return 0
}

// turns counts the picks of a tier for those that take turns. It outlives snapshots.
type turns struct {
	schedule atomic.Uint64
	search   atomic.Uint64
}

// tier is what the balancers work on: the available primaries, or backups.
type tier struct {
	live     []*member
	schedule []*member
	turns    *turns

	all   []*member
	up    []bool   // By index in all: is in live.
	table []uint32 // Indices into all; nil unless the balancer hashes.
}

// snapshot is everything a pick needs to know of the pool. It never changes.
type snapshot struct {
	*roster
	tiers  [2]tier // In the order in which they are asked.
	live   []bool  // By index in all: belongs to the tier that is asked first.
	quorum bool
	panic  bool
}

func newSnapshot(r *roster, quorum bool, positions *[2]turns) *snapshot {
	s := &snapshot{roster: r, live: make([]bool, len(r.all))}
	cfg := r.cfg
	// Of primaries and backups: backends that do not drain, and how many are up.
	var candidates, healthy [2]int
	weight, whole := 0, 0 // Of the healthy primaries, and of all of them.
	for _, m := range r.all {
		if m.Drain || m.draining.Load() {
			continue
		}
		candidates[m.tier()]++
		if !m.Backup {
			whole += m.Weight
		}
		if !m.down.Load() {
			healthy[m.tier()]++
			if !m.Backup {
				weight += m.Weight
			}
		}
	}
	if quorum {
		s.quorum = weight >= cfg.Quorum-cfg.Hysteresis
	} else {
		// More than all cannot come back.
		s.quorum = weight >= min(cfg.Quorum+cfg.Hysteresis, max(cfg.Quorum, whole))
	}
	serving := 0
	if !s.quorum && candidates[1] > 0 || candidates[0] == 0 {
		serving = 1
	}
	s.panic = healthy[serving]*100 < cfg.Panic*candidates[serving]

	for t := range s.tiers {
		s.tiers[t] = s.newTier(t, &positions[t])
	}
	// The quorum is a matter of health too: in panic it is not believed either.
	if !s.quorum && !s.panic && len(s.tiers[1].live) > 0 {
		s.tiers[0], s.tiers[1] = s.tiers[1], s.tiers[0]
	}
	first := 0
	if len(s.tiers[0].live) == 0 {
		first = 1
	}
	for _, m := range s.tiers[first].live {
		s.live[m.index] = true
	}
	return s
}

func (s *snapshot) newTier(number int, turns *turns) tier {
	t := tier{all: s.all, up: make([]bool, len(s.all)), table: s.tables[number], turns: turns}
	var weights []int
	equal := true
	for i, m := range s.all {
		if m.tier() != number || m.Drain || m.draining.Load() || m.down.Load() && !s.panic {
			continue
		}
		t.live, t.up[i] = append(t.live, m), true
		weights = append(weights, m.Weight)
		equal = equal && m.Weight == weights[0]
	}
	if equal {
		t.schedule = t.live
		return t
	}
	for _, i := range schedule(weights) {
		t.schedule = append(t.schedule, t.live[i])
	}
	return t
}
