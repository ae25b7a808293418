package lb

import (
	"context"
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

// NewHandler returns a Handler that goes by cfg.
func NewHandler(cfg HandlerConfig) (*Handler, error) {
	h := new(Handler)
	if err := h.Reconfigure(cfg); err != nil {
		return nil, err
	}
	return h, nil
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
