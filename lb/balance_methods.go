package lb

import (
	"math/bits"
	"math/rand/v2"
)

// maxLook bounds the backends that LeastConn compares.
const maxLook = 256

// maxTurns bounds the turns of the schedule that one pick goes through.
const maxTurns = 64

// key hashes what b looks at.
func (b Balance) key(f *Flow) uint64 {
	switch b {
	case SourceHash:
		return hashAddr(f.Client.Addr())
	case Maglev:
		return mix(hashAddr(f.Client.Addr()) ^ uint64(f.Client.Port()))
	}
	return hashString(f.Key)
}

// choose takes a member of t for the flow; nil if none is usable.
func (t *tier) choose(c *chooser) *member {
	if len(t.live) == 0 {
		return nil
	}
	// Taking fails only if another flow was faster.
	for range 3 {
		var m *member
		switch {
		case c.cfg.Balancer != nil:
			m = t.custom(c)
		case c.cfg.Balance == LeastConn:
			m = t.leastConn(c)
		case c.cfg.Balance == PowerOfTwo:
			m = t.powerOfTwo(c)
		case c.cfg.Balance == Random:
			m = t.random(c)
		case c.cfg.Balance.hashes():
			m = t.hashed(c)
		default:
			m = t.roundRobin(c)
		}
		if m == nil {
			return nil
		}
		if c.take(m) {
			return m
		}
	}
	for _, m := range t.live {
		if c.usable(m) && c.take(m) {
			return m
		}
	}
	return nil
}

// next is the member whose turn it is.
func (t *tier) next() *member {
	return t.schedule[(t.turns.schedule.Add(1)-1)%uint64(len(t.schedule))]
}

// roundRobin walks the precomputed schedule. A member that is not usable loses its
// turn to the next in the schedule, so the others keep their proportions.
func (t *tier) roundRobin(c *chooser) *member {
	for range min(2*len(t.live), len(t.schedule), maxTurns) {
		if m := t.next(); c.usable(m) {
			return m
		}
	}
	return t.search(c)
}

func (t *tier) random(c *chooser) *member {
	for range min(2*len(t.live), 8) {
		if m := t.sample(); c.usable(m) {
			return m
		}
	}
	return t.search(c)
}

// sample is any member, with probability by weight.
func (t *tier) sample() *member { return t.schedule[rand.Uint64N(uint64(len(t.schedule)))] }

// search looks at all members for those that are usable, and takes turns by weight
// among them. It is for when few are: the balancers, which go by all, give up after
// a bounded number of misses.
func (t *tier) search(c *chooser) *member {
	total := 0
	for _, m := range t.live {
		if c.usable(m) {
			total += m.Weight
		}
	}
	// Multiples of the golden ratio spread evenly, however many there are.
	at, _ := bits.Mul64(t.turns.search.Add(1)*0x9e3779b97f4a7c15, uint64(total))
	left := int(at)
	var last *member
	for _, m := range t.live {
		if !c.usable(m) {
			continue
		}
		if last, left = m, left-m.Weight; left < 0 {
			break
		}
	}
	return last
}

func (t *tier) leastConn(c *chooser) *member {
	best := t.roundRobin(c)
	if best == nil {
		return nil
	}
	n, at := len(t.live), 0
	if n > maxLook {
		at = int(t.turns.schedule.Load() * maxLook % uint64(n))
	}
	load, weight := best.active.Load(), int64(best.Weight)
	for range min(n, maxLook) {
		m := t.live[at]
		if at++; at == n {
			at = 0
		}
		// What settles most cases costs no call.
		if m.active.Load()*weight >= load*int64(m.Weight) && (c.now == 0 || m.ramp.Load() == 0 && best.ramp.Load() == 0) {
			continue
		}
		if c.lessLoaded(m, best) && c.open(m) {
			best, load, weight = m, m.active.Load(), int64(m.Weight)
		}
	}
	return best
}

func (t *tier) powerOfTwo(c *chooser) *member {
	for range min(2*len(t.live), 8) {
		a, b := t.sample(), t.sample()
		switch {
		case c.lessLoaded(b, a) && c.open(b):
			return b
		case c.usable(a):
			return a
		case c.usable(b):
			return b
		}
	}
	return t.search(c)
}

// hashed looks the flow's key up in the table, which covers every configured
// member. One that is not usable is skipped by hashing again, so that the
// keys of all others stay where they are.
func (t *tier) hashed(c *chooser) *member {
	c.key = c.cfg.Balance.key(c.flow)
	h := c.key
	for range 32 {
		m := t.all[t.table[h%uint64(len(t.table))]]
		if t.up[m.index] && c.usable(m) {
			return m
		}
		h = mix(h + 1)
	}
	// Few are left: the one that scores highest for this key.
	var best *member
	var highest float64
	for _, m := range t.live {
		if !c.usable(m) {
			continue
		}
		if s := m.score(c.key); best == nil || s > highest {
			best, highest = m, s
		}
	}
	return best
}

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
