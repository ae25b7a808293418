package lb

import (
	"io"
	"net"
	"testing"
	"time"
)

// A backend connection that came about after its server was cut is not used.
func TestAttachRefusesAServerThatWasCut(t *testing.T) {
	mine, other := new(server), new(server)
	for what, step := range map[string]struct {
		gone servers
		want bool
	}{
		"the server was cut":     {servers{mine: {}}, false},
		"another server was cut": {servers{other: {}}, true},
		"the connection was cut": {nil, false},
	} {
		client, backend := net.Pipe()
		s := session{client: client}
		gaveUp := false
		s.dialing(Pick{member: &member{server: mine}, began: mine.lastCut.Load()}, func() { gaveUp = true })
		for cut := range step.gone {
			cut.lastCut.Add(1)
		}
		s.cut(step.gone)
		ours, theirs := net.Pipe()
		if got := s.attach(ours); got != step.want || gaveUp == step.want {
			t.Errorf("%s: attached %v, want %v; the attempt was given up: %v", what, got, step.want, gaveUp)
		}
		_ = theirs.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, err := theirs.Read(make([]byte, 1)); isTimeout(err) != step.want {
			t.Errorf("%s: the backend's connection reads %v", what, err)
		}
		for _, c := range []net.Conn{client, backend, ours, theirs} {
			c.Close()
		}
	}
}

// Who says nothing where a TLS handshake is due is given up.
func TestTLSHandshakeTimesOut(t *testing.T) {
	waysOf(t, tlsWays, func(t *testing.T, open func(*testTCP, ...Backend) (func() stream, func())) {
		tc := tcpWith(TCPConfig{HandshakeTimeout: 50 * time.Millisecond})
		dial, _ := open(tc, talker(t, "a"))
		c := dial()
		raw := innermost(c).(net.Conn)
		if got, _ := ends(t, raw); got != "" {
			t.Errorf("got %q", got)
		}
		waitFor(t, "the connection to be refused", func() bool { st := tc.Stats(); return st.Refused == 1 && st.Active == 0 })
	})
}

// A backend that accepts a connection and says nothing where a TLS handshake is due has not
// been reached.
func TestBackendTLSHandshakeTimesOut(t *testing.T) {
	a := newAuthority(t)
	tc := tcpWith(TCPConfig{ConnectTimeout: 2 * time.Second})
	silent := Backend{Address: listenTest(t).Addr().String(), TLS: tlsTalker(t, a, "x").TLS}
	addr, _ := relay(t, tc, silent, tlsTalker(t, a, "b"))
	c := dialTest(t, addr)
	c.CloseWrite()
	if got, inOrder := ends(t, c); got != "b." || !inOrder {
		t.Errorf("got %q, in order: %v", got, inOrder)
	}
}

// While connections that are accepted already wait for what this host is out of, no other is
// accepted.
func TestNobodyIsAcceptedWhileConnectionsStarve(t *testing.T) {
	everyWay(t, func(t *testing.T, open func(*testTCP, ...Backend) (func() stream, func())) {
		tc := tcpWith(TCPConfig{})
		dial, _ := open(tc, talker(t, "a"))
		c := dial()
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		before := tc.Stats().Paused
		tc.counters.starved.Add(1)
		// A goroutine may wait in Accept already.
		dial()
		last := dial()
		waitFor(t, "accepting to pause, or to go on", func() bool { st := tc.Stats(); return st.Paused > before || st.Accepted > 2 })
		if st := tc.Stats(); st.Accepted > 2 {
			t.Errorf("%+v, want no third connection", st)
		}
		tc.counters.starved.Add(-1)
		if _, err := last.Read(make([]byte, 1)); err != nil {
			t.Errorf("later: %v", err)
		}
	})
}

// A greeting costs no write, and what went out of it does not count as the caller's.
func TestGreetingGoesWithTheFirstWrite(t *testing.T) {
	for _, tt := range []struct{ room, want int }{{100, 5}, {8, 2}, {3, 0}} {
		w := &narrow{room: tt.room}
		c := &prefaced{Conn: w, greeting: []byte("header")}
		n, err := c.Write([]byte("hello"))
		if n != tt.want || (err == nil) != (n == 5) || len(w.writes) != 1 || w.writes[0] != "headerhello" {
			t.Errorf("room for %d: %d, %v, writes %q", tt.room, n, err, w.writes)
		}
		if c.Write([]byte("more")); len(w.writes) != 2 || w.writes[1] != "more" {
			t.Errorf("writes %q", w.writes)
		}
	}
}

// narrow takes no more than room of each write.
type narrow struct {
	net.Conn
	room   int
	writes []string
}

func (w *narrow) Write(b []byte) (int, error) {
	w.writes = append(w.writes, string(b))
	if len(b) > w.room {
		return w.room, io.ErrShortWrite
	}
	return len(b), nil
}
