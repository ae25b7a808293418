package reactor

import (
	"math"
	"time"
)

// epoch is zero in the time of loops and timers, which is monotonic and in
// nanoseconds.
var epoch = time.Now()

// Never is a deadline that does not come.
const Never int64 = math.MaxInt64

// Now returns the time. A Loop knows it as of its last Wait.
func Now() int64 { return int64(time.Since(epoch)) }

// Time returns at as a time.Time.
func Time(at int64) time.Time { return epoch.Add(time.Duration(at)) }

// milliseconds is how long to wait for a deadline, as epoll_wait wants it: -1 is for
// ever. It is rounded up, since waking before the deadline would be in vain.
func milliseconds(deadline int64) int {
	if deadline == Never {
		return -1
	}
	const ms = int64(time.Millisecond)
	return int((min(max(deadline-Now(), 0), int64(time.Hour)) + ms - 1) / ms)
}
