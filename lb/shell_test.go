package lb

import (
	"flag"
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
	header  time.Duration // for the header of a request; 0: no bound
	idle    time.Duration // without a request; 0: no bound
	max     int           // bytes of a header that net/http reads; 0: its default
	tls     bool          // TLS with HTTP/2 and HTTP/1.1
	tracked bool          // net/http tells of connections and half-closed ones, as in a service
}

// engineFront serves a shell by the event loops; nil: this system has none.
var engineFront func(testing.TB, shell) (*httptest.Server, *Handler)

// serve serves the shell until the end of the test. Only address, URL, client and
// certificate of the server mean something on both shells.
func (s shell) serve(t testing.TB) (*httptest.Server, *Handler) {
	t.Helper()
	if *onEngine && engineFront != nil {
		return engineFront(t, s)
	}
	h := newHandler(t, s.HandlerConfig)
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ReadHeaderTimeout, srv.Config.IdleTimeout, srv.Config.MaxHeaderBytes = s.header, s.idle, s.max
	if s.tracked {
		ln, err := NewListener(srv.Listener, ListenerConfig{})
		if err != nil {
			t.Fatal(err)
		}
		srv.Listener = ln
		TrackConns(srv.Config)
	}
	if s.tls {
		srv.EnableHTTP2 = true
		srv.StartTLS()
	} else {
		srv.Start()
	}
	t.Cleanup(srv.Close)
	t.Cleanup(func() { h.Shutdown(t.Context()) })
	return srv, h
}

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
