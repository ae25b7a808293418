package lb

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/lb/internal/reactor"
)

// nextBackend tries the next backend.
func (c *httpConn) nextBackend() {
	x := &c.t.x
	pick, err := x.cfg.Pool.pickInTurn(&x.flow)
	switch {
	case err == ErrBusy && x.cfg.Pool.config().Queue > 0:
		c.awaitPick()
	case err != nil:
		c.fail(x.acquireFailed(err))
	default:
		c.attempt(pick)
	}
}

// awaitPick waits for a backend in the pool's queue.
func (c *httpConn) awaitPick() {
	t, l := c.t, c.l
	c.state = connQueued
	pool, work := t.x.cfg.Pool, l.e.work
	flow := t.x.flow
	flow.Key = strings.Clone(flow.Key) // it may outlive the request
	w, err := pool.enqueue(&flow)      // now, the place is by the order of arrival
	if err != nil {
		c.fail(t.x.acquireFailed(err))
		return
	}
	t.wait = w
	serial := c.newAttempt()
	go func() {
		pick, err := pool.await(work, w, nil) // the loop looks at the client
		if !l.Post(func() {
			if c.attempts != serial || c.t == nil {
				pick.Done(Neutral)
				return
			}
			c.t.wait = nil
			if err != nil {
				c.fail(c.t.x.acquireFailed(err))
				return
			}
			c.t.x.flow = flow
			c.attempt(pick)
		}) {
			pick.Done(Neutral)
		}
	}()
	c.lookAtClient() // the end may have come before
}

// newAttempt returns the serial of an attempt: what a goroutine brings for an earlier one
// comes too late.
func (c *httpConn) newAttempt() int32 {
	c.attempts++
	return c.attempts
}

// attempt sends the request to a picked backend.
func (c *httpConn) attempt(pick Pick) {
	t := c.t
	t.x.begin(pick)
	t.kept, t.owned, t.sent, t.heard = false, false, false, false
	if pick.isCut() { // while the request waited in the queue
		c.failAttempt(errDown)
		return
	}
	if b := c.takeKept(); b != nil {
		t.back, t.kept = b, true
		c.useBackend()
		return
	}
	c.connect()
}

// destination returns which connections the request may use.
func (c *httpConn) destination() destination { return c.t.x.destination() }

// takeKept returns a kept connection for the request; nil: a new one is needed.
func (c *httpConn) takeKept() *backendConn {
	x, to := &c.t.x, c.destination()
	if b := c.bound; b != nil && b.to == to {
		// Another connection would not be authenticated, so there is no choice.
		c.bound = nil
		if b.fd >= 0 && !b.ending && !b.broken && !b.hasUnread() {
			c.t.owned = true // and stays so, though no later request has credentials
			return b
		}
		b.drop()
	}
	limit := x.keptFor()
	switch {
	case limit == 0:
		return nil
	case to.header != "":
		return c.owned.take(to, limit, !idempotent(x.req.Method))
	}
	return c.l.takeIdle(to, limit, !idempotent(x.req.Method))
}

// connect connects to the picked backend.
func (c *httpConn) connect() {
	t := c.t
	x := &t.x
	t.started = c.l.Now()
	a := x.pick.member.addrPort
	if !a.IsValid() || x.cfg.dialer.tlsFor(x.pick) != nil {
		c.state = connDialing
		c.dialSlowly(x.pick)
		return
	}
	c.state = connConnecting
	b, errno := c.l.dialBackend(a, c)
	if errno != 0 {
		c.failAttempt(errno)
		return
	}
	b.to, t.back = c.destination(), b
	b.armTimer(x.cfg.ConnectTimeout)
	c.lookAtClient()
}

// connected goes on when the backend has taken the connection, or refused.
func (c *httpConn) connected() {
	b := c.t.back
	if err := b.connectError(c.t.x.pick.member.addrPort); err != nil {
		c.failAttempt(err)
		return
	}
	c.useBackend()
}

// useBackend sends the request, or as much of it as has come, on a connection.
func (c *httpConn) useBackend() {
	t, b := c.t, c.t.back
	x := &t.x
	if !t.kept {
		x.pick.Connected(time.Duration(c.l.Now() - t.started))
	}
	x.record.Connect = time.Duration(c.l.Now() - int64(x.record.Start.Sub(reactor.Time(0))))
	b.user, b.state, b.to = c, backendBusy, c.destination()
	b.in = nil
	c.state, t.awaited = connRelaying, 0
	t.at, t.uploaded, t.stopped, t.heads = t.body, false, false, 0
	t.res.Reset() // an earlier attempt may have left a part of a head
	if t.heldAt = 0; t.held == nil {
		t.up.begin(t.req.Length, t.up.reframe)
	}
	t.expecting = x.expect && t.hasBody() && !t.asked
	c.l.out = c.l.out[:0]
	if !t.kept && b.to.tls == nil {
		c.l.out = append(c.l.out, b.to.header...)
	}
	c.l.out = x.appendRequest(c.l.out, t.hasBody() && x.length != 0, t.expecting)
	out := c.l.out
	switch {
	case !t.hasBody():
		t.uploaded = true
	case t.expecting:
		c.armTimer(continueWithin)
	default:
		var ok bool
		if t.held != nil {
			out, ok = c.takeHeld(out, copiedWithHead)
		} else {
			out, ok = c.takeBody(out, len(c.in))
		}
		if !ok {
			return
		}
	}
	t.sent = true
	if errno := b.write(out); errno != 0 {
		c.stopUpload()
	}
	if t.uploaded || b.full() {
		b.armTimer(x.cfg.Timeout)
	} else {
		c.l.timers.Stop(&b.timer) // of the attempt to connect: now the client is awaited
	}
	c.relay()
}

// errBackendLate: a backend has been silent for too long.
var errBackendLate = os.ErrDeadlineExceeded

// backendLate ends an attempt, or a response, whose backend has been silent for too long.
func (c *httpConn) backendLate() {
	if c.t.responded {
		c.breakOff(errBackendLate)
		return
	}
	c.failAttempt(errBackendLate)
}

// attemptNow returns what has become of the present attempt.
func (c *httpConn) attemptNow(err error) attempt {
	t := c.t
	a := attempt{sent: t.sent, heard: t.heard, replayable: !t.dropped && t.broken == nil, broken: t.broken}
	if err == errDown || err == errCut {
		a.cut = err
	}
	return a
}

// failAttempt ends an attempt without a response, and maybe makes another one.
func (c *httpConn) failAttempt(err error) {
	t := c.t
	x, a := &t.x, c.attemptNow(err)
	connecting := t.back == nil || t.back.state == backendConnecting
	c.dropBackend()
	t.res.Reset() // the rest of a head will not come
	if connecting && starved(err) && !t.starved && c.l.dropIdle(nil) {
		// This host is out of descriptors or memory, and no backend is to blame.
		t.starved = true
		c.state = connStarved
		c.l.in.counters.starved.Add(1)
		c.armTimer(starvedFor)
		return
	}
	if t.kept {
		var again bool
		if again, err = x.keptFailed(err, a); again {
			t.kept, t.owned, t.sent = false, false, false
			c.connect()
			return
		}
	}
	if x.attemptFailed(err, a, c.l.time()) {
		c.nextBackend()
		return
	}
	c.fail(x.last)
}

// dropBackend closes the connection of the present attempt, or gives up to make one.
func (c *httpConn) dropBackend() {
	t := c.t
	c.newAttempt()
	if t.expecting { // and nobody is left who could ask
		t.expecting = false
		c.l.timers.Stop(&c.timer)
	}
	if c.state == connStarved {
		c.l.in.counters.starved.Add(-1)
		c.state = connDialing
	}
	if t.giveUp != nil {
		t.giveUp()
		t.giveUp = nil
	}
	if t.wait != nil {
		_, _ = t.x.cfg.Pool.queue.giveUp(t.wait, errLeft) // a pick is its goroutine's
		t.wait = nil
	}
	if t.back != nil {
		t.back.drop()
		t.back = nil
	}
}

// freeBackend gives the connection up after a whole response: other requests may use it if
// request and response have both been transferred to their end.
func (c *httpConn) freeBackend() {
	t, b := c.t, c.t.back
	t.back = nil
	t.dropHeld()
	b.settle() // an early response may have come before the end of the turn
	switch {
	case !t.uploaded || t.stopped || t.res.Close || t.excess || b.full():
		b.drop()
	case t.x.private && b.readable && b.spoilt():
		b.drop()
	case t.x.private:
		c.l.timers.Stop(&b.timer)
		b.user, b.state, b.in = nil, backendIdle, nil
		if c.bound != nil {
			c.bound.drop()
		}
		c.bound = b
	case t.x.cfg.Reuse == ReuseNever:
		b.drop()
	case b.to.header != "":
		c.keepOwned(b)
	default:
		c.l.keepIdle(b)
	}
}

// lookAtClient reports whether the client is still there. One that has ended its half of the
// connection may be: it gets its response.
func (c *httpConn) lookAtClient() bool {
	t := c.t
	switch {
	case c.broken:
		c.leave(errLeft)
		return false
	case c.ending && !t.responded && !c.ahead && !c.awaitsBody() && !t.expecting:
		// Closed, or half closed? What comes first of the response tells, if it takes long.
		if !c.timer.IsSet() {
			c.armTimer(soundAfter)
		}
	}
	return true
}

// sound makes the client show whether it still is there: see proxiedConn.
func (c *httpConn) sound() {
	if t := c.t; c.ending && !t.responded && !c.ahead && !c.full() {
		c.ahead = c.write([]byte("H")) == 0
	}
}

// leave ends a request whose client has left, or does not take its response.
func (c *httpConn) leave(err error) {
	t := c.t
	if errno, ok := err.(unix.Errno); ok && errno == 0 {
		err = errLeft
	}
	c.dropBackend()
	if t.responded {
		t.x.brokenOff(errClient{err}, attempt{left: true})
	} else {
		t.x.unserved(err)
		t.x.told.Left = true
	}
	t.x.close(c.l.time())
	c.abortConn()
}

// abortConn closes the connection so that the client takes nothing for complete.
func (c *httpConn) abortConn() {
	c.end()
	c.abort()
}

// cut ends the request, or, if that is because of its backend alone and there is no response
// yet, goes on with another backend.
func (c *httpConn) cut(backend bool) {
	t := c.t
	if t == nil || c.state == connHead {
		if !backend {
			c.hangUp()
		}
		return
	}
	err := errCut
	if backend {
		err = errDown
	}
	switch c.state {
	case connBuffering:
		if !backend { // there is none
			c.fail(err)
		}
	case connLogin, connDialing, connConnecting, connRelaying, connStarved, connQueued:
		switch {
		case t.responded:
			c.breakOff(err)
		case backend:
			c.failAttempt(err)
		default:
			c.fail(err)
		}
	case connFlushing:
		if !backend { // which has nothing to do with the response any more
			c.leave(err)
		}
	default:
		if !backend {
			c.hangUp()
		}
	}
}
