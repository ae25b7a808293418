package quietlog

import "math"

// maxCalls is how many calls wait for one that does not return.
const maxCalls = 64

// Calls calls functions of somebody else, one at a time and in order, in a goroutine
// that exists while there is something to call. Those that find no room behind one
// that does not return are not made.
type Calls struct{ queue queue[func()] }

// NewCalls returns Calls with nothing to do.
func NewCalls() *Calls {
	return &Calls{queue[func()]{
		deliver: func(f func()) error { f(); return nil },
		confess: func(int) error { return nil },
	}}
}

// Add never blocks.
func (c *Calls) Add(f func()) { c.queue.push(f, 1, maxCalls) }

// Wait waits until all calls have returned.
func (c *Calls) Wait() { c.queue.flush(math.MaxInt64) }
