package lb

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/proxyproto"
)

// newHTTP returns a plane with the configuration cfg, in front of backends.
func newHTTP(t *testing.T, cfg HTTPConfig, bs ...Backend) *HTTP {
	t.Helper()
	cfg.Pool = newPool(t, PoolConfig{Name: "web", Backends: bs})
	p, err := NewHTTP(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// serveHTTP has p serve ln until stop is called, which returns what Serve did.
func serveHTTP(t *testing.T, p *HTTP, ln net.Listener) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Serve(ctx, ln) }()
	stop = func() error {
		cancel()
		err := <-ended
		ended <- err
		return err
	}
	t.Cleanup(func() { stop() })
	return stop
}

// eachListener calls f with how listeners are given to planes: those of TCP, which event
// loops can serve, and others.
func eachListener(t *testing.T, f func(t *testing.T, wrap func(net.Listener) net.Listener)) {
	t.Run("TCP", func(t *testing.T) { f(t, func(ln net.Listener) net.Listener { return ln }) })
	t.Run("another", func(t *testing.T) {
		f(t, func(ln net.Listener) net.Listener { return struct{ net.Listener }{ln} })
	})
}

// A plane serves requests, and counts them.
func TestHTTPServes(t *testing.T) {
	eachListener(t, func(t *testing.T, wrap func(net.Listener) net.Listener) {
		p, ln := newHTTP(t, HTTPConfig{}, webBackend(t, name("a"))), listenTest(t)
		stop := serveHTTP(t, p, wrap(ln))
		client := &http.Client{Transport: new(http.Transport)}
		for range 2 {
			res, err := client.Get("http://" + ln.Addr().String())
			if got := body(t, res, err); got != "a" {
				t.Errorf("%q", got)
			}
		}
		client.CloseIdleConnections()
		if err := stop(); err != nil {
			t.Error(err)
		}
		if s := p.Stats(); s.Accepted != 2 || s.Active != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// Without TLS a client may begin with HTTP/2, in whatever pieces that comes. An upgrade to it
// is none: the request is answered by HTTP/1.1.
func TestHTTP2WithoutTLS(t *testing.T) {
	eachListener(t, func(t *testing.T, wrap func(net.Listener) net.Listener) {
		p, ln := newHTTP(t, HTTPConfig{}, webBackend(t, func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s%s", b, r.Header["Upgrade"])
		})), listenTest(t)
		stop := serveHTTP(t, p, wrap(ln))
		for _, piece := range []int{0, 1, 5} {
			transport := &http.Transport{Protocols: new(http.Protocols), DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				c, err := new(net.Dialer).DialContext(ctx, network, address)
				return pieces{c, piece}, err
			}}
			transport.Protocols.SetUnencryptedHTTP2(true)
			for range 2 {
				res, err := (&http.Client{Transport: transport}).Post("http://"+ln.Addr().String(), "", strings.NewReader("hello"))
				if got := body(t, res, err); got != "hello[]" || res.ProtoMajor != 2 {
					t.Errorf("in pieces of %d: HTTP/%d %q", piece, res.ProtoMajor, got)
				}
			}
			transport.CloseIdleConnections()
		}
		c := newReader(t, ln.Addr().String())
		res, got, err := c.ask(t, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n")
		if err != nil || res.StatusCode != 200 || got != "[]" {
			t.Errorf("an upgrade: %+v, %q, %v", res, got, err)
		}
		c.Close()
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// pieces is a connection on which what is written goes out in pieces of this size; 0: as it
// is written.
type pieces struct {
	net.Conn
	size int
}

func (p pieces) Write(b []byte) (n int, err error) {
	for n < len(b) && err == nil && p.size > 0 {
		var m int
		m, err = p.Conn.Write(b[n:min(n+p.size, len(b))])
		n += m
	}
	if p.size == 0 {
		return p.Conn.Write(b)
	}
	return n, err
}

// A peer that must send a PROXY header is served as the client that the header names, in
// whatever pieces it comes, and refused without it.
func TestHTTPAcceptsProxy(t *testing.T) {
	eachListener(t, func(t *testing.T, wrap func(net.Listener) net.Listener) {
		loopback := netip.MustParsePrefix("127.0.0.0/8")
		p := newHTTP(t, HTTPConfig{AcceptProxy: []netip.Prefix{loopback}}, webBackend(t, func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, r.Header.Get("X-Real-Ip"))
		}))
		ln := listenTest(t)
		serveHTTP(t, p, wrap(ln))
		header := proxyproto.Append(nil, 2, netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:2"))
		for _, piece := range []int{1, 20, len(header), len(header) + 5} {
			c := dialTest(t, ln.Addr().String())
			b := append(header, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"...)
			for len(b) > 0 {
				n, _ := c.Write(b[:min(piece, len(b))])
				b = b[n:]
			}
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if got := body(t, res, err); got != "192.0.2.1" {
				t.Errorf("in pieces of %d: %q", piece, got)
			}
		}
		c := dialTest(t, ln.Addr().String())
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		if got, _ := io.ReadAll(c); len(got) > 0 {
			t.Errorf("%q without the header", got)
		}
		waitFor(t, "the refusal is counted", func() bool { return p.Stats().Refused == 1 })
	})
}

// Limits hold for connections, and can be changed. Stats counts those that they turn away.
func TestHTTPLimits(t *testing.T) {
	eachListener(t, func(t *testing.T, wrap func(net.Listener) net.Listener) {
		cfg := HTTPConfig{Limits: Limits{PerClient: 1}}
		p, ln := newHTTP(t, cfg, webBackend(t, name("a"))), listenTest(t)
		serveHTTP(t, p, wrap(ln))
		open := func(served bool) net.Conn {
			t.Helper()
			c := newReader(t, ln.Addr().String())
			if _, got, err := c.ask(t, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); (err == nil && got == "a") != served {
				t.Errorf("%q, %v, want it served: %v", got, err, served)
			}
			return c
		}
		first := open(true)
		open(false)
		cfg = p.settings.Load().HTTPConfig
		cfg.Limits.PerClient = 2
		if err := p.Reconfigure(cfg); err != nil {
			t.Fatal(err)
		}
		open(true)
		open(false)
		if s := p.Stats(); s.Refused != 2 || s.Accepted != 2 {
			t.Errorf("%+v, want 2 connections refused and 2 requests", s)
		}
		first.Close()
		waitFor(t, "the place of a connection that has ended", func() bool { return p.gate.counters.active.Load() == 1 })
		open(true)
	})
}

// Clients wait in the backlog while there are as many connections as may be.
func TestHTTPConnectionsWait(t *testing.T) {
	eachListener(t, func(t *testing.T, wrap func(net.Listener) net.Listener) {
		p, ln := newHTTP(t, HTTPConfig{Limits: Limits{Connections: 1}}, webBackend(t, name("a"))), listenTest(t)
		serveHTTP(t, p, wrap(ln))
		const request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
		first, second := newReader(t, ln.Addr().String()), newReader(t, ln.Addr().String())
		if _, got, err := first.ask(t, request); got != "a" {
			t.Fatalf("%q, %v", got, err)
		}
		waitFor(t, "a pause", func() bool { return p.Stats().Paused > 0 })
		if n := p.gate.counters.active.Load(); n != 1 {
			t.Errorf("%d connections", n)
		}
		first.Close()
		if _, got, err := second.ask(t, request); got != "a" {
			t.Fatalf("%q, %v", got, err)
		}
	})
}

// Reconfigure changes what becomes of requests on connections that stay, and nothing moves.
// Fronts whose settings no connection has any more are forgotten.
func TestHTTPReconfigure(t *testing.T) {
	eachListener(t, func(t *testing.T, wrap func(net.Listener) net.Listener) {
		p, ln := newHTTP(t, HTTPConfig{}, webBackend(t, func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, r.Header.Get("X-Lb"))
		})), listenTest(t)
		serveHTTP(t, p, wrap(ln))
		kept := newReader(t, ln.Addr().String())
		for i := range 10 {
			cfg := p.settings.Load().HTTPConfig
			cfg.RequestHeaders = map[string]string{"X-Lb": strconv.Itoa(i)}
			cfg.IdleTimeout = time.Duration(i+1) * time.Minute
			if err := p.Reconfigure(cfg); err != nil {
				t.Fatal(err)
			}
			for _, c := range []*reader{kept, newReader(t, ln.Addr().String())} {
				if _, got, err := c.ask(t, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil || got != strconv.Itoa(i) {
					t.Fatalf("request %d: %q, %v", i, got, err)
				}
				if c != kept {
					c.Close()
				}
			}
		}
		waitFor(t, "only the fronts with connections, and the latest", func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return len(p.fronts) <= 2
		})
		if n := p.settings.Load().Pool.Status().Backends[0].Connects; n > 2 {
			t.Errorf("%d connections to the backend", n)
		}
	})
}

// Functions of an embedder are called, also on a connection that was there before them.
func TestHTTPHooks(t *testing.T) {
	p, ln := newHTTP(t, HTTPConfig{}, webBackend(t, name("a"))), listenTest(t)
	serveHTTP(t, p, ln)
	c := newReader(t, ln.Addr().String())
	ask := func(request, want string) {
		t.Helper()
		if _, got, err := c.ask(t, request); err != nil || got != want {
			t.Errorf("%q: %q, %v, want %q", request, got, err, want)
		}
	}
	ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "a")
	cfg := p.settings.Load().HTTPConfig
	cfg.ModifyResponse = func(res *http.Response) error {
		sent, _ := io.ReadAll(res.Request.Body)
		res.Body = io.NopCloser(io.MultiReader(res.Body, strings.NewReader(" for "+res.Request.Host+string(sent))))
		res.ContentLength = -1
		res.Header.Del("Content-Length")
		return nil
	}
	if err := p.Reconfigure(cfg); err != nil {
		t.Fatal(err)
	}
	ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "a for x")
	ask("GET / HTTP/1.1\r\nHost: y\r\n\r\n", "a for y")
	if n := p.gate.counters.accepted.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// A client that knows that the plane speaks HTTP/2 may do so without TLS (RFC 9113 §3.3),
// also if its preface comes in pieces.
func TestHTTPPriorKnowledge(t *testing.T) {
	eachListener(t, func(t *testing.T, wrap func(net.Listener) net.Listener) {
		p, ln := newHTTP(t, HTTPConfig{}, webBackend(t, func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, r.Header.Get("X-Forwarded-Proto"))
		})), listenTest(t)
		serveHTTP(t, p, wrap(ln))
		for _, piece := range []int{1, 10, 18, 1000} {
			protocols := new(http.Protocols)
			protocols.SetUnencryptedHTTP2(true)
			transport := &http.Transport{Protocols: protocols, DialContext: func(context.Context, string, string) (net.Conn, error) {
				return &choppy{dialTest(t, ln.Addr().String()), piece}, nil
			}}
			client := &http.Client{Transport: transport, Timeout: bound}
			for range 2 {
				res, err := client.Get("http://www.example.org/")
				if got := body(t, res, err); got != "http" || res.ProtoMajor != 2 {
					t.Errorf("in pieces of %d: %s %q", piece, res.Proto, got)
				}
			}
			transport.CloseIdleConnections()
		}
	})
}

// choppy writes its first bytes in pieces.
type choppy struct {
	net.Conn
	piece int
}

func (c *choppy) Write(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var k int
		k, err = c.Conn.Write(b[n:min(n+c.piece, len(b))])
		n += k
	}
	c.piece = 1 << 20
	return n, err
}

// With TLS, clients speak what they have agreed on. Who shakes no hands is refused, and told
// if it has sent a request.
func TestHTTPTLS(t *testing.T) {
	eachListener(t, func(t *testing.T, wrap func(net.Listener) net.Listener) {
		p, ln := newHTTP(t, HTTPConfig{TLS: serverConfig(newAuthority(t))}, webBackend(t, func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, r.Header.Get("X-Forwarded-Proto"))
		})), listenTest(t)
		serveHTTP(t, p, wrap(ln))
		for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
			client := secureClient(t, protocol)
			for range 3 {
				res, err := client.Get("https://" + ln.Addr().String())
				if got := body(t, res, err); got != "https" || res.Proto != protocol {
					t.Errorf("%s %q, want %s", res.Proto, got, protocol)
				}
			}
		}
		for what, answer := range map[string]string{
			"":                                      "", // a check that only connects
			"GET / HTTP/1.1\r\nHost: x\r\n\r\n":     "HTTP/1.0 400 Bad Request",
			"\x16\x03\x01\x00\x05nonsense and more": "",
		} {
			c := dialTest(t, ln.Addr().String())
			io.WriteString(c, what)
			if what == "" {
				c.CloseWrite()
			}
			if got, _ := io.ReadAll(c); !strings.HasPrefix(string(got), answer) {
				t.Errorf("%q: answer %q, want %q", what, got, answer)
			}
		}
		waitFor(t, "two are refused", func() bool { return p.Stats().Refused == 2 })
		waitFor(t, "all of them have left", func() bool { return p.gate.counters.active.Load() == 2 })
	})
}

// What Serve does not take, it says, and closes.
func TestHTTPServeErrors(t *testing.T) {
	p := newHTTP(t, HTTPConfig{}, webBackend(t, name("a")))
	if err := p.Serve(t.Context(), nil); err == nil || err.Error() != "lb: HTTP: listener nil: want one" {
		t.Error(err)
	}
	if err := p.Serve(t.Context(), (*net.TCPListener)(nil)); err == nil || err.Error() != "lb: HTTP: listener nil: want one" {
		t.Error(err)
	}
	first, second := listenTest(t), listenTest(t)
	stop := serveHTTP(t, p, first)
	get := func(ln net.Listener) {
		t.Helper()
		res, err := http.Get("http://" + ln.Addr().String())
		if got := body(t, res, err); got != "a" {
			t.Errorf("%q", got)
		}
	}
	get(first)
	if err := p.Serve(t.Context(), second); !errors.Is(err, ErrServing) {
		t.Error(err)
	}
	if _, err := second.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v, want the listener closed", err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	again := listenTest(t)
	serveHTTP(t, p, again)
	get(again)
}

// breakingListener fails when it is told.
type breakingListener struct {
	net.Listener
	fail chan error
}

func (l *breakingListener) Accept() (net.Conn, error) {
	type accepted struct {
		c   net.Conn
		err error
	}
	got := make(chan accepted, 1)
	go func() {
		c, err := l.Listener.Accept()
		got <- accepted{c, err}
	}()
	select {
	case a := <-got:
		return a.c, a.err
	case err := <-l.fail:
		return nil, err
	}
}

// Connections stay when accepting has failed for good, and the plane goes on with another
// listener.
func TestHTTPServesNext(t *testing.T) {
	p := newHTTP(t, HTTPConfig{}, webBackend(t, name("a")))
	bad, next := &breakingListener{listenTest(t), make(chan error, 1)}, listenTest(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended, broken := make(chan error, 1), errors.New("broken")
	go func() {
		ended <- p.ServeNext(ctx, bad, func(_ context.Context, err error) (net.Listener, error) {
			if !errors.Is(err, broken) {
				t.Errorf("%v, want %v", err, broken)
			}
			return next, nil
		})
	}()
	kept := newReader(t, bad.Addr().String())
	ask := func(c *reader) {
		t.Helper()
		if res, got, err := c.ask(t, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil || got != "a" || res.Close {
			t.Fatalf("%q, %v, %+v", got, err, res)
		}
	}
	ask(kept)
	bad.fail <- broken
	ask(newReader(t, next.Addr().String()))
	ask(kept)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}

	bad = &breakingListener{listenTest(t), make(chan error, 1)}
	bad.fail <- broken
	if err := p.Serve(t.Context(), bad); !errors.Is(err, broken) {
		t.Errorf("%v, want %v", err, broken)
	}
}
