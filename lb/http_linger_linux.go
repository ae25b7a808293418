package lb

import "golang.org/x/sys/unix"

// The rest of a request's body, and what comes after the last response, are thrown away for
// this long: see drainFor. A reset could destroy the response before the client has read it.

// beginDraining throws the rest of the request's body away.
func (c *httpConn) beginDraining() {
	if c.last || c.t.broken != nil || c.t.expecting && !c.t.asked {
		// Where the next request begins is not known, or nobody waits for it.
		c.last = true
		c.beginLingering()
		return
	}
	c.state = connDraining
	c.armTimer(drainFor)
	c.drain()
}

func (c *httpConn) drain() {
	t := c.t
	budget := turn
	for !t.up.over {
		if budget <= 0 {
			c.l.later(c)
			return
		}
		if t.at == len(c.in) {
			c.in = c.in[:t.body]
			t.at = t.body
			p := c.l.scratch[headroom : headroom+scratchSize]
			n, errno := c.read(c.roomForBody(p))
			if errno == unix.EAGAIN {
				return
			}
			if errno != 0 || n == 0 {
				c.hangUp()
				return
			}
			c.in = append(c.in, p[:n]...)
			budget -= n
		}
		t.up.reframe = false
		_, used, err := t.up.take(nil, c.in[t.at:], int(t.x.cfg.MaxHeader))
		if t.at += used; err != nil {
			c.endDraining(false)
			return
		}
	}
	// What is no trailer may not end where it seems to.
	c.endDraining(t.parseTrailer(&t.up, int(t.x.cfg.MaxHeader), t.x.cfg.MaxFields) == nil)
}

// endDraining goes on with the next request, if it is known where that begins.
func (c *httpConn) endDraining(known bool) {
	if !known {
		c.last = true
		c.t.at = len(c.in)
	}
	c.nextTurn()
}

// beginLingering ends the connection in order.
func (c *httpConn) beginLingering() {
	// Closing alone would drop a response that waits for the end, if something has come that
	// nobody has read (tcp_close in net/ipv4/tcp.c).
	c.endWriting()
	if c.leaves && c.in == nil && c.t == nil && !c.readable {
		c.hangUp() // the client has said that it sends no more
		return
	}
	c.state = connLingering
	c.in = nil
	c.armTimer(drainFor)
	c.linger()
}

func (c *httpConn) linger() {
	for budget := turn; budget > 0; {
		n, errno := c.read(c.l.scratch[headroom : headroom+scratchSize])
		switch {
		case errno == unix.EAGAIN:
			return
		case errno != 0 || n == 0:
			c.hangUp()
			return
		}
		budget -= n
	}
	c.l.later(c)
}
