package lb

import (
	"errors"

	"github.com/havip/havip/lb/internal/h1"
)

// httpTurn is one request, and the response to it.
type httpTurn struct {
	x            exchange
	req          h1.Request
	res          h1.Response
	up, down     bodyStream // the bodies of both
	duct, upDuct duct       // of bulk in down and up
	held         *heldBody  // what has come of up before there was a backend; nil: nothing is held
	turnState
}

// turnState is what is known of a request at the moment.
type turnState struct {
	// Of the request.
	begun   bool  // its head came in pieces, for which there is a time
	body    int   // where in httpConn.in the body begins
	pace    pace  // at which the body comes
	awaited int64 // when waiting for more of it began; 0: nobody does
	broken  error // why the body cannot be read to its end
	dropped bool  // not all of the body was kept, so there is no further attempt
	asked   bool  // the client has been told to send the body
	starved bool  // this host was out of descriptors or memory

	// Of the present attempt.
	back      *backendConn // nil: not connected
	wait      *waiter      // in the pool's queue
	giveUp    func()       // ends an attempt to connect
	started   int64        // when connecting began
	at        int          // how much of httpConn.in the backend has got,
	heldAt    int64        // and of the held body
	kept      bool         // back has served another request before
	owned     bool         // back belongs to the client already
	expecting bool         // the body waits until the backend asks for it
	uploaded  bool         // the whole request has gone out
	stopped   bool         // the backend takes no more of the request
	sent      bool         // some of it has gone out
	heard     bool         // something has come back
	heads     int          // bytes of heads that have come back

	// Of the response.
	responded bool   // its head has gone out
	excess    bool   // bytes follow it
	page      []byte // what is still to come of an answer made here; nobody changes it
}

// reset makes t fit for another request. What it holds of memory stays.
func (t *httpTurn) reset() {
	t.req.Reset()
	t.res.Reset()
	t.x.forget()
	t.turnState = turnState{}
}

// beginRequest begins with a request whose head is complete.
func (c *httpConn) beginRequest() {
	t, l := c.t, c.l
	x, cfg := &t.x, l.e.settings()
	if !l.e.inLoops(cfg) {
		c.handOver()
		return
	}
	c.requests++
	l.timers.Stop(&c.timer)
	x.open(cfg, l.e.count(), &c.origin, &t.req, l.time())
	t.up.begin(t.req.Length, t.req.Length == h1.Chunked)
	c.leaves = t.req.Close && (t.req.Minor == 0 || anyToken(t.req.Fields, h1.Connection, "close"))
	c.last = t.req.Close || l.e.leaving.Load() || cfg.lastOfConnection(c.requests)
	if status := x.refusal(); status != 0 {
		c.refuse(status)
		return
	}
	c.follow(x.decide())
}

// follow goes on as the rules have decided.
func (c *httpConn) follow(v verdict) {
	x := &c.t.x
	switch v {
	case awaitHere:
		c.awaitLogin()
		return
	case answerHere:
		c.answer(&x.reply)
		return
	case closeHere:
		c.t.dropHeld()
		c.quit = true
		c.flushThenEnd() // answers to what came before belong to the client
		return
	case refuseHere:
		x.refused(errors.New(x.reply.reason))
		c.answer(&x.reply)
		return
	}
	x.prepare()
	if c.bound != nil {
		x.flow.prefer = c.bound.to.server
	}
	if c.t.hasBody() && x.buffers() {
		c.beginBuffering()
		return
	}
	c.nextBackend()
}

// hasBody reports whether the request has a body.
func (t *httpTurn) hasBody() bool { return t.req.Length != 0 }

// endTurn ends a request that has been answered, and its response has gone out.
func (c *httpConn) endTurn() {
	t, l := c.t, c.l
	t.x.close(l.time())
	switch {
	case c.quit:
		c.hangUp()
	case t.hasBody() && !t.up.over:
		c.beginDraining()
	default:
		c.nextTurn()
	}
}

// nextTurn goes on with what follows a request that has been read to its end.
func (c *httpConn) nextTurn() {
	t, l := c.t, c.l
	n := copy(c.in, c.in[t.at:])
	if c.in, c.parsed = c.in[:n], 0; n == 0 {
		l.giveHead(c.in)
		c.in = nil
	}
	l.giveTurn(t)
	c.t = nil
	if c.last {
		c.beginLingering()
		return
	}
	c.state = connHead
	c.armTimer(l.e.conns().IdleTimeout)
	if n > 0 || c.readable || l.leaving {
		l.later(c) // others first
	}
}

// flushRest has the client take what is left of a response.
func (c *httpConn) flushRest() {
	n, errno := c.flush()
	switch {
	case errno != 0 || c.broken:
		c.leave(errno)
	case c.full():
		if n > 0 {
			c.armTimer(c.t.x.cfg.ClientTimeout)
		}
	default:
		c.sendPage()
	}
}
