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
	choose   func(*Flow) (k Pick, outdated bool, err error) // the pool's
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
	unsure atomic.Bool // its client may have left
}

// inTurn chooses for a flow that could wait. Flows that wait already go first.
func (q *queue) inTurn(f *Flow) (k Pick, outdated bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.serveLocked()
	return q.choose(f)
}

// add puts f at the end of the queue; ErrBusy if limit flows wait already. A flow whose
// client may have left makes room.
func (q *queue) add(f *Flow, limit int) (*waiter, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	w := &waiter{flow: f, served: make(chan struct{})}
	q.flows = append(q.flows, w)
	q.waiting.Add(1)
	// A pick may have been returned before waiting told of w.
	q.serveLocked()
	if last := len(q.flows) - 1; last >= limit && q.flows[last] == w {
		i := slices.IndexFunc(q.flows, func(w *waiter) bool { return w.unsure.Load() })
		if i < 0 {
			q.dismiss(last, ErrBusy)
			return nil, ErrBusy
		}
		q.dismiss(i, ErrBusy)
	}
	q.waits.Add(1)
	return w, nil
}

// await returns what w is served with, or why it is not until ctx ends, the timeout has
// passed, ErrBusy, or the client has left, errLeft. Nobody looks at the client if it is nil.
func (q *queue) await(ctx context.Context, w *waiter, timeout time.Duration, client waitingClient) (Pick, error) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	var looks <-chan time.Time
	pause := lookAfter
	if client != nil {
		looks = time.After(pause)
	}
	for {
		select {
		case <-w.served:
			return w.pick, w.err
		case <-timer.C:
			return q.giveUp(w, ErrBusy)
		case <-ctx.Done():
			return q.giveUp(w, ctx.Err())
		case <-looks:
			switch client.look() {
			case left:
				return q.giveUp(w, errLeft)
			case unsure:
				w.unsure.Store(true)
			}
			pause = min(2*pause, maxGlance)
			looks = time.After(pause)
		}
	}
}

// giveUp takes w out of the queue. It returns what w is served with at this very moment, or
// err.
func (q *queue) giveUp(w *waiter, err error) (Pick, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if i := slices.Index(q.flows, w); i >= 0 {
		q.dismiss(i, err)
	}
	return w.pick, w.err
}

// dismiss takes out a waiter that waited in vain. q.mu is held.
func (q *queue) dismiss(i int, err error) {
	w := q.flows[i]
	q.remove(i)
	q.overflow.Add(1)
	w.err = err
	close(w.served)
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
		pick, outdated, err := q.choose(w.flow)
		if err == ErrBusy {
			if w.flow.tries == 0 {
				return // nothing is free, whoever asks
			}
			refused = append(refused, w.flow)
			i++
			continue
		}
		if err == ErrNoBackend && outdated {
			return // publish will look again
		}
		w.pick, w.err = pick, err
		close(w.served)
		q.remove(i)
	}
}
