package report

import (
	"testing"
	"time"
)

// TestQuantile: what is estimated lies in the bucket of the duration in question.
func TestQuantile(t *testing.T) {
	const ms = time.Millisecond
	bounds := []time.Duration{ms, 10 * ms, 100 * ms}
	for _, tc := range []struct {
		name   string
		counts []uint64
		q      float64
		want   time.Duration
	}{
		{"nothing was counted", []uint64{0, 0, 0, 0}, 0.5, 0},
		{"in the middle of the first bucket", []uint64{10, 0, 0, 0}, 0.5, ms / 2},
		{"the end of a bucket", []uint64{5, 5, 0, 0}, 0.5, ms},
		{"empty buckets count for nothing", []uint64{0, 0, 10, 0}, 0.5, 55 * ms},
		{"in a later bucket", []uint64{90, 0, 10, 0}, 0.99, 91 * ms},
		{"past the last bound", []uint64{1, 0, 0, 9}, 0.5, 100 * ms},
		{"the longest", []uint64{1, 1, 0, 0}, 1, 10 * ms},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := Histogram{Bounds: bounds, Counts: tc.counts}
			if got := time.Duration(h.Quantile(tc.q)); (got - tc.want).Abs() > time.Microsecond {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}
