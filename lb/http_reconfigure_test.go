package lb

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
	"time"
)

// watchers counts those whom a pool tells of servers that are gone, and who are in use.
func watchers(p *Pool) (n int) {
	runtime.GC()
	p.mu.Lock()
	defer p.mu.Unlock()
	for w := range p.onGone {
		if w.Value() != nil {
			n++
		}
	}
	return n
}

// Settings change from request to request. What was counted and the connections
// to backends stay.
func TestReconfiguredHandler(t *testing.T) {
	s, h := front(t, HandlerConfig{}, webBackend(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Header.Get("X-In")) }))
	cfg := HandlerConfig{Pool: h.pool(), RequestHeaders: map[string]string{}}
	for _, value := range []string{"a", "b", "c"} {
		// The map is the caller's, who may change it.
		cfg.RequestHeaders["X-In"] = value
		if err := h.Reconfigure(cfg); err != nil {
			t.Fatal(err)
		}
		cfg.RequestHeaders["X-In"] = "changed"
		if got := rawRequest(t, s, aGet); got != value {
			t.Errorf("got %q, want %q", got, value)
		}
	}
	waitFor(t, "the end", func() bool { return h.Stats().Active == 0 })
	if n := h.Stats().Accepted; n != 3 {
		t.Errorf("%d requests are counted, want 3", n)
	}
	if n := h.pool().Status().Backends[0].Connects; n != 1 && !*onEngine { // there each loop has its own
		t.Errorf("%d connections to the backend, want 1", n)
	}
	waitFor(t, "one configuration alone to watch the pool", func() bool { return watchers(h.pool()) == 1 })
	// An error changes nothing.
	bad := cfg
	bad.Tries, bad.RequestHeaders = 9, nil
	var fault *FieldError
	if err := h.Reconfigure(bad); !errors.As(err, &fault) || fault.Field != "Tries" {
		t.Errorf("error %v, want one of Tries", err)
	}
	if got := rawRequest(t, s, aGet); got != "c" {
		t.Errorf("got %q, want c", got)
	}
	if *onEngine {
		return // a plane ends with its Serve
	}
	h.Shutdown(t.Context())
	h.Shutdown(t.Context())
	if err := h.Reconfigure(cfg); !errors.Is(err, ErrClosed) {
		t.Errorf("after Shutdown: %v, want ErrClosed", err)
	}
	if got := rawRequest(t, s, aGet); got != "c" {
		t.Errorf("after Shutdown: %q, want c", got)
	}
	if n := watchers(h.pool()); n != 0 {
		t.Errorf("after Shutdown: %d configurations watch the pool", n)
	}
}

// A request ends by the configuration with which it began, and by its pool.
func TestReconfiguredDuringARequest(t *testing.T) {
	for _, cut := range []bool{false, true} {
		reached, answer := make(chan bool), make(chan bool)
		s, h := front(t, HandlerConfig{ResponseHeaders: map[string]string{"X-Out": "old"}}, webBackend(t, func(w http.ResponseWriter, r *http.Request) {
			reached <- true
			select {
			case <-answer:
			case <-r.Context().Done():
			}
		}))
		got := make(chan *http.Response, 1)
		go func() {
			res, _ := http.Get(s.URL)
			got <- res
		}()
		<-reached
		old := h.pool()
		pool := newPool(t, PoolConfig{Name: "new", Backends: []Backend{webBackend(t, name("new"))}})
		if err := h.Reconfigure(HandlerConfig{Pool: pool}); err != nil {
			t.Fatal(err)
		}
		if got := rawRequest(t, s, aGet); got != "new" {
			t.Errorf("got %q, want new", got)
		}
		if n := watchers(old); n != 1 {
			t.Errorf("%d configurations watch the old pool, want 1", n)
		}
		if cut {
			old.Reconfigure(PoolConfig{DrainTimeout: time.Millisecond})
			if res := <-got; res == nil || res.StatusCode != 502 {
				t.Errorf("cut: %+v, want status 502", res)
			}
		} else {
			answer <- true
			if res := <-got; res == nil || res.StatusCode != 200 || res.Header.Get("X-Out") != "old" {
				t.Errorf("%+v, want the headers of before", res)
			}
		}
		waitFor(t, "the old pool to be let go", func() bool { return watchers(old) == 0 })
	}
}

// A connection is not kept for a configuration that would not have made it.
func TestReconfiguredConnections(t *testing.T) {
	b := webBackend(t, name("ok"))
	_, h := front(t, HandlerConfig{}, b)
	dial := new(net.Dialer).DialContext
	for i, tt := range []struct {
		change   func(*HandlerConfig)
		connects uint64
	}{
		{func(*HandlerConfig) {}, 1},
		{func(c *HandlerConfig) { c.Timeout, c.Tries, c.ConnectTimeout = time.Minute, 1, time.Second }, 1},
		{func(c *HandlerConfig) { c.Dial = dial }, 2},
		{func(c *HandlerConfig) { c.Dial = dial }, 3},
		{func(*HandlerConfig) {}, 4},
	} {
		cfg := HandlerConfig{Pool: h.pool()}
		tt.change(&cfg)
		if err := h.Reconfigure(cfg); err != nil {
			t.Fatal(err)
		}
		serve(t, h, 200)
		if n := h.pool().Status().Backends[0].Connects; n != tt.connects {
			t.Errorf("case %d: %d connections, want %d", i, n, tt.connects)
		}
	}
}

// serve has h answer a request.
func serve(t *testing.T, h http.Handler, status int) *httptest.ResponseRecorder {
	t.Helper()
	rec := httptest.NewRecorder()
	if h.ServeHTTP(rec, httptest.NewRequest("GET", "/", nil)); rec.Code != status {
		t.Errorf("status %d, want %d", rec.Code, status)
	}
	return rec
}

// TestConnectionsThatAreShared: with another pool, TLS or Dial they are given up at once.
func TestConnectionsThatAreShared(t *testing.T) {
	p := newPool(t, PoolConfig{})
	cfg := HandlerConfig{Pool: p, BackendTLS: new(tls.Config)}
	h := newHandler(t, cfg)
	for name, tt := range map[string]struct {
		change func(*HandlerConfig)
		shared bool
	}{
		"timeouts": {func(c *HandlerConfig) { c.Timeout, c.ConnectTimeout = time.Minute, time.Second }, true},
		"pool":     {func(c *HandlerConfig) { c.Pool = newPool(t, PoolConfig{}) }, false},
		"TLS":      {func(c *HandlerConfig) { c.BackendTLS = new(tls.Config) }, false},
		"no TLS":   {func(c *HandlerConfig) { c.BackendTLS = nil }, false},
		"Dial":     {func(c *HandlerConfig) { c.Dial = new(net.Dialer).DialContext }, false},
	} {
		before := h.settings.Load().idle
		next := cfg
		if tt.change(&next); h.Reconfigure(next) != nil {
			t.Fatal(name)
		}
		if shared := h.settings.Load().idle == before; shared != tt.shared || before.isClosed() == tt.shared {
			t.Errorf("%s: shared %v, given up %v", name, shared, before.isClosed())
		}
		if err := h.Reconfigure(cfg); err != nil {
			t.Fatal(err)
		}
	}
	h.Shutdown(t.Context())
}
