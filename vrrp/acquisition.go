package vrrp

import (
	"errors"
	"fmt"
	"time"
)

const (
	// handlerTime is for how long a call of a Handler may last. Addresses that
	// are not in place by then, counted from when the router became Active,
	// make it step down.
	handlerTime = 10 * time.Second
	// A router that could not get its addresses tries again after a second,
	// then after twice as long as the last time, up to a minute.
	firstRetry = time.Second
	lastRetry  = time.Minute
)

var errHandlerTime = errors.New("not in place after " + handlerTime.String())

// acquisition is what a Router knows of getting its addresses: an Active
// router without them would keep its peers from serving. It is guarded by
// conn.mu.
type acquisition struct {
	fault    string // why the router may not become Active, or ""
	last     uint64 // the id of the last attempt
	open     bool   // it has no result yet
	backoff  time.Duration
	watchdog *time.Timer
	retry    *time.Timer
}

// begin starts an attempt, which fails by itself when its time is up.
func (a *acquisition) begin(failed func(id uint64, err error)) (id uint64) {
	a.end()
	a.last++
	a.open = true
	id = a.last
	a.watchdog = time.AfterFunc(handlerTime, func() { failed(id, errHandlerTime) })
	return id
}

// end ends an attempt: its result does not matter any more.
func (a *acquisition) end() {
	a.open = false
	if a.watchdog != nil {
		a.watchdog.Stop()
	}
}

// stop ends everything.
func (a *acquisition) stop() {
	a.end()
	if a.retry != nil {
		a.retry.Stop()
	}
}

// acquired is told that the Handler has the addresses.
func (r *Router) acquired(id uint64) {
	r.conn.mu.Lock()
	defer r.conn.mu.Unlock()
	if a := &r.addresses; a.open && a.last == id {
		a.end()
		a.backoff = 0
	}
}

// acquireFailed makes the router step down, so that a peer takes over, and try
// again later.
func (r *Router) acquireFailed(id uint64, err error) {
	r.conn.mu.Lock()
	defer r.conn.mu.Unlock()
	a := &r.addresses
	if !a.open || a.last != id {
		return
	}
	a.end()
	a.backoff = min(max(2*a.backoff, firstRetry), lastRetry)
	a.fault = fmt.Sprintf("addresses: %v", err)
	a.retry = time.AfterFunc(a.backoff, r.retryAddresses)
	r.applyFaults()
}

// retryAddresses ends the fault of acquireFailed, but not while a call of the
// Handler still hangs: the next one could not be made.
func (r *Router) retryAddresses() {
	r.conn.mu.Lock()
	defer r.conn.mu.Unlock()
	a := &r.addresses
	switch {
	case r.phase != running:
	case r.work.busy():
		a.retry = time.AfterFunc(a.backoff, r.retryAddresses)
	default:
		a.fault = ""
		r.applyFaults()
	}
}
