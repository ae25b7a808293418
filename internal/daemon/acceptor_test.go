package daemon

import (
	"errors"
	"net"
	"testing"
)

// TestAcceptor: who leaves gets no connection any more, nobody accepts more than
// is wanted, and none that was accepted is lost.
func TestAcceptor(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := newAcceptor(ln)
	defer a.close()
	type result struct {
		conn net.Conn
		err  error
	}
	accept := func(s net.Listener) chan result {
		c := make(chan result, 1)
		go func() {
			conn, err := s.Accept()
			c <- result{conn, err}
		}()
		return c
	}
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	for range 100 {
		old := a.share()
		waiting := accept(old)
		next := a.share()
		waiting2 := accept(next)
		old.Close()
		c := dial()
		if r := <-waiting; !errors.Is(r.err, net.ErrClosed) {
			t.Fatalf("who has left got %v, %v", r.conn, r.err)
		}
		r := <-waiting2
		if r.err != nil || r.conn.RemoteAddr().String() != c.LocalAddr().String() {
			t.Fatalf("%+v", r)
		}
		r.conn.Close()
		next.Close()
	}
	// What nobody wants stays in the backlog, for the next one who listens there.
	handed, err := duplicate(ln)
	if err != nil {
		t.Fatal(err)
	}
	last := a.share()
	waiting := accept(last)
	a.close()
	r := <-waiting
	if r.err == nil {
		t.Errorf("accepted %v", r.conn.RemoteAddr())
	}
	c := dial()
	s, err := handed.(net.Listener).Accept()
	if err != nil || s.RemoteAddr().String() != c.LocalAddr().String() {
		t.Errorf("the next one: %v", err)
	}
	if err := errors.Join(handed.Close(), s.Close()); err != nil {
		t.Error(err)
	}
}

// TestAcceptorSparesOthers: a connection that somebody could have who has just
// left stays for the others.
func TestAcceptorSparesOthers(t *testing.T) {
	a := &acceptor{conns: make(chan accepted, 1), closed: make(chan struct{}), done: make(chan struct{})}
	own, other := net.Pipe()
	defer other.Close()
	a.give(accepted{own, nil})
	for range 100 { // chance decides what is seen first
		s := a.share()
		s.Close()
		if c, err := s.Accept(); err == nil {
			t.Fatalf("got %v", c)
		}
	}
	if c, err := a.share().Accept(); err != nil || c != own {
		t.Errorf("the other one got %v, %v", c, err)
	}
}
