package lb

import (
	"cmp"

	"github.com/havip/havip/lb/internal/h1"
)

// roundEffort is how much a loop compresses between two looks at all sockets and timers, in bytes
// times what each costs: those whose content is compressed must not make all others late.
const roundEffort = 4 * turn

// mayEncode reports whether what is read next of the response may be compressed.
func (t *httpTurn) mayEncode() bool {
	return t.x.encoder != nil || !t.responded && t.x.cfg.compression != nil
}

// encodeContent compresses a piece of the response's body, and appends what that has made to out,
// in chunks, and the end of the response after the last piece. failed is why no more of the body
// comes; what came before belongs to the client.
func (c *httpConn) encodeContent(out, content []byte, failed error) ([]byte, error) {
	t := c.t
	if out == nil {
		out = c.l.out[:0]
	}
	c.l.effort += len(content) * t.x.cfg.compression.cost
	made, err := t.x.encoder.encode(content)
	out = c.appendEncoded(out, made)
	switch {
	case err != nil:
	case failed != nil, !t.down.over && !t.back.readable: // there is no more at the moment
		made, err = t.x.encoder.flush()
		out = c.appendEncoded(out, made)
	case t.down.over:
		out, err = c.appendEnd(out)
	}
	c.l.out = out
	return out, cmp.Or(failed, err)
}

// appendEncoded appends what an encoder has made.
func (c *httpConn) appendEncoded(out, made []byte) []byte {
	c.t.x.record.Sent += int64(len(made))
	return h1.AppendChunk(out, made)
}

// appendEnd appends the end of a response in chunks.
func (c *httpConn) appendEnd(out []byte) ([]byte, error) {
	if x := &c.t.x; x.encoder != nil {
		made, err := x.encoder.end()
		if out = c.appendEncoded(out, made); err != nil {
			return out, err
		}
		x.dropEncoder()
	}
	return c.endChunks(out), nil
}

// emitEnd sends the end of a response in chunks, and reports whether that was possible.
func (c *httpConn) emitEnd() bool {
	out, err := c.appendEnd(c.l.out[:0])
	if c.l.out = out; err != nil {
		c.breakOff(err)
		return false
	}
	return c.emit(out)
}

// flushEncoder sends what an encoder still has, for the backend has no more at the moment. It
// reports whether the client is still there.
func (c *httpConn) flushEncoder() bool {
	x := &c.t.x
	if x.encoder == nil || !x.encoder.owes {
		return true
	}
	made, err := x.encoder.flush()
	out := c.appendEncoded(c.l.out[:0], made)
	if c.l.out = out; err != nil {
		c.breakOff(err)
		return false
	}
	return c.emit(out)
}
