package daemon

import (
	"errors"
	"fmt"
	"log/slog"
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
	probes   *probes
	resolver *task

	totals *totals
	counts *entry[poolCounts]
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
	made   *lb.Pool     // the pool of before, or a new pool
	log    *slog.Logger // of the service
	totals *totals
}

// upstreamConfigs are those of a service.
func upstreamConfigs(c config.Service, log *slog.Logger) (all []upstreamConfig) {
	pool := func(p lb.PoolConfig) lb.PoolConfig { p.Logger = log; return p }
	if len(c.Pool.Backends) > 0 {
		all = append(all, upstreamConfig{"", pool(c.Pool), c.Check})
	}
	for _, r := range c.Routes {
		if len(r.Backends) == 0 {
			continue // the service's are used
		}
		all = append(all, upstreamConfig{r.Name, pool(c.PoolOf(r)), r.Check})
	}
	return all
}

// prepareUpstreams finds out what becomes of the upstreams of a service, which old has
// by route, and makes what is new. Nothing of it runs yet.
func prepareUpstreams(old map[string]*upstream, next []upstreamConfig, log *slog.Logger, totals *totals) ([]step[*upstream, *upstreamPlan], error) {
	var plans []*upstreamPlan
	for _, cfg := range next {
		plans = append(plans, &upstreamPlan{upstreamConfig: cfg, totals: totals})
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

// prepare makes the pool, unless old, which may be nil, has it.
func (p *upstreamPlan) prepare(old *upstream, log *slog.Logger) (err error) {
	p.log = log
	// The plane of a service that begins needs the pool before apply. A pool that does
	// not run yet costs nothing if the change is given up.
	if old != nil {
		p.made = old.pool
		err = p.pool.Validate()
	} else {
		p.made, err = lb.NewPool(p.pool)
	}
	if err == nil && p.check != nil { // as for one of its backends
		_, err = newMonitor(*p.check, p.pool.Name, "192.0.2.1:80", "", healthcheck.Unknown, log)
	}
	return err
}

// applyUpstreams carries the change of upstreams out. Call ends when nothing uses
// those any more that go.
func applyUpstreams(steps []step[*upstream, *upstreamPlan], failed func(error)) (upstreams map[string]*upstream, ends []func(), err error) {
	var errs []error
	upstreams = carryOut(steps, func(p *upstreamPlan) *upstream { return newUpstream(p, failed) },
		func(u *upstream, p *upstreamPlan) { errs = append(errs, u.reconfigure(p)) },
		func(old *upstream) { ends = append(ends, old.stop) })
	return upstreams, ends, errors.Join(errs...)
}

// newUpstream starts what was prepared. The resolver is asked at once.
func newUpstream(p *upstreamPlan, failed func(error)) *upstream {
	u := &upstream{cfg: p.upstreamConfig, pool: p.made, totals: p.totals, resolver: startTask(p.made.Run, failed),
		probes: newProbes(p.upstreamConfig, p.made, p.log, failed)}
	var memory poolMemory
	u.counts = p.totals.pools.open(u.cfg.pool.Name, func() poolCounts {
		memory.look(u.pool.Status())
		return memory.counts()
	})
	return u
}

// status is the pool's, with what all backends have counted that had their names.
func (u *upstream) status() lb.PoolStatus {
	s := u.pool.Status()
	u.totals.pools.total(s.Name).apply(&s)
	return s
}

// reconfigure goes on with other backends, checks or settings. What the pool knows
// of backends that stay, stays.
func (u *upstream) reconfigure(p *upstreamPlan) error {
	u.counts.look() // some may go
	err := u.probes.reconfigure(p.upstreamConfig, func() error { return u.pool.Reconfigure(p.pool) })
	if err == nil {
		u.cfg = p.upstreamConfig
		u.counts.rename(u.cfg.pool.Name)
	}
	return err
}

// stop ends everything but the connections that there are: those the pool's
// drain timeout ends.
func (u *upstream) stop() {
	together([]func(){u.probes.stop, u.resolver.stop})
	u.counts.close()
	if err := u.pool.Update(nil); err != nil {
		u.cfg.pool.Logger.Error("pool not emptied", "pool", u.cfg.pool.Name, "err", err)
	}
}
