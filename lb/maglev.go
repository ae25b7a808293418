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
// builds the same one; when a backend comes or goes, few other keys move.
//
// The length is prime and at least 65 entries per backend. The algorithm is
// that of Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load
// Balancer" (NSDI 2016), section 3.4, where a backend skips turns in
// proportion to its weight.
func MaglevTable(names []string, weights []int) []uint32 {
	if len(names) == 0 {
		return nil
	}
	size, heaviest := tableSize(len(names)), slices.Max(weights)
	type backend struct {
		index, credit int
		at, skip      uint64
	}
	order := make([]backend, len(names))
	for i, name := range names {
		h := hashString(name)
		order[i] = backend{index: i, at: h % size, skip: mix(h+1)%(size-1) + 1}
	}
	slices.SortFunc(order, func(a, b backend) int { return strings.Compare(names[a.index], names[b.index]) })

	const empty = ^uint32(0)
	table := make([]uint32, size)
	for i := range table {
		table[i] = empty
	}
	for filled := uint64(0); ; {
		for i := range order {
			b := &order[i]
			b.credit += weights[b.index]
			if b.credit < heaviest {
				continue
			}
			b.credit -= heaviest
			for table[b.at] != empty {
				b.at = (b.at + b.skip) % size
			}
			table[b.at] = uint32(b.index)
			if filled++; filled == size {
				return table
			}
		}
	}
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
