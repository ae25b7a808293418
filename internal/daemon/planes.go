package daemon

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/havip/havip/lb"
)

// drainTimeout is for how long connections may go on after a service ended.
const drainTimeout = 10 * time.Second

func newPlane(mode string, pool *lb.Pool, log *slog.Logger) (plane, error) {
	if mode == "tcp" {
		tcp := newTCP(pool, log)
		return &tcpPlane{tcp: tcp, log: log}, tcp.Validate()
	}
	p := &httpPlane{log: log}
	return p, p.use(pool)
}

// tcpPlane relays connections.
type tcpPlane struct {
	tcp *lb.TCP
	log *slog.Logger
}

func newTCP(pool *lb.Pool, log *slog.Logger) *lb.TCP {
	return &lb.TCP{Pool: pool, DrainTimeout: drainTimeout, Logger: log}
}

func (p *tcpPlane) serve(ctx context.Context, ln net.Listener) error { return p.tcp.Serve(ctx, ln) }

func (p *tcpPlane) use(pool *lb.Pool) error { return p.tcp.Replace(newTCP(pool, p.log)) }

// httpPlane proxies requests.
type httpPlane struct {
	log *slog.Logger

	mu       sync.RWMutex
	handlers []*lb.Handler // the last one takes requests, all have connections
}

func (p *httpPlane) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.RLock()
	h := p.handlers[len(p.handlers)-1]
	p.mu.RUnlock()
	h.ServeHTTP(w, r)
}

func (p *httpPlane) use(pool *lb.Pool) error {
	h := &lb.Handler{Pool: pool, Logger: p.log}
	if err := h.Validate(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.handlers = append(p.handlers, h)
	return nil
}

func (p *httpPlane) serve(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{
		Handler:           p,
		ReadHeaderTimeout: 60 * time.Second, // nginx's client_header_timeout
		IdleTimeout:       75 * time.Second, // nginx's keepalive_timeout
		ErrorLog:          slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(ln) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	if err := srv.Shutdown(drain); err != nil {
		srv.Close()
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, h := range p.handlers {
		h.Shutdown(drain)
	}
	return nil
}
