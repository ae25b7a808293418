package vrrp

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"
)

// Handler owns the addresses of one virtual router. A [Router] calls its
// methods one at a time, from one goroutine, never while another call is under
// way, and never from the goroutine that keeps the protocol's timers: a slow
// Handler delays no advertisement.
//
// ctx ends when the call is overtaken by a later one or its time is up.
//
// A router learns more from a Handler that has further methods: those of
// [FaultSource], [Lessee] and [Neighbourhood]. A Handler whose addresses can go while
// the router is Active, as those with a lease do, must be a FaultSource: without it
// the router stays Active and keeps its peers from serving. A struct that embeds a
// Handler has only the three methods below, and must pass the others on.
type Handler interface {
	// Acquire puts the addresses on the interface. A Handler that cannot hold
	// them returns an error: the router then steps down, so that a peer takes
	// over, and tries again later.
	Acquire(ctx context.Context) error
	// Announce tells the link where the addresses are now. It follows Acquire,
	// and is called again while another router is Active as well, at most once a
	// second, and when a split of the link has healed. It returns
	// without waiting for repetitions that it schedules.
	Announce(ctx context.Context) error
	// Release takes the addresses off the interface. It is called when the
	// router stops being Active, and may be called when it never was.
	Release(ctx context.Context) error
}

// FaultSource is what a [Handler] may be as well: one that knows without trying
// why it could not hold the addresses now, such as an interface that is down.
// Its faults keep the router out of the election, in the words given, and an
// Active router hands over: to take addresses from a peer only to find that they
// cannot be had would leave nobody with them.
//
// A router with such a Handler takes no part before the first word from it.
type FaultSource interface {
	// WatchFaults has f called with all faults that there are, none included:
	// once soon, whenever they change, and when what Acquire failed for may have
	// gone. lost is why addresses were lost that were held, so that the election must
	// be held anew; nil: none were since the last call. f is called by one goroutine
	// at a time, with no lock held, and does not block. It may be called once more
	// after stop.
	WatchFaults(f func(lost error, faults []string)) (stop func())
}

// Lessee is what a [Handler] may be as well: one whose addresses go by themselves
// when it is not run for a while.
type Lessee interface {
	// Lapsed reports whether the addresses have gone, or are about to, because the
	// Handler was not run. It is asked when a Backup may have taken over because the
	// router was not run either. If so the router becomes Backup without a word: a
	// peer must not wait for, or let go of the addresses for, one that has none. It
	// must return at once and not call the Router.
	Lapsed() bool
}

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

// pushTask adds a task and never blocks.
func (w *worker) pushTask(e task) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch e.kind {
	case Release:
		w.overtakeCalls(Acquire, Announce, Release)
	case Acquire:
		w.overtakeCalls(Acquire, Announce)
		if w.running == Release {
			w.cancel()
		}
	case Announce:
		w.removeKinds(Announce)
	case Changed:
		w.trim(Changed, maxTransitions-1)
	}
	w.queue = append(w.queue, e)
	w.signal()
}

// overtakeCalls ends all calls of these kinds.
func (w *worker) overtakeCalls(kinds ...ActionKind) {
	w.removeKinds(kinds...)
	if w.running != Release && slices.Contains(kinds, w.running) {
		w.cancel()
	}
}

func (w *worker) removeKinds(kinds ...ActionKind) {
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

// nextTask waits for a task; false: there will be no more. With a call of the
// Handler comes its context, which ends when the call is overtaken or its time
// is up, and done is to be called after it.
func (w *worker) nextTask() (task, context.Context, bool) {
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

// endCall ends a call of the Handler.
func (w *worker) endCall() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cancel()
	w.running, w.cancel = 0, nil
}

// inCall tells whether a call is under way.
func (w *worker) inCall() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.running != 0
}

// reportTransitions tells whatever comes until the queue is closed.
func (w *worker) reportTransitions(onTransition func(Transition)) {
	for {
		e, _, ok := w.nextTask()
		if !ok {
			return
		}
		onTransition(e.transition)
	}
}

// runTask does the work of one task in Run's goroutine. Whoever is told of a
// transition finds the addresses as they are after it.
func (r *Router) runTask(ctx context.Context, e task) {
	if e.kind == Changed {
		if r.report != nil {
			r.news.pushTask(e)
		}
		return
	}
	began := time.Now()
	err := r.callHandler(ctx, e.kind)
	overtaken := errors.Is(context.Cause(ctx), context.Canceled)
	r.work.endCall()
	if err == nil {
		r.logDeed(e.kind, time.Since(began))
	}
	switch {
	case e.kind == Acquire && err == nil:
		r.acquired(e.id)
	case e.kind == Acquire:
		r.acquireFailed(e.id, err)
	case err != nil && !overtaken:
		r.log.Error("addresses", "do", strings.ToLower(e.kind.String()), "err", err)
	}
}

// callHandler makes one call of the Handler.
func (r *Router) callHandler(ctx context.Context, kind ActionKind) error {
	if r.handler == nil {
		return nil
	}
	switch kind {
	case Acquire:
		return r.handler.Acquire(ctx)
	case Announce:
		return r.handler.Announce(ctx)
	default:
		return r.handler.Release(ctx)
	}
}
