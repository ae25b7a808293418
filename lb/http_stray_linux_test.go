package lb

import (
	"io"
	"net"
	"strings"
	"testing"
)

// What a client sends behind its last request, an empty line after a POST for instance, as old
// browsers do, destroys no response that is on its way.
func TestStrayBytesDestroyNoResponse(t *testing.T) {
	clients := make(chan *net.TCPConn, 1)
	stray := func(Record) { io.WriteString(<-clients, "\r\n") } // after the response was written, before the end
	s, _ := front(t, HandlerConfig{Record: stray}, webBackend(t, name("answer")))
	for range 20 {
		c := dialTest(t, s.Listener.Addr().String())
		clients <- c
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx")
		if got, err := io.ReadAll(c); !strings.HasSuffix(string(got), "answer") {
			t.Fatalf("%q, %v", got, err)
		}
	}
}

// Who has not asked for the end of the connection may have sent another request already, whose
// arrival must not reset the connection (RFC 9112 §9.6).
func TestEngineLingersUnlessTheClientEnds(t *testing.T) {
	for _, ends := range []bool{false, true} {
		address, p := engineAt(t, HTTPConfig{}, webBackend(t, name("answer")))
		r := newReader(t, address)
		if _, got, err := r.ask(t, aGet); got != "answer" || err != nil {
			t.Fatalf("%q, %v", got, err)
		}
		waitFor(t, "the connection to be idle", func() (idle bool) {
			eachConn(t, p, func(c *httpConn) { idle = c.state == connHead && c.requests == 1 })
			return idle
		})
		var state connState
		eachConn(t, p, func(c *httpConn) {
			c.leaves = ends
			c.beginLingering()
			state = c.state
		})
		if want := map[bool]connState{false: connLingering, true: connClosed}[ends]; state != want {
			t.Errorf("the client ends: %v: state %d, want %d", ends, state, want)
		}
		if got, err := io.ReadAll(r.r); len(got) > 0 || err != nil {
			t.Errorf("%q, %v, want the end", got, err)
		}
	}
}
