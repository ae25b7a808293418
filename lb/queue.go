package lb

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// queue holds the flows that wait until a backend has room. It is only
// touched when all backends are full.
type queue struct {
	waiting  atomic.Int64
	waits    atomic.Uint64
	overflow atomic.Uint64

	mu   sync.Mutex
	flow []*waiter
}

// waiter is one flow in the queue. ready is called once, with a pick or an error,
// under the queue's lock.
type waiter struct {
	flow  *Flow
	ready func(Pick, error)
}

// Acquire is Pick, but waits in the pool's queue while all backends are at their
// MaxConns, until ctx ends or QueueTimeout has passed: ErrBusy.
func (p *Pool) Acquire(ctx context.Context, f *Flow) (Pick, error) {
	k, err := p.Pick(f)
	if err != ErrBusy || p.config().Queue == 0 {
		return k, err
	}
	type outcome struct {
		pick Pick
		err  error
	}
	c := make(chan outcome, 1)
	w := &waiter{flow: f, ready: func(k Pick, err error) { c <- outcome{k, err} }}
	if err := p.enqueue(w); err != nil {
		return Pick{}, err
	}
	timer := time.NewTimer(p.config().QueueTimeout)
	defer timer.Stop()
	select {
	case o := <-c:
		return o.pick, o.err
	case <-timer.C:
		err = ErrBusy
	case <-ctx.Done():
		err = ctx.Err()
	}
	if p.leave(w) {
		return Pick{}, err
	}
	// It was served at this very moment.
	o := <-c
	return o.pick, o.err
}

// enqueue lets w wait, or serves it at once; ErrBusy if the queue is full.
func (p *Pool) enqueue(w *waiter) error {
	p.queue.mu.Lock()
	defer p.queue.mu.Unlock()
	if len(p.queue.flow) >= p.config().Queue {
		p.queue.overflow.Add(1)
		return ErrBusy
	}
	p.queue.flow = append(p.queue.flow, w)
	p.queue.waiting.Add(1)
	p.queue.waits.Add(1)
	// A pick may have been returned before waiting told of w.
	p.serveLocked()
	return nil
}

// leave takes w out of the queue; false if it has been served.
func (p *Pool) leave(w *waiter) bool {
	p.queue.mu.Lock()
	defer p.queue.mu.Unlock()
	for i, other := range p.queue.flow {
		if other == w {
			p.queue.flow = append(p.queue.flow[:i], p.queue.flow[i+1:]...)
			p.queue.waiting.Add(-1)
			p.queue.overflow.Add(1)
			return true
		}
	}
	return false
}

// serveQueue gives backends to those who wait, as far as there are any.
func (p *Pool) serveQueue() {
	p.queue.mu.Lock()
	defer p.queue.mu.Unlock()
	p.serveLocked()
}

func (p *Pool) serveLocked() {
	for len(p.queue.flow) > 0 {
		w := p.queue.flow[0]
		k, err := p.Pick(w.flow)
		if err == ErrBusy {
			return
		}
		p.queue.flow[0] = nil
		p.queue.flow = p.queue.flow[1:]
		p.queue.waiting.Add(-1)
		w.ready(k, err)
	}
}
