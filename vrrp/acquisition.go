package vrrp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	// handlerTime bounds a call of a Handler: a router that does not have its addresses so
	// long after it became Active steps down.
	handlerTime = 10 * time.Second
	// A router that could not get its addresses tries again after a second, and then
	// after twice the last pause. The longest pause is an hour while another router
	// serves, since each attempt takes the addresses away from that router, and ten
	// seconds while no router does.
	firstRetry  = time.Second
	lastRetry   = time.Hour
	lonelyRetry = 10 * time.Second
	// hopefulRetries divides the pause when the FaultSource has reported no fault since the
	// failure. Not zero: that report need not be about the cause of the failure, and each
	// attempt may bring about another report.
	hopefulRetries = 60
)

// notReady is the fault of a router whose FaultSource has not called f yet.
const notReady = "addresses: not ready yet"

var errHandlerTime = errors.New("not in place after " + handlerTime.String())

// acquisition is the state of a Router's attempts to get its addresses: an Active router
// without them would keep its peers from serving. Guarded by conn.mu.
type acquisition struct {
	foreseen []string // the faults that the Handler reports as a FaultSource
	heard    bool     // the Handler has reported at least once
	fault    string   // why the last attempt failed, or ""
	last     uint64   // the id of the last attempt
	open     bool     // the last attempt has no result yet
	backoff  time.Duration
	failedAt time.Time
	hope     bool        // something has changed since the failure
	timer    *time.Timer // bounds the attempt, or the wait for the next one; or nil
}

// beginAttempt starts an attempt. failed is called if it has no result in time.
func (a *acquisition) beginAttempt(failed func(id uint64, err error)) (id uint64) {
	a.last++
	a.open = true
	id = a.last
	a.setTimer(handlerTime, func() { failed(id, errHandlerTime) })
	return id
}

// endAttempt ends an attempt: a later result is ignored.
func (a *acquisition) endAttempt() {
	if a.open {
		a.open = false
		a.timer.Stop()
	}
}

// setTimer makes f the only call that waits for its time.
func (a *acquisition) setTimer(d time.Duration, f func()) {
	if a.timer != nil {
		a.timer.Stop()
	}
	a.timer = time.AfterFunc(d, f)
}

// acquired notes that the Handler has the addresses.
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
	r.useMachineLocked(r.setFaults) // ends an attempt that the group has brought about meanwhile
	a.setTimer(firstRetry, r.retryAddresses)
}

// retryAddresses ends the fault of acquireFailed when its pause is over.
func (r *Router) retryAddresses() {
	r.conn.mu.Lock()
	defer r.conn.mu.Unlock()
	r.retryIfDue()
}

// retryIfDue is retryAddresses with conn.mu held. It waits while a call of the Handler
// hangs: the next one could not be made.
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
		a.setTimer(firstRetry, r.retryAddresses)
		return
	}
	a.fault = ""
	r.useMachineLocked(r.setFaults)
}

// hearsActive reports whether advertisements of an Active router still arrive. The
// machine of a router with a fault does not listen. conn.mu is held.
func (r *Router) hearsActive(now time.Time) bool {
	return slices.ContainsFunc(r.status.peers, func(p Peer) bool {
		patience := max(time.Duration(r.cfg.DownMultiplier+1)*p.Interval, firstRetry)
		return p.Priority > 0 && now.Sub(p.LastHeard) < patience
	})
}

// watchHandler makes the faults of a FaultSource faults of the router until stop is
// called. It returns after the first report, or when ctx has ended, or after handlerTime:
// hundreds of routers may start at once. Meanwhile the router has no fault, since a fault
// would be the whole group's.
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
		r.useMachineLocked(r.setFaults)
	}
	return stop
}

// noteFaults takes in one report of a FaultSource.
func (r *Router) noteFaults(lost error, faults []string) {
	r.conn.mu.Lock()
	defer r.conn.mu.Unlock()
	if lost != nil {
		r.loseAddresses(lost)
	}
	a := &r.addresses
	a.foreseen, a.heard = slices.Clone(faults), true
	a.hope = a.fault != "" && len(faults) == 0
	r.useMachineLocked(r.setFaults)
	r.retryIfDue()
}

// loseAddresses makes an Active router step down because its addresses are gone. A router
// that was also not run for too long steps down as stalled, and has no fault. conn.mu is
// held.
func (r *Router) loseAddresses(why error) {
	active := false
	r.useMachineLocked(func(now time.Time) (actions []Action) {
		if r.machine.State() == Active { // a Backup must hear first what has arrived
			actions = r.machine.Tick(now)
		}
		active = r.machine.State() == Active
		return actions
	})
	if active {
		r.addresses.foreseen = []string{fmt.Sprintf("addresses: %v", why)}
		r.useMachineLocked(r.setFaults)
	}
}
