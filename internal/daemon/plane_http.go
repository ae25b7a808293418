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
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/havip/havip/lb"
)

// httpPlane proxies requests. Settings of connections are in a front, which is
// replaced where they change, and goes when it has no connections any more.
// Settings of requests are the handler's.
type httpPlane struct {
	log      atomic.Pointer[slog.Logger]
	shutdown atomic.Int64 // time.Duration

	handler *lb.Handler

	mu     sync.Mutex
	front  *front
	fronts []*front   // front, and earlier ones that still have connections
	socket *acceptor  // nil: it does not serve
	ended  chan error // of the fronts
}

func newHTTPPlane(c planeConfig) (*httpPlane, error) {
	h, err := lb.NewHandler(c.handler())
	if err != nil {
		return nil, err
	}
	p := &httpPlane{handler: h, front: newFront(c), ended: make(chan error, 1)}
	p.log.Store(c.log)
	p.shutdown.Store(int64(c.service.Front.ShutdownTimeout))
	return p, nil
}

func (p *httpPlane) Stats() lb.Stats { return p.handler.Stats() }

func (p *httpPlane) reconfigure(c planeConfig) error {
	if err := p.handler.Reconfigure(c.handler()); err != nil {
		return err
	}
	p.log.Store(c.log)
	p.shutdown.Store(int64(c.service.Front.ShutdownTimeout))
	p.mu.Lock()
	defer p.mu.Unlock()
	next := newFront(c)
	if p.front.same(next) {
		return nil
	}
	old := p.front
	p.front = next
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
		tls: c.tls.front, trusted: c.service.AcceptProxy, limits: c.service.Limits,
		header: c.service.Front.HeaderTimeout, idle: c.service.Front.IdleTimeout,
	}
}

func (f *front) same(o *front) bool {
	return f.tls == o.tls && slices.Equal(f.trusted, o.trusted) && f.limits == o.limits && f.header == o.header && f.idle == o.idle
}

// open lets f take connections. p.mu is held.
func (p *httpPlane) open(f *front) (err error) {
	f.listener = p.socket.share()
	if len(f.trusted) > 0 || f.limits != (lb.Limits{}) {
		if f.listener, err = lb.NewListener(f.listener, f.trusted, f.limits); err != nil {
			return err
		}
	}
	if f.tls != nil {
		f.listener = tls.NewListener(f.listener, f.tls)
	}
	f.server = &http.Server{
		Handler:           p.handler,
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
	fronts := slices.Clone(p.fronts)
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
	p.handler.Shutdown(drain)
	return nil
}

// debugLog takes what http.Server has to say about clients.
type debugLog struct{ p *httpPlane }

func (d debugLog) Write(b []byte) (int, error) {
	d.p.log.Load().Debug(string(b[:max(len(b)-1, 0)]))
	return len(b), nil
}
