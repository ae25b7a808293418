package lb

import (
	"net/http"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/lb/internal/h1"
)

// awaitsBody reports whether more of the request's body must come from the client.
func (c *httpConn) awaitsBody() bool {
	t := c.t
	return t.hasBody() && !t.up.over && !t.expecting && !t.stopped && !t.holds() && t.back != nil && !t.back.full()
}

// pumpRequest brings what has come of the request's body to the backend. It reports whether
// the request goes on.
func (c *httpConn) pumpRequest() bool {
	t, b := c.t, c.t.back
	for budget := turn; ; {
		if b.full() && !t.stopped {
			n, errno := b.flush()
			if errno != 0 {
				c.stopUpload()
				return true
			}
			t.uploaded = t.uploaded || t.taken() && !b.full()
			switch {
			case n > 0 && (t.uploaded || b.full()):
				b.armTimer(t.x.cfg.Timeout)
			case n > 0: // it has got all there is
				c.l.timers.Stop(&b.timer)
			}
			if b.full() {
				return true
			}
		}
		if t.upDuct.piped > 0 && !t.stopped {
			n, errno := t.upDuct.drain(&b.sock)
			switch {
			case errno != 0:
				c.stopUpload()
			case n > 0 || !b.timer.IsSet():
				b.armTimer(t.x.cfg.Timeout)
			}
			if t.upDuct.piped > 0 {
				return true
			}
			t.uploaded = t.taken()
		}
		if t.responded && (t.uploaded || t.stopped) {
			t.dropHeld() // no other backend needs it
		}
		if t.uploaded || t.expecting || t.stopped {
			return true
		}
		if budget <= 0 {
			c.l.later(c)
			return true
		}
		n, ok := c.moveBody()
		if !ok || n == 0 {
			return ok
		}
		budget -= n
	}
}

// moveBody brings a piece of the body on: 0 if none has come.
func (c *httpConn) moveBody() (n int, ok bool) {
	t := c.t
	if t.holds() {
		return c.moveHeld()
	}
	if t.at < len(c.in) {
		return c.sendBody(nil, len(c.in)-t.at)
	}
	// What has come is kept for another attempt, up to a bound.
	if t.held == nil && !t.dropped && len(c.in)-t.body < replayLimit {
		c.in = slices.Grow(c.in, headSize)
		n, ok = c.readBody(c.in[len(c.in):cap(c.in)])
		c.in = c.in[:len(c.in)+n]
		if n == 0 {
			return 0, ok
		}
		return c.sendBody(nil, n)
	}
	if t.held != nil && !c.readable { // what is held may do for another backend
		c.awaitBody()
		return 0, true
	}
	t.dropped = true
	t.dropHeld()
	c.in, t.at = c.in[:t.body], t.body
	if !t.up.reframe && c.readable && t.upDuct.fits(&c.sock, &t.back.sock, t.up.left) {
		if n, ok = c.fillUpDuct(); n > 0 || !ok {
			return n, ok
		}
	}
	p := c.l.scratch[headroom : headroom+scratchSize]
	if n, ok = c.readBody(p); n == 0 {
		return 0, ok
	}
	return c.sendBody(p[:n], n)
}

// fillUpDuct moves some of the body into a pipe: 0 if that cannot be.
func (c *httpConn) fillUpDuct() (n int, ok bool) {
	t := c.t
	n, errno := t.upDuct.fill(c.l, &c.sock, t.up.left)
	if errno != 0 {
		c.leave(errLeft)
		return 0, false
	}
	if n > 0 {
		t.up.skip(n)
		t.x.record.Received = t.up.moved
		return n, c.bodyCame(n)
	}
	return 0, true
}

// readBody reads some of the body.
func (c *httpConn) readBody(p []byte) (n int, ok bool) {
	if !c.readable {
		c.awaitBody()
		return 0, true
	}
	n, errno := c.read(c.roomForBody(p))
	switch {
	case errno == unix.EAGAIN:
		c.awaitBody()
		return 0, true
	case errno != 0:
		c.leave(errLeft)
		return 0, false
	case n == 0:
		c.breakBody(errBodyShort)
		return 0, false
	}
	if !c.bodyCame(n) {
		return 0, false
	}
	return n, true
}

// bodyCame notes that n bytes of the body have come. It reports whether the request goes on.
func (c *httpConn) bodyCame(n int) bool {
	t := c.t
	c.l.timers.Stop(&c.timer)
	slow := c.isSlow()
	t.x.cfg.notePace(&t.pace, c.awaitedFor(), n)
	t.awaited = 0
	if slow && t.x.cfg.isSlow(&t.pace, 0) {
		c.breakBody(errBodySlow)
		return false
	}
	return true
}

// awaitedFor returns how long the body has been awaited now.
func (c *httpConn) awaitedFor() time.Duration {
	if c.t.awaited == 0 {
		return 0
	}
	return time.Duration(c.l.Now() - c.t.awaited)
}

// isSlow reports whether the body comes too slowly. The timer may have been about something else.
func (c *httpConn) isSlow() bool { return c.t.x.cfg.isSlow(&c.t.pace, c.awaitedFor()) }

// bodyLate ends a request whose body is awaited for too long.
func (c *httpConn) bodyLate() {
	if c.isSlow() {
		c.breakBody(errBodySlow)
		return
	}
	c.breakBody(errBodyLate)
}

// roomForBody returns as much of p as a read should have: hardly more than is left of the body.
// What follows it in the same read stays in c.in until the request is over, and is the client's
// to choose.
func (c *httpConn) roomForBody(p []byte) []byte {
	s := &c.t.up
	left := uint64(max(s.left, 0))
	if s.left == h1.Chunked {
		left = s.chunks.Left()
	}
	return p[:min(uint64(len(p)), left+uint64(max(headSize-c.t.body, leastAhead)))]
}

// leastAhead is how much a read may always have beyond what is known to come: the frame of a
// chunk, for instance.
const leastAhead = 1 << 10

// awaitBody bounds the wait for the rest of the body.
func (c *httpConn) awaitBody() {
	if b := c.t.back; b != nil {
		c.l.timers.Stop(&b.timer) // the backend has got all there is
	}
	if t := c.t; !c.timer.IsSet() {
		if t.awaited == 0 {
			t.awaited = c.l.Now()
		}
		c.armTimer(max(t.x.cfg.patience(&t.pace)-c.awaitedFor(), leastWait))
	}
}

// sendBody sends a piece of the body: p, or what comes next in c.in.
func (c *httpConn) sendBody(p []byte, n int) (int, bool) {
	out := c.l.out[:0]
	var ok bool
	if p == nil {
		out, ok = c.takeBody(out, n)
	} else {
		out, ok = c.passBody(out, p)
	}
	if !ok {
		return 0, false
	}
	c.t.back.writeAtOnce()
	if errno := c.t.back.write(out); errno != 0 {
		c.stopUpload()
	}
	c.afterBody()
	return n, true
}

// afterBody notes whether the request has gone out.
func (c *httpConn) afterBody() {
	t := c.t
	if t.taken() && !t.back.full() {
		t.uploaded = true
	}
	if t.uploaded || t.back.full() {
		t.back.armTimer(t.x.cfg.Timeout)
	}
}

// takeBody appends up to n bytes of the body that are in c.in to out, as the backend gets
// them.
func (c *httpConn) takeBody(out []byte, n int) ([]byte, bool) {
	t := c.t
	content, used, ok := c.openBody(out, c.in[t.at:min(t.at+n, len(c.in))])
	t.at += used
	if !ok {
		return nil, false
	}
	if !t.up.reframe {
		content = append(out, content...)
	}
	c.l.out = content
	return c.endBody(content), true
}

// passBody returns a piece of the body, in the scratch buffer, as the backend gets it. What
// follows the body is kept.
func (c *httpConn) passBody(out, p []byte) ([]byte, bool) {
	t := c.t
	content, used, ok := c.openBody(out, p)
	if !ok {
		return nil, false
	}
	if t.up.over {
		c.in = append(c.in[:t.body], p[used:]...)
	}
	if t.up.reframe {
		c.l.out = content
		return c.endBody(content), true
	}
	return content, true
}

// openBody takes some of the body.
func (c *httpConn) openBody(out, p []byte) (content []byte, used int, ok bool) {
	t := c.t
	cfg := t.x.cfg
	content, used, err := t.up.take(out, p, int(cfg.MaxHeader))
	moved := t.up.moved
	if cfg.MaxBody > 0 && moved > cfg.MaxBody {
		moved = cfg.MaxBody // the rest was not taken
		if err == nil {
			err = &http.MaxBytesError{Limit: cfg.MaxBody}
		}
	}
	t.x.record.Received = max(t.x.record.Received, moved)
	if err == nil && t.up.over {
		err = t.parseTrailer(&t.up, int(cfg.MaxHeader), cfg.MaxFields)
	}
	if err != nil {
		c.breakBody(err)
		return nil, used, false
	}
	return content, used, true
}

// endBody appends the end of the body to out, if it is over and in chunks.
func (c *httpConn) endBody(out []byte) []byte {
	t := c.t
	if !t.taken() {
		return out
	}
	if t.up.reframe {
		out = append(out, "0\r\n"...)
		out = h1.AppendFields(out, t.x.requestTrailer(nil, t.up.section.Fields))
		out = append(out, "\r\n"...)
	}
	t.uploaded = true // unless the socket is full: see afterBody
	return out
}

// stopUpload ends the upload to a backend that takes nothing more. It may have answered
// nevertheless.
func (c *httpConn) stopUpload() {
	t := c.t
	t.stopped = true
	c.l.givePipe(&t.upDuct)
	t.back.pending, t.back.due = nil, dueNever
	t.back.readable = true
	t.back.armTimer(t.x.cfg.Timeout)
}

// breakBody ends a request whose body is not well-formed, too large, or does not come.
func (c *httpConn) breakBody(err error) {
	t := c.t
	t.broken = err
	c.last = true
	switch {
	case t.responded:
		c.breakOff(err)
	case c.state == connBuffering:
		c.fail(err)
	default:
		c.failAttempt(err)
	}
}

// askForBody lets the upload begin that has waited for the backend to ask for the body.
// RFC 9110 §10.1.1 lets a proxy ask the client by itself when that takes long. It reports
// whether the client is still there.
func (c *httpConn) askForBody() bool {
	c.t.expecting, c.t.asked = false, true
	c.l.timers.Stop(&c.timer)
	return c.emit([]byte("HTTP/1.1 100 Continue\r\n\r\n"))
}
