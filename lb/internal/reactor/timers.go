package reactor

import (
	"math"
	"time"

	"golang.org/x/sys/cpu"
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

// Timers hold what waits for a deadline. There is a list for each duration: all in
// it wait equally long, so it is in the order of their deadlines, and setting a
// timer is to put it at the end of its list. The zero value is ready. Durations
// should be few.
type Timers[T any] struct {
	lists []*timerList[T]
}

// Timer is part of what waits, its Owner. It must not be copied while it is set.
type Timer[T any] struct {
	Owner T

	deadline   int64
	list       *timerList[T] // nil: not set
	prev, next *Timer[T]
}

// IsSet reports whether t is set, and has not expired.
func (t *Timer[T]) IsSet() bool { return t.list != nil }

// timerList is a ring of timers, which begins and ends with one that belongs to nobody.
type timerList[T any] struct {
	duration int64
	ends     Timer[T]
	_        cpu.CacheLinePad // each event writes to a list, and loops have theirs
}

// Set sets t, also if it is set already, to expire d after now. Time never goes back
// from one call to the next.
func (ts *Timers[T]) Set(t *Timer[T], now int64, d time.Duration) {
	t.deadline = now + int64(d)
	if l := t.list; l != nil {
		if l.ends.prev == t && l.duration == int64(d) {
			return
		}
		l.remove(t)
	}
	ts.listOf(int64(d)).push(t)
}

// listOf returns the list of a duration: that, an empty one, or a new one.
func (ts *Timers[T]) listOf(duration int64) *timerList[T] {
	var empty *timerList[T]
	for _, l := range ts.lists {
		if l.duration == duration {
			return l
		}
		if l.head() == nil {
			empty = l
		}
	}
	if empty == nil {
		empty = new(timerList[T])
		empty.ends.prev, empty.ends.next = &empty.ends, &empty.ends
		ts.lists = append(ts.lists, empty)
	}
	empty.duration = duration
	return empty
}

// Stop undoes Set. It does nothing if t is not set.
func (ts *Timers[T]) Stop(t *Timer[T]) {
	if t.list != nil {
		t.list.remove(t)
	}
}

// Next returns the earliest deadline, or Never.
func (ts *Timers[T]) Next() int64 {
	next := Never
	for _, l := range ts.lists {
		if t := l.head(); t != nil {
			next = min(next, t.deadline)
		}
	}
	return next
}

// Expired stops a timer whose deadline has come, and returns it; nil if there is none.
func (ts *Timers[T]) Expired(now int64) *Timer[T] {
	for _, l := range ts.lists {
		if t := l.head(); t != nil && t.deadline <= now {
			l.remove(t)
			return t
		}
	}
	return nil
}

// Oldest returns the timer that was set before all others; nil if there is none.
func (ts *Timers[T]) Oldest() (oldest *Timer[T]) {
	var since int64
	for _, l := range ts.lists {
		if t := l.head(); t != nil && (oldest == nil || t.deadline-l.duration < since) {
			oldest, since = t, t.deadline-l.duration
		}
	}
	return oldest
}

// head returns the first timer; nil: there is none.
func (l *timerList[T]) head() *Timer[T] {
	if l.ends.next == &l.ends {
		return nil
	}
	return l.ends.next
}

func (l *timerList[T]) push(t *Timer[T]) {
	t.list, t.prev, t.next = l, l.ends.prev, &l.ends
	t.prev.next, t.next.prev = t, t
}

func (l *timerList[T]) remove(t *Timer[T]) {
	t.prev.next, t.next.prev = t.next, t.prev
	t.list, t.prev, t.next = nil, nil, nil
}
