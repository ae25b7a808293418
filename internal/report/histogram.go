package report

import "time"

// Histogram counts durations by size.
type Histogram struct {
	// Bounds are the upper ends of the buckets, ascending. Counts has one more: how many
	// durations were longer than the last of them.
	Bounds []time.Duration
	Counts []uint64
	Sum    time.Duration // of all durations
}

// Total is how many durations there are.
func (h Histogram) Total() (n uint64) {
	for _, count := range h.Counts {
		n += count
	}
	return n
}

// Quantile estimates how long the fraction q of the durations took at most, as if those
// of a bucket were spread evenly in it. Of those past the last bound no more is known than
// that. Without any duration it is 0.
func (h Histogram) Quantile(q float64) Seconds {
	total := h.Total()
	rank := q * float64(total)
	var lower time.Duration
	for i, upper := range h.Bounds {
		n := float64(h.Counts[i])
		if n > 0 && rank <= n {
			return Seconds(float64(lower) + float64(upper-lower)*rank/n)
		}
		rank -= n
		lower = upper
	}
	if total == 0 {
		return 0
	}
	return Seconds(lower)
}
