package vrrp

import "context"

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
