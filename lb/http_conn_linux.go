package lb

import (
	"crypto/tls"
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
		c.bodyLate()
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
			c.bodyLate()
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
	case cap(c.in) >= headSize && len(c.in) < cap(c.in)/2:
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
