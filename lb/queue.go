package lb

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// queue holds the flows that wait until a backend has room. It is only
// touched when all backends are full.
type queue struct {
	choose   func(*Flow) (Pick, error) // the pool's
	stale    func() bool               // so is this
	waiting  atomic.Int64
	waits    atomic.Uint64
	overflow atomic.Uint64

	mu    sync.Mutex
	flows []*waiter
}

// waiter is one flow in the queue.
type waiter struct {
	flow   *Flow
	pick   Pick // valid once served is closed, like err
	err    error
	served chan struct{}
}

// inTurn chooses for a flow that could wait. Flows that wait already go first.
func (q *queue) inTurn(f *Flow) (Pick, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.serveLocked()
	return q.choose(f)
}

// add puts f at the end of the queue; ErrBusy if limit flows wait already.
func (q *queue) add(f *Flow, limit int) (*waiter, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	w := &waiter{flow: f, served: make(chan struct{})}
	q.flows = append(q.flows, w)
	q.waiting.Add(1)
	// A pick may have been returned before waiting told of w.
	q.serveLocked()
	if last := len(q.flows) - 1; last >= limit && q.flows[last] == w {
		q.remove(last)
		q.overflow.Add(1)
		return nil, ErrBusy
	}
	q.waits.Add(1)
	return w, nil
}

// await returns what w is served with, or why it is not until ctx ends or the timeout
// has passed: ErrBusy.
func (q *queue) await(ctx context.Context, w *waiter, timeout time.Duration) (Pick, error) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	var err error
	select {
	case <-w.served:
		return w.pick, w.err
	case <-timer.C:
		err = ErrBusy
	case <-ctx.Done():
		err = ctx.Err()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.flows, w)
	if i < 0 {
		return w.pick, w.err // served at this very moment
	}
	q.remove(i)
	q.overflow.Add(1)
	return Pick{}, err
}

// remove takes a waiter out. q.mu is held.
func (q *queue) remove(i int) {
	if i == 0 {
		q.flows[0] = nil
		q.flows = q.flows[1:]
	} else {
		q.flows = slices.Delete(q.flows, i, i+1)
	}
	q.waiting.Add(-1)
}

// serve gives backends with room to the flows that wait.
func (q *queue) serve() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.serveLocked()
}

// serveLocked serves in order, but not everybody can use what is free: a flow does
// not go again to a backend that it has tried. q.mu is held.
func (q *queue) serveLocked() {
	var refused []*Flow
	for i := 0; i < len(q.flows); {
		w := q.flows[i]
		if slices.ContainsFunc(refused, w.flow.triedAll) {
			i++
			continue
		}
		pick, err := q.choose(w.flow)
		if err == ErrBusy {
			if w.flow.tries == 0 {
				return // nothing is free, whoever asks
			}
			refused = append(refused, w.flow)
			i++
			continue
		}
		if err == ErrNoBackend && q.stale() {
			return // which is not sure, and will be looked at again soon
		}
		w.pick, w.err = pick, err
		close(w.served)
		q.remove(i)
	}
}
