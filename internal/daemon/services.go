package daemon

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/retry"
	"github.com/havip/havip/lb"
)

// service is one load-balanced address: a socket, the plane that serves it, and
// the backends that the plane uses.
type service struct {
	cfg       config.Service
	upstreams map[string]*upstream // by the name of the route; empty: the service's own backends
	task      *task
	tally     *tally
	lines     *lines
	totals    *totals
	counts    *entry[serviceCounts]
	said      *serviceSwitch

	// mu guards what a service that begins late makes by itself. It is a leaf: nothing
	// is called while it is held.
	mu     sync.Mutex
	tls    encryption
	plane  plane     // nil: could not be made yet
	socket io.Closer // nil: could not be opened yet
	lacks  error     // why there is no socket, the last time that was tried
}

// newService begins to serve what was prepared. A service that cannot, for now, is
// tried again.
func newService(p *servicePlan, upstreams map[string]*upstream) *service {
	s := &service{cfg: p.cfg, upstreams: upstreams, socket: p.socket, tally: p.tally, lines: p.lines, totals: p.totals, said: p.said}
	s.said.begin(p.cfg, s)
	if p.equipped {
		_ = s.equip(p.parts) // an error comes again when the service begins to serve
	}
	s.counts = p.totals.services.open(p.cfg.Name, s.counted)
	s.task = startTask(func(ctx context.Context) error {
		awaitNames(ctx, upstreams)
		s.run(ctx, p)
		return nil
	}, nil)
	return s
}

// namesPatience bounds the wait for the addresses of backends.
const namesPatience = time.Second

// awaitNames waits until the names of backends are resolved. Connections and datagrams
// wait in the socket meanwhile: a backend that has no address yet gets no datagrams.
func awaitNames(ctx context.Context, upstreams map[string]*upstream) {
	ctx, cancel := context.WithTimeout(ctx, namesPatience)
	defer cancel()
	for _, u := range upstreams {
		select {
		case <-u.pool.Resolved():
		case <-ctx.Done():
			return
		}
	}
}

// run serves until ctx ends. Whatever fails is tried again: no error of a service ends
// another part.
func (s *service) run(ctx context.Context, p *servicePlan) {
	retry.Until(ctx, func(ctx context.Context) error { return s.serve(ctx, p) }, s.sayFailed(p))
}

// sayFailed returns what logs an error that keeps the service from serving, and keeps
// it for whoever reports.
func (s *service) sayFailed(p *servicePlan) func(error, time.Duration) {
	return func(err error, pause time.Duration) {
		s.mu.Lock()
		s.lacks = err
		s.mu.Unlock()
		p.logFailed(err, pause)
	}
}

func (p *servicePlan) logFailed(err error, pause time.Duration) {
	p.parts.log.Error("service does not run", "err", err, "retry", pause)
}

// reopen opens the socket of a service anew, after a pause: what made it fail may last.
func (s *service) reopen(ctx context.Context, p *servicePlan, cause error) (socket io.Closer, err error) {
	s.setSocket(nil)
	retry.Until(ctx, func(ctx context.Context) error {
		if err = cause; err == nil {
			socket, err = openSocket(ctx, p.cfg)
		}
		cause = nil
		return err
	}, s.sayFailed(p))
	if err == nil {
		s.setSocket(socket)
		p.parts.log.Info("serving", "address", listenAddress(p.cfg.Listen), "mode", p.cfg.Mode)
	}
	return socket, err
}

// serve serves until ctx ends, or the socket fails. It makes what could not be made
// before: files and the port may be there by now. A reload replaces a service that has
// not got so far, so p is the configuration in force.
func (s *service) serve(ctx context.Context, p *servicePlan) error {
	if !s.isEquipped() {
		c := p.parts
		var err error
		if c.tls, err = newEncryption(p.cfg, nil); err != nil {
			return err
		}
		if c.files, err = newRuleFiles(p.cfg); err != nil {
			return err
		}
		if c.access, err = c.openAccess(nil, true); err != nil {
			return err
		}
		if err := s.equip(c); err != nil {
			if c.access != nil {
				_ = c.access.Close()
			}
			return err
		}
	}
	plane, socket := s.opened()
	if socket == nil {
		var err error
		if socket, err = openSocket(ctx, p.cfg); err != nil {
			return err
		}
		s.setSocket(socket)
	}
	p.parts.log.Info("serving", "address", listenAddress(p.cfg.Listen), "mode", p.cfg.Mode)
	err := plane.serve(ctx, socket, func(ctx context.Context, cause error) (io.Closer, error) { return s.reopen(ctx, p, cause) })
	socket.Close() // if it failed
	s.setSocket(nil)
	return err
}

// opened returns the plane and the socket that a service has; nil: none. A nil service
// has neither.
func (s *service) opened() (plane, io.Closer) {
	if s == nil {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.plane, s.socket
}

// isEquipped reports whether a service has a plane.
func (s *service) isEquipped() bool {
	p, _ := s.opened()
	return p != nil
}

func (s *service) setSocket(socket io.Closer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.socket = socket; socket != nil {
		s.lacks = nil
	}
}

// trouble is why the service has no socket; nil: it has, or did not try yet.
func (s *service) trouble() error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.socket != nil {
		return nil
	}
	return s.lacks
}

// certificates are those for clients; nil: there are none, or could not be read yet.
func (s *service) certificates() *lb.Certificates {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tls.certificates
}

// reconfigure goes on as p, which was prepared for this service: on the same socket,
// with the connections that there are.
func (s *service) reconfigure(p *servicePlan, failed func(error)) error {
	upstreams, ends, err := applyUpstreams(p.upstreams, failed)
	err = s.follow(p.parts, err)
	together(ends) // no new connection uses these upstreams any more
	s.lines.use(p.parts.access)
	s.cfg, s.upstreams = p.cfg, upstreams
	s.counts.rename(s.cfg.Name)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tls = p.parts.tls
	return err
}

// stop ends the service when its connections have finished.
func (s *service) stop() { s.stopWith(endsOf(maps.Values(s.upstreams))) }

// stopWith ends the service when its connections have finished, and then those of
// its upstreams that do not go on with another service.
func (s *service) stopWith(ends []func()) {
	s.task.stop()
	s.lines.use(nil)
	together(ends)
	s.counts.close()
}

// counted is what the service has counted itself.
func (s *service) counted() (c serviceCounts) {
	c.tally, c.routes, c.unlogged = s.tally.total(), s.tally.routes.total(), s.lines.lost()
	if p, _ := s.opened(); p != nil {
		c.stats = p.Stats()
	}
	return c
}

// openSocket opens what the plane of a service serves.
func openSocket(ctx context.Context, c config.Service) (socket io.Closer, err error) {
	if c.Network() == "udp" {
		socket, err = lb.ListenPacket(ctx, "udp", listenAddress(c.Listen))
	} else {
		socket, err = lb.Listen(ctx, "tcp", listenAddress(c.Listen))
	}
	if err != nil {
		return nil, err // and no Closer with a nil pointer in it
	}
	return socket, nil
}

// listenAddress leaves the host out where none is configured.
func listenAddress(a netip.AddrPort) string {
	host := ""
	if a.Addr().IsValid() {
		host = a.Addr().String()
	}
	return net.JoinHostPort(host, strconv.Itoa(int(a.Port())))
}

// socketKey names the socket of a service.
func socketKey(c config.Service) string { return c.Network() + " " + listenAddress(c.Listen) }

func samePort(a, b config.Service) bool {
	return a.Network() == b.Network() && a.Listen.Port() == b.Listen.Port()
}

// releaseTime bounds the wait for a service that ends to let go of its port.
const releaseTime = 2 * time.Second

// openSocketSoon is openSocket, but while the port is in use it goes on trying if another
// service is about to let go of the port.
func openSocketSoon(c config.Service, ending func() bool) (io.Closer, error) {
	for end := time.Now().Add(releaseTime); ; time.Sleep(5 * time.Millisecond) {
		socket, err := openSocket(context.Background(), c)
		if !errors.Is(err, syscall.EADDRINUSE) || !ending() || time.Now().After(end) {
			return socket, err
		}
	}
}
