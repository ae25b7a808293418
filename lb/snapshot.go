package lb

import (
	"net/netip"
	"sync/atomic"
)

// roster is a set of backends as Update made it, with what can be computed
// without knowing their health.
type roster struct {
	cfg    *PoolConfig
	all    []*member
	byName map[string]*member
	tls    bool                                           // some backend has a TLS of its own
	hash   func(client netip.AddrPort, key string) uint64 // of the balancing method; nil: none
	tables [2][]uint32                                    // Maglev tables of primaries and backups, indices into all
}

func newRoster(all []*member, cfg *PoolConfig) *roster {
	r := &roster{cfg: cfg, all: all, byName: make(map[string]*member, len(all)), hash: cfg.Balance.hash()}
	for _, m := range all {
		r.byName[m.Name] = m
		r.tls = r.tls || m.TLS != nil
	}
	if r.hash == nil {
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

// turns counts the picks of a tier for those that take turns. It outlives snapshots.
type turns struct {
	schedule atomic.Uint64
	search   atomic.Uint64
}

// tier is what the balancers work on: the available primaries, or backups.
type tier struct {
	*roster
	live     []*member
	schedule []*member
	turns    *turns
	up       []bool   // by index in all: is in live
	table    []uint32 // indices into all; nil unless the balancer hashes
}

// snapshot is everything a pick needs to know of the pool. It never changes.
type snapshot struct {
	*roster
	tiers  [2]tier // in the order in which they are asked
	live   []bool  // by index in all: belongs to the tier that is asked first
	quorum bool
	panic  bool
}

func newSnapshot(r *roster, quorum bool, positions *[2]turns) *snapshot {
	s := &snapshot{roster: r}
	cfg := r.cfg
	// Of primaries and backups: the backends that do not drain and what they weigh, and
	// the same of those that are up.
	var candidates, whole, healthy, weight [2]int
	for _, m := range r.all {
		if m.isDraining() {
			continue
		}
		candidates[m.tier()]++
		whole[m.tier()] += m.Weight
		if !m.down.Load() {
			healthy[m.tier()]++
			weight[m.tier()] += m.Weight
		}
	}
	if quorum {
		s.quorum = weight[0] >= cfg.Quorum-cfg.Hysteresis
	} else {
		// Hysteresis may ask for more weight than there is.
		s.quorum = weight[0] >= min(cfg.Quorum+cfg.Hysteresis, max(cfg.Quorum, whole[0]))
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
	s.live = s.tiers[0].up
	if len(s.tiers[0].live) == 0 {
		s.live = s.tiers[1].up
	}
	return s
}

func (s *snapshot) newTier(number int, turns *turns) tier {
	t := tier{roster: s.roster, up: make([]bool, len(s.all)), table: s.tables[number], turns: turns}
	var weights []int
	equal := true
	for i, m := range s.all {
		if m.tier() != number || m.isDraining() || m.down.Load() && !s.panic {
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

// census counts the backends of a pool by what keeps them from working.
func (s *snapshot) census() (up, down, ejected, draining int) {
	for _, m := range s.all {
		switch {
		case m.isDraining():
			draining++
		case m.down.Load():
			down++
		case m.ejected.Load() != 0:
			ejected++
		default:
			up++
		}
	}
	return up, down, ejected, draining
}
