package daemon

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"syscall"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/lb"
)

// servicePlan is a service's configuration, and what was made for it before
// anything is touched.
type servicePlan struct {
	cfg       config.Service
	upstreams []step[*upstream, *upstreamPlan] // of the predecessor
	parts     planeConfig
	totals    *totals
	said      *serviceSwitch // of the predecessor, if there is one
	tally     *tally
	lines     *lines
	equipped  bool      // parts has all that the plane needs of files
	socket    io.Closer // nil: none is needed, or none could be opened yet
}

// prepareServices finds out what becomes of each service, and opens the sockets of
// services that have none to take over.
func (d *Daemon) prepareServices(c *change) error {
	running, configs := map[string]*service{}, map[string]config.Service{}
	for _, s := range d.services {
		running[socketKey(s.cfg)], configs[socketKey(s.cfg)] = s, s.cfg
	}
	var plans []*servicePlan
	for _, cfg := range c.cfg.Services {
		plans = append(plans, &servicePlan{cfg: cfg, totals: &d.totals})
	}
	key := func(p *servicePlan) string { return serviceKey(configs, c.cfg, p.cfg) }
	c.services = diff(running, plans, key, func(old *service, next *servicePlan) fate {
		return judgeService(old.cfg, old.isEquipped(), next.cfg)
	})
	for _, s := range c.services {
		if s.fate == keep || s.fate == remove {
			continue
		}
		if err := d.prepareService(c, s); err != nil {
			return err
		}
	}
	return nil
}

// judgeService says whether a service can go on as next.
func judgeService(old config.Service, equipped bool, next config.Service) fate {
	switch {
	case old.Equal(next):
		return keep
	// A plane can take in all but another mode, and keeps its socket. A service that
	// has not begun yet has neither.
	case equipped && socketKey(old) == socketKey(next) && old.Mode == next.Mode:
		return update
	}
	return replace
}

// serviceKey names a service by the socket of its predecessor. That is the service
// on the same socket, whatever its name, since connections wait in the socket's
// backlog; or else the service of the same name, if no service of the next
// configuration has its socket, for what is known of its backends. A service without a
// predecessor goes by its own socket. So no two services have one key: sockets and
// names are unique in a configuration.
func serviceKey(running map[string]config.Service, all *config.Config, cfg config.Service) string {
	if _, ok := running[socketKey(cfg)]; !ok {
		for key, s := range running {
			if s.Name == cfg.Name && !keepsSocket(all, s) {
				return key
			}
		}
	}
	return socketKey(cfg)
}

// keepsSocket reports whether a configuration has a service on the socket of s.
func keepsSocket(all *config.Config, s config.Service) bool {
	return slices.ContainsFunc(all.Services, func(c config.Service) bool { return socketKey(s) == socketKey(c) })
}

// prepareService makes what a service needs that is not there yet. In the first
// configuration a service may lack files or its socket for now, and begins late.
func (d *Daemon) prepareService(c *change, s step[*service, *servicePlan]) error {
	p, old := s.cfg, s.old
	p.tally, p.lines, p.said = new(tally), new(lines), new(serviceSwitch)
	if old != nil {
		p.said = old.said
	}
	if s.fate == update {
		p.tally, p.lines = old.tally, old.lines // which its plane goes on with
	}
	if err := p.prepareParts(d, old); err != nil {
		return p.located(err)
	}
	for _, k := range p.newChecks(old) {
		if err := c.cannot(located(p.cfg.Pos, "service "+p.cfg.Name+": check", checkFiles(k))); err != nil {
			return err
		}
	}
	var err error
	if p.parts.tls, err = newEncryption(p.cfg, old); err == nil {
		p.parts.files, err = newRuleFiles(p.cfg)
	}
	if err == nil {
		err = p.parts.validate()
	}
	if err == nil {
		err = p.prepareAccess(c, s)
	}
	p.equipped = err == nil
	if p.equipped && s.fate != update {
		err = d.prepareSocket(c, p, old)
	}
	if p.socket != nil {
		c.undo = append(c.undo, func() { p.socket.Close() })
	}
	return c.cannot(p.located(err))
}

// located returns an error with the place and the name of the service; nil stays nil.
func (p *servicePlan) located(err error) error {
	return located(p.cfg.Pos, "service "+p.cfg.Name, err)
}

// prepareParts makes everything that takes no files of the machine.
func (p *servicePlan) prepareParts(d *Daemon, old *service) (err error) {
	log := d.log.With("service", p.cfg.Name)
	var upstreams map[string]*upstream
	if old != nil {
		upstreams = old.upstreams
	}
	if p.upstreams, err = prepareUpstreams(upstreams, upstreamConfigs(p.cfg, d.log), log, &d.totals); err != nil {
		return err
	}
	p.parts = planeConfig{service: p.cfg, routes: map[string]*lb.Pool{}, log: log}
	pools := map[string]*lb.Pool{}
	for _, u := range p.upstreams {
		if u.fate != remove {
			pools[u.key] = u.cfg.made
		}
	}
	p.parts.pool, p.parts.pools = pools[""], pools
	for _, r := range p.cfg.Routes {
		for _, name := range r.ServerNames {
			p.parts.routes[name] = pools[r.Name]
		}
	}
	p.parts.record = d.recorder(p.cfg, p.tally, p.lines)
	return nil
}

// recorder returns what a plane calls with whatever has ended.
func (d *Daemon) recorder(cfg config.Service, t *tally, l *lines) func(lb.Record) {
	a := cfg.AccessLog
	if !logsTo(a) {
		return t.routes.counting(cfg, func(r lb.Record) { t.record(&r) })
	}
	return t.routes.counting(cfg, func(r lb.Record) {
		t.record(&r)
		if r.Service != cfg.Name { // the pool's: of a route, or empty before one is chosen
			r.Service, r.Pool = cfg.Name, r.Service
		}
		if a.Log {
			d.access(r)
		}
		l.record(r)
	})
}

// prepareSocket opens the socket of a service that begins. An address in use is found
// out before anything else happens.
func (d *Daemon) prepareSocket(c *change, p *servicePlan, old *service) (err error) {
	goesOn := old.isEquipped()
	// A socket that nobody serves yet may still be opened by the old service: then
	// apply opens it when the old service has ended.
	if goesOn && socketKey(old.cfg) == socketKey(p.cfg) {
		// Another plane, on the same socket, if there is one.
		if _, socket := old.opened(); socket != nil {
			p.socket, err = duplicate(socket)
		}
		return err
	}
	p.socket, err = openSocketSoon(p.cfg, func() bool { return d.isEnding(p.cfg) })
	if errors.Is(err, syscall.EADDRINUSE) && (old != nil && !goesOn || d.freesPort(c, p.cfg)) {
		return nil // apply tries again when the other service has let go of the port
	}
	return err
}

// newChecks are the checks of backends that old, which may be nil, does not have: each
// once.
func (p *servicePlan) newChecks(old *service) (fresh []*config.Check) {
	known := []*config.Check{nil}
	if old != nil {
		for _, u := range old.upstreams {
			known = append(known, u.cfg.check)
		}
	}
	for _, u := range p.upstreams {
		if u.fate != remove && !slices.ContainsFunc(known, u.cfg.check.Equal) {
			known, fresh = append(known, u.cfg.check), append(fresh, u.cfg.check)
		}
	}
	return fresh
}

// isEnding reports whether a service of an earlier configuration, which may still
// be about to let go of its port, had the port of cfg.
func (d *Daemon) isEnding(cfg config.Service) bool {
	return slices.ContainsFunc(d.ended, func(old *service) bool { return samePort(old.cfg, cfg) })
}

// freesPort reports whether a service that ends with this change has the port of cfg.
func (d *Daemon) freesPort(c *change, cfg config.Service) bool {
	return slices.ContainsFunc(d.services, func(old *service) bool {
		return samePort(old.cfg, cfg) && !keepsSocket(c.cfg, old.cfg)
	})
}

// applyServices carries the change of services out. Those that end let go of their
// sockets first.
func (d *Daemon) applyServices(c *change) error {
	d.ended = slices.DeleteFunc(d.ended, func(s *service) bool { return s.task.ended() })
	// To cancel is enough to have sockets closed soon. The connections under way may
	// take as long as the shutdown timeout, which nothing here waits for.
	for _, s := range c.services {
		if !s.ends() {
			continue
		}
		s.old.task.cancel(nil)
		d.ended = append(d.ended, s.old)
		if s.fate == remove {
			d.leaving.Go(s.old.stop)
		}
	}
	var errs []error
	d.services = nil
	for _, s := range c.services {
		running, err := s.old, error(nil)
		switch s.fate {
		case remove:
			continue
		case update:
			err = s.old.reconfigure(s.cfg, d.failed)
		case add, replace:
			running, err = d.beginService(c, s)
		}
		d.services, errs = append(d.services, running), append(errs, err)
	}
	return errors.Join(errs...)
}

// beginService begins to serve, with the upstreams that the predecessor leaves behind.
func (d *Daemon) beginService(c *change, s step[*service, *servicePlan]) (*service, error) {
	p := s.cfg
	upstreams, ends, err := applyUpstreams(p.upstreams, d.failed)
	if p.socket == nil && !c.first {
		// The port is one that another service is just letting go of. At the start the
		// service is late.
		var lacks error
		p.socket, lacks = openSocketSoon(p.cfg, func() bool { return true })
		err = errors.Join(err, p.located(lacks))
	}
	if s.old != nil {
		d.leaving.Go(func() { s.old.stopWith(ends) })
	}
	if err != nil {
		err = fmt.Errorf("it does not run yet: %w", err)
	}
	return newService(p, upstreams), err
}
