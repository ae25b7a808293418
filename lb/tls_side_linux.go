package lb

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"syscall"

	"github.com/havip/havip/lb/internal/reactor"
)

// preparedSide is one side of a connection that a goroutine has prepared: its socket, and
// what there is on top of that. Its descriptor is for an event loop. The net package's must be
// closed by then: it is in an epoll instance of its own.
type preparedSide struct {
	socket  net.Conn
	preface *prefaced   // nil: none
	prompt  *promptConn // nil: none
	tls     *tls.Conn   // nil: none
	fd      int32       // another descriptor of the socket
}

// prepareSide finds the parts of c. Without a descriptor an event loop cannot go on with c.
func prepareSide(c any) (s preparedSide, err error) {
	if heard, ok := c.(*heardConn); ok {
		c = heard.secureConn
	}
	if s.tls, _ = c.(*tls.Conn); s.tls != nil {
		c = s.tls.NetConn()
	}
	for wrapped := true; wrapped; {
		switch w := c.(type) {
		case *promptConn:
			s.prompt, c = w, w.Conn
		case *prefaced:
			s.preface, c = w, w.Conn
		case *proxiedConn:
			s.preface, c = &w.prefaced, w.Conn
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

// moveSide is prepareSide for a c that nobody else uses: only the loop's descriptor is left of
// its socket. On error c is as before.
func moveSide(c net.Conn) (preparedSide, error) {
	s, err := prepareSide(c)
	if err == nil {
		s.socket.Close()
	}
	return s, err
}

// records returns the side's TLS, which stands on the side's descriptor from now on; nil if it
// has none.
func (s *preparedSide) records(b *tlsBuffers) *records {
	if s.tls == nil {
		return nil
	}
	below := s.preface
	if s.prompt != nil {
		below = &prefaced{early: s.preface.early} // what the goroutine had around it is not needed
		s.prompt.left, s.prompt.raw = 0, nil
		s.prompt.Conn = below // no other goroutine writes
	}
	return newRecords(b, s.fd, s.tls, below)
}

// close closes the descriptor of a side that no loop wants.
func (s *preparedSide) close() { reactor.Close(s.fd) }

// dialSide connects to a picked backend, and shakes hands if that has TLS, behind greeting as
// with [dialer.connect]. It waits.
func dialSide(ctx context.Context, d *dialer, pick Pick, greeting []byte) (preparedSide, error) {
	c, err := d.connect(ctx, pick, greeting)
	if err != nil {
		return preparedSide{fd: -1}, err
	}
	s, err := moveSide(c)
	if err != nil {
		reset(c)
	}
	return s, err
}
