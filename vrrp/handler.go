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
// A router learns more from a Handler that has further methods: those of [FaultSource],
// [Lessee], [Departer] and [Neighbourhood]. A Handler whose addresses can go while the router is
// Active, as those with a lease do, must be a FaultSource: without it the router stays
// Active and keeps its peers from serving. A struct that embeds a Handler has only the
// three methods below: it must have the further methods of its own, and pass these calls
// on.
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

// FaultSource is a [Handler] that knows in advance why it could not hold the addresses,
// such as an interface that is down. The faults keep the router out of the election, in
// the words given, and an Active router hands over. A router that took the addresses from
// a peer and then failed to hold them would leave no host with them.
//
// A router with a FaultSource stays out of the election until the first call of f.
type FaultSource interface {
	// WatchFaults has f called with all present faults, which may be none: once soon,
	// after every change, and when the reason of a failed Acquire may have gone. lost
	// is why addresses that were held were lost since the last call, or nil: the
	// election is then held anew. f is called by one goroutine at a time, with no lock
	// held, and does not block. f may be called once more after stop.
	WatchFaults(f func(lost error, faults []string)) (stop func())
}

// Lessee is a [Handler] whose addresses go by themselves when the process is not run for
// a while.
type Lessee interface {
	// Lapsed reports whether the addresses have gone, or are about to go, because the
	// process was not run. Lapsed is called when a Backup may have taken over because
	// the router was not run either. If Lapsed returns true the router becomes Backup
	// and sends nothing: no peer must wait for a router without addresses, or release
	// its own for one. Lapsed must return at once and not call the Router.
	Lapsed() bool
}

// Departer is a [Handler] whose addresses go by themselves when the process is not run for
// a while: see [Lessee].
type Departer interface {
	// Depart says that a planned hand-over begins, and that Release or Announce follows
	// within about that time. From now on another router may take the addresses much
	// sooner than a Backup would that hears nothing any more. So they should go as soon
	// as possible if the process is not run, until Announce says that this router goes on.
	Depart(ctx context.Context, within time.Duration) error
}

// maxTransitions bounds the queue for a Handler or an OnTransition that does not return.
const maxTransitions = 256

// depart is the kind of a task that calls Departer.Depart. No machine asks for that.
const depart = Changed + 1

// task is one call of a Handler or of OnTransition, which may block.
type task struct {
	kind       ActionKind    // Acquire, Announce, Release, Changed or depart
	transition Transition    // of Changed
	id         uint64        // of Acquire
	rival      time.Time     // of Release: when the successor was heard; zero: not known
	within     time.Duration // of depart
}

// worker is the queue between a machine and a goroutine that makes calls. A router has
// two workers, one for the Handler and one for OnTransition: an OnTransition that does
// not return must not keep addresses from being released. Changes of the state pass
// through both, so that OnTransition finds the addresses as they are after the change.
// A worker is never full: a Handler call is dropped, or cancelled if it is under way,
// when a later call makes it pointless, and of many changes the oldest are dropped.
type worker struct {
	mu      sync.Mutex
	changed *sync.Cond // queue or closed
	queue   []task
	closed  bool
	running ActionKind
	cancel  context.CancelFunc // of the running call
}

func newWorker() *worker {
	w := &worker{}
	w.changed = sync.NewCond(&w.mu)
	return w
}

// pushTask adds a task and never blocks.
func (w *worker) pushTask(e task) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch e.kind {
	case Release:
		w.overtakeCalls(Acquire, Announce, Release, depart)
	case Acquire:
		w.overtakeCalls(Acquire, Announce)
		if w.running == Release {
			w.cancel()
		}
	case Announce:
		w.removeKinds(Announce)
	case Changed:
		w.dropOldChange()
	}
	w.queue = append(w.queue, e)
	w.changed.Signal()
}

// overtakeCalls drops queued calls of these kinds, and cancels a running one.
func (w *worker) overtakeCalls(kinds ...ActionKind) {
	w.removeKinds(kinds...)
	if w.running != Release && slices.Contains(kinds, w.running) {
		w.cancel()
	}
}

func (w *worker) removeKinds(kinds ...ActionKind) {
	w.queue = slices.DeleteFunc(w.queue, func(e task) bool { return slices.Contains(kinds, e.kind) })
}

// dropOldChange drops the oldest change of the state if no other one has room.
func (w *worker) dropOldChange() {
	oldest, n := 0, 0
	for i, e := range slices.Backward(w.queue) {
		if e.kind == Changed {
			oldest, n = i, n+1
		}
	}
	if n >= maxTransitions {
		w.queue = slices.Delete(w.queue, oldest, oldest+1)
	}
}

// close ends the queue once it is empty.
func (w *worker) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.changed.Signal()
}

// nextTask waits for a task; false: the worker is closed and empty. A call of the Handler
// comes with its context, which ends when the call is overtaken or its time is up;
// endCall must follow that call.
func (w *worker) nextTask() (e task, ctx context.Context, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.queue) == 0 {
		if w.closed {
			return e, nil, false
		}
		w.changed.Wait()
	}
	e = w.queue[0]
	w.queue = slices.Delete(w.queue, 0, 1)
	if e.kind != Changed {
		ctx, w.cancel = context.WithTimeout(context.Background(), handlerTime)
		w.running = e.kind
	}
	return e, ctx, true
}

// endCall notes that a call of the Handler has returned.
func (w *worker) endCall() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cancel()
	w.running, w.cancel = 0, nil
}

// inCall reports whether a call is under way.
func (w *worker) inCall() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.running != 0
}

// reportTransitions calls onTransition for each change until the worker is closed.
func (w *worker) reportTransitions(onTransition func(Transition)) {
	for {
		e, _, ok := w.nextTask()
		if !ok {
			return
		}
		onTransition(e.transition)
	}
}

// runTask makes the call of one task, in Run's goroutine.
func (r *Router) runTask(ctx context.Context, e task) {
	if e.kind == Changed {
		if r.report != nil {
			r.news.pushTask(e)
		}
		return
	}
	began := time.Now()
	err := r.callHandler(ctx, e)
	overtaken := errors.Is(context.Cause(ctx), context.Canceled)
	r.work.endCall()
	if err == nil {
		r.logDeed(e, time.Since(began))
	}
	switch {
	case e.kind == Acquire && err == nil:
		r.acquired(e.id)
	case e.kind == Acquire:
		r.acquireFailed(e.id, err)
	case err != nil && !overtaken && e.kind == depart:
		r.log.Warn("the addresses outlive a process that is not run by longer than they should", "err", err)
	case err != nil && !overtaken:
		r.log.Error("addresses", "do", strings.ToLower(e.kind.String()), "err", err)
	}
}

// callHandler makes one call of the Handler.
func (r *Router) callHandler(ctx context.Context, e task) error {
	if r.handler == nil {
		return nil
	}
	switch e.kind {
	case depart:
		if d, ok := r.handler.(Departer); ok {
			return d.Depart(ctx, e.within)
		}
		return nil
	case Acquire:
		return r.handler.Acquire(ctx)
	case Announce:
		return r.handler.Announce(ctx)
	default:
		return r.handler.Release(ctx)
	}
}
