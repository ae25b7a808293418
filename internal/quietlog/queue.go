package quietlog

import (
	"slices"
	"sync"
	"time"
)

// queue takes values without blocking and delivers them in order.
type queue[T any] struct {
	// deliver may block. With an error the value counts as lost.
	deliver func(T) error
	// confess tells the reader how many values were lost before the next delivery.
	// An error means that the reader has not got the message.
	confess func(lost int) error
	// newest drops the oldest value that waits for a new one. All values are of size 1
	// then, and losses are not counted.
	newest bool
	// owed is how many lost values are still to be confessed. Only the goroutine of
	// drain uses it.
	owed int

	mu       sync.Mutex
	waiting  []item[T]
	size     int // of all values that wait or are being delivered
	draining bool
	idle     chan struct{} // closed at the end of draining; nil: nobody waits for the end
}

// item is a value, or says that values were lost.
type item[T any] struct {
	value T
	size  int
	lost  int // how many values were lost in place of this one; 0: none
}

// push queues a value, or drops it if the queue would exceed limit. After a loss, values
// are dropped until a quarter of the room is free again. Otherwise every second line
// would be a confession while values come faster than they are delivered.
func (q *queue[T]) push(value T, size, limit int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.newest && q.size+size > limit {
		q.size -= q.waiting[0].size
		q.waiting = slices.Delete(q.waiting, 0, 1)
	}
	last := len(q.waiting) - 1
	losing, full := last >= 0 && q.waiting[last].lost > 0, q.size+size > limit
	switch {
	case losing && (full || q.size > limit*3/4):
		q.waiting[last].lost++
	case full:
		q.waiting = append(q.waiting, item[T]{lost: 1})
	default:
		q.waiting = append(q.waiting, item[T]{value: value, size: size})
		q.size += size
	}
	if !q.draining {
		q.draining = true
		go q.drain()
	}
}

// drain delivers until nothing waits.
func (q *queue[T]) drain() {
	size := 0
	for {
		it, ok := q.next(size)
		if !ok {
			return
		}
		size = it.size
		q.owed += it.lost
		if q.owed > 0 && q.confess(q.owed) == nil {
			q.owed = 0
		}
		// A reader that does not take the confession would not take the value either.
		if it.lost == 0 && (q.owed > 0 || q.deliver(it.value) != nil) {
			q.owed++
		}
	}
}

// next ends the delivery of an item of the given size, and returns what comes
// after it.
func (q *queue[T]) next(size int) (item[T], bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.size -= size
	if len(q.waiting) > 0 {
		it := q.waiting[0]
		q.waiting[0] = item[T]{} // frees the value
		q.waiting = q.waiting[1:]
		return it, true
	}
	q.waiting = nil
	q.draining = false
	if q.idle != nil {
		close(q.idle)
		q.idle = nil
	}
	return item[T]{}, false
}

// flush waits until the queue is empty, for bound at most, and reports whether it is.
func (q *queue[T]) flush(bound time.Duration) bool {
	q.mu.Lock()
	if !q.draining {
		q.mu.Unlock()
		return true
	}
	if q.idle == nil {
		q.idle = make(chan struct{})
	}
	idle := q.idle
	q.mu.Unlock()
	select {
	case <-idle:
		return true
	case <-time.After(bound):
		return false
	}
}
