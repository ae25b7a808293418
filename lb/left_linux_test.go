package lb

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab/labtest"
)

// fullPool is a pool whose only backend serves one connection or request at a time, and for
// which one more may wait.
func fullPool(t *testing.T, b Backend) *Pool {
	b.MaxConns = 1
	return newPool(t, PoolConfig{Backends: []Backend{b}, Queue: 1, QueueTimeout: time.Hour})
}

// awaitQueue waits until that many flows wait for p.
func awaitQueue(t *testing.T, p *Pool, n int) {
	t.Helper()
	waitFor(t, "the queue to change", func() bool { return p.Status().Queued == n })
}

// holdingBackend answers "/hold" when released, and all else at once.
func holdingBackend(t *testing.T) (b Backend, release func()) {
	held := make(chan bool)
	b = webBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			<-held
		}
		io.WriteString(w, "ok")
	})
	release = sync.OnceFunc(func() { close(held) })
	t.Cleanup(release)
	return b, release
}

// trackingListener serves h behind a Listener.
func trackingListener(t *testing.T, h http.Handler, cfg ListenerConfig) (address string) {
	t.Helper()
	ln, err := NewListener(listenTest(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h}
	TrackConns(s)
	go s.Serve(ln)
	t.Cleanup(func() { s.Close() })
	return ln.Addr().String()
}

// A request whose client has left does not wait, be it read to its end or not.
func TestRequestsOfClientsThatHaveLeftLeaveTheQueue(t *testing.T) {
	for name, request := range map[string]string{
		"without a body":   aGet,
		"body not read":    aPost,
		"body not there":   "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\nabc",
		"another one sent": aGet + aGet,
	} {
		for _, way := range []string{"no Listener", "Listener", "Listener with TLS"} {
			t.Run(name+", "+way, func(t *testing.T) { testQueuedRequest(t, request, way) })
		}
	}
}

func testQueuedRequest(t *testing.T, request, way string) {
	b, release := holdingBackend(t)
	records := make(chan Record, 3)
	h := newHandler(t, HandlerConfig{Pool: fullPool(t, b), Record: func(r Record) { records <- r }})
	var address string
	dial := func() *reader { return newReader(t, address) }
	switch way {
	case "no Listener":
		address = tracking(t, h, true)
	case "Listener":
		address = trackingListener(t, h, ListenerConfig{})
	default:
		server := &tls.Config{Certificates: []tls.Certificate{labtest.Certificate(nil, nil, "a.test")}}
		address = trackingListener(t, h, ListenerConfig{TLS: server})
		dial = func() *reader {
			c := tls.Client(dialTest(t, address), &tls.Config{InsecureSkipVerify: true})
			return &reader{c, bufio.NewReader(c)}
		}
	}
	first := dial()
	io.WriteString(first, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n")
	waitFor(t, "the backend to be busy", func() bool { return h.pool().Status().Backends[0].Active == 1 })
	second := dial()
	io.WriteString(second, request)
	awaitQueue(t, h.pool(), 1)
	second.Close()
	awaitQueue(t, h.pool(), 0)
	if r := <-records; r.Status != 0 || r.Reason == "" {
		t.Errorf("%+v: nobody was there to be answered", r)
	}
	third := dial()
	io.WriteString(third, aGet)
	awaitQueue(t, h.pool(), 1)
	release()
	if res, err := http.ReadResponse(third.r, nil); err != nil || res.StatusCode != 200 {
		t.Errorf("%+v, %v", res, err)
	}
	waitFor(t, "all to end", func() bool { return h.Stats().Active == 0 })
	if st := h.Stats(); st.Failed != 1 {
		t.Errorf("%+v, want one failed", st)
	}
}

// A client that closes its half of the connection behind a request that nobody has read yet
// keeps its place, and gets its answer, whole.
func TestHalfClosedRequestsKeepTheirPlaces(t *testing.T) {
	b, release := holdingBackend(t)
	h := newHandler(t, HandlerConfig{Pool: fullPool(t, b)})
	address := trackingListener(t, h, ListenerConfig{})
	first := newReader(t, address)
	io.WriteString(first, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n")
	waitFor(t, "the backend to be busy", func() bool { return h.pool().Status().Backends[0].Active == 1 })
	c := dialTest(t, address)
	io.WriteString(c, aPost)
	c.CloseWrite()
	awaitQueue(t, h.pool(), 1)
	time.Sleep(lookAfter * 5 / 2)
	release()
	got, err := io.ReadAll(c)
	if err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 200 OK\r\n") || !strings.HasSuffix(string(got), "\r\n\r\nok") {
		t.Errorf("%q, %v", got, err)
	}
}

// Whoever waits when the time of Shutdown is over is answered then, known or not.
func TestShutdownEndsTheWaitForABackend(t *testing.T) {
	for _, track := range []bool{false, true} {
		h := newHandler(t, HandlerConfig{Pool: fullPool(t, webBackend(t, name("ok")))})
		if _, err := h.pool().Pick(nil); err != nil { // of another plane
			t.Fatal(err)
		}
		c := newReader(t, tracking(t, h, track))
		io.WriteString(c, aGet)
		awaitQueue(t, h.pool(), 1)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		done := make(chan bool)
		go func() { h.Shutdown(ctx); close(done) }()
		if res, err := http.ReadResponse(c.r, nil); err != nil || res.StatusCode != 503 {
			t.Errorf("tracked %v: %+v, %v, want 503", track, res, err)
		}
		c.Close()
		<-done
	}
}

// A connection whose client has left does not wait, whoever looks after it.
func TestConnectionsOfClientsThatHaveLeftLeaveTheQueue(t *testing.T) {
	server := &tls.Config{Certificates: []tls.Certificate{labtest.Certificate(nil, nil, "a.test")}}
	plain := func(c net.Conn) net.Conn { return c }
	encrypted := func(c net.Conn) net.Conn {
		client := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
		client.Handshake()
		return client
	}
	closed := func(c net.Conn) { c.Close() }
	for name, tt := range map[string]struct {
		cfg  TCPConfig
		own  bool // the listener is not one of the event loops'
		wrap func(net.Conn) net.Conn
		end  func(net.Conn)
	}{
		"in a loop":                {wrap: plain, end: closed},
		"in a loop, with a reset":  {wrap: plain, end: func(c net.Conn) { io.WriteString(c, "x"); reset(c) }},
		"in a goroutine":           {own: true, wrap: plain, end: closed},
		"in a goroutine, a reset":  {own: true, wrap: plain, end: func(c net.Conn) { io.WriteString(c, "x"); reset(c) }},
		"with TLS":                 {cfg: TCPConfig{TLS: server}, wrap: encrypted, end: closed},
		"with TLS, with no alert":  {cfg: TCPConfig{TLS: server}, wrap: encrypted, end: func(c net.Conn) { c.(*tls.Conn).NetConn().Close() }},
		"with TLS, with a request": {cfg: TCPConfig{TLS: server}, wrap: encrypted, end: func(c net.Conn) { io.WriteString(c, "x"); reset(c) }},
	} {
		t.Run(name, func(t *testing.T) {
			tt.cfg.Pool = fullPool(t, talker(t, "a"))
			tc, ln := tcpWith(tt.cfg), listenTest(t)
			address := ln.Addr().String()
			if tt.own {
				ln = foreign{ln}
			}
			relayOn(t, tc, ln)
			greeted := func(c net.Conn) {
				t.Helper()
				if b := make([]byte, 1); readFull(c, b) != nil || b[0] != 'a' {
					t.Errorf("greeted with %q", b)
				}
			}
			first := tt.wrap(dialTest(t, address))
			greeted(first)
			second := tt.wrap(dialTest(t, address))
			awaitQueue(t, tc.Pool, 1)
			tt.end(second)
			awaitQueue(t, tc.Pool, 0)
			third := tt.wrap(dialTest(t, address))
			awaitQueue(t, tc.Pool, 1)
			first.Close()
			greeted(third)
			third.Close()
			waitFor(t, "all to end", func() bool { return tc.Stats().Active == 0 && tc.Pool.Status().Backends[0].Active == 0 })
			if st := tc.Stats(); st.Failed != 1 {
				t.Errorf("%+v, want one failed", st)
			}
		})
	}
}

// A client that has sent all it has to say may wait for the answer. It gives its place to
// another one only where there is no other.
func TestHalfClosedClientsKeepTheirPlaces(t *testing.T) {
	server := &tls.Config{Certificates: []tls.Certificate{labtest.Certificate(nil, nil, "a.test")}}
	for name, tt := range map[string]struct {
		tls *tls.Config
		own bool // the listener is not one of the event loops'
	}{"in a loop": {}, "in a goroutine": {own: true}, "with TLS": {tls: server}, "with TLS, in a goroutine": {tls: server, own: true}} {
		t.Run(name, func(t *testing.T) {
			records := make(chan Record, 8)
			cfg := TCPConfig{Pool: fullPool(t, talker(t, "a")), TLS: tt.tls, Record: func(r Record) { records <- r }}
			tc, ln := tcpWith(cfg), listenTest(t)
			dial := func() net.Conn {
				c := dialTest(t, ln.Addr().String())
				if tt.tls == nil {
					return c
				}
				return tls.Client(c, &tls.Config{InsecureSkipVerify: true})
			}
			if tt.own {
				relayOn(t, tc, foreign{ln})
			} else {
				relayOn(t, tc, ln)
			}
			testHalfClosedClients(t, tc, dial, records)
		})
	}
}

func testHalfClosedClients(t *testing.T, tc *testTCP, dial func() net.Conn, records <-chan Record) {
	first := dial()
	if err := readFull(first, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	half := func() net.Conn {
		c := dial()
		io.WriteString(c, "hi")
		_ = closeWrite(c)
		_ = closeWrite(innermost(c))
		awaitQueue(t, tc.Pool, 1)
		time.Sleep(lookAfter * 3 / 2)
		awaitQueue(t, tc.Pool, 1)
		return c
	}
	gone := half()
	newcomer := dial()
	go io.WriteString(newcomer, "hello") // by which TLS begins
	if got, _ := ends(t, gone); got != "" {
		t.Errorf("the one that gives its place gets %q", got)
	}
	if r := nextRecord(t, records); r.Reason != ErrBusy.Error() {
		t.Errorf("the one that gives its place: %+v", r)
	}
	awaitQueue(t, tc.Pool, 1)
	reset(newcomer)
	awaitQueue(t, tc.Pool, 0)
	if r := nextRecord(t, records); r.Reason != errLeft.Error() {
		t.Errorf("the newcomer: %+v", r)
	}
	stays := half()
	first.Close()
	if got, err := io.ReadAll(stays); err != nil || string(got) != "ahi." {
		t.Errorf("a client that waits for its answer gets %q, %v", got, err)
	}
	one, other := nextRecord(t, records), nextRecord(t, records) // of the first, too
	if one.Received+other.Received != 2 || one.Sent+other.Sent != int64(len("a.")+len("ahi.")) {
		t.Errorf("%+v and %+v, want 2 bytes received and 6 sent", one, other)
	}
}

// What is known of a client that waits.
func TestJudge(t *testing.T) {
	for _, tt := range []struct {
		ended, broken, sent bool
		want                presence
	}{
		{false, false, false, present},
		{false, false, true, present},
		{true, false, false, left},
		{true, false, true, unsure},
		{true, true, true, left},
		{false, true, true, left},
	} {
		if got := judge(tt.ended, tt.broken, tt.sent); got != tt.want {
			t.Errorf("%+v: %d", tt, got)
		}
	}
	if !strings.Contains(errLeft.Error(), "left") {
		t.Error(errLeft)
	}
}
