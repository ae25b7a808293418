package daemon

import (
	"sync/atomic"
	"time"

	"github.com/havip/havip/lb"
)

// tallyBounds are the upper ends of a Tally's buckets: from what a proxy beside its
// backends takes to what times out.
var tallyBounds = [...]time.Duration{
	500 * time.Microsecond, time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond,
	250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond,
	5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute,
}

// TallyBounds returns the upper ends of the buckets of a Tally.
func TallyBounds() []time.Duration { return tallyBounds[:] }

// Tally counts the requests, connections or sessions of a service that have ended.
type Tally struct {
	// Statuses are responses of HTTP by their first digit. At 0 is what had no response,
	// as all connections and sessions.
	Statuses [6]uint64
	// Durations are how many took no longer than the bound of TallyBounds with that index,
	// and longer than the bound before. The last took longer than all bounds.
	Durations [len(tallyBounds) + 1]uint64
	Sum       time.Duration // of all durations
}

// plus returns what both have counted.
func (t Tally) plus(o Tally) Tally {
	for i, n := range o.Statuses {
		t.Statuses[i] += n
	}
	for i, n := range o.Durations {
		t.Durations[i] += n
	}
	t.Sum += o.Sum
	return t
}

// tally is a Tally under way. The event loops of a plane add to it at the same time.
type tally struct {
	statuses  [6]atomic.Uint64
	durations [len(tallyBounds) + 1]atomic.Uint64
	sum       atomic.Int64
	routes    routeTallies
}

// record counts one that has ended. It allocates nothing and takes no lock.
func (t *tally) record(r *lb.Record) {
	t.statuses[classOf(r.Status)].Add(1)
	t.durations[bucketOf(r.Duration)].Add(1)
	t.sum.Add(int64(max(r.Duration, 0)))
}

// classOf returns the first digit of a status; 0: there is none, or it is out of range, such as
// the 999 of some backends.
func classOf(status int) int {
	if class := status / 100; class > 0 && class <= 5 {
		return class
	}
	return 0
}

// bucketOf returns the index of the first bound that d does not exceed.
func bucketOf(d time.Duration) int {
	low, high := 0, len(tallyBounds)
	for low < high {
		middle := int(uint(low+high) / 2)
		if d <= tallyBounds[middle] {
			high = middle
		} else {
			low = middle + 1
		}
	}
	return low
}

// total returns what has been counted so far. Of a record that is being counted it may have
// a part.
func (t *tally) total() (sum Tally) {
	for i := range t.statuses {
		sum.Statuses[i] = t.statuses[i].Load()
	}
	for i := range t.durations {
		sum.Durations[i] = t.durations[i].Load()
	}
	sum.Sum = time.Duration(t.sum.Load())
	return sum
}
