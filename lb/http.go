package lb

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
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
// X-Forwarded-Host and X-Real-IP, and the client's Host.
type Handler struct {
	// Pool is where requests go. Required. KeyHash uses the request's path.
	Pool *Pool
	// ConnectTimeout bounds each attempt to reach a backend. Default 5 s.
	ConnectTimeout time.Duration
	// Timeout is the longest silence of a backend, or of its reading, that is
	// accepted while a request is under way. Default 60 s.
	Timeout time.Duration
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
	// the backend. Names keep the case they are written in.
	RequestHeaders, ResponseHeaders map[string]string
	// BackendTLS makes connections to backends use TLS.
	BackendTLS *tls.Config
	// Record is told of each request that has ended; it must not block.
	Record func(Record)
	// Logger gets failures of backends. nil: silent.
	Logger *slog.Logger

	once    sync.Once
	invalid error
	log     *slog.Logger
	// Two sets of connections: requests that cannot be repeated only use those
	// that have not been idle for long, because a backend may be closing others
	// at this very moment.
	repeatable, fresh *http.Transport
	tunnels           registry
	counters          counters
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
	setDefault(&h.TunnelTimeout, time.Hour)
	setDefault(&h.Tries, 3)
	for what, d := range map[string]time.Duration{
		"connect timeout": h.ConnectTimeout, "timeout": h.Timeout, "tunnel timeout": h.TunnelTimeout,
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
	for _, headers := range []map[string]string{h.RequestHeaders, h.ResponseHeaders} {
		for name, value := range headers {
			if !validHeader(name, value) {
				return fmt.Errorf("lb: Handler: header %q: %q: not a valid header", name, value)
			}
		}
	}
	h.log = limitedLog(h.Logger)
	h.Pool.watchGone(h.tunnels.cut)
	h.repeatable = h.newTransport(30 * time.Second)
	h.fresh = h.newTransport(time.Second)
	return nil
}

// Shutdown waits for the upgraded connections, which an http.Server does not
// know any more, cuts them when ctx ends, and closes idle connections to backends.
func (h *Handler) Shutdown(ctx context.Context) {
	if h.Validate() != nil {
		return
	}
	h.tunnels.drain(ctx)
	h.repeatable.CloseIdleConnections()
	h.fresh.CloseIdleConnections()
}

// ServeHTTP implements http.Handler. It panics with http.ErrAbortHandler, which
// net/http understands, to break off a response.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := h.Validate(); err != nil {
		http.Error(w, "load balancer misconfigured", http.StatusInternalServerError)
		return
	}
	if r.Method == http.MethodConnect {
		reply(w, http.StatusMethodNotAllowed)
		return
	}
	if h.MaxBody > 0 {
		if r.ContentLength > h.MaxBody {
			reply(w, http.StatusRequestEntityTooLarge)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, h.MaxBody)
	}
	// Without it net/http would read the whole request before it lets the
	// response begin.
	_ = http.NewResponseController(w).EnableFullDuplex()
	x := &exchange{h: h, w: w, in: r, client: remoteAddr(r), body: newReplayBody(r)}
	x.record.Start = time.Now()
	h.counters.accepted.Add(1)
	h.counters.active.Add(1)
	defer x.ended()
	x.header = x.requestHeader()
	whole := false
	defer func() {
		if !x.body.finish(w, whole) && whole && r.ProtoMajor == 1 {
			// The response has been sent, but net/http would wait for the request.
			panic(http.ErrAbortHandler)
		}
	}()
	res, pick, err := x.send()
	if err != nil {
		x.fail(err)
	} else {
		x.respond(res, pick)
	}
	whole = true
}

// Stats returns what h has done: Accepted counts requests.
func (h *Handler) Stats() Stats { return h.counters.stats() }

// ended accounts for a request that is over, also one that was broken off.
func (x *exchange) ended() {
	r, c := &x.record, &x.h.counters
	r.Service, r.Client, r.Duration = x.h.Pool.config().Name, x.client, time.Since(r.Start)
	r.Received += x.body.taken()
	c.active.Add(-1)
	c.received.Add(uint64(r.Received))
	c.sent.Add(uint64(r.Sent))
	c.retries.Add(uint64(r.Retries))
	if x.pick.pool != nil {
		r.Backend = x.pick.Backend()
		x.pick.Transferred(r.Received, r.Sent)
	}
	if x.h.Record != nil {
		x.h.Record(*r)
	}
}

// reply sends an error of our own.
func reply(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintf(w, "%d %s\n", status, http.StatusText(status))
}

// remoteAddr is the client's address; zero if it is not an IP address.
func remoteAddr(r *http.Request) netip.AddrPort {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// fail answers a request that no backend has answered.
func (x *exchange) fail(err error) {
	x.record.Reason = err.Error()
	x.h.counters.failed.Add(1)
	if x.in.Context().Err() != nil {
		// The client is gone.
		panic(http.ErrAbortHandler)
	}
	status := http.StatusBadGateway
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		status = http.StatusRequestEntityTooLarge
	case x.body.failed() != nil:
		status = http.StatusBadRequest
	case errors.Is(err, ErrNoBackend), errors.Is(err, ErrBusy):
		status = http.StatusServiceUnavailable
	case isTimeout(err):
		status = http.StatusGatewayTimeout
	}
	x.h.log.Warn("request not served", "client", x.client, "method", x.in.Method, "host", x.in.Host,
		"status", status, "error", err)
	x.record.Status = status
	reply(x.w, status)
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// respond passes the response on.
func (x *exchange) respond(res *http.Response, pick Pick) {
	x.record.Connect, x.record.Status, x.pick = time.Since(x.record.Start), res.StatusCode, pick
	if res.StatusCode == http.StatusSwitchingProtocols {
		x.tunnel(res, pick)
		return
	}
	result := Neutral
	defer func() { pick.Done(result) }()
	defer res.Body.Close()
	x.responseHeader(res, pick)
	announced := len(res.Trailer)
	x.w.WriteHeader(res.StatusCode)
	// A body of unknown length may be a stream of events: none may wait.
	flush := func() {}
	if res.ContentLength < 0 {
		rc := http.NewResponseController(x.w)
		flush = func() { _ = rc.Flush() }
		flush()
	}
	if blamed, err := x.copyBody(res.Body, flush); err != nil {
		x.record.Reason = err.Error()
		if blamed && x.in.Context().Err() == nil {
			result = Failure
			x.h.log.Warn("response broken off", "backend", pick.Backend(), "error", err)
		}
		// Ending normally would make the truncated response look complete.
		panic(http.ErrAbortHandler)
	}
	result = Success
	for name, values := range res.Trailer {
		if announced != len(res.Trailer) {
			name = http.TrailerPrefix + name
		}
		x.w.Header()[name] = values
	}
}

// copyBody copies src to the client; blamed tells whether it was src that failed.
func (x *exchange) copyBody(src io.Reader, flush func()) (blamed bool, err error) {
	buf := relayBuffers.Get().(*[relayBuffer]byte)
	defer relayBuffers.Put(buf)
	for {
		n, err := src.Read(buf[:])
		if n > 0 {
			if _, err := x.w.Write(buf[:n]); err != nil {
				return false, err
			}
			x.record.Sent += int64(n)
			flush()
		}
		if err == io.EOF {
			return false, nil
		}
		if err != nil {
			return true, err
		}
	}
}
