package lb

import (
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

// pumpResponse brings what has come of the response to the client.
func (c *httpConn) pumpResponse() {
	t, l := c.t, c.l
	for budget := turn; budget > 0; {
		if c.full() && !c.flushResponse() {
			return
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
		if !t.back.readable {
			c.flushEncoder()
			return
		}
		var cost int
		var ok bool
		if t.responded && !t.down.reframe && t.duct.fits(&t.back.sock, &c.sock, t.down.left) {
			cost, ok = c.fillDuct()
		} else {
			cost, ok = c.readResponse()
		}
		if !ok {
			return
		}
		budget -= cost
	}
	l.later(c)
}

// flushResponse has the client take what is pending, and reports whether it has taken all.
func (c *httpConn) flushResponse() bool {
	t := c.t
	awaited := c.due == dueNever // and not just the turn's end, which no timer is about
	n, errno := c.flush()
	switch {
	case errno != 0:
		c.leave(errno)
	case c.full() && t.responded && t.down.over && t.duct.piped == 0:
		c.endResponse()
	case c.due == dueSoon:
	case c.full():
		c.awaitReader(n)
	default:
		if awaited {
			c.readerIsBack()
		}
		return true
	}
	return false
}

// fillDuct moves some of the response into a pipe, and reports whether the backend is still there.
func (c *httpConn) fillDuct() (n int, ok bool) {
	t, b := c.t, c.t.back
	n, errno := t.duct.fill(c.l, &b.sock, t.down.left)
	if errno != 0 {
		c.backendFailed(errno)
		return 0, false
	}
	if n > 0 {
		t.down.skip(n)
		t.x.record.Sent += int64(n)
		b.armTimer(t.x.cfg.Timeout)
	}
	return n, true
}

// readResponse passes on a piece of what has come from the backend. It reports what that has cost
// of the turn, and whether the turn may go on.
func (c *httpConn) readResponse() (cost int, ok bool) {
	t, l, b := c.t, c.l, c.t.back
	p := l.scratch[headroom : headroom+scratchSize]
	if t.mayEncode() {
		if l.effort >= roundEffort {
			l.later(c)
			return 0, false
		}
		p = p[:min(scratchSize, turn/(2*t.x.cfg.compression.cost))]
	}
	n, errno := b.read(p)
	switch {
	case errno == unix.EAGAIN:
		c.flushEncoder()
		return 0, false
	case errno != 0:
		c.backendFailed(errno)
		return 0, false
	case n == 0:
		c.backendEnded()
		return 0, false
	}
	t.heard = true
	if t.uploaded || t.stopped {
		b.armTimer(t.x.cfg.Timeout)
	}
	before := l.effort
	if !c.takeResponse(p[:n]) {
		return 0, false
	}
	return max(n, l.effort-before), true
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
	if err == nil && t.down.over {
		err = t.parseTrailer(&t.down, maxResponseHeader, maxResponseFields)
	}
	t.excess = t.excess || used < len(p)
	if !t.down.plain {
		t.x.record.Sent += t.down.moved - was
	}
	switch {
	case t.down.plain:
		content, err = c.encodeContent(head, content, err)
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
	if t := c.t; t.down.left == h1.Chunked && len(t.down.section.Fields) > 0 {
		out = h1.AppendFields(out, t.x.responseTrailer(nil, t.down.section.Fields))
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
	// A timer that is set is about the request's body, or has the first byte go ahead.
	if c.full() && c.due == dueNever && (!c.timer.IsSet() || !c.awaitsBody() && !c.t.expecting) {
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
	if t.down.reframe && !c.emitEnd() {
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

// parseTrailer parses the trailer section of a body that is over. That of most is empty.
func (t *httpTurn) parseTrailer(s *bodyStream, size, fields int) error {
	s.section.Reset()
	if s.left != h1.Chunked || len(s.trailer) <= len("\r\n") {
		return nil
	}
	_, err := s.section.Parse(s.trailer, h1.Limits{Header: size, Fields: fields})
	return err
}
