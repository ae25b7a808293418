package vrrp

import (
	"context"
	"slices"
	"sync"
)

// maxTransitions bounds what waits for a Handler or an OnTransition that does not
// return.
const maxTransitions = 256

// task is something that may block, for a goroutine of its own to do.
type task struct {
	kind       ActionKind // Acquire, Announce, Release or Changed
	transition Transition // of Changed
	id         uint64     // of Acquire
}

// worker is the queue between a machine and a goroutine that may be blocked. A
// router has two: one whose goroutine calls the Handler, and one for what is
// told to others, so that an OnTransition that does not return leaves no address
// where it must not be. It is never full: a call of the
// Handler that a later one makes pointless is taken back, or cancelled if it is
// under way, and of the others the oldest are forgotten.
type worker struct {
	ready chan struct{} // has room for one; filled when there is something new

	mu      sync.Mutex
	queue   []task
	closed  bool
	running ActionKind
	cancel  context.CancelFunc // of the running call
}

func newWorker() *worker { return &worker{ready: make(chan struct{}, 1)} }

// push adds a task and never blocks.
func (w *worker) push(e task) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch e.kind {
	case Release:
		w.overtake(Acquire, Announce, Release)
	case Acquire:
		w.overtake(Acquire, Announce)
		if w.running == Release {
			w.cancel()
		}
	case Announce:
		w.remove(Announce)
	case Changed:
		w.trim(Changed, maxTransitions-1)
	}
	w.queue = append(w.queue, e)
	w.signal()
}

// overtake ends all calls of these kinds.
func (w *worker) overtake(kinds ...ActionKind) {
	w.remove(kinds...)
	if w.running != Release && slices.Contains(kinds, w.running) {
		w.cancel()
	}
}

func (w *worker) remove(kinds ...ActionKind) {
	w.queue = slices.DeleteFunc(w.queue, func(e task) bool { return slices.Contains(kinds, e.kind) })
}

// trim keeps at most n tasks of a kind, the latest ones.
func (w *worker) trim(kind ActionKind, n int) {
	have := 0
	for _, e := range w.queue {
		if e.kind == kind {
			have++
		}
	}
	w.queue = slices.DeleteFunc(w.queue, func(e task) bool {
		if e.kind != kind || have <= n {
			return false
		}
		have--
		return true
	})
}

func (w *worker) signal() {
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

// close ends the queue once it is empty.
func (w *worker) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.signal()
}

// next waits for a task; false: there will be no more. With a call of the
// Handler comes its context, which ends when the call is overtaken or its time
// is up, and done is to be called after it.
func (w *worker) next() (task, context.Context, bool) {
	for {
		w.mu.Lock()
		if len(w.queue) > 0 {
			e := w.queue[0]
			w.queue = slices.Delete(w.queue, 0, 1)
			var ctx context.Context
			switch e.kind {
			case Acquire, Announce, Release:
				ctx, w.cancel = context.WithTimeout(context.Background(), handlerTime)
				w.running = e.kind
			}
			w.mu.Unlock()
			return e, ctx, true
		}
		closed := w.closed
		w.mu.Unlock()
		if closed {
			return task{}, nil, false
		}
		<-w.ready
	}
}

// done ends a call of the Handler.
func (w *worker) done() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cancel()
	w.running, w.cancel = 0, nil
}

// busy tells whether a call is under way.
func (w *worker) busy() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.running != 0
}

// report tells whatever comes until the queue is closed.
func (w *worker) report(onTransition func(Transition)) {
	for {
		e, _, ok := w.next()
		if !ok {
			return
		}
		onTransition(e.transition)
	}
}
