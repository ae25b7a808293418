package lb

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

const getX = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

// Clients that have a connection when the plane ends get their answer, and it is the last
// one: those in the backlog, and those whose request is late.
func TestHTTPAnswersWhoHasConnected(t *testing.T) {
	p, ln := newHTTP(t, HTTPConfig{}, webBackend(t, name("a"))), listenTest(t)
	var clients []*reader
	for range 100 {
		clients = append(clients, newReader(t, ln.Addr().String()))
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	ended := make(chan error, 1)
	go func() { ended <- p.Serve(over, ln) }()
	answer := func(c *reader) {
		t.Helper()
		if res, got, err := c.ask(t, getX); err != nil || got != "a" || !res.Close {
			t.Fatalf("%q, %v, %+v", got, err, res)
		}
	}
	for _, c := range clients[1:] {
		answer(c)
	}
	time.Sleep(lastRequest + lastRequest/4) // idle connections have gone by now
	answer(clients[0])
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A request that comes on a kept connection while the plane ends is answered, and a
// connection without a request ends.
func TestHTTPAnswersKeptConnections(t *testing.T) {
	eachListener(t, func(t *testing.T, wrap func(net.Listener) net.Listener) {
		p, ln := newHTTP(t, HTTPConfig{ShutdownTimeout: time.Hour}, webBackend(t, name("a"))), listenTest(t)
		stop := serveHTTP(t, p, wrap(ln))
		c, idle := newReader(t, ln.Addr().String()), newReader(t, ln.Addr().String())
		for _, c := range []*reader{c, idle} {
			if res, got, err := c.ask(t, getX); err != nil || got != "a" || res.Close {
				t.Fatalf("%q, %v, %+v", got, err, res)
			}
		}
		ended := make(chan error)
		go func() { ended <- stop() }()
		waitFor(t, "the plane ends", p.leaving.Load)
		if res, got, err := c.ask(t, getX); err != nil || got != "a" || !res.Close {
			t.Fatalf("%q, %v, %+v", got, err, res)
		}
		if rest, err := io.ReadAll(idle.r); err != nil || len(rest) > 0 {
			t.Errorf("%q, %v", rest, err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// A response that has begun before the plane ends is sent to its end, and its connection is
// not kept although it promised that.
func TestHTTPEndsWhatBecomesIdle(t *testing.T) {
	eachListener(t, func(t *testing.T, wrap func(net.Listener) net.Listener) {
		more := make(chan bool)
		p, ln := newHTTP(t, HTTPConfig{ShutdownTimeout: time.Hour}, webBackend(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "2")
			io.WriteString(w, "a")
			_ = http.NewResponseController(w).Flush()
			<-more
			io.WriteString(w, "b")
		})), listenTest(t)
		stop := serveHTTP(t, p, wrap(ln))
		c := newReader(t, ln.Addr().String())
		io.WriteString(c, getX)
		res, err := http.ReadResponse(c.r, nil)
		if err != nil || res.Close {
			t.Fatalf("%+v, %v", res, err)
		}
		ended := make(chan error)
		go func() { ended <- stop() }()
		waitFor(t, "the plane ends", p.leaving.Load)
		time.Sleep(lastRequest + lastRequest/4)
		close(more)
		if got, err := io.ReadAll(res.Body); err != nil || string(got) != "ab" {
			t.Errorf("%q, %v", got, err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// A connection that brings no request within the ShutdownTimeout does not outlive the plane,
// nor does a request that takes longer: it is cut, and answered if that can be.
func TestHTTPClosesWhatIsLeft(t *testing.T) {
	for what, cfg := range map[string]HTTPConfig{"within 10 ms": {ShutdownTimeout: 10 * time.Millisecond}, "at once": {ShutdownTimeout: -1}} {
		eachListener(t, func(t *testing.T, wrap func(net.Listener) net.Listener) {
			held := make(chan bool)
			p, ln := newHTTP(t, cfg, webBackend(t, func(http.ResponseWriter, *http.Request) { <-held })), listenTest(t)
			defer close(held)
			stop := serveHTTP(t, p, wrap(ln))
			silent, busy, partly := newReader(t, ln.Addr().String()), newReader(t, ln.Addr().String()), newReader(t, ln.Addr().String())
			io.WriteString(busy, getX)
			io.WriteString(partly, getX[:20])
			waitFor(t, "a request", func() bool { return p.Stats().Active == 1 })
			waitFor(t, "connections", func() bool { return p.gate.counters.active.Load() == 3 })
			if err := stop(); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			for _, c := range []*reader{silent, busy, partly} {
				got, err := io.ReadAll(c.r)
				if err != nil && !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("%s: %v", what, err)
				}
				if text := string(got); text != "" && (c != busy || !strings.HasPrefix(text, "HTTP/1.1 503 ") || !strings.Contains(text, "\r\nConnection: close\r\n")) {
					t.Errorf("%s: %q", what, got)
				}
			}
			if n := p.gate.counters.active.Load(); n != 0 {
				t.Errorf("%s: %d connections are counted", what, n)
			}
		})
	}
}

// An upgraded connection goes on when the plane ends, which waits for it and cuts it in the
// end. It keeps no front.
func TestHTTPUpgradedConnections(t *testing.T) {
	eachListener(t, func(t *testing.T, wrap func(net.Listener) net.Listener) {
		for _, late := range []bool{false, true} {
			cfg := HTTPConfig{ShutdownTimeout: time.Hour}
			if late {
				cfg.ShutdownTimeout = 2 * time.Second
			}
			p, ln := newHTTP(t, cfg, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
				if _, err := http.ReadRequest(r); err == nil {
					io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
					io.Copy(c, r)
				}
			})), listenTest(t)
			stop := serveHTTP(t, p, wrap(ln))
			c := newReader(t, ln.Addr().String())
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
			if res, err := http.ReadResponse(c.r, nil); err != nil || res.StatusCode != http.StatusSwitchingProtocols {
				t.Fatalf("%v, %v", res, err)
			}
			echo := func(when string) {
				t.Helper()
				io.WriteString(c, when)
				if got, err := io.ReadAll(io.LimitReader(c.r, int64(len(when)))); err != nil || string(got) != when {
					t.Errorf("%s: %q, %v", when, got, err)
				}
			}
			waitFor(t, "the front is without it", func() bool {
				p.mu.Lock()
				defer p.mu.Unlock()
				return p.front == nil || p.front.uses == 0
			})
			ended := make(chan error)
			go func() { ended <- stop() }()
			waitFor(t, "the plane ends", p.leaving.Load)
			echo("at the end")
			select {
			case <-ended:
				t.Error("the plane has not waited")
			case <-time.After(20 * time.Millisecond):
			}
			if !late {
				c.Close()
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
			if _, err := c.Read(make([]byte, 1)); err == nil {
				t.Error("the connection goes on")
			}
		}
	})
}

// Clients of HTTP/2 are told to go (GOAWAY), without TLS too.
func TestHTTPEndsHTTP2InOrder(t *testing.T) {
	a := newAuthority(t)
	for what, dial := range map[string]func(ln net.Listener) net.Conn{
		"without TLS": func(ln net.Listener) net.Conn { return dialTest(t, ln.Addr().String()) },
		"with TLS":    func(ln net.Listener) net.Conn { return dialHTTP(t, ln.Addr().String(), "h2") },
	} {
		cfg := HTTPConfig{ShutdownTimeout: time.Hour, IdleTimeout: time.Hour}
		if what == "with TLS" {
			cfg.TLS = serverConfig(a)
		}
		p, ln := newHTTP(t, cfg, webBackend(t, name("a"))), listenTest(t)
		stop := serveHTTP(t, p, ln)
		c := dial(ln)
		io.WriteString(c, http2.ClientPreface)
		f := http2.NewFramer(c, c)
		f.WriteSettings()
		next := func(wanted func(http2.Frame) bool) {
			t.Helper()
			for {
				frame, err := f.ReadFrame()
				if err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				if wanted(frame) {
					return
				}
			}
		}
		next(func(frame http2.Frame) bool { // until the server knows the connection
			s, ok := frame.(*http2.SettingsFrame)
			return ok && s.IsAck()
		})
		ended := make(chan error)
		go func() { ended <- stop() }()
		next(func(frame http2.Frame) bool {
			g, ok := frame.(*http2.GoAwayFrame)
			if ok && g.ErrCode != http2.ErrCodeNo {
				t.Errorf("%s: %v", what, g)
			}
			return ok
		})
		if err := <-ended; err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A plane that has ended has left its port to whoever wants it.
func TestHTTPLetsGo(t *testing.T) {
	p := newHTTP(t, HTTPConfig{}, closedBackend(t))
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for range 200 {
		ln := listenTest(t)
		if err := p.Serve(over, ln); err != nil {
			t.Fatal(err)
		}
		again, err := net.Listen("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		again.Close()
	}
}
