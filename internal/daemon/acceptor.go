package daemon

import (
	"errors"
	"net"
	"sync"
)

// acceptor accepts the connections of a listener for those that share it. It
// accepts one when somebody waits for it: the others stay in the backlog, where
// whoever takes the socket over finds them.
type acceptor struct {
	net.Listener
	wanted chan struct{}
	conns  chan accepted
	closed chan struct{}
	once   sync.Once
	done   chan struct{} // closed when nothing more is accepted
}

type accepted struct {
	conn net.Conn
	err  error
}

func newAcceptor(ln net.Listener) *acceptor {
	a := &acceptor{
		Listener: ln, wanted: make(chan struct{}), closed: make(chan struct{}), done: make(chan struct{}),
		// Room for what was accepted for somebody who has left meanwhile.
		conns: make(chan accepted, 1),
	}
	go a.run()
	return a
}

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

// give puts c where one of those who share finds it.
func (a *acceptor) give(c accepted) {
	select {
	case a.conns <- c:
		return
	default:
	}
	select {
	case a.conns <- c:
	case <-a.closed: // Two were accepted, and nobody wants the second.
		if c.err == nil {
			c.conn.Close()
		}
	}
}

func (a *acceptor) close() {
	a.once.Do(func() {
		a.Listener.Close()
		close(a.closed)
	})
}

// share returns a listener that can be closed alone.
func (a *acceptor) share() net.Listener { return &sharer{acceptor: a, left: make(chan struct{})} }

// sharer is one of those that share an acceptor.
type sharer struct {
	*acceptor
	left    chan struct{}
	leaving sync.Once
}

// Accept returns no connection to one who has left: the others are to have it.
func (s *sharer) Accept() (net.Conn, error) {
	wanted := s.wanted
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
			// The last one has been accepted and must not be lost.
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

func (s *sharer) gone() bool {
	select {
	case <-s.left:
		return true
	default:
		return false
	}
}

// Close leaves. When the acceptor is closed, that has ended it already.
func (s *sharer) Close() error {
	select {
	case <-s.closed:
	default:
		s.leaving.Do(func() { close(s.left) })
	}
	return nil
}
