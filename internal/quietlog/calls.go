package quietlog

import "math"

// maxCalls is how many calls may wait while another call does not return.
const maxCalls = 64

// Calls makes calls of foreign functions, one at a time and in order, in a goroutine that
// exists while calls wait. At most 64 calls wait for a function that does not return; for
// further calls the oldest are dropped, since the latest says how things are now.
type Calls struct{ queue queue[func()] }

// NewCalls returns Calls with nothing to do.
func NewCalls() *Calls {
	return &Calls{queue[func()]{
		newest:  true,
		deliver: func(f func()) error { f(); return nil },
		confess: func(int) error { return nil },
	}}
}

// Add never blocks.
func (c *Calls) Add(f func()) { c.queue.push(f, 1, 1+maxCalls) }

// Wait waits until all calls have returned.
func (c *Calls) Wait() { c.queue.flush(math.MaxInt64) }
