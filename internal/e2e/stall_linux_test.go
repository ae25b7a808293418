package e2e

import (
	"testing"
	"time"
)

// TestTotal: stalls that are seen twice, as a late look and as a wait for the kernel's
// lock, excuse nobody for longer than they took.
func TestTotal(t *testing.T) {
	begin := time.Unix(1000, 0)
	at := func(end, d int) stall {
		return stall{begin.Add(time.Duration(end) * time.Second), time.Duration(d) * time.Second}
	}
	for name, tt := range map[string]struct {
		stalls []stall
		want   int // seconds
	}{
		"none":                {nil, 0},
		"one":                 {[]stall{at(5, 2)}, 2},
		"apart":               {[]stall{at(9, 1), at(5, 2)}, 3},
		"the same twice":      {[]stall{at(5, 2), at(5, 2)}, 2},
		"one within the next": {[]stall{at(6, 4), at(5, 1), at(4, 1)}, 4},
		"overlapping":         {[]stall{at(5, 3), at(7, 3)}, 5},
		"before":              {[]stall{at(0, 3)}, 0},
		"after":               {[]stall{at(14, 2)}, 0},
		"across both ends":    {[]stall{at(2, 4), at(11, 2)}, 6},
	} {
		t.Run(name, func(t *testing.T) {
			if got := total(tt.stalls, begin, begin.Add(10*time.Second)); got != time.Duration(tt.want)*time.Second {
				t.Errorf("%v, want %d s", got, tt.want)
			}
		})
	}
}
