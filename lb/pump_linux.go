package lb

import (
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/lb/internal/reactor"
)

// Sizes of the relay. A loop reads into its one scratch buffer and writes on at
// once; only what the other side does not take gets memory of its own.
const (
	scratchSize = 128 << 10
	// How much is moved at once adapts to the sink, which should not have us hoard
	// what it does not take: half as much when it is full, twice as much when
	// it took everything.
	firstRoom = 64 << 10
	leastRoom = 16 << 10
	// pipeSize is what a pipe is asked to hold, and the largest room.
	pipeSize = 512 << 10
	// bulkRead is a read that suggests bulk, and bulkAfter how many of them in a
	// row, 64 KB at least, make it worth splicing, which costs a pipe and more per call.
	// Transfers of a megabyte take the same time with 1, 4, 16 and without any.
	bulkRead  = 16 << 10
	bulkAfter = 4
	// turn bounds what one direction moves before others get their turn.
	turn = 1 << 20
	// maxPipes is how many pipes a loop has at most.
	maxPipes = 512
)

// outcome is what pumping has made of a connection.
type outcome uint8

const (
	goesOn   outcome = iota
	over             // both directions have ended in order
	broken           // one has not: neither side may take what it got for complete
	deserted         // one has, and its source is gone now: what comes the other way is for nobody
)

// pump moves what can be moved.
func (k *link) pump() outcome {
	for side := range k.half {
		h := &k.half[side]
		if h.done() {
			continue
		}
		if err := k.moveBytes(side); err == errSource {
			return broken
		} else if err == errSink {
			// It may have sent an answer before it closed: that still counts.
			h.dead = true
			h.release(k.loop)
		}
		if h.eof && !h.done() && !h.full() {
			h.shut = true
			// If the other direction is over too, closing does it. TLS has its own end.
			if k.tls[1-side] == nil && !k.half[1-side].done() && reactor.ShutdownWrite(k.fd[1-side]) != 0 {
				h.dead = true // as above
			}
		}
	}
	if up := &k.half[0]; k.failed[0] && up.full() && !up.eof {
		// Nothing more is read while the backend takes nothing, so no read would meet
		// with the client's failure.
		return broken
	}
	for side := range k.half {
		// No read tells of a failure after the end, and no write while there is nothing to
		// be written.
		if k.gone[side] && k.half[side].shut && !k.half[1-side].done() {
			return deserted
		}
	}
	switch {
	case !k.half[0].done() || !k.half[1].done():
		return goesOn
	case k.half[0].dead || k.half[1].dead:
		// After a reset that a write was told of, reads only see an end.
		return broken
	}
	return over
}

// done reports whether nothing more comes this way.
func (h *half) done() bool { return h.shut || h.dead }

// full reports whether h holds something that its sink did not take.
func (h *half) full() bool { return len(h.pending) > 0 || h.piped > 0 }

// limit is how much to move at once.
func (h *half) limit() int {
	if h.room == 0 {
		return firstRoom
	}
	return h.room
}

// stalled notes that the sink is full.
func (h *half) stalled() {
	h.writable = false
	h.room = max(h.limit()/2, leastRoom)
}

// Errors of moveBytes.
var (
	errSource = errors.New("read failed")
	errSink   = errors.New("write failed")
)

// moveBytes brings what the source has to the sink.
func (k *link) moveBytes(side int) error {
	h := &k.half[side]
	for budget := turn; budget > 0; {
		if h.full() {
			if !h.writable {
				return nil
			}
			if err := k.flushPending(side); err != nil || h.full() {
				return err
			}
		}
		if !h.readable || h.eof {
			return nil
		}
		var n int
		var err error
		if h.bulk >= bulkAfter && !h.urgent && k.splices() && k.takePipe(h) {
			n, err = k.spliceIn(side)
		} else {
			n, err = k.copyBytes(side)
		}
		if err != nil {
			return err
		}
		budget -= n
	}
	if !k.queued {
		k.queued = true
		k.loop.runq = append(k.loop.runq, k)
	}
	return nil
}

// copyBytes reads once, and writes what it got. It returns how much of the turn that counts.
func (k *link) copyBytes(side int) (int, error) {
	h := &k.half[side]
	if h.pipe.Exists() {
		h.release(k.loop) // bulk is over; nothing is in it
	}
	buf := k.loop.scratch[:min(h.limit(), scratchSize)]
	n, errno := k.read(side, buf)
	switch {
	case errno == unix.EAGAIN:
		h.readable, h.urgent = false, false
		return 0, nil
	case errno == unix.EINTR:
		return 0, nil
	case errno != 0:
		return 0, errSource
	case n == 0:
		h.eof = true
		// If a write to this side has met with a reset, it is not the end of TLS.
		if k.tls[1-side] != nil && !k.half[1-side].dead && k.sealEnd(1-side) != 0 {
			return 0, errSink
		}
		return 0, nil
	}
	h.read += int64(n)
	if n < bulkRead {
		h.bulk = 0
	} else if h.bulk < bulkAfter {
		h.bulk++
	}
	if k.tls[side] == nil && emptiedBy(n, len(buf), h.ending || h.urgent) {
		h.readable = false
	}
	if !h.nodelay && side == 0 && h.written > 0 {
		k.writeAtOnce() // the first write goes out at once anyway
	}
	if k.write(1-side, buf[:n]) != 0 {
		return n, errSink
	}
	if n == len(buf) && !h.full() {
		h.room = min(2*h.limit(), pipeSize)
	}
	if k.tls[side] != nil {
		n = max(n, openCost)
	}
	return n, nil
}

// emptiedBy reports whether a read of n bytes has emptied the socket: a short one has; what
// comes later raises another event (epoll(7)). Not so with marked data: the end may have been
// announced together with it, or the read has stopped before an urgent byte.
func emptiedBy(n, wanted int, marked bool) bool { return n < wanted && !marked }

// read reads from a side.
func (k *link) read(side int, buf []byte) (int, unix.Errno) {
	if k.tls[side] != nil {
		return k.open(side, buf)
	}
	return reactor.Read(k.fd[side], buf)
}

// write writes to a side. What the socket does not take is pending.
func (k *link) write(side int, b []byte) unix.Errno {
	if k.tls[side] != nil {
		return k.seal(side, b)
	}
	h, n := &k.half[1-side], 0
	if h.writable {
		var errno unix.Errno
		n, errno = reactor.Write(k.fd[side], b)
		if errno == unix.EAGAIN || errno == unix.EINTR {
			n, errno = 0, 0
		}
		if errno != 0 {
			return errno
		}
		h.written += int64(n)
	}
	if n < len(b) {
		h.pending = slices.Clone(b[n:])
		h.stalled()
	}
	return 0
}

// writeAtOnce has writes to the backend go out at once.
func (k *link) writeAtOnce() {
	k.half[0].nodelay = true
	reactor.NoDelay(k.fd[1])
}

// flushPending writes what is pending.
func (k *link) flushPending(side int) error {
	h := &k.half[side]
	if h.piped > 0 {
		return k.spliceOut(side)
	}
	n, errno := reactor.Write(k.fd[1-side], h.pending)
	switch errno {
	case 0:
		if k.tls[1-side] == nil { // otherwise countSealed does
			h.written += int64(n)
		}
		if n == len(h.pending) {
			h.pending = nil
			h.countSealed()
			return nil
		}
		h.pending = h.pending[n:]
		h.writable = false
	case unix.EAGAIN:
		h.writable = false
	case unix.EINTR:
	default:
		return errSink
	}
	return nil
}

// splices reports whether bulk may be spliced.
func (k *link) splices() bool { return !k.cfg.NoSplice && k.tls == [2]*records{} }

// takePipe sees to it that h has a pipe; false if there are none.
func (k *link) takePipe(h *half) bool {
	if h.pipe.Exists() {
		return true
	}
	l := k.loop
	if n := len(l.pipes); n > 0 {
		h.pipe = l.pipes[n-1]
		l.pipes = l.pipes[:n-1]
		return true
	}
	if l.piping >= maxPipes {
		return false
	}
	p, ok := reactor.NewPipe(pipeSize)
	if ok {
		h.pipe = p
		l.piping++
	}
	return ok
}

// spliceIn moves what the source has into the pipe, and on.
func (k *link) spliceIn(side int) (int, error) {
	h := &k.half[side]
	n, errno := h.pipe.Fill(k.fd[side], h.limit())
	switch {
	case errno == unix.EAGAIN:
		// The pipe is empty here, so it is the source that has nothing.
		h.readable = false
		h.release(k.loop)
		return 0, nil
	case errno == unix.EINTR:
		return 0, nil
	case errno == unix.EINVAL, errno == 0 && n == 0:
		// Not with these sockets. Or the end, or an urgent byte before it, which splice never
		// passes.
		h.bulk = 0
		return 0, nil
	case errno != 0:
		return 0, errSource
	}
	if n < bulkRead/4 {
		h.bulk = 0
	}
	h.read += int64(n)
	h.piped = n
	return n, k.spliceOut(side)
}

// spliceOut moves what is in the pipe to the sink.
func (k *link) spliceOut(side int) error {
	h := &k.half[side]
	for h.piped > 0 {
		n, errno := h.pipe.Drain(k.fd[1-side], h.piped)
		switch errno {
		case 0:
			h.piped -= n
			h.written += int64(n)
		case unix.EAGAIN:
			h.stalled()
			return nil
		case unix.EINTR:
		default:
			return errSink
		}
	}
	h.room = min(2*h.limit(), pipeSize)
	return nil
}
