package lb

import (
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/lb/internal/h1"
	"github.com/havip/havip/lb/internal/reactor"
)

// httpConn is a client's connection in an event loop: one request after the other.
type httpConn struct {
	sock
	state   connState
	arrival arrival
	origin  requestOrigin
	timer   reactor.Timer[timed]

	in     []byte    // what the client has sent, from the present request on; nil: nothing
	parsed int       // how much of it was found to be no whole head
	t      *httpTurn // the present request; nil: none has begun

	bound    *backendConn // which NTLM or Negotiate has authenticated for this client; nil: none
	owned    *keptConns   // whose PROXY header names the client; nil: there were none
	attempts int32        // serial of the latest attempt that waits for a goroutine
	requests int          // that have begun
	last     bool         // the connection ends with the present response
	leaves   bool         // because the client has asked for that
	ahead    bool         // the first byte of the present response has gone out, by sound
	queued   bool         // in the loop's runq
	quit     bool         // close once what is pending has gone out
}

// connState is what a client's connection is about.
type connState uint8

const (
	connHead       connState = iota // the head of a request is awaited
	connLogin                       // a password is verified, in a goroutine
	connBuffering                   // its body, before there is a backend
	connQueued                      // a backend with room
	connStarved                     // descriptors or memory of this host
	connDialing                     // a connection to a backend, in a goroutine,
	connConnecting                  // or here
	connRelaying                    // request and response are under way
	connFlushing                    // the client has yet to take the rest of the response
	connDraining                    // the rest of the request's body is thrown away
	connLingering                   // what still comes is thrown away until the client ends
	connClosed
)

// httpTurn is one request, and the response to it.
type httpTurn struct {
	x            exchange
	req          h1.Request
	res          h1.Response
	up, down     bodyStream        // the bodies of both
	duct, upDuct duct              // of bulk in down and up
	trailer      h1.TrailerSection // of up, and then of down
	held         *heldBody         // what has come of up before there was a backend; nil: nothing is held
	turnState
}

// turnState is what is known of a request at the moment.
type turnState struct {
	// Of the request.
	begun   bool  // its head came in pieces, for which there is a time
	body    int   // where in httpConn.in the body begins
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
	responded bool // its head has gone out
	excess    bool // bytes follow it
}

// reset makes t fit for another request. What it holds of memory stays.
func (t *httpTurn) reset() {
	t.req.Reset()
	t.res.Reset()
	t.x.cfg, t.x.hook, t.x.pick, t.x.last = nil, nil, Pick{}, nil // of an earlier configuration, maybe
	t.turnState = turnState{}
}

// openConn serves a connection whose client has said nothing that counts as yet.
func (l *httpLoop) openConn(a arrival) {
	c := new(httpConn)
	if l.watchConn(c, &a) {
		c.begin(a, nil)
	}
}

// watchConn has the loop watch a connection; false if that cannot be, and it is closed.
func (l *httpLoop) watchConn(c *httpConn, a *arrival) bool {
	if errno := c.watch(l, a.fd, c); errno != 0 {
		a.cfg.gate.log.Warn("connection not served", "client", a.origin.client, "err", errno)
		l.dismiss(*a)
		return false
	}
	if !a.origin.local.IsValid() {
		a.origin.local = l.LocalAddr(a.fd)
	}
	return true
}

// begin begins to serve the connection, which is watched. secure: there is TLS.
func (c *httpConn) begin(a arrival, secure *tls.ConnectionState) {
	c.arrival, c.in, c.arrival.early = a, a.early, nil
	c.origin = newRequestOrigin(a.origin.client, a.origin.local, secure)
	// A request hardly comes together with its connection: the loop's next look at all sockets
	// costs less than a read of nothing. What TLS has read ahead is no event.
	c.writable, c.readable, c.nodelay = true, secure != nil, true
	c.armTimer(c.l.e.conns().HeaderTimeout)
	c.readHead()
}

// armTimer has the connection expire after d, unless something happens before.
func (c *httpConn) armTimer(d time.Duration) {
	c.timer.Owner = c
	c.l.timers.Set(&c.timer, c.l.Now(), d)
}

// handleEvents goes on with a connection that something has happened to.
func (c *httpConn) handleEvents() {
	switch c.state {
	case connHead:
		c.readHead()
	case connBuffering:
		c.bufferBody()
	case connRelaying:
		if c.lookAtClient() {
			c.relay()
		}
	case connFlushing:
		c.flushRest()
	case connDraining:
		c.drain()
	case connLingering:
		c.linger()
	case connClosed:
	default:
		c.lookAtClient()
	}
}

// Why there is no more of a head than a part.
var (
	errHeadLate  = errors.New("head of a request did not come in time")
	errHeadShort = errors.New("client left before the head of its request was complete")
)

// noteHalfHead records what has come of a head whose rest does not. The client gets no answer:
// the status is the one that nginx logs then.
func (c *httpConn) noteHalfHead(status int, err error) {
	if cfg := c.l.e.settings(); firstLine(c.in) != "" {
		cfg.recordGarbage(&c.origin, status, wordsForGarbage(c.in, c.secure(), err), firstLine(c.in))
	}
}

// expireTimer ends what took too long.
func (c *httpConn) expireTimer() {
	t := c.t
	switch c.state {
	case connHead:
		if len(c.in) > 0 {
			c.arrival.cfg.gate.log.Debug("request refused", "client", c.origin.client, "err", errHeadLate)
		}
		c.noteHalfHead(http.StatusRequestTimeout, errHeadLate)
		c.hangUp()
	case connBuffering:
		c.breakBody(errBodyLate)
	case connStarved:
		c.l.in.counters.starved.Add(-1)
		c.state = connDialing
		c.connect()
	case connRelaying, connLogin, connQueued, connDialing, connConnecting:
		switch {
		case t.expecting:
			if c.askForBody() {
				c.relay()
			}
		case c.full() || t.duct.piped > 0:
			c.leave(errClientStalled)
		case c.awaitsBody():
			c.breakBody(errBodyLate)
		default:
			c.sound()
		}
	case connFlushing:
		c.leave(errClientStalled)
	case connDraining:
		c.endDraining(false)
	case connLingering:
		c.hangUp()
	}
}

// readHead reads until the head of a request is complete.
func (c *httpConn) readHead() {
	l := c.l
	for c.state == connHead {
		if len(c.in) > c.parsed && c.parseHead() {
			return
		}
		if !c.readable {
			if c.park(); l.leaving && c.requests > 0 && len(c.in) == 0 {
				c.hangUp()
			}
			return
		}
		if c.in == nil {
			c.in = l.takeHead()
		} else if len(c.in) == cap(c.in) {
			c.in = append(c.in, make([]byte, len(c.in))...)[:len(c.in)]
		}
		n, errno := c.read(c.in[len(c.in):cap(c.in)])
		switch {
		case errno == unix.EAGAIN:
			continue
		case errno != 0 || n == 0:
			c.noteHalfHead(http.StatusBadRequest, errHeadShort)
			c.hangUp()
			return
		}
		c.in = c.in[:len(c.in)+n]
	}
}

// park has a connection wait for the rest of a head, or for its beginning, and gives up memory
// that is not needed meanwhile.
func (c *httpConn) park() {
	if t := c.t; t != nil && !t.begun && c.requests > 0 && len(c.in) > 0 {
		t.begun = true
		c.armTimer(c.l.e.conns().HeaderTimeout)
	}
	switch {
	case len(c.in) == 0:
		c.l.giveHead(c.in)
		c.in = nil
	case cap(c.in) == headSize && len(c.in) < headSize/2:
		b := append([]byte(nil), c.in...)
		c.l.giveHead(c.in)
		c.in = b
	}
	if t := c.t; t != nil && len(c.in) == 0 {
		c.l.giveTurn(t)
		c.t = nil
	}
}

// parseHead parses what has come, and reports whether something else than reading is next.
func (c *httpConn) parseHead() bool {
	l := c.l
	if c.requests == 0 && c.isPreface() {
		return c.state != connHead
	}
	if c.t == nil {
		c.t = l.takeTurn()
	}
	t, cfg := c.t, l.e.settings()
	n, err := t.req.Parse(c.in, h1.Limits{Header: int(cfg.MaxHeader), Fields: cfg.MaxFields})
	switch {
	case err != nil:
		c.refuseHead(err)
		return true
	case n == 0:
		c.parsed = len(c.in)
		return false
	}
	t.body, t.at = n, n
	c.beginRequest()
	return true
}

// preface is how a client of HTTP/2 begins that knows of it beforehand (RFC 9113 §3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// isPreface reports whether the connection begins as one of HTTP/2 does, which is not for this
// engine. Of a beginning that may become one, more is read.
func (c *httpConn) isPreface() bool {
	n := min(len(c.in), len(preface))
	if string(c.in[:n]) != preface[:n] || c.secure() {
		return false
	}
	if c.parsed = len(c.in); n == len(preface) {
		c.handOver()
	}
	return true
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
	if kind, content, last := x.lastAnswer(); last {
		c.answer(&reply{status: http.StatusOK, kind: kind, content: content})
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
		c.endTurn()
	}
}

// hangUp closes the connection.
func (c *httpConn) hangUp() {
	c.end()
	c.close()
}

// end gives up what belongs to the connection but for its socket.
func (c *httpConn) end() {
	l := c.l
	l.timers.Stop(&c.timer)
	c.dropOwned()
	if c.t != nil {
		l.giveTurn(c.t)
		c.t = nil
	}
	l.giveHead(c.in)
	c.in = nil
	if c.state != connClosed {
		c.state = connClosed
		c.release()
	}
}

// dropOwned closes what is idle and belongs to the client.
func (c *httpConn) dropOwned() {
	if c.bound != nil {
		c.bound.drop()
		c.bound = nil
	}
	if c.owned != nil {
		c.owned.drop(nil)
		c.l.forgetKept(c.owned)
	}
}

// release gives up the connection's place.
func (c *httpConn) release() {
	c.l.e.plane.gate.release(c.arrival.cfg.gate, c.arrival.peer)
	c.l.live.Add(-1)
}

// handOver has net/http go on with the connection, and what has come on it.
func (c *httpConn) handOver() {
	a, l := c.arrival, c.l
	a.early = slices.Clone(c.in)
	if c.t != nil {
		l.giveTurn(c.t)
		c.t = nil
	}
	l.timers.Stop(&c.timer)
	l.giveHead(c.in)
	c.dropOwned()
	c.in, c.state = nil, connClosed
	l.handOver(a, c.takeOut())
}

// Errors of clients.
var (
	errClientStalled error = &stalled{"client takes nothing of the response"}
	errBodyLate      error = &stalled{"body did not come in time"}
	errBodyShort           = io.ErrUnexpectedEOF
)

// stalled is an error of something that took too long.
type stalled struct{ what string }

func (s *stalled) Error() string { return s.what }

// Timeout says that it is one.
func (*stalled) Timeout() bool { return true }
