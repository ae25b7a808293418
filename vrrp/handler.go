package vrrp

import "context"

// Handler owns the addresses of one virtual router. A [Router] calls its
// methods one at a time, from one goroutine, never while another call is under
// way, and never from the goroutine that keeps the protocol's timers: a slow
// Handler delays no advertisement.
//
// ctx ends when the call is overtaken by a later one or its time is up.
type Handler interface {
	// Acquire puts the addresses on the interface. A Handler that cannot hold
	// them returns an error: the router then steps down, so that a peer takes
	// over, and tries again later.
	Acquire(ctx context.Context) error
	// Announce tells the link where the addresses are now. It follows Acquire,
	// and is called again when a split of the link has healed. It returns
	// without waiting for repetitions that it schedules.
	Announce(ctx context.Context) error
	// Release takes the addresses off the interface. It is called when the
	// router stops being Active, and may be called when it never was.
	Release(ctx context.Context) error
}
