package daemon

import (
	"errors"
	"net"
	"sync"
)

// acceptor accepts the connections of a listener for several sharers. It accepts a
// connection only when a sharer waits for one: all others stay in the backlog, where
// another process or another plane that takes the socket over finds them.
type acceptor struct {
	net.Listener
	wanted chan struct{} // a sharer asks for one connection
	conns  chan accepted // for whichever sharer takes it first
	closed chan struct{}
	once   sync.Once
	done   chan struct{} // closed when nothing more is accepted
}

// accepted is what Accept has returned.
type accepted struct {
	conn net.Conn
	err  error
}

func newAcceptor(ln net.Listener) *acceptor {
	a := &acceptor{
		Listener: ln, wanted: make(chan struct{}), closed: make(chan struct{}), done: make(chan struct{}),
		// Room for what was accepted for a sharer that has left meanwhile.
		conns: make(chan accepted, 1),
	}
	go a.run()
	return a
}

// run accepts what is wanted until the listener is closed.
func (a *acceptor) run() {
	defer close(a.done)
	for {
		select {
		case <-a.wanted:
		case <-a.closed:
			return
		}
		conn, err := a.Listener.Accept()
		a.give(accepted{conn, err})
		if errors.Is(err, net.ErrClosed) {
			return
		}
	}
}

// give puts c where a sharer finds it. The first select prefers the room in conns to
// closed: a connection for which there is room is not lost at the end.
func (a *acceptor) give(c accepted) {
	select {
	case a.conns <- c:
		return
	default:
	}
	select {
	case a.conns <- c:
	case <-a.closed: // two were accepted, and nobody wants the second
		if c.err == nil {
			c.conn.Close()
		}
	}
}

// close ends all sharers. It may be called more than once.
func (a *acceptor) close() {
	a.once.Do(func() {
		a.Listener.Close()
		close(a.closed)
	})
}

// share returns a listener that can be closed alone.
func (a *acceptor) share() net.Listener { return &sharer{acceptor: a, left: make(chan struct{})} }

// sharer is a listener whose connections come from an acceptor.
type sharer struct {
	*acceptor
	left    chan struct{}
	leaving sync.Once
}

// Accept asks the acceptor for one connection and waits for one, which may be a
// connection that another sharer has asked for. A sharer that has left takes none:
// it gives the connection back to the others.
func (s *sharer) Accept() (net.Conn, error) {
	wanted := s.wanted // nil when one was asked for
	for {
		select {
		case wanted <- struct{}{}:
			wanted = nil
		case c := <-s.conns:
			if s.gone() {
				s.give(c)
				return nil, net.ErrClosed
			}
			return c.conn, c.err
		case <-s.left:
			return nil, net.ErrClosed
		case <-s.done:
			// The last connection has been accepted and must not be lost.
			select {
			case c := <-s.conns:
				if !s.gone() {
					return c.conn, c.err
				}
			default:
			}
			return nil, net.ErrClosed
		}
	}
}

// gone reports whether the sharer has left.
func (s *sharer) gone() bool {
	select {
	case <-s.left:
		return true
	default:
		return false
	}
}

// Close makes the sharer leave. After the end of the acceptor it does nothing: a
// connection that was accepted last may still be taken.
func (s *sharer) Close() error {
	select {
	case <-s.closed:
	default:
		s.leaving.Do(func() { close(s.left) })
	}
	return nil
}
