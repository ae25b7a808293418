package lb

import (
	"slices"
	"strings"
)

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
	size := tableSize(len(names))
	order := make([]int, len(names))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return strings.Compare(names[a], names[b]) })

	heaviest := slices.Max(weights)
	offset, skip := make([]uint64, len(names)), make([]uint64, len(names))
	credit := make([]int, len(names))
	for i, name := range names {
		h := hashString(name)
		offset[i], skip[i] = h%size, mix(h+1)%(size-1)+1
	}

	const empty = ^uint32(0)
	table := make([]uint32, size)
	for i := range table {
		table[i] = empty
	}
	for filled := uint64(0); ; {
		for _, i := range order {
			credit[i] += weights[i]
			if credit[i] < heaviest {
				continue
			}
			credit[i] -= heaviest
			at := offset[i]
			for table[at] != empty {
				at = (at + skip[i]) % size
			}
			table[at], offset[i] = uint32(i), (at+skip[i])%size
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
