package config

import (
	"math/rand/v2"
	"testing"
)

// TestWays: each service that leads to another in the end goes on to one that is nearer,
// and no other service has a way. Services that lead to one another are a ring.
func TestWays(t *testing.T) {
	const far = 1 << 20
	for range 500 {
		into := make([][]int, 1+rand.IntN(8))
		steps := make([][]int, len(into)) // from, to: the least number
		for i := range into {
			steps[i] = make([]int, len(into))
			for j := range into {
				if i != j {
					steps[i][j] = far
				}
			}
		}
		for range rand.IntN(2 * len(into)) {
			from, to := rand.IntN(len(into)), rand.IntN(len(into))
			into[to] = append(into[to], from)
			steps[from][to] = min(steps[from][to], 1)
		}
		for by := range into {
			for from := range into {
				for to := range into {
					steps[from][to] = min(steps[from][to], steps[from][by]+steps[by][to])
				}
			}
		}
		ring := rings(into)
		for to := range into {
			for from, next := range ways(into, to) {
				if together := from == to || max(steps[from][to], steps[to][from]) < far; together != (ring[from] == ring[to]) {
					t.Fatalf("%v: rings %d, want %d and %d in the same one: %v", into, ring, from, to, together)
				}
				switch way := steps[from][to]; {
				case from == to && next == to, way >= far && next < 0:
				case next < 0 || way >= far || steps[from][next] != 1 || steps[next][to] != way-1:
					t.Fatalf("%v: from %d to %d the next is %d, want the way of %d steps", into, from, to, next, way)
				}
			}
		}
	}
}
