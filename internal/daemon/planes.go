package daemon

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/lb"
)

// plane carries the traffic of a socket, a net.Listener or a *net.UDPConn, to
// pools.
type plane interface {
	// serve returns when ctx has ended and what was under way then has finished.
	serve(ctx context.Context, socket io.Closer) error
	// use makes what arrives from now on be treated as by next, a plane of the
	// same mode that does not serve.
	use(next plane) error
}

// planeConfig is what a plane is made of.
type planeConfig struct {
	service config.Service
	pool    *lb.Pool            // nil: there are only routes
	routes  map[string]*lb.Pool // by server name
	tls     encryption
	record  func(lb.Record) // nil: nobody wants to know
	log     *slog.Logger
}

func newPlane(c planeConfig) (plane, error) {
	switch c.service.Mode {
	case "tcp":
		cfg := c.service.TCP
		cfg.Limits, cfg.AcceptProxy = c.service.Limits, c.service.AcceptProxy
		cfg.Pool, cfg.Routes, cfg.TLS, cfg.BackendTLS, cfg.Record, cfg.Logger = c.pool, c.routes, c.tls.front, c.tls.back, c.record, c.log
		t, err := lb.NewTCP(cfg)
		return &tcpPlane{t, cfg}, err
	case "udp":
		cfg := c.service.UDP
		cfg.Pool, cfg.Record, cfg.Logger = c.pool, c.record, c.log
		u, err := lb.NewUDP(cfg)
		return &udpPlane{u, cfg}, err
	}
	return newHTTPPlane(c)
}

// tcpPlane relays connections.
type tcpPlane struct {
	tcp *lb.TCP
	cfg lb.TCPConfig
}

func (p *tcpPlane) serve(ctx context.Context, socket io.Closer) error {
	return p.tcp.Serve(ctx, socket.(net.Listener))
}

func (p *tcpPlane) use(next plane) error { return p.tcp.Reconfigure(next.(*tcpPlane).cfg) }

// udpPlane relays datagrams.
type udpPlane struct {
	udp *lb.UDP
	cfg lb.UDPConfig
}

func (p *udpPlane) serve(ctx context.Context, socket io.Closer) error {
	return p.udp.Serve(ctx, socket.(*net.UDPConn))
}

func (p *udpPlane) use(next plane) error { return p.udp.Reconfigure(next.(*udpPlane).cfg) }

// listen opens what the plane of a service serves.
func listen(ctx context.Context, c config.Service) (io.Closer, error) {
	if c.Network() == "udp" {
		return lb.ListenPacket(ctx, "udp", listenAddress(c.Listen))
	}
	return lb.Listen(ctx, "tcp", listenAddress(c.Listen))
}

// duplicate returns another listener on the same socket: closing the one leaves
// the other, and what waits to be accepted is not lost.
func duplicate(socket io.Closer) (io.Closer, error) {
	tcp, ok := socket.(*net.TCPListener)
	if !ok {
		return nil, fmt.Errorf("daemon: %T cannot be handed over", socket)
	}
	f, err := tcp.File()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return net.FileListener(f)
}
