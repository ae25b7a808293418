package daemon

import (
	"context"
	"io"
	"log/slog"
	"net"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/lb"
)

// plane carries the traffic of a socket, a net.Listener or a *net.UDPConn, to
// pools.
type plane interface {
	// serve returns when ctx has ended and what was under way then has finished. A plane
	// whose socket fails, and that goes on with connections meanwhile, gets another socket
	// from reopen.
	serve(ctx context.Context, socket io.Closer, reopen reopener) error
	// reconfigure makes what arrives from now on be treated as the configuration
	// says, whose mode is that of before. What is under way goes on as it was.
	reconfigure(planeConfig) error
	// Stats are those of the plane, whatever its configurations were.
	Stats() lb.Stats
}

// reopener returns a socket in the place of one that has failed with cause and is closed.
type reopener func(ctx context.Context, cause error) (io.Closer, error)

// listener is f for a net.Listener.
func (f reopener) listener(ctx context.Context, cause error) (net.Listener, error) {
	next, err := f(ctx, cause)
	if err != nil {
		return nil, err
	}
	return next.(net.Listener), nil
}

// planeConfig is what a plane is made of.
type planeConfig struct {
	service config.Service
	pool    *lb.Pool            // nil: there are only routes
	routes  map[string]*lb.Pool // by server name; mode tcp
	pools   map[string]*lb.Pool // of routes, by name; mode http
	tls     encryption
	files   ruleFiles
	record  func(lb.Record) // nil: nobody wants to know, in tests
	access  *lb.AccessLog   // that record writes to from now on; nil: none
	log     *slog.Logger
}

// validate reports what newPlane and reconfigure would not take, before anything is
// touched.
func (c planeConfig) validate() error {
	switch c.service.Mode {
	case "tcp":
		return c.tcp().Validate()
	case "udp":
		return c.udp().Validate()
	}
	return c.http().Validate()
}

// newPlane makes the plane of a service's mode. It does not serve yet.
func newPlane(c planeConfig) (plane, error) {
	switch c.service.Mode {
	case "tcp":
		t, err := lb.NewTCP(c.tcp())
		return &tcpPlane{t}, err
	case "udp":
		u, err := lb.NewUDP(c.udp())
		return &udpPlane{u}, err
	}
	h, err := lb.NewHTTP(c.http())
	return &httpPlane{h}, err
}

// tcp, udp and http are the configurations of package lb: what the file says, with
// what only the daemon knows.
func (c planeConfig) tcp() lb.TCPConfig {
	t := c.service.TCP
	t.Limits, t.AcceptProxy = c.service.Limits, c.service.AcceptProxy
	t.Pool, t.Routes, t.TLS, t.BackendTLS, t.Record, t.Logger = c.pool, c.routes, c.tls.front, c.tls.back, c.record, c.log
	return t
}

func (c planeConfig) udp() lb.UDPConfig {
	u := c.service.UDP
	u.Pool, u.Record, u.Logger = c.pool, c.record, c.log
	return u
}

func (c planeConfig) http() lb.HTTPConfig {
	h := c.service.HTTP
	h.Limits, h.AcceptProxy = c.service.Limits, c.service.AcceptProxy
	h.Routes = c.service.HTTPRoutes(func(route string) *lb.Pool { return c.pools[route] })
	for i := range h.Routes {
		h.Routes[i].BackendTLS = c.tls.routes[h.Routes[i].Name]
	}
	h.Pool, h.TLS, h.BackendTLS, h.Record, h.Logger = c.pool, c.tls.front, c.tls.back, c.record, c.log
	h.HandlerConfig = c.files.fill(h.HandlerConfig)
	return h
}

// tcpPlane relays connections.
type tcpPlane struct{ *lb.TCP }

func (p *tcpPlane) serve(ctx context.Context, socket io.Closer, reopen reopener) error {
	return p.ServeNext(ctx, socket.(net.Listener), reopen.listener)
}

func (p *tcpPlane) reconfigure(c planeConfig) error { return p.Reconfigure(c.tcp()) }

// httpPlane proxies requests.
type httpPlane struct{ *lb.HTTP }

func (p *httpPlane) serve(ctx context.Context, socket io.Closer, reopen reopener) error {
	return p.ServeNext(ctx, socket.(net.Listener), reopen.listener)
}

func (p *httpPlane) reconfigure(c planeConfig) error { return p.Reconfigure(c.http()) }

// udpPlane relays datagrams.
type udpPlane struct{ *lb.UDP }

func (p *udpPlane) serve(ctx context.Context, socket io.Closer, _ reopener) error {
	return p.Serve(ctx, socket.(*net.UDPConn))
}

func (p *udpPlane) reconfigure(c planeConfig) error { return p.Reconfigure(c.udp()) }
