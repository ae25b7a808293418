package config

import (
	"math/rand/v2"
	"testing"
)

// TestCircles: two services are in one circle if each leads to the other, and what is
// between two circles is in none of them.
func TestCircles(t *testing.T) {
	for range 500 {
		leads := make([][]lead, 1+rand.IntN(8))
		reach := make([][]bool, len(leads))
		for i := range leads {
			reach[i] = make([]bool, len(leads))
			reach[i][i] = true
		}
		for range rand.IntN(2 * len(leads)) {
			from, to := rand.IntN(len(leads)), rand.IntN(len(leads))
			leads[from] = append(leads[from], lead{to: to})
			reach[from][to] = true
		}
		for by := range leads {
			for from := range leads {
				for to := range leads {
					reach[from][to] = reach[from][to] || reach[from][by] && reach[by][to]
				}
			}
		}
		got := circles(leads)
		for a := range leads {
			for b := range leads {
				if want := reach[a][b] && reach[b][a]; (got[a] == got[b]) != want {
					t.Fatalf("%v: services %d and %d are in one circle: %v, want %v", leads, a, b, !want, want)
				}
			}
		}
	}
}
