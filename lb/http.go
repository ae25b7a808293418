package lb

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/havip/havip/internal/inet"
)

// Handler proxies HTTP requests to a pool of backends. Make one with
// [NewHandler]. All methods may be called concurrently.
//
// A request goes to another backend when a backend refuses the connection, and also
// when a backend fails or times out before it has answered. Once sent, only a GET, HEAD,
// OPTIONS, TRACE, PUT or DELETE is sent a second time, or a request that a backend of
// HTTP/2 has said it has left alone. Responses are streamed, and so are the bodies of
// requests, unless Buffering is on. A response that a backend breaks off is broken off
// towards the client too.
//
// Backends get X-Forwarded-For (appended to), X-Forwarded-Proto, X-Forwarded-Host and
// X-Real-IP, and the client's Host. Trailers are passed on if they were announced and
// do not change how the message is understood.
//
// The target of a request reaches backends byte by byte as the client wrote it, or as a
// middleware has changed the request's URL. Answered with 400 are a target with white space
// or a fragment, an absolute one that is not http or https, has no host, or user information,
// or comes by HTTP/2; a Host or :authority that is not one host, and maybe a port; and in
// HTTP/2 a field Host that differs from the request's Host, which is the :authority unless a
// middleware has changed it: such a middleware deletes the field. A TRACE or OPTIONS with a
// Max-Forwards of 0 is answered in a backend's place.
//
// A WebSocket that a client of HTTP/2 opens (RFC 8441) is one of HTTP/1.1 for the backend. net/http
// takes such requests only where GODEBUG has http2xconnect=1 when the program begins. An
// extended CONNECT for another protocol is answered with 501.
//
// A panic of a function of the HandlerConfig, or of the ResponseWriter, is logged and
// passed on unchanged.
type Handler struct {
	settings atomic.Pointer[handlerSettings] // for new requests
	sessions registry                        // one for each request
	counters counters

	mu     sync.Mutex // serializes changes of settings
	closed bool
}

// NewHandler returns a Handler with the configuration cfg.
func NewHandler(cfg HandlerConfig) (*Handler, error) { return configured(new(Handler), cfg) }

// Reconfigure makes requests that begin from now on use cfg; requests under way end by
// the configuration with which they began. Stats go on. Idle connections to backends
// stay, unless cfg has another Pool or BackendTLS, or there is a Dial. On error nothing
// changes; after Shutdown the error is ErrClosed.
func (h *Handler) Reconfigure(cfg HandlerConfig) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("lb: Handler: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return fmt.Errorf("lb: Handler: %w", ErrClosed)
	}
	next, prev := newHandlerSettings(cfg), h.settings.Load()
	next.goOn(prev)
	next.prepareBuffering(prev)
	for _, unused := range next.shareConns(prev) {
		defer unused.cutIdle()
	}
	for _, s := range next.all() {
		s.watch(&h.sessions)
	}
	h.settings.Store(next)
	return nil
}

// Shutdown waits for the requests under way, and for upgraded connections, which an
// http.Server does not know any more. When ctx ends they are cut. Shutdown closes the
// idle connections to backends and detaches h from the pool. Requests that come later
// are served, for a server may have accepted their connections long before, but are not
// upgraded. A second call does nothing more.
func (h *Handler) Shutdown(ctx context.Context) {
	h.sessions.drain(ctx)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for _, last := range h.settings.Load().all() {
		last.cutIdle()
		last.Pool.unwatchGone(&last.gone)
	}
}

// ServeHTTP implements http.Handler. It breaks off a response by a panic with
// http.ErrAbortHandler, which net/http understands.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := newHandling(h, w, r)
	defer x.endRequest()
	x.serve()
}

// Stats returns what h has done since it was made. Accepted counts requests. Refused and
// Paused are 0: connections are the server's.
func (h *Handler) Stats() Stats { return h.counters.stats() }

// newHandling begins to account for a request. The request must end with endRequest.
func newHandling(h *Handler, w http.ResponseWriter, r *http.Request) *handling {
	x := &handling{h: h, w: w, rc: http.NewResponseController(w), in: r, conn: clientConnOf(r), owner: ownerOf(r)}
	x.client = newRequestOrigin(remoteAddr(r), localAddr(r), r.TLS)
	readHead(&x.head, r)
	x.open(h.settings.Load(), &h.counters, &x.client, &x.head, time.Now())
	x.major, x.hook = r.ProtoMajor, r
	x.registered = h.sessions.add(&x.session)
	x.body = newReplayBody(x.readConnect(), x.rc, &x.cfg.HandlerConfig)
	x.followClient()
	return x
}

// remoteAddr returns the client's address; zero if it is not an IP address.
func remoteAddr(r *http.Request) netip.AddrPort {
	a, _ := netip.ParseAddrPort(r.RemoteAddr)
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// localAddr returns the address that the client has connected to; zero if it is unknown.
func localAddr(r *http.Request) netip.AddrPort {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return inet.AddrPort(local)
}
