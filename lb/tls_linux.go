package lb

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/lb/internal/reactor"
)

// A connection with TLS begins in a goroutine, where handshakes may wait, and goes on in
// its event loop: there an idle connection has neither stacks nor buffers.

// wire is what the TLS of one side of a link reads from and writes to. It never waits. A read
// that finds nothing fails with errDry, and crypto/tls goes on later where that happened,
// since such an error is temporary. What is written waits in the loop for sendSealed.
type wire struct {
	net.Conn // nil: crypto/tls calls nothing else after the handshake
	k        *link
	side     int
}

func (w *wire) Read(b []byte) (int, error) {
	h := &w.k.half[w.side]
	for !h.dry {
		n, errno := reactor.Read(w.k.fd[w.side], b)
		switch {
		case errno == unix.EAGAIN:
			h.dry, h.urgent = true, false
			continue
		case errno == unix.EINTR:
			continue
		case errno != 0:
			return 0, errno
		case n == 0:
			return 0, io.EOF
		}
		h.dry = h.emptiedBy(n, len(b))
		return n, nil
	}
	return 0, errDry
}

func (w *wire) Write(b []byte) (int, error) {
	l := w.k.loop
	l.sealed = append(l.sealed, b...)
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

// open reads from a side that has TLS. Its results are those of reactor.Read, but a short
// read does not say that there is no more: half.readable does.
func (k *link) open(side int, buf []byte) (int, unix.Errno) {
	h := &k.half[side]
	k.lendBuffer(side)
	n, err := k.openRecords(side, buf)
	k.takeBuffer(side, false)
	switch {
	case err == errDry:
		if h.readable = false; n == 0 {
			return 0, unix.EAGAIN
		}
	case err != nil && err != io.EOF:
		// Not all errors of crypto/tls stay: another read might go on behind this one.
		if h.fault = true; n == 0 {
			return 0, unix.EPROTO
		}
	}
	return n, 0 // the end stays
}

func (k *link) openRecords(side int, buf []byte) (n int, err error) {
	if k.half[side].fault {
		return 0, unix.EPROTO
	}
	for i := 0; i < maxRecords && n < len(buf) && err == nil; i++ {
		var m int
		m, err = k.tls[side].Read(buf[n:])
		n += m
		if len(k.loop.sealed) > 0 { // an alert, or new keys
			errno := k.sendSealed(side)
			switch {
			case len(k.half[1-side].pending) > maxAnswers:
				return n, unix.EPROTO
			case errno != 0 && errno != unix.EPIPE: // that is of a peer that has ended in order
				return n, errno // the next read would only find an end
			}
		}
	}
	return n, err
}

// seal writes to a side that has TLS. What the socket does not take is pending.
func (k *link) seal(side int, b []byte) unix.Errno {
	if _, err := k.tls[side].Write(b); err != nil {
		k.loop.sealed = k.loop.sealed[:0] // no other connection may get a part
		return unix.EPIPE
	}
	h := &k.half[1-side]
	h.sealed += int64(len(b))
	if errno := k.sendSealed(side); errno != 0 {
		return errno
	}
	h.countSealed()
	return 0
}

// countSealed counts what was sealed as written once all of that has been sent.
func (h *half) countSealed() {
	if !h.full() {
		h.written += h.sealed
		h.sealed = 0
	}
}

// sealEnd tells a side that has TLS that no more comes.
func (k *link) sealEnd(side int) unix.Errno {
	_ = k.tls[side].CloseWrite()
	return k.sendSealed(side)
}

// sendSealed sends what TLS has written to a side.
func (k *link) sendSealed(side int) unix.Errno {
	h, b := &k.half[1-side], k.loop.sealed
	k.loop.sealed = b[:0]
	if h.done() {
		return 0 // nothing follows its end
	}
	if h.writable && !h.full() {
		n, errno := reactor.Write(k.fd[side], b)
		switch errno {
		case 0:
			b = b[n:]
		case unix.EAGAIN, unix.EINTR:
		default:
			return errno
		}
	}
	if len(b) > 0 {
		h.pending = append(h.pending, b...)
		h.stalled()
	}
	return 0
}

// preparedSide is one side of a connection that a goroutine has prepared: its socket, and
// what there is on top of that.
type preparedSide struct {
	socket  net.Conn
	preface *prefaced   // nil: none
	prompt  *promptConn // nil: none
	tls     *tls.Conn   // nil: none
	fd      int32       // another descriptor of the socket
}

// prepareSide finds the parts of c. Without a descriptor an event loop cannot go on with c.
func prepareSide(c any) (s preparedSide, err error) {
	if s.tls, _ = c.(*tls.Conn); s.tls != nil {
		c = s.tls.NetConn()
	}
	for wrapped := true; wrapped; {
		switch w := c.(type) {
		case *promptConn:
			s.prompt, c = w, w.Conn
		case *prefaced:
			s.preface, c = w, w.Conn
		case *frankConn:
			c = w.Conn
		default:
			wrapped = false
		}
	}
	socket, ok := c.(syscall.Conn)
	if s.fd = -1; !ok || s.tls != nil && s.preface == nil {
		return s, errors.ErrUnsupported
	}
	s.socket, _ = c.(net.Conn)
	s.fd, err = dupFD(socket)
	return s, err
}

// adopt has the loop relay a connection that a goroutine has prepared, up to its end: false
// if that cannot be, and the goroutine must. peer is whom Limits counts, and start when the
// connection was accepted.
func (l *loop) adopt(c *tcpConn, pick Pick, peer netip.Addr, start int64) bool {
	if cfg := c.dialer.tlsFor(pick); cfg != nil && cfg.Renegotiation != tls.RenegotiateNever {
		return false // a handshake would wait
	}
	client, err := prepareSide(c.client)
	backend, berr := prepareSide(c.backend)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil || berr != nil || c.dead {
		reactor.Close(client.fd)
		reactor.Close(backend.fd)
		return false
	}
	// The net package's descriptors must not be in its own epoll instance any more.
	client.socket.Close()
	backend.socket.Close()
	c.client, c.backend = nil, nil
	var k *link
	var mark int32
	l.Post(func() {
		k = l.newLink()
		mark = k.mark[0]
		k.mark[1] = l.newMark()
		k.cfg, k.origin, k.peer, k.start = c.tcpSettings, c.origin, peer, start
		k.pick, k.retries, k.connect = pick, c.record.Retries, int64(c.record.Connect)
		k.state = linkRelaying
		k.half[0].read = c.up.read.Load() // while it waited
		k.adoptSides(client, backend, c.early)
	})
	c.moved = func() {
		l.Post(func() {
			if k.mark[0] == mark {
				k.cut(true)
			}
		})
	}
	return true
}

// adoptSides begins relaying between two sides. early is what the backend gets before all
// else.
func (k *link) adoptSides(client, backend preparedSide, early []byte) {
	for i, s := range []preparedSide{client, backend} {
		k.fd[i], k.tls[i] = s.fd, s.tls
		if s.tls != nil {
			s.preface.Conn = &wire{k: k, side: i}
		}
		if s.prompt != nil {
			s.prompt.left, s.prompt.raw = 0, nil
			s.prompt.Conn = s.preface // no other goroutine writes
		}
		k.half[i].readable, k.half[i].writable = true, true
	}
	up := &k.half[0]
	if client.tls == nil && client.preface != nil {
		early = append(early, client.preface.early...)
		up.read += int64(len(client.preface.early))
	}
	up.nodelay = true // the net package's default
	reactor.KeepUrgent(k.fd[1])
	errno := k.watchSide(0)
	if errno == 0 {
		errno = k.watchSide(1)
	}
	if errno == 0 && len(early) > 0 {
		if k.tls[1] != nil {
			errno = k.seal(1, early)
		} else {
			up.pending = early
		}
	}
	if errno != 0 {
		k.abort(errno.Error())
		return
	}
	k.relayBytes()
}
