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
	waiting  atomic.Int64
	waits    atomic.Uint64
	overflow atomic.Uint64

	mu   sync.Mutex
	flow []*waiter
}

// waiter is one flow in the queue.
type waiter struct {
	flow   *Flow
	pick   Pick // Valid once served is closed, like err.
	err    error
	served chan struct{}
}

// Acquire is Pick, but waits in the pool's queue while all backends are at their
// MaxConns, until ctx ends or QueueTimeout has passed: ErrBusy. What becomes free
// goes to the flow that has waited longest of those that have not tried it before.
// nil stands for a new Flow.
func (p *Pool) Acquire(ctx context.Context, f *Flow) (Pick, error) {
	if f == nil {
		f = new(Flow)
	}
	k, err := p.pickInTurn(f)
	if err != ErrBusy || p.config().Queue == 0 {
		return k, err
	}
	w, err := p.enqueue(f)
	if err != nil {
		return Pick{}, err
	}
	return p.wait(ctx, w)
}

// pickInTurn is Pick for a flow that could wait: those who do go first.
func (p *Pool) pickInTurn(f *Flow) (Pick, error) {
	if p.queue.waiting.Load() == 0 {
		return p.Pick(f)
	}
	p.queue.mu.Lock()
	defer p.queue.mu.Unlock()
	p.serveLocked()
	return p.Pick(f)
}

// enqueue puts f at the end of the queue; ErrBusy if that is full.
func (p *Pool) enqueue(f *Flow) (*waiter, error) {
	p.queue.mu.Lock()
	defer p.queue.mu.Unlock()
	w := &waiter{flow: f, served: make(chan struct{})}
	p.queue.flow = append(p.queue.flow, w)
	p.queue.waiting.Add(1)
	// A pick may have been returned before waiting told of w.
	p.serveLocked()
	if last := len(p.queue.flow) - 1; last >= p.config().Queue && p.queue.flow[last] == w {
		p.remove(last)
		p.queue.overflow.Add(1)
		return nil, ErrBusy
	}
	p.queue.waits.Add(1)
	return w, nil
}

// wait returns what w is served with.
func (p *Pool) wait(ctx context.Context, w *waiter) (Pick, error) {
	timer := time.NewTimer(p.config().QueueTimeout)
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
	p.queue.mu.Lock()
	defer p.queue.mu.Unlock()
	i := slices.Index(p.queue.flow, w)
	if i < 0 {
		return w.pick, w.err // It was served at this very moment.
	}
	p.remove(i)
	p.queue.overflow.Add(1)
	return Pick{}, err
}

// remove takes a waiter out of the queue, whose lock is held.
func (p *Pool) remove(i int) {
	q := &p.queue
	if i == 0 {
		q.flow[0] = nil
		q.flow = q.flow[1:]
	} else {
		q.flow = slices.Delete(q.flow, i, i+1)
	}
	q.waiting.Add(-1)
}

// serveQueue gives backends to those who wait, as far as there are any.
func (p *Pool) serveQueue() {
	p.queue.mu.Lock()
	defer p.queue.mu.Unlock()
	p.serveLocked()
}

// serveLocked does so in order, but not everybody can use what is free: a flow
// does not go again to a backend that it has tried.
func (p *Pool) serveLocked() {
	var refused []*Flow
	for i := 0; i < len(p.queue.flow); {
		w := p.queue.flow[i]
		if slices.ContainsFunc(refused, w.flow.triedAll) {
			i++
			continue
		}
		k, err := p.Pick(w.flow)
		if err == ErrBusy {
			if w.flow.tries == 0 {
				return // Nothing is free, whoever asks.
			}
			refused = append(refused, w.flow)
			i++
			continue
		}
		w.pick, w.err = k, err
		close(w.served)
		p.remove(i)
	}
}

// triedAll tells whether f has tried whatever g has: if nothing is free for g,
// nothing is for f.
func (f *Flow) triedAll(g *Flow) bool {
	for _, s := range g.tried[:g.tries] {
		if !slices.Contains(f.tried[:f.tries], s) {
			return false
		}
	}
	return true
}
