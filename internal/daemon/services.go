package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/havip/havip/healthcheck"
	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/lb"
)

// service is one load-balanced address: a pool, the listener that feeds it and
// the monitors of its backends.
type service struct {
	cfg      config.Service
	pool     *lb.Pool
	plane    plane
	listener net.Listener // nil: could not be opened yet
	monitors map[string]*backendMonitor
	resolver *task // of the pool
	task     *task
	log      *slog.Logger
}

// plane carries the traffic of a listener to a pool.
type plane interface {
	// serve returns when ctx has ended and what was under way then has finished.
	serve(ctx context.Context, ln net.Listener) error
	// use makes what arrives from now on go to another pool.
	use(pool *lb.Pool) error
}

// backendMonitor probes one backend.
type backendMonitor struct {
	check   config.Check
	monitor *healthcheck.Monitor
	cancel  func() // of the subscription that tells the pool
	task    *task
}

// newService makes a service without its listener. Health is carried over from
// old, which may be nil.
func newService(cfg config.Service, old *service, log *slog.Logger) (*service, error) {
	s := &service{cfg: cfg, log: log.With("service", cfg.Name)}
	var err error
	if s.pool, err = lb.NewPool(lb.PoolConfig{
		Name: cfg.Name, Balance: lb.Balance(cfg.Balance), Backends: backends(cfg), Logger: s.log,
	}); err != nil {
		return nil, fmt.Errorf("%v: service %s: %w", cfg.Pos, cfg.Name, err)
	}
	if s.monitors, err = newMonitors(cfg, old, s.log); err != nil {
		return nil, fmt.Errorf("%v: service %s: %w", cfg.Pos, cfg.Name, err)
	}
	for address, m := range s.monitors {
		if m.monitor.Status().State == healthcheck.Down {
			s.pool.SetHealth(address, false)
		}
	}
	if s.plane, err = newPlane(cfg.Mode, s.pool, s.log); err != nil {
		return nil, fmt.Errorf("%v: service %s: %w", cfg.Pos, cfg.Name, err)
	}
	return s, nil
}

func backends(cfg config.Service) []lb.Backend {
	list := make([]lb.Backend, len(cfg.Backends))
	for i, b := range cfg.Backends {
		list[i] = lb.Backend{Address: b.Address, Weight: b.Weight, Backup: b.Backup}
	}
	return list
}

// newMonitors makes one monitor for each backend, or takes over the one that
// old has if it does the same and old goes on.
func newMonitors(cfg config.Service, old *service, log *slog.Logger) (map[string]*backendMonitor, error) {
	monitors := map[string]*backendMonitor{}
	if cfg.Check == nil {
		return monitors, nil
	}
	for _, b := range cfg.Backends {
		initial := healthcheck.Unknown
		if old != nil && old.monitors[b.Address] != nil {
			m := old.monitors[b.Address]
			if m.check.Equal(*cfg.Check) && old.cfg.Name == cfg.Name && old.cfg.Mode == cfg.Mode {
				monitors[b.Address] = m
				continue
			}
			initial = m.monitor.Status().State
		}
		m, err := newMonitor(*cfg.Check, cfg.Name+"/"+b.Address, b.Address, initial, log)
		if err != nil {
			return nil, err
		}
		monitors[b.Address] = &backendMonitor{check: *cfg.Check, monitor: m}
	}
	return monitors, nil
}

// listen opens the listener, so that an address in use is found out before
// anything else happens.
func (s *service) listen(ctx context.Context) error {
	var err error
	if s.listener, err = lb.Listen(ctx, "tcp", listenAddress(s.cfg.Listen)); err != nil {
		return fmt.Errorf("%v: service %s: %w", s.cfg.Pos, s.cfg.Name, err)
	}
	return nil
}

// listenAddress leaves the host out where none is configured.
func listenAddress(a netip.AddrPort) string {
	host := ""
	if a.Addr().IsValid() {
		host = a.Addr().String()
	}
	return net.JoinHostPort(host, strconv.Itoa(int(a.Port())))
}

// start begins to serve.
func (s *service) start(failed func(error)) {
	s.follow()
	s.resolver = start(s.pool.Run, failed)
	s.log.Info("serving", "address", s.listener.Addr().String(), "mode", s.cfg.Mode)
	s.task = start(func(ctx context.Context) error { return s.plane.serve(ctx, s.listener) }, failed)
}

// stop ends the service when its connections have finished.
func (s *service) stop() {
	s.task.stop()
	s.resolver.stop()
	s.unfollow(s.monitors)
}

// follow starts the monitors that do not run, and lets the pool hear all of
// them.
func (s *service) follow() {
	pool := s.pool
	for address, m := range s.monitors {
		if m.cancel != nil {
			m.cancel()
		}
		m.cancel = follow(m.monitor, func(s healthcheck.State) { pool.SetHealth(address, s == healthcheck.Up) })
		if m.task == nil {
			m.task = start(m.monitor.Run, func(err error) { s.log.Error("monitor ended", "backend", address, "error", err) })
		}
	}
}

// unfollow ends monitors.
func (s *service) unfollow(monitors map[string]*backendMonitor) {
	var stops []func()
	for _, m := range monitors {
		m.cancel()
		stops = append(stops, m.task.stop)
	}
	together(stops)
}

// update goes on as next, which newService made of this service and which never
// served: on the same listener, with the connections that there are.
func (s *service) update(next *service, failed func(error)) error {
	samePool := s.cfg.Name == next.cfg.Name && s.cfg.Balance == next.cfg.Balance
	ended := map[string]*backendMonitor{}
	for address, m := range s.monitors {
		if next.monitors[address] != m {
			ended[address] = m
		}
	}
	s.unfollow(ended)
	if samePool {
		if err := s.pool.Update(backends(next.cfg)); err != nil {
			return err
		}
	} else {
		s.resolver.stop()
		s.pool = next.pool
		if err := s.plane.use(s.pool); err != nil {
			return err
		}
		s.resolver = start(s.pool.Run, failed)
	}
	for _, b := range next.cfg.Backends {
		if ended[b.Address] != nil && next.monitors[b.Address] == nil {
			s.pool.SetHealth(b.Address, true) // nobody looks any more
		}
	}
	s.cfg, s.monitors, s.log = next.cfg, next.monitors, next.log
	s.follow()
	return nil
}

// serviceChange is what becomes of one service of a configuration.
type serviceChange struct {
	old  *service // that goes on; nil: there is none
	next *service // nil: nothing changes
}

// prepareServices opens the listeners of services that have none to take over.
func (d *Daemon) prepareServices(c *change) error {
	taken := map[*service]bool{}
	for _, cfg := range c.cfg.Services {
		i := slices.IndexFunc(d.services, func(s *service) bool { return s.cfg.Listen == cfg.Listen })
		var old *service
		if i >= 0 {
			old = d.services[i]
			taken[old] = true
		}
		if old != nil && old.cfg.Equal(cfg) {
			c.services = append(c.services, serviceChange{old: old})
			continue
		}
		next, err := newService(cfg, old, d.log)
		if err != nil {
			return err
		}
		switch {
		case old == nil:
			err = next.listen(context.Background())
			if errors.Is(err, syscall.EADDRINUSE) && d.frees(c, cfg) {
				err = nil // apply tries again when the other one has let go
			}
		case old.cfg.Mode != cfg.Mode:
			// Another plane, on the same socket.
			next.listener, err = duplicate(old.listener)
			old, taken[old] = nil, false
		}
		if err != nil {
			return err
		}
		if next.listener != nil {
			c.undo = append(c.undo, func() { next.listener.Close() })
		}
		c.services = append(c.services, serviceChange{old, next})
	}
	for _, s := range d.services {
		if !taken[s] {
			c.gone = append(c.gone, s)
		}
	}
	return nil
}

// frees reports whether a service that ends with this change has the port.
func (d *Daemon) frees(c *change, cfg config.Service) bool {
	return slices.ContainsFunc(d.services, func(old *service) bool {
		return old.cfg.Listen.Port() == cfg.Listen.Port() &&
			!slices.ContainsFunc(c.cfg.Services, func(s config.Service) bool { return s.Listen == old.cfg.Listen })
	})
}

// duplicate returns another listener on the same socket: closing the one leaves
// the other, and what waits to be accepted is not lost.
func duplicate(ln net.Listener) (net.Listener, error) {
	tcp, ok := ln.(*net.TCPListener)
	if !ok {
		return nil, fmt.Errorf("daemon: %T cannot be handed over", ln)
	}
	f, err := tcp.File()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return net.FileListener(f)
}

// releaseTime bounds the wait for a service that ends to let go of its port.
const releaseTime = 2 * time.Second

func (d *Daemon) applyServices(c *change) error {
	for _, s := range c.gone {
		s.task.cancel()
		d.leaving.Go(s.stop)
	}
	var errs []error
	d.services = nil
	for _, sc := range c.services {
		s := sc.old
		switch {
		case sc.next == nil:
		case s != nil:
			if err := s.update(sc.next, d.failed); err != nil {
				errs = append(errs, err)
			}
		default:
			s = sc.next
			if err := s.listenSoon(); err != nil {
				errs = append(errs, fmt.Errorf("it does not run: %w", err))
				continue
			}
			s.start(d.failed)
		}
		d.services = append(d.services, s)
	}
	return errors.Join(errs...)
}

// listenSoon opens the listener if that could not be done before.
func (s *service) listenSoon() error {
	for end := time.Now().Add(releaseTime); s.listener == nil; time.Sleep(5 * time.Millisecond) {
		if err := s.listen(context.Background()); err != nil && time.Now().After(end) {
			return err
		}
	}
	return nil
}
