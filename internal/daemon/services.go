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
	"github.com/havip/havip/internal/retry"
	"github.com/havip/havip/lb"
)

// service is one load-balanced address: a socket, the plane that serves it, and
// the backends that the plane uses.
type service struct {
	cfg       config.Service
	upstreams map[string]*upstream // by the name of the route; empty: the service's own backends
	parts     planeConfig          // of the plane, but for its encryption
	task      *task
	log       *slog.Logger
	late      bool // it could not begin at the start, and is tried again

	mu     sync.Mutex
	tls    encryption
	plane  plane     // nil: could not be made yet
	socket io.Closer // nil: could not be opened yet
}

// newService makes a service without its plane and its socket. What it has in common
// with old, which may be nil, it takes from there.
func (d *Daemon) newService(cfg config.Service, old *service) (*service, error) {
	s := &service{cfg: cfg, upstreams: map[string]*upstream{}, log: d.log.With("service", cfg.Name)}
	if err := s.prepare(d, old); err != nil {
		return nil, s.fail(err)
	}
	return s, nil
}

// fail says whose error it is.
func (s *service) fail(err error) error {
	return fmt.Errorf("%v: service %s: %w", s.cfg.Pos, s.cfg.Name, err)
}

func (s *service) prepare(d *Daemon, old *service) error {
	add := func(route string, cfg lb.PoolConfig, check *config.Check) error {
		var from *upstream
		if old != nil {
			from = old.upstreams[route]
		}
		cfg.Logger = d.log
		u, err := newUpstream(cfg, check, from, s.log)
		s.upstreams[route] = u
		return err
	}
	s.parts = planeConfig{service: s.cfg, routes: map[string]*lb.Pool{}, log: s.log}
	c := &s.parts
	if len(s.cfg.Pool.Backends) > 0 {
		if err := add("", s.cfg.Pool, s.cfg.Check); err != nil {
			return err
		}
		c.pool = s.upstreams[""].pool
	}
	for _, r := range s.cfg.Routes {
		if err := add(r.Name, s.cfg.PoolOf(r), r.Check); err != nil {
			return fmt.Errorf("route %s: %w", r.Name, err)
		}
		for _, name := range r.ServerNames {
			c.routes[name] = s.upstreams[r.Name].pool
		}
	}
	if s.cfg.AccessLog {
		c.record = recorder(d.access, s.cfg.Name)
	}
	return nil
}

// checksOf returns the checks of a service, each once.
func checksOf(c config.Service) (checks []*config.Check) {
	add := func(k *config.Check) {
		if k != nil && !slices.ContainsFunc(checks, func(o *config.Check) bool { return o.Equal(*k) }) {
			checks = append(checks, k)
		}
	}
	add(c.Check)
	for _, r := range c.Routes {
		add(r.Check)
	}
	return checks
}

// newChecks are those that old, which may be nil, does not have.
func (s *service) newChecks(old *service) []*config.Check {
	var known []*config.Check
	if old != nil {
		known = checksOf(old.cfg)
	}
	return slices.DeleteFunc(checksOf(s.cfg), func(k *config.Check) bool {
		return slices.ContainsFunc(known, func(o *config.Check) bool { return o.Equal(*k) })
	})
}

// equip makes the plane, unless there is one. What it needs of files may not be there
// yet.
func (s *service) equip(c planeConfig, old *service) error {
	if s.equipped() {
		return nil
	}
	encrypted, err := newEncryption(c.service, old)
	if err != nil {
		return err
	}
	c.tls = encrypted
	p, err := newPlane(c)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tls, s.plane = encrypted, p
	return nil
}

// equipped reports whether a service has a plane. A nil service has none.
func (s *service) equipped() bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.plane != nil
}

// listen opens the socket, so that an address in use is found out before
// anything else happens.
func (s *service) listen(ctx context.Context) error {
	socket, err := listen(ctx, s.cfg)
	if err != nil {
		return s.fail(err)
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
	parts, log := s.parts, s.log
	s.task = start(func(ctx context.Context) error {
		retry.Until(ctx, func(ctx context.Context) error { return s.serve(ctx, parts, log) }, func(err error, pause time.Duration) {
			log.Error("service does not run", "err", err, "retry", pause)
		})
		return nil
	}, nil)
}

// serve serves until ctx ends, or the socket fails. Another configuration has the
// same socket.
func (s *service) serve(ctx context.Context, parts planeConfig, log *slog.Logger) error {
	if err := s.equip(parts, nil); err != nil {
		return err
	}
	cfg := parts.service
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
	s.cfg, s.upstreams, s.parts, s.tls, s.log = next.cfg, next.upstreams, next.parts, next.tls, next.log
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
		for _, k := range next.newChecks(old) {
			if err := checkFiles(k); err != nil {
				if err := c.cannot(next.fail(fmt.Errorf("check: %w", err))); err != nil {
					return err
				}
			}
		}
		goesOn, stays := old.equipped(), false
		switch err = next.equip(next.parts, old); {
		case err != nil:
			err = next.fail(err)
		case !goesOn || !sameSocket(old.cfg, cfg):
			err = next.listenSoon(func() bool { return d.ending(cfg) })
			if errors.Is(err, syscall.EADDRINUSE) && (old != nil && !goesOn || d.frees(c, cfg)) {
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
		next.late = err != nil
		if err := c.cannot(err); err != nil {
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
	if s.socket == nil && !s.late {
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
