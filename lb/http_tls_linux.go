package lb

import (
	"context"
	"crypto/tls"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// secure reports whether the socket has TLS.
func (s *sock) secure() bool { return s.tls != nil }

// isTorn reports whether the end that a read has found is the socket's alone, and not one of
// its TLS: whoever cuts the connection off can make it. What has no other end is incomplete
// then (RFC 9112 §9.8).
func (s *sock) isTorn() bool { return s.tls != nil && s.tls.isTorn() }

// open is read for a socket with TLS.
func (s *sock) open(b []byte) (int, unix.Errno) {
	n, errno := s.tls.read(b)
	if len(s.l.tls.sealed) > 0 {
		sent := s.put(s.l.tls.takeSealed())
		n, errno = s.tls.answered(n, errno, sent, len(s.pending))
	}
	if s.tls.spent {
		s.readable, s.urgent = false, false
	}
	if n == 0 && errno == 0 {
		errno = s.fault // see frankConn
	}
	return n, errno
}

// seal is write for a socket with TLS.
func (s *sock) seal(b []byte) unix.Errno {
	if errno := s.tls.seal(b); errno != 0 {
		return errno
	}
	return s.send(s.l.tls.takeSealed())
}

// sealEnd ends what the peer reads by TLS, once and in order: not after a failure, and not
// behind what the socket has not taken.
func (s *sock) sealEnd() {
	if s.tls == nil || s.broken || s.fault != 0 || s.tls.fault || s.full() {
		return
	}
	s.tls.sealEnd()
	if b := s.l.tls.takeSealed(); len(b) > 0 {
		_ = s.put(b)
	}
}

// hasContent is hasUnread for a socket with TLS: the peer's tickets and new keys are not
// meant. It takes some of the content.
func (s *sock) hasContent() bool {
	s.tls.wire.dry = false // no event may have told of the latest
	var b [1]byte
	_, errno := s.read(b[:])
	return errno != unix.EAGAIN
}

// movedSock is a socket on its way to goroutines.
type movedSock struct {
	fd      int32
	tls     *records
	pending []byte // what it did not take; by TLS, it is sealed already
}

// socket returns the socket as the net package has it. Its descriptor is another one, which it
// waits for until then. What is pending goes out with the first write.
func (m *movedSock) socket(ctx context.Context, c *counters, until time.Time) (net.Conn, error) {
	conn, err := toConn(ctx, os.NewFile(uintptr(m.fd), ""), c, until)
	if err == nil && len(m.pending) > 0 {
		conn = &prefaced{Conn: conn, greeting: m.pending}
	}
	return conn, err
}

// over returns the connection on top of its socket. early has been read from it.
func (m *movedSock) over(socket net.Conn, early []byte) net.Conn {
	switch {
	case m.tls == nil:
		return &prefaced{Conn: socket, early: early}
	case len(early) == 0:
		return m.tls.standOn(socket)
	}
	return &openedConn{m.tls.standOn(socket), early}
}

// openedConn is a connection with TLS of which something has been decrypted already.
type openedConn struct {
	*tls.Conn
	early []byte
}

func (o *openedConn) Read(b []byte) (int, error) {
	if len(o.early) > 0 {
		n := copy(b, o.early)
		o.early = o.early[n:]
		return n, nil
	}
	return o.Conn.Read(b)
}

// adoptTLS returns what has the loop go on with a connection that has shaken hands.
func (l *httpLoop) adoptTLS(a arrival) func(*tls.Conn) bool {
	return func(conn *tls.Conn) bool {
		state := conn.ConnectionState()
		side, err := moveSide(conn)
		if err != nil {
			return false // net/http can do without the descriptor
		}
		a.fd, a.early = side.fd, nil // TLS has read that
		l.Post(func() {
			l.live.Add(1)
			l.openSecure(a, side, &state)
		})
		return true
	}
}

// openSecure serves a connection whose client has shaken hands.
func (l *httpLoop) openSecure(a arrival, side preparedSide, state *tls.ConnectionState) {
	if l.closing { // since the handshake: nobody would end it any more
		l.dismiss(a)
		return
	}
	c := new(httpConn)
	if !l.watchConn(c, &a) {
		return
	}
	c.tls = side.records(&l.tls)
	c.begin(a, state)
}
