package lb

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
)

// Handler proxies HTTP requests to a pool of HTTP/1.1 backends. Make one with
// [NewHandler]. All methods may be called concurrently.
//
// A request goes to another backend when one refuses the connection, and also
// when one fails or times out before it has answered, unless the request has
// been sent and is a POST, PATCH or LOCK: those are never sent twice.
// Responses and request bodies are streamed. A response that a backend breaks
// off is broken off towards the client too.
//
// Backends get X-Forwarded-For (appended to), X-Forwarded-Proto,
// X-Forwarded-Host and X-Real-IP, and the client's Host. Trailers are passed on if
// they were announced and have no say in how the message is understood.
type Handler struct {
	current  atomic.Pointer[generation]
	sessions registry // one per request
	counters counters

	mu     sync.Mutex // serializes changes of current
	closed bool
}

// generation is a configuration of a Handler, with its defaults. Requests end by the
// configuration with which they began.
type generation struct {
	HandlerConfig
	log     *slog.Logger
	dialer  dialer
	idle    *idleConns
	users   atomic.Int64 // requests, and the Handler while the generation is its current one
	unwatch func()       // called by the last user
}

// NewHandler returns a Handler that goes by cfg.
func NewHandler(cfg HandlerConfig) (*Handler, error) {
	h := new(Handler)
	if err := h.Reconfigure(cfg); err != nil {
		return nil, err
	}
	return h, nil
}

// Reconfigure makes requests that begin from now on go by cfg. Stats go on. Idle
// connections to backends stay, unless Pool or BackendTLS is another one or there is a
// Dial. After an error nothing has changed; after Shutdown the error is ErrClosed.
func (h *Handler) Reconfigure(cfg HandlerConfig) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("lb: Handler: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return fmt.Errorf("lb: Handler: %w", ErrClosed)
	}
	cfg = cfg.WithDefaults()
	// The caller may change his before the next Reconfigure.
	cfg.RequestHeaders, cfg.ResponseHeaders = maps.Clone(cfg.RequestHeaders), maps.Clone(cfg.ResponseHeaders)
	next := &generation{
		HandlerConfig: cfg,
		log:           limitedLog(cfg.Logger),
		dialer:        dialer{timeout: cfg.ConnectTimeout, tls: cfg.BackendTLS, dial: cfg.Dial},
		idle:          new(idleConns),
	}
	prev := h.current.Load()
	keep := prev != nil && prev.Pool == cfg.Pool && prev.BackendTLS == cfg.BackendTLS && prev.Dial == nil && cfg.Dial == nil
	if keep {
		next.idle = prev.idle
	}
	next.unwatch = cfg.Pool.watchGone(func(s *server) {
		h.sessions.cut(s)
		next.idle.drop(s)
	})
	h.replace(next)
	if prev != nil && !keep {
		prev.idle.close()
	}
	return nil
}

// replace makes next the current generation. h.mu is held.
func (h *Handler) replace(next *generation) {
	next.users.Store(1)
	if prev := h.current.Swap(next); prev != nil {
		prev.leave()
	}
}

// enter returns the current generation for a request, which must leave it.
func (h *Handler) enter() *generation {
	for {
		g := h.current.Load()
		// Without users g has ended: there is another one.
		for n := g.users.Load(); n > 0; n = g.users.Load() {
			if g.users.CompareAndSwap(n, n+1) {
				return g
			}
		}
	}
}

// leave takes a user from g, which ends with the last one.
func (g *generation) leave() {
	if g.users.Add(-1) == 0 {
		g.unwatch()
	}
}

// Shutdown waits for the requests under way and for upgraded connections, which an
// http.Server does not know any more, and cuts them when ctx ends. It closes idle
// connections to backends and lets go of the pool. Requests that come later are
// served, without upgrades.
func (h *Handler) Shutdown(ctx context.Context) {
	h.sessions.drain(ctx)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	prev := h.current.Load()
	prev.idle.close()
	h.replace(&generation{HandlerConfig: prev.HandlerConfig, log: prev.log, dialer: prev.dialer, idle: prev.idle, unwatch: func() {}})
}

// ServeHTTP implements http.Handler. It panics with http.ErrAbortHandler, which
// net/http understands, to break off a response.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := newExchange(h, w, r)
	defer x.ended()
	x.serve()
}

// Stats returns what h has done: Accepted counts requests.
func (h *Handler) Stats() Stats { return h.counters.stats() }
