package lb

import (
	"net/netip"
	"slices"
	"sync/atomic"
)

// roster is a set of backends as Update made it, with what can be computed
// without knowing their health.
type roster struct {
	cfg    *PoolConfig
	all    []*member
	byName map[string]*member

	backends   []Backend               // as they are configured,
	names      map[string]*hostname    // by their Name, where the address is a name
	unresolved []string                // those whose names have had no answer yet
	groups     map[*hostname][]*member // the addresses of a name, where they have Names of their own

	tls    bool                                           // some backend has a TLS of its own,
	again  bool                                           // and may renegotiate
	hash   func(client netip.AddrPort, key string) uint64 // of the balancing method; nil: none
	tables [2][]uint32                                    // Maglev tables of primaries and backups, indices into all
}

// newRoster makes a roster. What before, nil at first, has that is the same is taken over.
func newRoster(all []*member, cfg *PoolConfig, before *roster) *roster {
	r := &roster{cfg: cfg, all: all, byName: make(map[string]*member, len(all)),
		groups: make(map[*hostname][]*member), hash: cfg.Balance.hash()}
	for _, m := range all {
		r.byName[m.Name] = m
		r.tls = r.tls || m.TLS != nil
		r.again = r.again || renegotiates(m.TLS)
		if m.origin != nil && m.origin.backend != m.Name {
			r.groups[m.origin] = append(r.groups[m.origin], m)
		}
	}
	switch {
	case r.hash == nil:
	case before != nil && before.hash != nil && slices.EqualFunc(all, before.all, sameInTable):
		r.tables = before.tables
	default:
		for t := range r.tables {
			r.tables[t] = r.table(t)
		}
	}
	return r
}

// sameInTable reports whether a table that has a may have b in its place.
func sameInTable(a, b *member) bool {
	return a.Name == b.Name && a.tableWeight() == b.tableWeight() && a.Backup == b.Backup
}

// tableWeight is what m weighs in a table. A backend that drains for want of a weight stays
// there, as one that drains otherwise does, so that nobody but its own clients moves.
func (m *member) tableWeight() int { return max(m.Weight, 1) }

// table returns the Maglev table of a tier.
func (r *roster) table(tier int) []uint32 {
	var names []string
	var weights, index []int
	for i, m := range r.all {
		if m.tier() == tier {
			names, weights, index = append(names, m.Name), append(weights, m.tableWeight()), append(index, i)
		}
	}
	table := MaglevTable(names, weights)
	for i, j := range table {
		table[i] = uint32(index[j])
	}
	return table
}

// find returns the member of that name; nil if there is none, or no roster.
func (r *roster) find(backend string) *member {
	if r == nil {
		return nil
	}
	return r.byName[backend]
}

// allOf returns the members that a name stands for, and, if the address of a backend of
// that Name is a name, what is known of that. Neither: there is no such backend.
func (r *roster) allOf(backend string) ([]*member, *hostname) {
	n := r.names[backend]
	if m := r.byName[backend]; m != nil {
		return []*member{m}, n
	}
	return r.groups[n], n
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
	changes uint64  // of the pool's, those that it knows of
	tiers   [2]tier // in the order in which they are asked
	live    []bool  // by index in all: belongs to the tier that is asked first
	quorum  bool
	had     bool // a quorum before, on which hysteresis depends
	panic   bool
}

// hasQuorum reports whether the current snapshot has its quorum; at first it has.
func (p *Pool) hasQuorum() bool {
	s := p.snap.Load()
	return s == nil || s.quorum
}

// newSnapshot looks at all backends. A change meanwhile is in it or not: it is not among
// the changes that the snapshot knows of, so there will be another one.
func (p *Pool) newSnapshot(r *roster) *snapshot {
	s := &snapshot{roster: r, changes: p.changes.Load(), had: p.hasQuorum()}
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
	if s.had {
		s.quorum = weight[0] >= cfg.Quorum-cfg.Hysteresis
	} else {
		// Hysteresis may ask for more weight than there is.
		s.quorum = weight[0] >= min(cfg.Quorum+cfg.Hysteresis, max(cfg.Quorum, whole[0]))
	}
	serving := 0
	if !s.quorum && candidates[1] > 0 {
		serving = 1
	}
	s.panic = healthy[serving]*100 < cfg.Panic*candidates[serving]

	for t := range s.tiers {
		s.tiers[t] = s.newTier(t, &p.turns[t])
	}
	// The quorum is a matter of health too: in panic it is not believed either.
	if !s.quorum && !s.panic {
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
	if equal || s.hash != nil || s.cfg.Balancer != nil { // these take no turns
		t.schedule = t.live
		return t
	}
	for _, i := range schedule(weights) {
		t.schedule = append(t.schedule, t.live[i])
	}
	return t
}

// uses reports whether m, which has its place in the snapshot, is given anything. What has
// happened to m since the snapshot was made counts at once.
func (s *snapshot) uses(m *member) bool {
	return !m.isDraining() && (s.panic || !m.down.Load())
}

// state is what keeps a backend from working.
type state int

const (
	isUp state = iota
	isDown
	isEjected
	isDraining
)

// state is the first that applies.
func (m *member) state() state {
	switch {
	case m.isDraining():
		return isDraining
	case m.down.Load():
		return isDown
	case m.ejected.Load() != 0:
		return isEjected
	}
	return isUp
}

// census counts the backends of a pool by their states.
type census [4]int

// alter has f change the state of a server. What that costs does not depend on the number
// of backends. p.mu is held.
func (p *Pool) alter(s *server, f func()) {
	if s.member == nil { // removed
		f()
		return
	}
	p.census[s.member.state()]--
	f()
	p.census[s.member.state()]++
}
