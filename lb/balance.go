package lb

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/havip/havip/internal/words"
)

// Balance is a way of choosing among the available backends.
type Balance string

// The methods of this package. Those that hash give the same answer on every node that is
// configured with the same backends and sees the same ones up and none of them
// draining; when a backend goes, only the clients that it had move. What only one
// node knows is excepted: while a backend is ejected there, in slow start or at its
// MaxConns, that node sends clients of this backend elsewhere.
const (
	// RoundRobin is nginx's smooth weighted round-robin: with weights 5, 1, 1
	// the order is a a b a c a a.
	RoundRobin Balance = "round-robin"
	// LeastConn takes the backend with the fewest connections for its weight,
	// ties in RoundRobin's order. In slow start the weight grows. Of more than 256
	// it looks at another 256 each time; PowerOfTwo does nearly as well at less cost.
	LeastConn Balance = "least-conn"
	// PowerOfTwo takes the less loaded of two backends chosen at random, loaded as
	// for LeastConn.
	PowerOfTwo Balance = "power-of-two"
	// Random takes any backend, with probability by weight.
	Random Balance = "random"
	// SourceHash ties a client's address to a backend.
	SourceHash Balance = "source-hash"
	// KeyHash ties Flow.Key to a backend.
	KeyHash Balance = "key-hash"
	// Maglev ties a flow, the client's address and port, to a backend.
	Maglev Balance = "maglev"
)

// methods are the methods of this package, each with the hash of what it ties to a
// backend. A new method is a constant above, a row here, and a case in choose if it does
// not hash.
var methods = []struct {
	name Balance
	hash func(client netip.AddrPort, key string) uint64 // nil: none
}{
	{RoundRobin, nil},
	{LeastConn, nil},
	{PowerOfTwo, nil},
	{Random, nil},
	{SourceHash, func(client netip.AddrPort, _ string) uint64 { return hashAddr(client.Addr()) }},
	{KeyHash, func(_ netip.AddrPort, key string) uint64 { return hashString(key) }},
	{Maglev, func(client netip.AddrPort, _ string) uint64 {
		return mix(hashAddr(client.Addr()) ^ uint64(client.Port()))
	}},
}

// UnmarshalText implements encoding.TextUnmarshaler. It refuses what is no Balance.
// No text is the default.
func (b *Balance) UnmarshalText(text []byte) error {
	var names []string
	for _, m := range methods {
		names = append(names, string(m.name))
	}
	if len(text) > 0 && !slices.Contains(names, string(text)) {
		return fmt.Errorf("%q: want %s", text, words.Choice(names))
	}
	*b = Balance(text)
	return nil
}

// hash returns the hash of b's method; nil if b does not hash.
func (b Balance) hash() func(netip.AddrPort, string) uint64 {
	for _, m := range methods {
		if m.name == b {
			return m.hash
		}
	}
	return nil
}

// maxLook bounds the backends that LeastConn compares.
const maxLook = 256

// maxTurns bounds the turns of the schedule that one pick goes through.
const maxTurns = 64

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
		case t.hash != nil:
			m = t.hashed(c)
		case c.cfg.Balance == LeastConn:
			m = t.leastConn(c)
		case c.cfg.Balance == PowerOfTwo:
			m = t.powerOfTwo(c)
		case c.cfg.Balance == Random:
			m = t.random(c)
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
	c.hashed, c.key = true, t.hash(c.flow.Client, c.flow.Key)
	h := c.key
	for range 32 {
		m := t.all[t.table[h%uint64(len(t.table))]]
		if c.usable(m) {
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
