package lb

import "slices"

// maxSchedule bounds the precomputed round-robin order. Pools whose weights
// have a longer period get weights scaled down to fit.
const maxSchedule = 1 << 16

// schedule returns one period of nginx's smooth weighted round-robin over
// weights, as indices: each step every current weight grows by its weight, the
// largest, the first among equals, is chosen and loses the total
// (ngx_http_upstream_get_peer).
//
// Members of equal weight take turns in the order of their index, so it is
// enough to compare the heads of one queue per distinct weight.
func schedule(weights []int) []int {
	weights, total := reduce(weights)
	type class struct {
		weight       int
		members      []int
		head, rounds int // whose turn it is, and how often all have had theirs
	}
	var classes []*class
	byWeight := make(map[int]*class)
	for i, w := range weights {
		c := byWeight[w]
		if c == nil {
			c = &class{weight: w}
			byWeight[w] = c
			classes = append(classes, c)
		}
		c.members = append(c.members, i)
	}
	order := make([]int, 0, total)
	for step := 1; step <= total; step++ {
		var best *class
		bestCurrent := 0
		for _, c := range classes {
			current := step*c.weight - c.rounds*total
			if best == nil || current > bestCurrent ||
				current == bestCurrent && c.members[c.head] < best.members[best.head] {
				best, bestCurrent = c, current
			}
		}
		order = append(order, best.members[best.head])
		if best.head++; best.head == len(best.members) {
			best.head, best.rounds = 0, best.rounds+1
		}
	}
	return order
}

// reduce divides weights by their greatest common divisor and, where their sum
// still exceeds maxSchedule, scales them down, to no less than 1 each.
func reduce(weights []int) (reduced []int, total int) {
	divisor := 0
	for _, w := range weights {
		divisor = gcd(w, divisor)
	}
	reduced = slices.Clone(weights)
	for i := range reduced {
		reduced[i] /= divisor
		total += reduced[i]
	}
	if total <= maxSchedule || total == len(reduced) {
		return reduced, total
	}
	scaled := 0
	for i := range reduced {
		reduced[i] = max(1, reduced[i]*maxSchedule/total)
		scaled += reduced[i]
	}
	return reduced, scaled
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
