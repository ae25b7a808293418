package lb

import (
	"cmp"
	"context"
	"crypto/tls"
	"flag"
	"net"
	"net/http/httptest"
	"testing"
	"time"
)

// onEngine has the fronts of the tests served by the event loops. TestOnEngine runs the
// tests that have one in a second process, with this flag.
var onEngine = flag.Bool("lb.engine", false, "serve the fronts of HTTP tests by the event loops, and not by net/http")

// shell is a front of a test, by whichever shell it is served.
type shell struct {
	HandlerConfig
	handler *Handler      // nil: one of the HandlerConfig
	header  time.Duration // for the header of a request; 0: no bound
	idle    time.Duration // without a request; 0: no bound
	max     int           // bytes of a header that net/http reads; 0: its default
	tls     bool          // TLS with HTTP/2 and HTTP/1.1
	tracked bool          // net/http tells of connections and half-closed ones, as in a service
}

// serve serves the shell until the end of the test. Of the server, its client, certificate
// and addresses mean something on both shells.
func (s shell) serve(t testing.TB) (*httptest.Server, *Handler) {
	t.Helper()
	if s.handler == nil && *onEngine {
		s.handler = new(Handler) // which the plane configures
	} else if s.handler == nil {
		s.handler = newHandler(t, s.HandlerConfig)
	} else {
		s.HandlerConfig = s.handler.settings.Load().HandlerConfig
	}
	srv := httptest.NewUnstartedServer(s.handler)
	srv.EnableHTTP2 = s.tls
	begin := srv.Start
	if s.tls {
		begin = srv.StartTLS
	}
	if *onEngine {
		ln := srv.Listener
		deaf := deafListener{ln.Addr(), make(chan struct{})}
		srv.Listener = &deaf
		begin()
		t.Cleanup(srv.Close)
		s.serveOnEngine(t, ln, srv.TLS, deaf.closed)
		return srv, s.handler
	}
	srv.Config.ReadHeaderTimeout, srv.Config.IdleTimeout, srv.Config.MaxHeaderBytes = s.header, s.idle, s.max
	if s.tracked {
		ln, err := NewListener(srv.Listener, ListenerConfig{})
		if err != nil {
			t.Fatal(err)
		}
		srv.Listener = ln
		TrackConns(srv.Config)
	}
	begin()
	t.Cleanup(srv.Close)
	t.Cleanup(func() { s.handler.Shutdown(t.Context()) })
	return srv, s.handler
}

// serveOnEngine serves ln by the event loops until end is closed.
func (s shell) serveOnEngine(t testing.TB, ln net.Listener, config *tls.Config, end <-chan struct{}) {
	cfg := HTTPConfig{HandlerConfig: s.HandlerConfig, HeaderTimeout: s.header, IdleTimeout: s.idle, ShutdownTimeout: -1}
	if config != nil {
		cfg.TLS = &tls.Config{Certificates: config.Certificates}
	}
	cfg.Buffering = cmp.Or(cfg.Buffering, BufferingOff) // as a Handler
	p, err := configured(&HTTP{handler: s.handler, fronts: make(map[*httpFront]struct{})}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- p.Serve(ctx, ln) }()
	go func() { <-end; cancel() }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-served:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(bound):
			t.Error("the plane does not end")
		}
		s.handler.Shutdown(ctx)
	})
}

// ageInLoops makes the connections that loops keep for h as old as d.
var ageInLoops = func(*Handler, time.Duration) {}

// deafListener has nobody connect to a server of net/http that has the address of another.
type deafListener struct {
	addr   net.Addr
	closed chan struct{}
}

func (l *deafListener) Accept() (net.Conn, error) {
	<-l.closed
	return nil, net.ErrClosed
}

func (l *deafListener) Close() error {
	select {
	case <-l.closed:
	default:
		close(l.closed)
	}
	return nil
}

func (l *deafListener) Addr() net.Addr { return l.addr }

// onlyNetHTTP skips a test of what the event loops do not have, such as a middleware.
func onlyNetHTTP(t *testing.T, why string) {
	t.Helper()
	if *onEngine {
		t.Skip("only a Handler behind net/http: " + why)
	}
}

// front serves the backends, or the Pool of the configuration.
func front(t *testing.T, cfg HandlerConfig, bs ...Backend) (*httptest.Server, *Handler) {
	t.Helper()
	if cfg.Pool == nil {
		cfg.Pool = newPool(t, PoolConfig{Name: "web", Backends: bs})
	}
	return shell{HandlerConfig: cfg}.serve(t)
}

// front2 is front by HTTP/2.
func front2(t *testing.T, cfg HandlerConfig, bs ...Backend) (*httptest.Server, *Handler) {
	t.Helper()
	if cfg.Pool == nil {
		cfg.Pool = newPool(t, PoolConfig{Backends: bs})
	}
	return shell{HandlerConfig: cfg, tls: true}.serve(t)
}

// listening serves a backend so that half-closed clients are known.
func listening(t *testing.T, cfg HandlerConfig, b Backend) (address string, h *Handler) {
	t.Helper()
	cfg.Pool = newPool(t, PoolConfig{Backends: []Backend{b}})
	s, h := shell{HandlerConfig: cfg, tracked: true}.serve(t)
	return s.Listener.Addr().String(), h
}

// listeningTLS serves a backend as a service with TLS does.
func listeningTLS(t *testing.T, s shell, b Backend) (address string) {
	t.Helper()
	s.Pool, s.tls, s.tracked = newPool(t, PoolConfig{Backends: []Backend{b}}), true, true
	srv, _ := s.serve(t)
	return srv.Listener.Addr().String()
}

// newHandler makes a Handler.
func newHandler(t testing.TB, cfg HandlerConfig) *Handler {
	t.Helper()
	h, err := NewHandler(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// pool is where h sends requests.
func (h *Handler) pool() *Pool { return h.settings.Load().Pool }
