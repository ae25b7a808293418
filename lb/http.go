package lb

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"

	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Handler proxies HTTP requests to a pool of HTTP/1.1 backends. Set the fields
// before the first request and leave them alone after it.
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
	// Pool is where requests go. Required. KeyHash uses the request's path.
	Pool *Pool
	// ConnectTimeout bounds each attempt to reach a backend. Default 5 s.
	ConnectTimeout time.Duration
	// Timeout is the longest silence of a backend that is accepted once it has the
	// request, and the longest time that it may take nothing of it. Default 60 s.
	Timeout time.Duration
	// ClientTimeout is the longest silence of a client while the body of its request
	// is awaited, which is then answered with 408, and the longest time that it may
	// take nothing of the response. Default 60 s.
	ClientTimeout time.Duration
	// TunnelTimeout is the same for upgraded connections such as WebSockets.
	// Default 1 h.
	TunnelTimeout time.Duration
	// Tries bounds the backends that are tried for a request, 1 to 8. Default 3.
	Tries int
	// MaxBody bounds request bodies in bytes; a larger one is answered with 413.
	// 0: no bound.
	MaxBody int64
	// TrustedProxies are peers whose X-Forwarded-Proto, X-Forwarded-Host and
	// X-Real-IP are passed on. If it is set, the X-Forwarded-For of other peers
	// is dropped rather than appended to.
	TrustedProxies []netip.Prefix
	// RequestHeaders are set on requests to backends, ResponseHeaders on responses
	// to clients; an empty value removes the header. In values, ${client} is the
	// client's address, ${local} the one it connected to, ${backend} the backend's
	// name and, in responses, ${source} this host's address in the connection to
	// the backend. Names keep the case they are written in. Headers on which
	// the framing of messages depends cannot be set.
	RequestHeaders, ResponseHeaders map[string]string
	// BackendTLS makes connections to backends use TLS. Without a ServerName the
	// host of the backend's address is verified.
	BackendTLS *tls.Config
	// Record is told of each request that has ended; it must not block.
	Record func(Record)
	// Logger gets failures of backends. Nothing waits for it. nil: silent.
	Logger *slog.Logger

	once     sync.Once
	invalid  error
	log      *slog.Logger
	connect  func(context.Context, Pick) (net.Conn, error)
	idle     idleConns
	sessions registry // One per request.
	unwatch  func()
	counters counters
}

// Validate checks h and fills in its defaults. Before the first request it
// may be called to learn of an error that would answer all of them with 500.
func (h *Handler) Validate() error {
	h.once.Do(func() { h.invalid = h.validate() })
	return h.invalid
}

func (h *Handler) validate() error {
	if h.Pool == nil {
		return errors.New("lb: Handler: no pool")
	}
	setDefault(&h.ConnectTimeout, 5*time.Second)
	setDefault(&h.Timeout, 60*time.Second)
	setDefault(&h.ClientTimeout, 60*time.Second)
	setDefault(&h.TunnelTimeout, time.Hour)
	setDefault(&h.Tries, 3)
	for what, d := range map[string]time.Duration{
		"connect timeout": h.ConnectTimeout, "timeout": h.Timeout, "client timeout": h.ClientTimeout,
		"tunnel timeout": h.TunnelTimeout,
	} {
		if d < 0 {
			return fmt.Errorf("lb: Handler: %s %v: must not be negative", what, d)
		}
	}
	if h.Tries < 1 || h.Tries > maxTries {
		return fmt.Errorf("lb: Handler: tries %d: want 1 to %d", h.Tries, maxTries)
	}
	if h.MaxBody < 0 {
		return fmt.Errorf("lb: Handler: max body %d: must not be negative", h.MaxBody)
	}
	if err := h.validateHeaders(); err != nil {
		return err
	}
	if err := h.validateTLS(); err != nil {
		return err
	}
	h.log = limitedLog(h.Logger)
	if h.connect == nil {
		h.connect = (&dialer{timeout: h.ConnectTimeout, tls: h.BackendTLS}).connect
	}
	h.unwatch = h.Pool.watchGone(func(s *server) {
		h.sessions.cut(s)
		h.idle.drop(s)
	})
	return nil
}

// validateHeaders tells no value: it may be a password.
func (h *Handler) validateHeaders() error {
	for _, headers := range []map[string]string{h.RequestHeaders, h.ResponseHeaders} {
		for name, value := range headers {
			if !validHeader(name, value) {
				return fmt.Errorf("lb: Handler: header %q: not a valid header", name)
			}
			if slices.Contains(unsettable, http.CanonicalHeaderKey(name)) {
				return fmt.Errorf("lb: Handler: header %q: cannot be set or removed: the proxy itself decides on it", name)
			}
		}
	}
	hosts := 0
	for name, value := range h.RequestHeaders {
		if strings.EqualFold(name, "Host") {
			if hosts++; hosts > 1 || value == "" || strings.ContainsAny(value, " \t") {
				return fmt.Errorf("lb: Handler: header %q: every request needs one Host", name)
			}
		}
	}
	return nil
}

// validateTLS checks what can be known now: later updates of the pool may bring other
// backends.
func (h *Handler) validateTLS() error {
	if h.BackendTLS == nil || h.BackendTLS.ServerName != "" || h.BackendTLS.InsecureSkipVerify {
		return nil
	}
	for _, m := range h.Pool.snap.Load().all {
		if strings.HasPrefix(m.Address, "unix:") {
			return fmt.Errorf("lb: Handler: backend %s: TLS over a Unix socket needs a ServerName to verify", m.Name)
		}
	}
	return nil
}

// Shutdown waits for the requests under way and for upgraded connections, which an
// http.Server does not know any more, and cuts them when ctx ends. It closes idle
// connections to backends and lets go of the pool. Requests that come later are
// served, without upgrades.
func (h *Handler) Shutdown(ctx context.Context) {
	if h.Validate() != nil {
		return
	}
	h.sessions.drain(ctx)
	h.idle.close()
	h.unwatch()
}

// ServeHTTP implements http.Handler. It panics with http.ErrAbortHandler, which
// net/http understands, to break off a response.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := h.Validate(); err != nil {
		http.Error(w, "load balancer misconfigured", http.StatusInternalServerError)
		return
	}
	x := newExchange(h, w, r)
	defer x.ended()
	x.serve()
}

// Stats returns what h has done: Accepted counts requests.
func (h *Handler) Stats() Stats { return h.counters.stats() }
