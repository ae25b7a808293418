package lb

import (
	"net/http"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/lb/internal/h1"
)

// relay moves what can be moved of request and response.
func (c *httpConn) relay() {
	// The end of the client's side may have come before that of the request went out.
	if c.pumpRequest() && c.state == connRelaying && c.lookAtClient() {
		c.pumpResponse()
	}
}

// awaitsBody reports whether more of the request's body must come from the client.
func (c *httpConn) awaitsBody() bool {
	t := c.t
	return t.hasBody() && !t.up.over && !t.expecting && !t.stopped && t.back != nil && !t.back.full()
}

// pumpRequest brings what has come of the request's body to the backend. It reports whether
// the request goes on.
func (c *httpConn) pumpRequest() bool {
	t, b := c.t, c.t.back
	for budget := turn; ; {
		if b.full() && !t.stopped {
			n, errno := b.flush()
			switch {
			case errno != 0:
				c.stopUpload()
			case n > 0:
				b.armTimer(t.x.cfg.Timeout)
			}
			if b.full() {
				return true
			}
			if t.up.over && !t.uploaded {
				t.uploaded = true
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
			t.uploaded = t.up.over
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
	if t.at < len(c.in) {
		return c.sendBody(nil, len(c.in)-t.at)
	}
	// What has come is kept for another attempt, up to a bound.
	if !t.dropped && len(c.in)-t.body < replayLimit {
		c.in = slices.Grow(c.in, headSize)
		n, ok = c.readBody(c.in[len(c.in):cap(c.in)])
		c.in = c.in[:len(c.in)+n]
		if n == 0 {
			return 0, ok
		}
		return c.sendBody(nil, n)
	}
	t.dropped = true
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
		c.l.timers.Stop(&c.timer)
		t.up.skip(n)
		t.x.record.Received = t.up.moved
	}
	return n, true
}

// readBody reads some of the body.
func (c *httpConn) readBody(p []byte) (n int, ok bool) {
	if !c.readable {
		c.awaitBody()
		return 0, true
	}
	n, errno := c.read(p)
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
	c.l.timers.Stop(&c.timer)
	return n, true
}

// awaitBody bounds the wait for the rest of the body.
func (c *httpConn) awaitBody() {
	c.l.timers.Stop(&c.t.back.timer) // the backend has got all there is
	if !c.timer.IsSet() {
		c.armTimer(c.t.x.cfg.ClientTimeout)
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
	if t.up.over && !t.back.full() {
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

// parseTrailer parses the trailer section of a body that is over. That of most is empty.
func (t *httpTurn) parseTrailer(s *bodyStream, size, fields int) error {
	t.trailer.Reset()
	if s.left != h1.Chunked || len(s.trailer) <= len("\r\n") {
		return nil
	}
	_, err := t.trailer.Parse(s.trailer, h1.Limits{Header: size, Fields: fields})
	return err
}

// endBody appends the end of the body to out, if it is over and in chunks.
func (c *httpConn) endBody(out []byte) []byte {
	t := c.t
	if !t.up.over {
		return out
	}
	if t.up.reframe {
		out = append(out, "0\r\n"...)
		out = h1.AppendFields(out, t.x.requestTrailer(nil, t.trailer.Fields))
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
	if t.responded {
		c.breakOff(err)
		return
	}
	c.failAttempt(err)
}

// askForBody lets the upload begin that has waited for the backend to ask for the body.
// RFC 9110 §10.1.1 lets a proxy ask the client by itself when that takes long. It reports
// whether the client is still there.
func (c *httpConn) askForBody() bool {
	c.t.expecting, c.t.asked = false, true
	c.l.timers.Stop(&c.timer)
	return c.emit([]byte("HTTP/1.1 100 Continue\r\n\r\n"))
}

// pumpResponse brings what has come of the response to the client.
func (c *httpConn) pumpResponse() {
	t, l := c.t, c.l
	for budget := turn; budget > 0; {
		if c.full() {
			n, errno := c.flush()
			switch {
			case errno != 0:
				c.leave(errno)
				return
			case c.full() && t.responded && t.down.over && t.duct.piped == 0:
				c.endResponse()
				return
			case c.full():
				c.awaitReader(n)
				return
			}
			c.readerIsBack()
		}
		if t.duct.piped > 0 {
			if !c.emptyDuct() {
				return
			}
			continue
		}
		if t.responded && t.down.over {
			c.endResponse()
			return
		}
		b := t.back
		if !b.readable {
			return
		}
		if t.responded && !t.down.reframe && t.duct.fits(&b.sock, &c.sock, t.down.left) {
			n, errno := t.duct.fill(l, &b.sock, t.down.left)
			if errno != 0 {
				c.backendFailed(errno)
				return
			}
			if n > 0 {
				t.down.skip(n)
				t.x.record.Sent += int64(n)
				b.armTimer(t.x.cfg.Timeout)
				budget -= n
			}
			continue
		}
		p := l.scratch[headroom : headroom+scratchSize]
		n, errno := b.read(p)
		switch {
		case errno == unix.EAGAIN:
			return
		case errno != 0:
			c.backendFailed(errno)
			return
		case n == 0:
			c.backendEnded()
			return
		}
		t.heard = true
		if t.uploaded || t.stopped {
			b.armTimer(t.x.cfg.Timeout)
		}
		if !c.takeResponse(p[:n]) {
			return
		}
		budget -= n
	}
	l.later(c)
}

// takeResponse takes what has come from the backend. It reports whether more of it is wanted.
func (c *httpConn) takeResponse(p []byte) bool {
	t := c.t
	if !t.responded {
		return c.takeHeads(p)
	}
	return c.passContent(nil, p)
}

// passContent sends the client a piece of the response's body, after head.
func (c *httpConn) passContent(head, p []byte) bool {
	t := c.t
	was := t.down.moved
	content, used, err := t.down.take(head, p, maxResponseHeader)
	t.x.record.Sent += t.down.moved - was
	if err == nil && t.down.over {
		err = t.parseTrailer(&t.down, maxResponseHeader, maxResponseFields)
	}
	t.excess = t.excess || used < len(p)
	switch {
	case t.down.reframe:
		if t.down.over && err == nil {
			content = c.endChunks(content)
		}
		c.l.out = content
	case len(head) > 0:
		content = c.join(head, content)
	}
	if head == nil {
		c.writeAtOnce()
	}
	// What came before an error belongs to the client.
	if len(content) > 0 && !c.emit(content) {
		return false
	}
	if err != nil {
		c.breakOff(err)
	}
	return err == nil
}

// endChunks appends the end of a response in chunks.
func (c *httpConn) endChunks(out []byte) []byte {
	out = append(out, "0\r\n"...)
	if t := c.t; t.down.left == h1.Chunked && len(t.trailer.Fields) > 0 {
		out = h1.AppendFields(out, t.x.responseTrailer(nil, t.trailer.Fields))
	}
	return append(out, "\r\n"...)
}

// copiedWithHead is up to what size content is copied behind a head.
const copiedWithHead = 16 << 10

// join puts a head before content, so that both are one write. Much content does not move: the
// head moves in front of it, if that is in the scratch buffer.
func (c *httpConn) join(head, content []byte) []byte {
	s := c.l.scratch
	if at := cap(s) - cap(content); len(content) > copiedWithHead && at >= len(head) && at < len(s) && &s[at] == &content[0] {
		copy(s[at-len(head):], head)
		return s[at-len(head) : at+len(content)]
	}
	c.l.out = append(head, content...)
	return c.l.out
}

// emit writes a part of a response, and reports whether the client is still there.
func (c *httpConn) emit(b []byte) bool {
	if c.ahead {
		c.ahead, b = false, b[1:]
	}
	c.more = c.last && c.t.responded && c.t.down.over
	errno := c.write(b)
	if c.more = false; errno != 0 {
		c.leave(errno)
		return false
	}
	if c.full() && !c.timer.IsSet() {
		c.armTimer(c.t.x.cfg.ClientTimeout)
	}
	return true
}

// backendEnded goes on when the backend has ended its side in order.
func (c *httpConn) backendEnded() {
	t := c.t
	if !t.responded || t.down.left != h1.UntilClose || t.back.isTorn() {
		c.backendFailed(errBodyShort)
		return
	}
	t.down.over, t.excess = true, true
	if t.down.reframe && !c.emit(c.endChunks(c.l.out[:0])) {
		return
	}
	c.endResponse()
}

// backendFailed goes on when the connection to the backend has failed.
func (c *httpConn) backendFailed(err error) {
	if c.t.responded {
		c.breakOff(err)
		return
	}
	c.failAttempt(err)
}
