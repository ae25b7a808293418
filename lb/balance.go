package lb

import (
	"math/rand/v2"
	"net/netip"
)

// Balance is a way of choosing among the available backends.
type Balance string

// The balancers. Those that hash give the same answer on every node that is
// configured with the same backends and sees the same ones alive; when a backend
// goes, only the clients that it had move.
const (
	// RoundRobin is nginx's smooth weighted round-robin: with weights 5, 1, 1
	// the order is a a b a c a a.
	RoundRobin Balance = "round-robin"
	// LeastConn takes the backend with the fewest connections for its weight,
	// ties in RoundRobin's order. Of more than 256 it looks at another 256 each
	// time; PowerOfTwo does nearly as well at less cost.
	LeastConn Balance = "least-conn"
	// PowerOfTwo takes the less loaded of two backends chosen at random.
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

// maxLook bounds the backends that LeastConn compares.
const maxLook = 256

// hashes tells whether b needs a lookup table.
func (b Balance) hashes() bool { return b == SourceHash || b == KeyHash || b == Maglev }

func (b Balance) valid() bool {
	switch b {
	case RoundRobin, LeastConn, PowerOfTwo, Random, SourceHash, KeyHash, Maglev:
		return true
	}
	return false
}

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

// choose returns a member of t that c accepts, and has claimed it; nil if there
// is none.
func (t *tier) choose(c *chooser) *member {
	if len(t.live) == 0 {
		return nil
	}
	var m *member
	switch c.cfg.Balance {
	case LeastConn:
		m = t.leastConn(c)
	case PowerOfTwo:
		m = t.powerOfTwo(c)
	case Random:
		m = t.random(c)
	case SourceHash, KeyHash, Maglev:
		m = t.hashed(c)
	default:
		m = t.roundRobin(c)
	}
	if m != nil {
		return m
	}
	// The balancers give up after a bounded number of refusals. Where one
	// backend of thousands is left, this finds it.
	start := t.turn.Load()
	for i := range t.live {
		if m := t.live[(start+uint64(i))%uint64(len(t.live))]; c.claim(m) {
			return m
		}
	}
	return nil
}

// next is the member whose turn it is.
func (t *tier) next() *member {
	return t.schedule[(t.turn.Add(1)-1)%uint64(len(t.schedule))]
}

// roundRobin walks the precomputed schedule. A refused member loses its turn to
// the next in the schedule, so the others keep their proportions.
func (t *tier) roundRobin(c *chooser) *member {
	for range min(2*len(t.live), len(t.schedule)) {
		if m := t.next(); c.claim(m) {
			return m
		}
	}
	return nil
}

func (t *tier) random(c *chooser) *member {
	for range min(2*len(t.live), 8) {
		if m := t.schedule[rand.Uint64N(uint64(len(t.schedule)))]; c.claim(m) {
			return m
		}
	}
	return nil
}

func (t *tier) leastConn(c *chooser) *member {
	// Two passes at most: the claim fails only if another pick filled the
	// member up in between.
	for range 2 {
		best := t.next()
		usable := c.usable(best)
		n := len(t.live)
		at := 0
		if n > maxLook {
			at = int(t.turn.Load()*maxLook) % n
		}
		for range min(n, maxLook) {
			m := t.live[at]
			if at++; at == n {
				at = 0
			}
			if (!usable || m.lessLoaded(best)) && c.usable(m) {
				best, usable = m, true
			}
		}
		if !usable {
			return nil
		}
		if c.take(best) {
			return best
		}
	}
	return nil
}

func (t *tier) powerOfTwo(c *chooser) *member {
	n := uint64(len(t.schedule))
	for range min(2*len(t.live), 8) {
		a, b := t.schedule[rand.Uint64N(n)], t.schedule[rand.Uint64N(n)]
		if b.lessLoaded(a) {
			a, b = b, a
		}
		if c.claim(a) {
			return a
		}
		if b != a && c.claim(b) {
			return b
		}
	}
	return nil
}

// hashed looks the flow's key up in the table, which covers every configured
// member. One that is not available is skipped by hashing again, so that the
// keys of all others stay where they are.
func (t *tier) hashed(c *chooser) *member {
	h := c.cfg.Balance.key(c.flow)
	for range 32 {
		m := t.all[t.table[h%uint64(len(t.table))]]
		if t.up[m.index] && c.claim(m) {
			return m
		}
		h = mix(h + 1)
	}
	// Few are left: take the first available one in an order that
	// still depends on the key alone.
	for i := range t.all {
		m := t.all[(h+uint64(i))%uint64(len(t.all))]
		if t.up[m.index] && c.claim(m) {
			return m
		}
	}
	return nil
}

// lessLoaded compares connections per weight, without division.
func (m *member) lessLoaded(than *member) bool {
	return m.active.Load()*int64(than.Weight) < than.active.Load()*int64(m.Weight)
}

// mix is the finalizer of splitmix64: every input bit changes half of the
// output bits.
func mix(h uint64) uint64 {
	h ^= h >> 30
	h *= 0xbf58476d1ce4e5b9
	h ^= h >> 27
	h *= 0x94d049bb133111eb
	return h ^ h>>31
}

// hashString is FNV-1a with a finalizer: FNV alone leaves the low bits of
// short strings poorly mixed. It is fixed for ever, because all nodes of a
// cluster, whatever their version, must agree.
func hashString(s string) uint64 {
	h := uint64(0xcbf29ce484222325)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 0x100000001b3
	}
	return mix(h)
}

// hashAddr treats an IPv4 address and its IPv4-mapped form alike.
func hashAddr(a netip.Addr) uint64 {
	b := a.As16()
	h := uint64(0xcbf29ce484222325)
	for _, c := range b {
		h = (h ^ uint64(c)) * 0x100000001b3
	}
	return mix(h)
}
