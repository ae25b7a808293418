package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/lb"
)

// service is one load-balanced address: a socket, the plane that serves it, and
// the backends that the plane uses.
type service struct {
	cfg       config.Service
	upstreams map[string]*upstream // by the name of the route; empty: the service's own backends
	tls       encryption
	plane     plane
	task      *task
	log       *slog.Logger

	mu     sync.Mutex
	socket io.Closer // nil: could not be opened yet
}

// newService makes a service without its socket. What it has in common with
// old, which may be nil, it takes from there.
func (d *Daemon) newService(cfg config.Service, old *service) (*service, error) {
	s := &service{cfg: cfg, upstreams: map[string]*upstream{}, log: d.log.With("service", cfg.Name)}
	if err := s.prepare(d, old); err != nil {
		return nil, fmt.Errorf("%v: service %s: %w", cfg.Pos, cfg.Name, err)
	}
	return s, nil
}

func (s *service) prepare(d *Daemon, old *service) (err error) {
	add := func(route, name string, backends []config.Backend, check *config.Check) error {
		var from *upstream
		if old != nil {
			from = old.upstreams[route]
		}
		u, err := newUpstream(poolConfig(s.cfg, name, backends, d.log), check, from, s.log)
		s.upstreams[route] = u
		return err
	}
	c := planeConfig{service: s.cfg, routes: map[string]*lb.Pool{}, log: s.log}
	if len(s.cfg.Backends) > 0 {
		if err := add("", s.cfg.Name, s.cfg.Backends, s.cfg.Check); err != nil {
			return err
		}
		c.pool = s.upstreams[""].pool
	}
	for _, r := range s.cfg.Routes {
		if err := add(r.Name, s.cfg.Name+"/"+r.Name, r.Backends, r.Check); err != nil {
			return fmt.Errorf("route %s: %w", r.Name, err)
		}
		for _, name := range r.ServerNames {
			c.routes[name] = s.upstreams[r.Name].pool
		}
	}
	if s.tls, err = newEncryption(s.cfg, old); err != nil {
		return err
	}
	c.tls = s.tls
	if s.cfg.AccessLog {
		c.record = recorder(d.access, s.cfg.Name)
	}
	s.plane, err = newPlane(c)
	return err
}

// listen opens the socket, so that an address in use is found out before
// anything else happens.
func (s *service) listen(ctx context.Context) error {
	socket, err := listen(ctx, s.cfg)
	if err != nil {
		return fmt.Errorf("%v: service %s: %w", s.cfg.Pos, s.cfg.Name, err)
	}
	s.setSocket(socket)
	return nil
}

func (s *service) setSocket(socket io.Closer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.socket = socket
}

// open returns the socket that the service has; nil: none.
func (s *service) open() io.Closer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.socket
}

// listenAddress leaves the host out where none is configured.
func listenAddress(a netip.AddrPort) string {
	host := ""
	if a.Addr().IsValid() {
		host = a.Addr().String()
	}
	return net.JoinHostPort(host, strconv.Itoa(int(a.Port())))
}

// start begins to serve. A service that cannot, for now, is tried again.
func (s *service) start() {
	cfg, log := s.cfg, s.log
	s.task = start(func(ctx context.Context) error {
		persist(ctx, func(ctx context.Context) error { return s.serve(ctx, cfg, log) }, func(err error, pause time.Duration) {
			log.Error("service does not run", "err", err, "retry", pause)
		})
		return nil
	}, nil)
}

// serve serves until ctx ends, or the socket fails. Another configuration has the
// same socket.
func (s *service) serve(ctx context.Context, cfg config.Service, log *slog.Logger) error {
	socket := s.open()
	if socket == nil {
		var err error
		if socket, err = listen(ctx, cfg); err != nil {
			return err
		}
		s.setSocket(socket)
	}
	log.Info("serving", "address", listenAddress(cfg.Listen), "mode", cfg.Mode)
	err := s.plane.serve(ctx, socket)
	socket.Close() // if it failed
	s.setSocket(nil)
	return err
}

// stop ends the service when its connections have finished.
func (s *service) stop() {
	s.task.stop()
	var stops []func()
	for _, u := range s.upstreams {
		stops = append(stops, u.stop)
	}
	together(stops)
}

// adopt starts the upstreams of s. Those of old, which may be nil and which s
// was made of, go on in them; what remains in old are those without a
// successor.
func (s *service) adopt(old *service, failed func(error)) error {
	var errs []error
	for route, u := range s.upstreams {
		var from *upstream
		if old != nil {
			from = old.upstreams[route]
			delete(old.upstreams, route)
		}
		errs = append(errs, u.adopt(from, failed))
	}
	return errors.Join(errs...)
}

// update goes on as next, which newService made of this service and which never
// served: on the same socket, with the connections that there are.
func (s *service) update(next *service, failed func(error)) error {
	err := errors.Join(next.adopt(s, failed), s.plane.use(next.plane))
	for _, u := range s.upstreams {
		u.stop() // which no new connection uses any more
	}
	s.cfg, s.upstreams, s.tls, s.log = next.cfg, next.upstreams, next.tls, next.log
	return err
}

// serviceChange is what becomes of one service of a configuration.
type serviceChange struct {
	old  *service // what there was before; nil: nothing
	next *service // nil: nothing changes
	// stays: the old one goes on as the next one. Otherwise it ends, and only
	// its upstreams go on.
	stays bool
}

// prepareServices opens the sockets of services that have none to take over.
func (d *Daemon) prepareServices(c *change) error {
	taken := map[*service]bool{}
	for _, cfg := range c.cfg.Services {
		old := d.predecessor(c.cfg, cfg, taken)
		taken[old] = true
		if old != nil && old.cfg.Equal(cfg) {
			c.services = append(c.services, serviceChange{old: old, stays: true})
			continue
		}
		next, err := d.newService(cfg, old)
		if err != nil {
			return err
		}
		stays := false
		switch {
		case old == nil || !sameSocket(old.cfg, cfg):
			err = next.listenSoon(func() bool { return d.ending(cfg) })
			if errors.Is(err, syscall.EADDRINUSE) && d.frees(c, cfg) {
				err = nil // apply tries again when the other one has let go
			}
		case old.cfg.Mode != cfg.Mode:
			// Another plane, on the same socket, if there is one.
			if socket := old.open(); socket != nil {
				next.socket, err = duplicate(socket)
			}
		default:
			stays = true
		}
		if err != nil {
			return err
		}
		if next.socket != nil {
			c.undo = append(c.undo, func() { next.socket.Close() })
		}
		c.services = append(c.services, serviceChange{old, next, stays})
	}
	for _, s := range d.services {
		if !taken[s] {
			c.gone = append(c.gone, s)
		}
	}
	return nil
}

func sameSocket(a, b config.Service) bool {
	return a.Network() == b.Network() && a.Listen == b.Listen
}

// predecessor is the running service that goes on as cfg: the one on its
// socket, or else the one of its name if that loses its socket.
func (d *Daemon) predecessor(all *config.Config, cfg config.Service, taken map[*service]bool) *service {
	for _, s := range d.services {
		if sameSocket(s.cfg, cfg) {
			return s
		}
	}
	for _, s := range d.services {
		if s.cfg.Name == cfg.Name && !taken[s] && !keepsSocket(all, s) {
			return s
		}
	}
	return nil
}

// keepsSocket reports whether a configuration has a service on the socket of s.
func keepsSocket(all *config.Config, s *service) bool {
	return slices.ContainsFunc(all.Services, func(c config.Service) bool { return sameSocket(s.cfg, c) })
}

// ending reports whether a service of an earlier configuration, which may still
// be about to let go of its port, had this one.
func (d *Daemon) ending(cfg config.Service) bool {
	return slices.ContainsFunc(d.ended, func(old *service) bool { return samePort(old.cfg, cfg) })
}

func samePort(a, b config.Service) bool {
	return a.Network() == b.Network() && a.Listen.Port() == b.Listen.Port()
}

// frees reports whether a service that ends with this change has the port.
func (d *Daemon) frees(c *change, cfg config.Service) bool {
	return slices.ContainsFunc(d.services, func(old *service) bool {
		return samePort(old.cfg, cfg) && !keepsSocket(c.cfg, old)
	})
}

// releaseTime bounds the wait for a service that ends to let go of its port.
const releaseTime = 2 * time.Second

func (d *Daemon) applyServices(c *change) error {
	d.ended = slices.DeleteFunc(d.ended, func(s *service) bool { return s.task.ended() })
	for _, s := range c.gone {
		s.task.cancel(nil)
		d.leaving.Go(s.stop)
		d.ended = append(d.ended, s)
	}
	for _, sc := range c.services {
		if sc.old != nil && !sc.stays {
			sc.old.task.cancel(nil)
			d.ended = append(d.ended, sc.old)
		}
	}
	var errs []error
	d.services = nil
	for _, sc := range c.services {
		s := sc.old
		switch {
		case sc.next == nil:
		case sc.stays:
			if err := s.update(sc.next, d.failed); err != nil {
				errs = append(errs, err)
			}
		default:
			s = sc.next
			if err := s.begin(sc.old, d.failed); err != nil {
				errs = append(errs, fmt.Errorf("it does not run yet: %w", err))
			}
			if sc.old != nil {
				d.leaving.Go(sc.old.stop)
			}
		}
		d.services = append(d.services, s)
	}
	return errors.Join(errs...)
}

// begin serves with what old, which may be nil, leaves behind.
func (s *service) begin(old *service, failed func(error)) error {
	err := s.adopt(old, failed)
	if s.socket == nil {
		// The port is one that another service is just letting go of.
		err = errors.Join(err, s.listenSoon(func() bool { return true }))
	}
	s.start()
	return err
}

// listenSoon is listen, but while the port is in use it goes on trying if
// another service is about to let go of it.
func (s *service) listenSoon(ending func() bool) error {
	for end := time.Now().Add(releaseTime); ; time.Sleep(5 * time.Millisecond) {
		err := s.listen(context.Background())
		if !errors.Is(err, syscall.EADDRINUSE) || !ending() || time.Now().After(end) {
			return err
		}
	}
}
