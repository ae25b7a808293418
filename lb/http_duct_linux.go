package lb

import (
	"golang.org/x/sys/unix"

	"github.com/havip/havip/lb/internal/reactor"
)

// duct brings bulk from one socket to another by splice(2), without copying it. The zero value
// has no pipe.
type duct struct {
	pipe  reactor.Pipe
	piped int  // bytes in it
	unfit bool // the sockets do not splice
}

// spliceFrom is how much must be to come before a pipe is worth its calls.
const spliceFrom = 128 << 10

// fits reports whether left bytes, h1.Chunked and h1.UntilClose included, should go through a
// pipe.
func (d *duct) fits(from, to *sock, left int64) bool {
	return (left >= spliceFrom || d.pipe.Exists() && left > 0) && !d.unfit && !from.urgent && !from.secure() && !to.secure()
}

// fill moves up to left bytes into the pipe: 0 if there are none now, or they must be read.
func (d *duct) fill(l *httpLoop, from *sock, left int64) (int, unix.Errno) {
	if !d.pipe.Exists() && !l.takePipe(d) {
		d.unfit = true
		return 0, 0
	}
	n, errno := d.pipe.Fill(from.fd, int(min(left, pipeSize)))
	switch {
	case errno == unix.EAGAIN:
		from.readable = false // the pipe is empty here
		return 0, 0
	case errno == unix.EINTR:
		return 0, 0
	case errno == unix.EINVAL, errno == 0 && n == 0:
		d.unfit = true // or the end, or an urgent byte before it, which splice never passes
		return 0, 0
	case errno != 0:
		return 0, errno
	}
	d.piped = n
	return n, 0
}

// drain moves on what is in the pipe.
func (d *duct) drain(to *sock) (moved int, errno unix.Errno) {
	for d.piped > 0 && to.writable {
		n, errno := d.pipe.Drain(to.fd, d.piped)
		switch errno {
		case 0:
			d.piped -= n
			moved += n
		case unix.EAGAIN:
			to.writable = false
		case unix.EINTR:
		default:
			if errno != unix.EPIPE {
				to.fault = errno
			}
			return moved, errno
		}
	}
	return moved, 0
}

// emptyDuct brings on what is in the pipe. It reports whether the client has taken all of it.
func (c *httpConn) emptyDuct() bool {
	d := &c.t.duct
	n, errno := d.drain(&c.sock)
	switch {
	case errno != 0:
		c.leave(errno)
		return false
	case d.piped == 0:
		c.readerIsBack()
		return true
	}
	c.awaitReader(n)
	return false
}

// awaitReader bounds the wait for a client that has taken n bytes, and not all there is for it.
// Nothing is read from the backend meanwhile, so that is not late.
func (c *httpConn) awaitReader(n int) {
	c.l.timers.Stop(&c.t.back.timer)
	if n > 0 || !c.timer.IsSet() {
		c.armTimer(c.t.x.cfg.ClientTimeout)
	}
}

// readerIsBack goes on when the client has taken all there is for it.
func (c *httpConn) readerIsBack() {
	t := c.t
	switch {
	case t.expecting: // the timer is about that
	case !c.awaitsBody():
		c.l.timers.Stop(&c.timer)
	case !c.timer.IsSet():
		c.armTimer(t.x.cfg.ClientTimeout)
	}
	if t.uploaded || t.stopped || t.back.full() || t.upDuct.piped > 0 || t.holds() {
		t.back.armTimer(t.x.cfg.Timeout)
	}
}

// takePipe sees to it that d has a pipe; false if there are none.
func (l *httpLoop) takePipe(d *duct) bool {
	if n := len(l.pipes); n > 0 {
		d.pipe = l.pipes[n-1]
		l.pipes = l.pipes[:n-1]
		return true
	}
	if l.piping >= maxPipes {
		return false
	}
	var ok bool
	if d.pipe, ok = reactor.NewPipe(pipeSize); ok {
		l.piping++
	}
	return ok
}

// givePipe takes back the pipe of d, if it has one. Another connection must not get what is
// still in it.
func (l *httpLoop) givePipe(d *duct) {
	switch {
	case !d.pipe.Exists():
	case d.piped > 0 || len(l.pipes) >= sparePipes:
		d.pipe.Close()
		l.piping--
	default:
		l.pipes = append(l.pipes, d.pipe)
	}
	*d = duct{}
}
