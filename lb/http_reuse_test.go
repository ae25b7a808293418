package lb

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab/labtest"
)

// reader reads responses on one connection of a client.
type reader struct {
	net.Conn
	r *bufio.Reader
}

func newReader(t *testing.T, address string) *reader {
	c := dialTest(t, address)
	return &reader{c, bufio.NewReader(c)}
}

// ask sends a request and reads the response to it.
func (c *reader) ask(t *testing.T, request string) (*http.Response, string, error) {
	t.Helper()
	io.WriteString(c, request)
	method, _, _ := strings.Cut(request, " ")
	res, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		return nil, "", err
	}
	b, err := io.ReadAll(res.Body)
	return res, string(b), err
}

// A backend hangs up on a kept connection when it gets the next request there. What is
// not known to be idempotent is sent once, whatever else is in it.
func TestNothingIsSentTwiceBehindOurBack(t *testing.T) {
	for _, tt := range []struct {
		request string
		sent    int32
		status  int
	}{
		{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 2, 200},
		{"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 2, 200},
		{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 1, 502},
		{"RPC / HTTP/1.1\r\nHost: x\r\n\r\n", 1, 502},
		{"get / HTTP/1.1\r\nHost: x\r\n\r\n", 1, 502},
		{"POST / HTTP/1.1\r\nHost: x\r\nIdempotency-Key: 1\r\n\r\n", 1, 502},
		{"POST / HTTP/1.1\r\nHost: x\r\nX-Idempotency-Key: 1\r\nContent-Length: 0\r\n\r\n", 1, 502},
	} {
		var conns, sent atomic.Int32
		s, h := front(t, HandlerConfig{}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
			first := conns.Add(1) == 1
			if first {
				http.ReadRequest(r)
				io.WriteString(c, anOK)
			}
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			io.Copy(io.Discard, req.Body)
			sent.Add(1)
			if !first {
				io.WriteString(c, anOK)
			}
		}))
		c := newReader(t, s.Listener.Addr().String())
		if _, got, err := c.ask(t, aGet); got != "ok" {
			t.Fatalf("%q, %v", got, err)
		}
		res, _, err := c.ask(t, tt.request)
		if err != nil || res.StatusCode != tt.status || sent.Load() != tt.sent {
			t.Errorf("%.40q: %+v, %v, sent %d times; want %d, %d times", tt.request, res, err, sent.Load(), tt.status, tt.sent)
		}
		if n := h.pool().Status().Backends[0].Failures; n != 0 {
			t.Errorf("%.40q: %d failures, want none: any backend may close idle connections", tt.request, n)
		}
	}
}

// A request without a body says so, where servers want to be told.
func TestContentLengthZero(t *testing.T) {
	s, _ := front(t, HandlerConfig{}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		var got string
		for line := ""; line != "\r\n"; {
			line, _ = r.ReadString('\n')
			if strings.HasPrefix(line, "Content-Length") || strings.HasPrefix(line, "Transfer-Encoding") {
				got += strings.TrimSpace(line)
			}
		}
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(got), got)
		discard(c, r)
	}))
	for request, want := range map[string]string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n":                                                  "",
		"POST / HTTP/1.1\r\nHost: x\r\n\r\n":                                                 "Content-Length: 0",
		"POST / HTTP/1.1\r\nHost: x\r\nIdempotency-Key: 1\r\n\r\n":                           "Content-Length: 0",
		"PATCH / HTTP/1.1\r\nHost: x\r\n\r\n":                                                "Content-Length: 0",
		"DELETE / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n":                          "Content-Length: 0",
		"DELETE / HTTP/1.1\r\nHost: x\r\n\r\n":                                               "",
		"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n":           "Transfer-Encoding: chunked",
		"PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n":     "Content-Length: 0",
		"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n": "Transfer-Encoding: chunked",
	} {
		if got := rawRequest(t, s, request); got != want {
			t.Errorf("%q: the backend got %q, want %q", request, got, want)
		}
	}
}

// What follows a response on its connection is nobody's: the next client must not get
// it, whether it comes in one piece with the response or later.
func TestExcessBytesReachNobody(t *testing.T) {
	const excess = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
	var complaints labtest.Log
	log.SetOutput(&complaints)
	defer log.SetOutput(os.Stderr)
	for name, first := range map[string]string{
		"length":       "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"chunks":       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"no content":   "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
		"not modified": "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
	} {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " late:", late), func(t *testing.T) {
				var conns atomic.Int32
				sent := make(chan bool)
				s, _ := front(t, HandlerConfig{}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
					if conns.Add(1) > 1 {
						http.ReadRequest(r)
						io.WriteString(c, anOK)
						discard(c, r)
						return
					}
					http.ReadRequest(r)
					if late {
						io.WriteString(c, first)
						<-sent
						io.WriteString(c, excess)
						// Before it is found out there is no next request.
						r.ReadByte()
						sent <- true
						return
					}
					io.WriteString(c, first+excess)
					discard(c, r)
				}))
				c := newReader(t, s.Listener.Addr().String())
				if _, _, err := c.ask(t, aGet); err != nil {
					t.Fatal(err)
				}
				if late {
					sent <- true
					<-sent
				}
				if _, got, err := c.ask(t, aGet); got != "ok" || conns.Load() != 2 {
					t.Errorf("the second client got %q, %v, on connection %d", got, err, conns.Load())
				}
			})
		}
	}
	if got := complaints.String(); got != "" {
		t.Errorf("written to the program's log: %s", got)
	}
}

// A connection is watched while it is idle, to the very moment when it is taken.
func TestIdleConnectionsAreWatched(t *testing.T) {
	for _, tt := range []struct {
		name   string
		happen func(u *upstream, backend net.Conn)
		intact bool
	}{
		{"nothing", func(u *upstream, _ net.Conn) { u.SetReadDeadline(time.Now()) }, true},
		{"a byte", func(_ *upstream, backend net.Conn) { backend.Write([]byte("a")) }, false},
		{"the end", func(_ *upstream, backend net.Conn) { backend.Close() }, false},
		{"left over", func(u *upstream, backend net.Conn) {
			go backend.Write([]byte("ab"))
			u.r.ReadByte()
			u.SetReadDeadline(time.Now())
		}, false},
	} {
		ours, backend := net.Pipe()
		u := &upstream{Conn: ours, parked: make(chan struct{}), headerLeft: -1}
		u.r = bufio.NewReader(u)
		if tt.name == "left over" {
			tt.happen(u, backend)
		} else {
			go tt.happen(u, backend)
		}
		new(idleConns).watchConn(u)
		if u.intact != tt.intact {
			t.Errorf("%s: intact %v, want %v", tt.name, u.intact, tt.intact)
		}
		ours.Close()
		backend.Close()
	}
}

// A connection on which more has come than the response is not used again, however soon the
// next request takes it.
func TestExcessBytesEndAKeptConnection(t *testing.T) {
	conns := new(idleConns)
	for range 200 { // whether the request or watchConn is first is by chance
		ours, backend := net.Pipe()
		u := newUpstream(ours, destination{})
		u.headerLeft = -1
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			backend.Write([]byte("0HTTP/1.1 200 OK\r\n\r\n"))
		}()
		if b, err := u.r.ReadByte(); b != '0' || err != nil { // the response
			t.Fatal(b, err)
		}
		<-sent
		conns.keepConn(u)
		if again := conns.takeConn(u.to, time.Hour); again != nil {
			t.Fatal("it is used again")
		}
		if _, err := backend.Read(make([]byte, 1)); err == nil {
			t.Error("it is still open")
		}
		backend.Close()
	}
}

// HEAD has no body. A backend that sends one nevertheless does not harm the next request.
func TestBodyOfHeadReachesNobody(t *testing.T) {
	s, _ := front(t, HandlerConfig{}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		for {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			io.WriteString(c, anOK)
		}
	}))
	c := newReader(t, s.Listener.Addr().String())
	for range 3 {
		if res, _, err := c.ask(t, "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil || res.ContentLength != 2 {
			t.Fatal(res, err)
		}
		if _, got, err := c.ask(t, aGet); got != "ok" {
			t.Fatalf("%q, %v", got, err)
		}
	}
}

// A response that ends with its connection, or says that it is the last one, is.
func TestClosingBackendsAreNotReused(t *testing.T) {
	for _, response := range []string{
		"HTTP/1.1 200 OK\r\n\r\nok",
		"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
	} {
		var served atomic.Int32
		s, h := front(t, HandlerConfig{}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
			if req, err := http.ReadRequest(r); err == nil {
				io.Copy(io.Discard, req.Body)
				served.Add(1)
				io.WriteString(c, response)
			}
		}))
		c := newReader(t, s.Listener.Addr().String())
		for range 3 {
			// A POST would notice if a connection that is closing were used.
			if _, got, err := c.ask(t, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"); got != "ok" {
				t.Fatalf("%q: %q, %v", response, got, err)
			}
		}
		if n := h.pool().Status().Backends[0].Connects; served.Load() != 3 || n != 3 {
			t.Errorf("%q: %d requests on %d connections", response, served.Load(), n)
		}
	}
}

// Connections do not survive their backend, or the address that its name had.
func TestIdleConnectionsGoWithTheBackend(t *testing.T) {
	closed := make(chan bool)
	s, h := front(t, HandlerConfig{}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		io.WriteString(c, anOK)
		discard(c, r)
		closed <- true
	}))
	h.pool().Reconfigure(PoolConfig{KillOnDown: true, Backends: []Backend{h.pool().Status().Backends[0].Backend}})
	for i, end := range []func(){
		func() { h.pool().SetHealth(h.pool().Status().Backends[0].Name, errDown) },
		func() { h.Shutdown(t.Context()) },
	} {
		if i == 1 && *onEngine {
			return // a plane ends with its Serve
		}
		h.pool().SetHealth(h.pool().Status().Backends[0].Name, nil)
		if got := rawRequest(t, s, aGet); got != "ok" {
			t.Fatal(got)
		}
		end()
		select {
		case <-closed:
		case <-time.After(bound):
			t.Fatalf("case %d: the connection stays", i)
		}
	}
	if n := watchers(h.pool()); n != 0 {
		t.Errorf("the pool knows %d handlers after Shutdown", n)
	}
	runtime.KeepAlive(h) // the garbage collector must not do the work of Shutdown
}

// A response header without end does not fill the memory.
func TestResponseHeaderIsBounded(t *testing.T) {
	s, h := front(t, HandlerConfig{}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		io.WriteString(c, "HTTP/1.1 200 OK\r\n")
		for {
			if _, err := fmt.Fprintf(c, "X: %s\r\n", bytes.Repeat([]byte("a"), 1000)); err != nil {
				return
			}
		}
	}), rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		for {
			if _, err := io.WriteString(c, "HTTP/1.1 102 Processing\r\n\r\n"); err != nil {
				return
			}
		}
	}))
	if got := rawStatus(t, s, aGet); got != 102 {
		t.Errorf("%d", got)
	}
	waitFor(t, "both to fail", func() bool {
		st := h.pool().Status()
		return st.Backends[0].Failures == 1 && st.Backends[1].Failures == 1
	})
}

// TestHalfAResponseOnAKeptConnection: it comes from a backend that has got the request, and
// failed. That the connection was kept is no excuse.
func TestHalfAResponseOnAKeptConnection(t *testing.T) {
	s, h := front(t, HandlerConfig{}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		io.WriteString(c, anOK)
		http.ReadRequest(r)
		io.WriteString(c, "HTTP/1.1 2")
	}))
	c := newReader(t, s.Listener.Addr().String())
	if _, got, err := c.ask(t, aGet); got != "ok" {
		t.Fatal(got, err)
	}
	if res, _, err := c.ask(t, aGet); err != nil || res.StatusCode != 502 {
		t.Errorf("%+v, %v, want 502", res, err)
	}
	if st := h.pool().Status().Backends[0]; st.Failures != 1 || st.Connects != 1 {
		t.Errorf("%d failures, %d connections, want one of each", st.Failures, st.Connects)
	}
}

// fragileConn takes nothing any more once it is broken.
type fragileConn struct {
	net.Conn
	broken atomic.Bool
}

func (c *fragileConn) Write(p []byte) (int, error) {
	if c.broken.Load() {
		c.Close()
		return 0, errSinkFailed
	}
	return c.Conn.Write(p)
}

// TestUnsentRequestIsRepeated: one that must not be sent twice has not been sent once, on a
// new connection or a kept one.
func TestUnsentRequestIsRepeated(t *testing.T) {
	var first *fragileConn
	for _, kept := range []bool{false, true} {
		dials := 0
		dial := func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			c := &fragileConn{Conn: conn}
			if dials++; dials == 1 {
				first = c
				c.broken.Store(!kept)
			}
			return c, err
		}
		s, h := front(t, HandlerConfig{Dial: dial, Reuse: ReuseAlways}, webBackend(t, name("ok")))
		if !kept {
			s, h = front(t, HandlerConfig{Dial: dial}, webBackend(t, name("ok")), webBackend(t, name("ok")))
		} else if got := rawRequest(t, s, aGet); got != "ok" {
			t.Fatal(got)
		} else {
			first.broken.Store(true)
		}
		if got := rawRequest(t, s, aPost); got != "ok" || dials != 2 {
			t.Errorf("kept %v: %q, %d connections, %+v", kept, got, dials, h.Stats())
		}
	}
}
