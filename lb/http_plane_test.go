package lb

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"

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
