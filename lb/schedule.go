package lb

import "slices"

// maxSchedule bounds the precomputed round-robin order. Pools whose weights
// have a longer period get weights scaled down to fit.
const maxSchedule = 1 << 16

// maxComparisons bounds what a schedule in nginx's order costs: as many as a full one of 16
// different weights.
const maxComparisons = 16 * maxSchedule

// schedule returns one period of nginx's smooth weighted round-robin over
// weights, as indices: each step every current weight grows by its weight, the
// largest, the first among equals, is chosen and loses the total
// (ngx_http_upstream_get_peer).
//
// Members of equal weight take turns in the order of their index, so it is
// enough to compare the heads of one queue per distinct weight. Where these are so many that
// it takes too long, the turns of each member are spread evenly instead.
func schedule(weights []int) []int {
	weights, total := reduce(weights)
	if distinct(weights)*total > maxComparisons {
		return spread(weights, total)
	}
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

func distinct(weights []int) int {
	seen := make(map[int]struct{})
	for _, w := range weights {
		seen[w] = struct{}{}
	}
	return len(seen)
}

// spread gives each member as many of total turns as it weighs, at equal distances. Members
// begin at different times: in steps of the golden ratio, which spread evenly, however many
// there are. It takes no longer than the turns take to be written down.
func spread(weights []int, total int) []int {
	const golden = 0x9e3779b97f4a7c15
	at := func(i, turn int) int {
		begin := float64(uint64(i)*golden>>11) / (1 << 53)
		return min(int((float64(turn)+begin)/float64(weights[i])*float64(total)), total-1)
	}
	place := make([]int, total+1) // in the order, of the first turn at a time
	for i, w := range weights {
		for turn := range w {
			place[at(i, turn)+1]++
		}
	}
	for i := range total {
		place[i+1] += place[i]
	}
	order := make([]int, total)
	for i, w := range weights {
		for turn := range w {
			next := &place[at(i, turn)]
			order[*next] = i
			*next++
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
	if total <= maxSchedule {
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
