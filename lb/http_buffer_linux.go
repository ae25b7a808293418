package lb

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/lb/internal/h1"
	"github.com/havip/havip/lb/internal/reactor"
)

// beginBuffering reads the body before there is a backend. What is here already needs no
// other place.
func (c *httpConn) beginBuffering() {
	t := c.t
	x := &t.x
	t.asked = true // a client that is not asked does not need that
	if n := t.req.Length; n >= 0 && n <= int64(len(c.in)-t.body) {
		c.nextBackend()
		return
	}
	c.state = connBuffering
	t.held = x.cfg.bodies.hold(t.req.Length)
	t.up.reframe = false
	if x.expect && !c.askForBody() {
		return
	}
	c.bufferBody()
}

// bufferBody reads what has come of the body, for which there is no backend yet.
func (c *httpConn) bufferBody() {
	t := c.t
	if _, errno := c.flush(); errno != 0 || c.broken {
		c.leave(errLeft)
		return
	}
	for budget := turn; !t.up.over; {
		if budget <= 0 {
			c.l.later(c)
			return
		}
		p := c.in[t.body:]
		if len(p) == 0 {
			p = c.l.scratch[headroom : headroom+scratchSize]
			n, ok := c.readBody(p)
			if !ok || n == 0 {
				return
			}
			p = p[:n]
		}
		content, used, ok := c.openBody(nil, p)
		if !ok {
			return
		}
		budget -= used
		err := t.held.add(content)
		c.in = append(c.in[:t.body], p[used:]...) // what follows the body
		if err != nil {
			t.x.bufferingFailed(t.held.size(), err)
			break
		}
	}
	c.endBuffering()
}

// endBuffering goes on with a backend when the body is held, or as much of it as can be.
func (c *httpConn) endBuffering() {
	t := c.t
	c.l.timers.Stop(&c.timer)
	t.at = t.body
	t.x.bodyHeld(t.held.size(), t.up.over)
	t.up.reframe = t.x.length == h1.Chunked
	c.nextBackend()
}

// holds reports whether there is more of a held body that the backend has not got yet.
func (t *httpTurn) holds() bool { return t.held != nil && t.heldAt < t.held.size() }

// taken reports whether the whole body is on its way to the backend.
func (t *httpTurn) taken() bool { return t.up.over && !t.holds() }

// dropHeld gives up what is held.
func (t *httpTurn) dropHeld() {
	t.held.close()
	t.held = nil
}

// takeHeld appends a piece of the held body to out, as the backend gets it.
func (c *httpConn) takeHeld(out []byte, most int) ([]byte, bool) {
	t := c.t
	n := int(min(int64(most), t.held.size()-t.heldAt))
	if t.up.reframe && n > 0 {
		out = h1.AppendChunkSize(out, n)
	}
	start := len(out)
	out = slices.Grow(out, n)[:start+n]
	if _, err := t.held.read(out[start:], t.heldAt); err != nil {
		c.loseHeld(err)
		return nil, false
	}
	t.heldAt += int64(n)
	if t.up.reframe && n > 0 {
		out = append(out, h1.ChunkEnd...)
	}
	out = c.endBody(out)
	c.l.out = out
	return out, true
}

// loseHeld ends a request of whose body a part is lost.
func (c *httpConn) loseHeld(err error) {
	c.t.dropped = true
	if c.t.responded {
		c.breakOff(err)
		return
	}
	c.failAttempt(err)
}

// moveHeld brings a piece of the held body on: 0 if the backend takes nothing now.
func (c *httpConn) moveHeld() (n int, ok bool) {
	t, b := c.t, c.t.back
	b.writeAtOnce()
	if t.heldAt < t.held.filed && !t.held.copied && !t.up.reframe && !b.secure() {
		return c.sendFile()
	}
	before := t.heldAt
	out, ok := c.takeHeld(c.l.out[:0], scratchSize)
	if !ok {
		return 0, false
	}
	if errno := b.write(out); errno != 0 {
		c.stopUpload()
	}
	c.afterBody()
	return int(t.heldAt - before), true
}

// sendFile sends a piece of the held body by sendfile(2), without copying it.
func (c *httpConn) sendFile() (n int, ok bool) {
	t, b := c.t, c.t.back
	errno := unix.EAGAIN
	for b.writable {
		left := min(t.held.filed-t.heldAt, turn)
		if n, errno = reactor.SendFile(b.fd, int32(t.held.file.Fd()), t.heldAt, int(left)); errno != unix.EINTR {
			break
		}
	}
	switch {
	case errno == unix.EAGAIN:
		if b.writable = false; !b.timer.IsSet() {
			b.armTimer(t.x.cfg.Timeout)
		}
		return 0, true
	case errno == 0 && n == 0:
		c.loseHeld(errHeldLost) // the file is shorter than it was
		return 0, false
	case errno != 0 && !ofSocket(errno):
		t.held.copied = true // if it can be: reading tells whether the file is lost
		return c.moveHeld()
	case errno != 0:
		if errno != unix.EPIPE {
			b.fault = errno
		}
		c.stopUpload()
		return 0, true
	}
	t.heldAt += int64(n)
	b.armTimer(t.x.cfg.Timeout)
	c.afterBody()
	return n, true
}

// ofSocket reports whether an error of sendfile(2) tells of the socket. Others may be the file's,
// which no backend is to blame for: not every file system has sendfile, and disks fail.
func ofSocket(errno unix.Errno) bool {
	switch errno {
	case unix.EPIPE, unix.ECONNRESET, unix.ECONNABORTED, unix.ECONNREFUSED, unix.ETIMEDOUT, unix.EHOSTUNREACH, unix.EHOSTDOWN,
		unix.ENETUNREACH, unix.ENETDOWN, unix.ENETRESET, unix.ENOTCONN, unix.EPROTO, unix.EACCES, unix.EPERM, unix.ENOPROTOOPT:
		return true
	}
	return false
}
