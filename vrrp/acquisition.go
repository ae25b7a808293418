package vrrp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	// handlerTime is for how long a call of a Handler may last. Addresses that
	// are not in place by then, counted from when the router became Active,
	// make it step down.
	handlerTime = 10 * time.Second
	// A router that could not get its addresses tries again after a second, then
	// after twice as long as the last time: up to an hour while another router
	// serves, as each attempt takes the addresses away from that one, and up to
	// ten seconds while nobody does.
	firstRetry  = time.Second
	lastRetry   = time.Hour
	lonelyRetry = 10 * time.Second
	// Something has changed since: it need not be what was wrong, and may change
	// again with each attempt.
	hopefulRetries = 60
)

// notReady is the fault of a router whose Handler has not said a word yet.
const notReady = "addresses: not ready yet"

var errHandlerTime = errors.New("not in place after " + handlerTime.String())

// acquisition is what a Router knows of getting its addresses: an Active
// router without them would keep its peers from serving. It is guarded by
// conn.mu.
type acquisition struct {
	foreseen []string // what the Handler has to say as a FaultSource
	heard    bool     // it has said something
	fault    string   // why the last attempt failed, or ""
	last     uint64   // the id of the last attempt
	open     bool     // it has no result yet
	backoff  time.Duration
	failedAt time.Time
	hope     bool // something has changed since
	watchdog *time.Timer
	retry    *time.Timer
}

// beginAttempt starts an attempt, which fails by itself when its time is up.
func (a *acquisition) beginAttempt(failed func(id uint64, err error)) (id uint64) {
	a.endAttempt()
	a.last++
	a.open = true
	id = a.last
	a.watchdog = time.AfterFunc(handlerTime, func() { failed(id, errHandlerTime) })
	return id
}

// endAttempt ends an attempt: its result does not matter any more.
func (a *acquisition) endAttempt() {
	a.open = false
	if a.watchdog != nil {
		a.watchdog.Stop()
	}
}

// stopTimers ends everything.
func (a *acquisition) stopTimers() {
	a.endAttempt()
	if a.retry != nil {
		a.retry.Stop()
	}
}

// waitRetry has retry called after a while.
func (a *acquisition) waitRetry(retry func()) {
	if a.retry != nil {
		a.retry.Stop()
	}
	a.retry = time.AfterFunc(firstRetry, retry)
}

// acquired is told that the Handler has the addresses.
func (r *Router) acquired(id uint64) {
	r.conn.mu.Lock()
	defer r.conn.mu.Unlock()
	if a := &r.addresses; a.open && a.last == id {
		a.endAttempt()
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
	a.endAttempt()
	a.backoff = min(max(2*a.backoff, firstRetry), lastRetry)
	a.fault, a.failedAt, a.hope = fmt.Sprintf("addresses: %v", err), time.Now(), false
	a.waitRetry(r.retryAddresses)
	r.applyFaults()
}

// retryAddresses ends the fault of acquireFailed when it is time to.
func (r *Router) retryAddresses() {
	r.conn.mu.Lock()
	defer r.conn.mu.Unlock()
	r.retryIfDue()
}

// retryIfDue is retryAddresses with conn.mu held. While a call of the Handler hangs
// the next one could not be made.
func (r *Router) retryIfDue() {
	a := &r.addresses
	if r.phase != running || a.fault == "" {
		return
	}
	now, pause := time.Now(), a.backoff
	if !r.hearsActive(now) {
		pause = min(pause, lonelyRetry)
	}
	if a.hope {
		pause = min(pause, a.backoff/hopefulRetries)
	}
	if now.Sub(a.failedAt) < pause || r.work.inCall() {
		a.waitRetry(r.retryAddresses)
		return
	}
	a.fault = ""
	r.applyFaults()
}

// hearsActive reports whether another router is Active, as far as its advertisements
// tell: in a fault the machine does not listen. conn.mu is held.
func (r *Router) hearsActive(now time.Time) bool {
	return slices.ContainsFunc(r.status.peers, func(p Peer) bool {
		patience := max(time.Duration(r.cfg.DownMultiplier+1)*p.Interval, firstRetry)
		return p.Priority > 0 && now.Sub(p.LastHeard) < patience
	})
}

// watchHandler makes what the Handler knows without trying a fault, until stop is
// called. It waits for the Handler's first word until ctx ends, or handlerTime has
// passed: hundreds of routers may start at once. Meanwhile there is no fault, which
// would be one of the router's group.
func (r *Router) watchHandler(ctx context.Context) (stop func()) {
	source, ok := r.handler.(FaultSource)
	if !ok {
		return func() {}
	}
	first, told := context.WithTimeout(ctx, handlerTime)
	defer told()
	stop = source.WatchFaults(func(lost error, faults []string) {
		r.noteFaults(lost, faults)
		told()
	})
	<-first.Done()
	r.conn.mu.Lock()
	defer r.conn.mu.Unlock()
	if a := &r.addresses; !a.heard && ctx.Err() == nil {
		a.foreseen = []string{notReady}
		r.applyFaults()
	}
	return stop
}

// noteFaults takes in what the Handler has to say as a FaultSource.
func (r *Router) noteFaults(lost error, faults []string) {
	r.conn.mu.Lock()
	defer r.conn.mu.Unlock()
	if lost != nil {
		r.loseAddresses(lost)
	}
	a := &r.addresses
	a.foreseen, a.heard = slices.Clone(faults), true
	a.hope = a.fault != "" && len(faults) == 0
	r.applyFaults()
	r.retryIfDue()
}

// loseAddresses makes an Active router step down whose addresses are gone. One that did not run
// finds that out first, and then there is no other fault. conn.mu is held.
func (r *Router) loseAddresses(why error) {
	active := false
	r.useMachineLocked(func(now time.Time) (actions []Action) {
		if r.machine.State() == Active { // a Backup first hears what has arrived
			actions = r.machine.Tick(now)
		}
		active = r.machine.State() == Active
		return actions
	})
	if active {
		r.addresses.foreseen = []string{fmt.Sprintf("addresses: %v", why)}
		r.applyFaults()
	}
}
