package lb

import (
	"cmp"
	"errors"
	"net/http"

	"github.com/havip/havip/lb/internal/h1"
)

// takeHeads takes what has come before the body of the response: its head, and informational
// responses before that.
func (c *httpConn) takeHeads(p []byte) bool {
	t, b := c.t, c.t.back
	for {
		here := p
		if len(b.in) > 0 {
			b.in = append(b.in, p...)
			here = b.in
		}
		n, err := t.res.Parse(here, t.req.Method, h1.Limits{Header: cmp.Or(maxResponseHeader-t.heads, -1), Fields: maxResponseFields})
		switch {
		case err != nil:
			c.failAttempt(err)
			return false
		case n == 0 && t.heads+len(here) > maxResponseHeader:
			c.failAttempt(errHeaderTooLong)
			return false
		case n == 0:
			if len(b.in) == 0 {
				b.in = append(b.in, p...)
			}
			return true
		}
		t.heads += n
		rest := here[n:]
		switch {
		case t.res.Status >= 200:
			return c.respond(rest)
		case t.res.Status == http.StatusSwitchingProtocols:
			c.switchProtocols(rest)
			return false
		case t.res.Status == http.StatusContinue:
			if t.expecting && !c.askForBody() {
				return false
			}
			c.l.later(c) // the body comes behind what has come of the response: both use the same memory
		case !c.passInterim():
			return false
		}
		// rest may be in b.in, which goes.
		p, b.in = rest, nil
		if len(p) == 0 {
			return true
		}
	}
}

// passInterim passes an informational response on.
func (c *httpConn) passInterim() bool {
	t := c.t
	fields, ok := t.x.interimFields(&t.res)
	if !ok {
		return true
	}
	out := h1.AppendStatusLine(c.l.out[:0], t.res.Status, t.res.Reason)
	c.l.out = append(h1.AppendFields(out, fields), "\r\n"...)
	return c.emit(c.l.out)
}

// respond begins the response with its head, and what has come of its body.
func (c *httpConn) respond(rest []byte) bool {
	t := c.t
	x, res := &t.x, &t.res
	if err := x.checkResponse(res); err != nil {
		c.failAttempt(err)
		return false
	}
	x.noteHead(res.Status, c.l.time())
	if next, again := x.retryElsewhere(res, t.owned, c.attemptNow(nil), c.l.time()); again {
		c.dropBackend()
		t.res.Reset()
		c.attempt(next)
		return false
	}
	if x.intercepts(res.Status) {
		c.intercept(rest)
		return false
	}
	x.responded(res, t.owned)
	t.responded = true
	if t.uploaded {
		t.dropHeld() // no other backend needs it
	}
	if !c.awaitsBody() {
		c.l.timers.Stop(&c.timer) // the first byte need not go ahead any more
	}
	fields := x.responseFields(res, t.back.source())
	chunks := x.chunked()
	c.last = c.last || x.unbounded && !chunks || t.expecting
	t.down.begin(res.Length, chunks)
	t.down.plain = x.encoder != nil
	out := h1.AppendStatusLine(c.l.out[:0], res.Status, res.Reason)
	out = h1.AppendFields(out, fields)
	if !x.dated {
		out = h1.AppendField(out, "Date", c.l.httpDate())
	}
	switch {
	case chunks:
		out = h1.AppendLength(out, h1.Chunked)
	case !res.NoBody && res.Length >= 0:
		out = h1.AppendLength(out, res.Length)
	}
	c.l.out = c.endHead(out)
	return c.passContent(c.l.out, rest)
}

// intercept answers with a page in the place of the response, of whose body rest has come. The
// connection to the backend goes on if that is all of it: nobody waits for what is thrown away.
func (c *httpConn) intercept(rest []byte) {
	t := c.t
	x := &t.x
	x.responded(&t.res, t.owned)
	x.intercept(&t.res)
	t.down.begin(t.res.Length, false)
	_, used, err := t.down.take(nil, rest, maxResponseHeader)
	if err == nil && t.down.over { // where that ends is not certain after a bad trailer
		err = t.parseTrailer(&t.down, maxResponseHeader, maxResponseFields)
	}
	t.excess = used < len(rest)
	if err == nil && t.down.over {
		c.freeBackend()
	} else {
		c.dropBackend()
	}
	x.succeeded(c.l.time())
	c.answer(&x.reply)
}

// endHead appends whether the connection goes on, and the end of the head.
func (c *httpConn) endHead(out []byte) []byte {
	c.last = c.last || c.l.e.leaving.Load()
	switch {
	case c.last:
		out = append(out, "Connection: close\r\n"...)
	case c.t.req.Minor == 0:
		out = append(out, "Connection: keep-alive\r\n"...)
	}
	return append(out, "\r\n"...)
}

// endResponse ends a response that has come whole. The backend is free from here on, however
// long the client takes.
func (c *httpConn) endResponse() {
	c.freeBackend()
	c.t.x.succeeded(c.l.time())
	c.flushThenEnd()
}

// flushThenEnd ends the turn when the client has taken what is pending.
func (c *httpConn) flushThenEnd() {
	if !c.full() {
		c.endTurn()
		return
	}
	c.state = connFlushing
	c.armTimer(c.t.x.cfg.ClientTimeout)
	if c.writable && c.due == dueNever {
		c.l.later(c) // room came while nobody looked, and no event tells of it again
	}
}

// breakOff ends an incomplete response so that the client can tell.
func (c *httpConn) breakOff(err error) {
	t := c.t
	if !c.flushEncoder() {
		return
	}
	t.x.brokenOff(err, c.attemptNow(err))
	t.x.dropEncoder()
	c.dropBackend()
	t.dropHeld()
	if t.x.unbounded && !t.down.reframe {
		// The end of the connection would end the response in order: only a reset does not.
		t.x.close(c.l.time())
		c.abortConn()
		return
	}
	c.quit = true
	c.flushThenEnd() // what came before belongs to the client
}

// fail answers a request that no backend has answered.
func (c *httpConn) fail(err error) {
	t := c.t
	c.dropBackend()
	t.dropHeld()
	if err == errLeft {
		c.leave(err)
		return
	}
	c.answerError(t.x.failure(err, t.broken))
}

// refuse answers a request that no backend should see.
func (c *httpConn) refuse(status int) {
	c.t.x.refused(errors.New(http.StatusText(status)))
	c.answerError(status, nil)
}

// refuseHead answers what is no request. Where the next one begins is not known.
func (c *httpConn) refuseHead(err error) {
	t := c.t
	status := http.StatusBadRequest
	var refusal *h1.Error
	if errors.As(err, &refusal) {
		status = refusal.Status
	}
	c.requests++
	c.l.timers.Stop(&c.timer)
	t.req.Reset()
	t.req.Minor = 1
	t.x.open(c.l.e.settings(), c.l.e.count(), &c.origin, &t.req, c.l.time())
	t.x.refused(wordsForGarbage(c.in, c.secure(), err))
	t.x.told.Line = firstLine(c.in)
	c.last = true
	t.up.over, t.at = true, 0
	c.answerError(status, nil)
}

// answerError answers in a backend's place.
func (c *httpConn) answerError(status int, err error) {
	c.t.x.showError(status, err)
	c.answer(&c.t.x.reply)
}

// answer sends a response that is made here.
func (c *httpConn) answer(r *reply) {
	t := c.t
	t.responded = true
	t.dropHeld() // a client may take its time with the answer
	if t.x.record.Status == 0 {
		t.x.record.Status = r.status
	}
	c.l.timers.Stop(&c.timer)
	if !t.up.over && t.hasBody() && t.broken != nil || t.x.expects() && t.hasBody() && !t.asked {
		c.last = true
	}
	out := h1.AppendStatusLine(c.l.out[:0], r.status, http.StatusText(r.status))
	set := &t.x.cfg.responseFields
	if !holds(set.ids, h1.Date) {
		out = h1.AppendField(out, "Date", c.l.httpDate())
	}
	if r.kind != "" && !holds(set.ids, h1.ContentType) {
		out = h1.AppendField(out, "Content-Type", r.kind)
	}
	for i := range r.fields {
		if f := &r.fields[i]; !set.sets(f) {
			out = h1.AppendField(out, f.Name, f.Value)
		}
	}
	t.x.answer = t.x.replyFields(t.x.answer[:0])
	out = h1.AppendFields(out, t.x.answer)
	if r.bodied() {
		out = h1.AppendLength(out, int64(len(r.content)))
	}
	out = c.endHead(out)
	if t.req.Method != http.MethodHead && r.bodied() {
		n := min(len(r.content), pagePiece)
		out, t.page = append(out, r.content[:n]...), r.content[n:]
		t.x.record.Sent += int64(n)
	}
	c.l.out = out
	if c.emit(out) {
		c.sendPage()
	}
}

// sendPage sends what the client takes of the rest of an answer made here, and ends the turn after
// the last of it.
func (c *httpConn) sendPage() {
	for t := c.t; len(t.page) > 0 && !c.full(); {
		p := t.page[:min(len(t.page), pagePiece)]
		t.page = t.page[len(p):]
		t.x.record.Sent += int64(len(p))
		if !c.emit(p) {
			return
		}
	}
	c.flushThenEnd()
}
