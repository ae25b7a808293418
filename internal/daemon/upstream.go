package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"

	"github.com/havip/havip/healthcheck"
	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/lb"
)

// upstream is the backends of a service, or of one of its routes: a pool, and the
// monitors that tell the pool which backends are up. An upstream lives on, with
// all that its pool knows, as long as its service, or the successor of that
// service, has backends by its key.
type upstream struct {
	cfg      upstreamConfig
	pool     *lb.Pool
	monitors map[string]*check // by address
	resolver *task
}

// upstreamConfig says which backends there are, and how they are checked.
type upstreamConfig struct {
	route string // its name; empty: the service's own backends
	pool  lb.PoolConfig
	check *config.Check // nil: none
}

// upstreamPlan is an upstreamConfig and what was made for it.
type upstreamPlan struct {
	upstreamConfig
	made     *lb.Pool // the pool of before, or a new pool
	monitors []step[*check, *checkPlan]
}

// upstreamConfigs are those of a service.
func upstreamConfigs(c config.Service, log *slog.Logger) (all []upstreamConfig) {
	pool := func(p lb.PoolConfig) lb.PoolConfig { p.Logger = log; return p }
	if len(c.Pool.Backends) > 0 {
		all = append(all, upstreamConfig{"", pool(c.Pool), c.Check})
	}
	for _, r := range c.Routes {
		all = append(all, upstreamConfig{r.Name, pool(c.PoolOf(r)), r.Check})
	}
	return all
}

// prepareUpstreams finds out what becomes of the upstreams of a service, which old has
// by route, and makes what is new. Nothing of it runs yet.
func prepareUpstreams(old map[string]*upstream, next []upstreamConfig, log *slog.Logger) ([]step[*upstream, *upstreamPlan], error) {
	var plans []*upstreamPlan
	for _, cfg := range next {
		plans = append(plans, &upstreamPlan{upstreamConfig: cfg})
	}
	steps := diff(old, plans, func(p *upstreamPlan) string { return p.route }, func(old *upstream, next *upstreamPlan) fate {
		return keepIf(reflect.DeepEqual(old.cfg.pool, next.pool) && old.cfg.check.Equal(next.check), update)
	})
	for _, s := range steps {
		if s.fate == remove {
			continue
		}
		if err := s.cfg.prepare(s.old, log); err != nil {
			if s.key != "" {
				err = fmt.Errorf("route %s: %w", s.key, err)
			}
			return nil, err
		}
	}
	return steps, nil
}

// prepare makes the pool, unless old has it, and the monitors that old, which may be
// nil, does not have.
func (p *upstreamPlan) prepare(old *upstream, log *slog.Logger) (err error) {
	var monitors map[string]*check
	// The plane of a service that begins needs the pool before apply. A pool that does
	// not run yet costs nothing if the change is given up.
	if old != nil {
		p.made, monitors = old.pool, old.monitors
		err = p.pool.Validate()
	} else {
		p.made, err = lb.NewPool(p.pool)
	}
	if err == nil {
		p.monitors, err = prepareMonitors(monitors, p.upstreamConfig, log)
	}
	return err
}

// applyUpstreams carries the change of upstreams out. Call ends when nothing uses
// those any more that go.
func applyUpstreams(steps []step[*upstream, *upstreamPlan], failed func(error)) (upstreams map[string]*upstream, ends []func(), err error) {
	var errs []error
	upstreams = carryOut(steps, func(p *upstreamPlan) *upstream { return newUpstream(p, failed) },
		func(u *upstream, p *upstreamPlan) { errs = append(errs, u.reconfigure(p, failed)) },
		func(old *upstream) { ends = append(ends, old.stop) })
	return upstreams, ends, errors.Join(errs...)
}

// newUpstream starts what was prepared.
func newUpstream(p *upstreamPlan, failed func(error)) *upstream {
	u := &upstream{cfg: p.upstreamConfig, pool: p.made, resolver: startTask(p.made.Run, failed)}
	u.applyMonitors(p.monitors, failed)
	return u
}

// reconfigure goes on with other backends, checks or settings. What the pool knows
// of backends that stay, stays. Monitors that end have said their last before the
// pool has its next backends.
func (u *upstream) reconfigure(p *upstreamPlan, failed func(error)) error {
	var ends []func()
	for _, s := range p.monitors {
		if s.ends() {
			ends = append(ends, s.old.stop)
		}
	}
	together(ends)
	if err := u.pool.Reconfigure(p.pool); err != nil {
		return err
	}
	u.cfg = p.upstreamConfig
	u.applyMonitors(p.monitors, failed)
	return nil
}

// applyMonitors starts the new monitors. A backend that nobody probes any more
// counts as up.
func (u *upstream) applyMonitors(steps []step[*check, *checkPlan], failed func(error)) {
	begin := func(p *checkPlan) *check { return newCheck(p, u.pool, failed) }
	goOn := func(c *check, p *checkPlan) { c.rename(p, u.pool) }
	u.monitors = carryOut(steps, begin, goOn, func(*check) {})
	if u.cfg.check == nil {
		for _, b := range u.cfg.pool.Backends {
			u.pool.SetHealth(b.Name, nil)
		}
	}
}

// stop ends everything but the connections that there are: those the pool's
// drain timeout ends.
func (u *upstream) stop() {
	together(append(endsOf(maps.Values(u.monitors)), u.resolver.stop))
	if err := u.pool.Update(nil); err != nil {
		u.cfg.pool.Logger.Error("pool not emptied", "pool", u.cfg.pool.Name, "err", err)
	}
}

// prepareMonitors finds out what becomes of the monitors of an upstream, by the
// addresses of backends, and makes those that are new. A new monitor begins with what
// the monitor before has found.
func prepareMonitors(old map[string]*check, cfg upstreamConfig, log *slog.Logger) ([]step[*check, *checkPlan], error) {
	var plans []*checkPlan
	if cfg.check != nil {
		for _, b := range cfg.pool.Backends {
			plans = append(plans, &checkPlan{name: cfg.pool.Name + "/" + b.Address, cfg: *cfg.check, backend: b})
		}
	}
	steps := diff(old, plans, func(p *checkPlan) string { return p.backend.Address }, func(old *check, next *checkPlan) fate {
		switch {
		// A Monitor cannot change its name, which is in its log, nor its checker.
		case old.name != next.name || !old.cfg.Equal(&next.cfg):
			return replace
		case old.backend.Name != next.backend.Name:
			return update
		}
		return keep
	})
	for _, s := range steps {
		if !s.begins() {
			continue
		}
		var err error
		if s.cfg.monitor, err = newMonitor(s.cfg.cfg, s.cfg.name, s.key, s.old.state(), log); err != nil {
			return nil, err
		}
	}
	return steps, nil
}

// tellPool lets a pool hear what a monitor finds, until cancel. What is known to
// be down now is down in the pool before tellPool returns.
func tellPool(m *healthcheck.Monitor, pool *lb.Pool, backend string) (cancel func()) {
	if s := m.Status(); s.State == healthcheck.Down {
		pool.SetHealth(backend, s.WhyDown())
	}
	return followMonitor(m, func(s healthcheck.Status) { pool.SetHealth(backend, s.WhyDown()) })
}
