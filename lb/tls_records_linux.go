package lb

import (
	"crypto/tls"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/lb/internal/reactor"
)

// A connection with TLS begins in a goroutine, where handshakes may wait, and goes on in
// an event loop: there an idle connection has neither stacks nor buffers.

// records is the TLS of a socket in an event loop. What its owner reads has been decrypted.
// What TLS writes waits in tlsBuffers.sealed, for the owner to send it.
type records struct {
	conn  *tls.Conn
	below *prefaced // what conn stands on
	wire  wire
	lent  bool // conn has one of the loop's buffers
	fault bool // conn has failed: what came before is all there is
	spent bool // the latest read has found that there is no more now
}

// wire is what the TLS of a socket reads from and writes to. It never waits. A read that
// finds nothing fails with errDry, and crypto/tls goes on later where that happened, since
// such an error is temporary.
type wire struct {
	net.Conn // nil: crypto/tls calls nothing else after the handshake
	fd       int32
	buffers  *tlsBuffers
	dry      bool // the socket has nothing
	urgent   bool // there is an urgent byte, which ends reads that could go on
	ending   bool // the peer's last byte has been sent, or the socket has failed
	torn     bool // the socket has ended, and TLS had not
}

// newRecords takes over a connection that has shaken hands: below is what conn stands on, and
// stands on the socket fd from now on.
func newRecords(buffers *tlsBuffers, fd int32, conn *tls.Conn, below *prefaced) *records {
	r := &records{conn: conn, below: below, wire: wire{fd: fd, buffers: buffers}}
	below.Conn = &r.wire
	r.dropHandshake()
	return r
}

// moveOut has the connection keep nothing of the loop's: a goroutine may call standOn then.
func (r *records) moveOut() {
	if r.lent {
		unread := plainInput(r.conn)
		own := make([]byte, unread.Len())
		_, _ = unread.Read(own)
		r.releaseBuffer()
		unread.Reset(own)
	}
}

// standOn returns the connection, which stands on socket from now on.
func (r *records) standOn(socket net.Conn) *tls.Conn {
	r.below.Conn = socket
	return r.conn
}

// noteEvents notes what epoll says about the socket.
func (r *records) noteEvents(events uint32) {
	const ending = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR
	w := &r.wire
	if events&(unix.EPOLLIN|ending) != 0 {
		w.dry = false
	}
	w.urgent = w.urgent || events&unix.EPOLLPRI != 0
	w.ending = w.ending || events&ending != 0
}

func (w *wire) Read(b []byte) (int, error) {
	for !w.dry {
		n, errno := reactor.Read(w.fd, b)
		switch {
		case errno == unix.EAGAIN:
			w.dry, w.urgent = true, false
			continue
		case errno == unix.EINTR:
			continue
		case errno != 0:
			return 0, errno
		case n == 0:
			w.torn = true // TLS asks for nothing after its own end
			return 0, io.EOF
		}
		w.dry = emptiedBy(n, len(b), w.ending || w.urgent)
		return n, nil
	}
	return 0, errDry
}

func (w *wire) Write(b []byte) (int, error) {
	w.buffers.sealed = append(w.buffers.sealed, b...)
	return len(b), nil
}

// SetWriteDeadline does nothing: no write waits.
func (w *wire) SetWriteDeadline(time.Time) error { return nil }

// errDry: there is nothing to be read now.
var errDry net.Error = dryError{os.ErrDeadlineExceeded}

type dryError struct{ error }

func (dryError) Timeout() bool   { return true }
func (dryError) Temporary() bool { return true }

// Bounds of what the peer of a TLS can make a loop do.
const (
	// maxRecords is how many calls of crypto/tls one read makes. Records may be tiny, and
	// each may change the keys.
	maxRecords = 32
	// openCost is what one read counts of a turn, at least.
	openCost = turn / 8
	// maxAnswers is how much may be pending when reading makes TLS write: above what a sink
	// that is full leaves there. A peer that asks for new keys and takes no answers is ended.
	maxAnswers = 2 * scratchSize
)

// read reads what the peer has sealed. Its results are those of reactor.Read, but spent and
// not a short read says that there is no more. If it leaves something in sealed, its results
// go through answered.
func (r *records) read(buf []byte) (n int, errno unix.Errno) {
	if r.fault {
		return 0, unix.EPROTO
	}
	r.lendBuffer()
	var err error
	for i := 0; i < maxRecords && n < len(buf) && err == nil; i++ {
		var m int
		m, err = r.conn.Read(buf[n:])
		n += m
	}
	r.takeBuffer()
	r.spent = err == errDry
	switch {
	case err == nil, n > 0 && err == errDry, err == io.EOF: // the end stays
		return n, 0
	case err == errDry:
		return 0, unix.EAGAIN
	}
	return n, r.fail(n, unix.EPROTO)
}

// fail ends reading. Not all errors of crypto/tls stay: another read might go on behind this
// one. After n bytes the next read has the error.
func (r *records) fail(n int, errno unix.Errno) unix.Errno {
	if r.fault = true; n > 0 {
		return 0
	}
	return errno
}

// answered returns the results of a read that made TLS write, an alert or new keys: they were
// n and errno, sent says how sending that went, and pending how much the peer has not taken.
func (r *records) answered(n int, errno, sent unix.Errno, pending int) (int, unix.Errno) {
	switch {
	case r.fault:
	case pending > maxAnswers:
		errno = r.fail(n, unix.EPROTO)
	case sent != 0 && sent != unix.EPIPE: // that is of a peer that has ended in order
		errno = r.fail(n, sent) // the next read would only find an end
	}
	return n, errno
}

// isTorn reports whether the end that a read has found is the socket's alone: somebody may
// have cut off what came before (RFC 8446 §6.1).
func (r *records) isTorn() bool { return r.wire.torn }

// seal leaves b in sealed, for the peer.
func (r *records) seal(b []byte) unix.Errno {
	if _, err := r.conn.Write(b); err != nil {
		r.wire.buffers.takeSealed() // no other connection may get a part
		return unix.EPIPE
	}
	return 0
}

// sealEnd leaves in sealed what tells the peer that no more comes.
func (r *records) sealEnd() { _ = r.conn.CloseWrite() }
