package lb

import (
	"net/netip"
	"slices"
	"strings"
)

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
func hashString[S string | []byte](s S) uint64 {
	h := uint64(0xcbf29ce484222325)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 0x100000001b3
	}
	return mix(h)
}

// hashAddr treats an IPv4 address and its IPv4-mapped form alike.
func hashAddr(a netip.Addr) uint64 {
	b := a.As16()
	return hashString(b[:])
}

// unit maps a hash to a number between 0 and 1, exclusive.
func unit(h uint64) float64 { return (float64(h>>11) + 0.5) / (1 << 53) }

// MaglevTable returns a consistent-hashing table: entry h modulo its length says
// which of the named backends serves the keys that hash to h. It depends on
// names and weights alone, not on their order, so that every node of a cluster
// builds the same one; when a backend comes or goes, few other keys move. A backend
// without weight has no entries, and the table is nil if none has weight.
//
// The length is prime and at least 65 entries per backend. The algorithm is
// that of Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load
// Balancer" (NSDI 2016), section 3.4, where a backend skips turns in
// proportion to its weight. The time depends on the length alone.
func MaglevTable(names []string, weights []int) []uint32 {
	size := tableSize(len(names))
	type backend struct {
		index    uint32
		at, skip uint64
	}
	order := make([]backend, 0, len(names))
	for i, name := range names {
		if weights[i] > 0 {
			h := hashString(name)
			order = append(order, backend{index: uint32(i), at: h % size, skip: mix(h+1)%(size-1) + 1})
		}
	}
	if len(order) == 0 {
		return nil
	}
	slices.SortFunc(order, func(a, b backend) int { return strings.Compare(names[a.index], names[b.index]) })

	next := newRounds(len(order), func(i int) int { return weights[order[i].index] })
	const empty = ^uint32(0)
	table := make([]uint32, size)
	for i := range table {
		table[i] = empty
	}
	for range size {
		b := &order[next.take()]
		for table[b.at] != empty {
			if b.at += b.skip; b.at >= size {
				b.at -= size
			}
		}
		table[b.at] = b.index
	}
	return table
}

// rounds tells whose turn it is where backends take turns in rounds. The heaviest
// has a turn in each round; a backend of weight w skips rounds, and has its turn number k
// in the round k*heaviest/w, rounded up. In a round the turns are in the order of the
// backends.
//
// It is a heap of the next turns of all backends, since going through all of them for
// each round takes too long where one of many is heavy.
type rounds struct {
	heaviest uint64
	weights  []uint64
	taken    []uint64 // turns of each backend
	heap     []uint64 // round * number of backends + backend
}

func newRounds(n int, weight func(i int) int) *rounds {
	r := &rounds{weights: make([]uint64, n), taken: make([]uint64, n), heap: make([]uint64, n)}
	for i := range r.weights {
		r.weights[i] = uint64(weight(i))
		r.heaviest = max(r.heaviest, r.weights[i])
	}
	for i := range r.heap {
		r.heap[i] = r.turn(i)
	}
	slices.Sort(r.heap)
	return r
}

// turn is where in the heap the next turn of i belongs.
func (r *rounds) turn(i int) uint64 {
	w := r.weights[i]
	return ((r.taken[i]+1)*r.heaviest+w-1)/w*uint64(len(r.weights)) + uint64(i)
}

// take returns whose turn it is.
func (r *rounds) take() int {
	i := int(r.heap[0] % uint64(len(r.weights)))
	r.taken[i]++
	turn, at, n := r.turn(i), 0, len(r.heap)
	for child := 1; child < n; child = 2*at + 1 {
		if child+1 < n && r.heap[child+1] < r.heap[child] {
			child++
		}
		if turn < r.heap[child] {
			break
		}
		r.heap[at], at = r.heap[child], child
	}
	r.heap[at] = turn
	return i
}

// tableSize is a prime with room for an even spread over n backends. There are
// few sizes, so that a pool that grows rarely changes its table's size, which
// would move most keys.
func tableSize(n int) uint64 {
	switch {
	case n <= 1000:
		return 65537
	case n <= 10000:
		return 655373
	}
	return 6553577
}
