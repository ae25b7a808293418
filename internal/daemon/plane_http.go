package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/havip/havip/lb"
)

// httpPlane proxies requests. Settings of connections are in a front, settings
// of requests in a handling; either is replaced alone, and the old one goes
// when nothing is under way in it any more.
type httpPlane struct {
	log      atomic.Pointer[slog.Logger]
	shutdown atomic.Int64 // time.Duration

	mu       sync.Mutex
	front    *front
	fronts   []*front // front, and earlier ones that still have connections
	handling *handling
	earlier  []*handling // that still have requests
	socket   *acceptor   // nil: it does not serve
	ended    chan error  // of the fronts
}

func newHTTPPlane(c planeConfig) (*httpPlane, error) {
	h := handlerConfig(c.service)
	h.Pool, h.BackendTLS, h.Record, h.Logger = c.pool, c.tls.back, c.record, c.log
	if err := h.Validate(); err != nil {
		return nil, err
	}
	if _, err := lb.NewListener(nil, nil, limits(c.service.Limits)); err != nil {
		return nil, err
	}
	p := &httpPlane{
		handling: &handling{Handler: h, cfg: c},
		front:    newFront(c),
		ended:    make(chan error, 1),
	}
	p.log.Store(c.log)
	p.shutdown.Store(int64(c.service.ShutdownTimeout))
	return p, nil
}

// handling is a handler and the requests that it has.
type handling struct {
	*lb.Handler
	cfg      planeConfig
	requests int
}

// same reports whether a handler made for o would do the same.
func (h *handling) same(o *handling) bool {
	a, b := h.cfg.service, o.cfg.service
	return h.cfg.pool == o.cfg.pool && h.cfg.tls.back == o.cfg.tls.back && a.Name == b.Name && a.AccessLog == b.AccessLog &&
		a.ConnectTimeout == b.ConnectTimeout && a.Tries == b.Tries && reflect.DeepEqual(a.HTTP, b.HTTP)
}

func (p *httpPlane) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	h := p.handling
	h.requests++
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		h.requests--
		idle := h != p.handling && h.requests == 0
		if idle {
			p.earlier = slices.DeleteFunc(p.earlier, func(e *handling) bool { return e == h })
		}
		p.mu.Unlock()
		if idle {
			h.forget()
		}
	}()
	h.ServeHTTP(w, r)
}

// forget closes the connections to backends that h keeps.
func (h *handling) forget() {
	past, cancel := context.WithCancel(context.Background())
	cancel()
	h.Shutdown(past)
}

func (p *httpPlane) use(next plane) error {
	n := next.(*httpPlane)
	p.log.Store(n.log.Load())
	p.shutdown.Store(n.shutdown.Load())
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.handling.same(n.handling) {
		if old := p.handling; old.requests > 0 {
			p.earlier = append(p.earlier, old)
		} else {
			defer old.forget()
		}
		p.handling = n.handling
	}
	if p.front.same(n.front) {
		return nil
	}
	old := p.front
	p.front = n.front
	if p.socket == nil {
		return nil
	}
	err := p.open(p.front)
	old.listener.Close()
	return err
}

// front is an http.Server, and what is done with connections before it gets
// them.
type front struct {
	tls          *tls.Config
	trusted      []netip.Prefix
	limits       lb.Limits
	header, idle time.Duration

	server    *http.Server
	listener  net.Listener
	accepting bool
	conns     int
}

func newFront(c planeConfig) *front {
	return &front{
		tls: c.tls.front, trusted: c.service.Proxy.Accept, limits: limits(c.service.Limits),
		header: c.service.HTTP.HeaderTimeout, idle: c.service.IdleTimeout,
	}
}

func (f *front) same(o *front) bool {
	return f.tls == o.tls && slices.Equal(f.trusted, o.trusted) && f.limits == o.limits && f.header == o.header && f.idle == o.idle
}

// open lets f take connections. p.mu is held.
func (p *httpPlane) open(f *front) error {
	f.listener = p.socket.share()
	if len(f.trusted) > 0 || f.limits != (lb.Limits{}) {
		var err error
		if f.listener, err = lb.NewListener(f.listener, f.trusted, f.limits); err != nil {
			return err
		}
	}
	if f.tls != nil {
		f.listener = tls.NewListener(f.listener, f.tls)
	}
	f.server = &http.Server{
		Handler:           p,
		ReadHeaderTimeout: f.header,
		IdleTimeout:       f.idle,
		ErrorLog:          log.New(debugLog{p}, "", 0),
		ConnState:         func(_ net.Conn, s http.ConnState) { p.count(f, s) },
	}
	if f.accepting = true; !slices.Contains(p.fronts, f) { // it is there if it failed
		p.fronts = append(p.fronts, f)
	}
	go func() {
		err := f.server.Serve(f.listener)
		p.mu.Lock()
		defer p.mu.Unlock()
		f.accepting = false
		p.drop(f)
		// A front that was replaced, or a plane that ends, has closed it.
		if !errors.Is(err, net.ErrClosed) && !errors.Is(err, http.ErrServerClosed) {
			select {
			case p.ended <- err:
			default:
			}
		}
	}()
	return nil
}

// count notes that a connection of f came or went.
func (p *httpPlane) count(f *front, s http.ConnState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch s {
	case http.StateNew:
		f.conns++
	case http.StateClosed, http.StateHijacked:
		f.conns--
		p.drop(f)
	}
}

// drop forgets f if it was replaced and has no connections. p.mu is held.
func (p *httpPlane) drop(f *front) {
	if f != p.front && f.conns == 0 && !f.accepting {
		p.fronts = slices.DeleteFunc(p.fronts, func(o *front) bool { return o == f })
	}
}

func (p *httpPlane) serve(ctx context.Context, socket io.Closer) error {
	p.mu.Lock()
	p.socket = newAcceptor(socket.(net.Listener))
	defer p.socket.close()
	err := p.open(p.front)
	p.mu.Unlock()
	if err != nil {
		return err
	}
	select {
	case err := <-p.ended:
		return err
	case <-ctx.Done():
	}
	p.socket.close()
	drain, cancel := context.WithTimeout(context.Background(), time.Duration(p.shutdown.Load()))
	defer cancel()
	p.mu.Lock()
	fronts, handlings := slices.Clone(p.fronts), append(slices.Clone(p.earlier), p.handling)
	p.mu.Unlock()
	var stops []func()
	for _, f := range fronts {
		stops = append(stops, func() {
			if err := f.server.Shutdown(drain); err != nil {
				f.server.Close()
			}
		})
	}
	together(stops)
	// What was upgraded the servers do not know any more.
	for _, h := range handlings {
		h.Shutdown(drain)
	}
	return nil
}

// debugLog takes what http.Server has to say about clients.
type debugLog struct{ p *httpPlane }

func (d debugLog) Write(b []byte) (int, error) {
	d.p.log.Load().Debug(string(b[:max(len(b)-1, 0)]))
	return len(b), nil
}
