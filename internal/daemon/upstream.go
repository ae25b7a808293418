package daemon

import (
	"log/slog"

	"github.com/havip/havip/healthcheck"
	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/lb"
)

// upstream is the backends of a service, or of one of its routes: a pool, and
// the monitors that tell it who is up. A pool lives on, with all that it knows,
// for as long as some service has backends by its key.
type upstream struct {
	cfg      lb.PoolConfig
	pool     *lb.Pool
	monitors map[string]*backendMonitor // by address
	resolver *task
	log      *slog.Logger
}

// backendMonitor probes one backend.
type backendMonitor struct {
	name    string
	check   config.Check
	monitor *healthcheck.Monitor
	backend string // whose health the pool hears; empty: it does not yet
	cancel  func() // ends that
	task    *task
}

// newUpstream makes what old, which may be nil, goes on as when it is adopted.
// Nothing of it runs before that.
func newUpstream(cfg lb.PoolConfig, check *config.Check, old *upstream, log *slog.Logger) (*upstream, error) {
	pool, err := lb.NewPool(cfg)
	if err != nil {
		return nil, err
	}
	u := &upstream{cfg: cfg, pool: pool, monitors: map[string]*backendMonitor{}, log: log}
	if old != nil {
		u.pool = old.pool
	}
	if check == nil {
		return u, nil
	}
	for _, b := range cfg.Backends {
		name, known := cfg.Name+"/"+b.Address, healthcheck.Unknown
		if old != nil && old.monitors[b.Address] != nil {
			m := old.monitors[b.Address]
			if m.check.Equal(*check) && m.name == name {
				u.monitors[b.Address] = m
				continue
			}
			known = m.monitor.Status().State
		}
		m, err := newMonitor(*check, name, b.Address, known, log)
		if err != nil {
			return nil, err
		}
		u.monitors[b.Address] = &backendMonitor{name: name, check: *check, monitor: m}
	}
	return u, nil
}

// adopt starts u in the place of old, which may be nil and which is not to be
// used any more.
func (u *upstream) adopt(old *upstream, failed func(error)) error {
	watched := map[string]bool{} // by address: has been until now
	if old != nil {
		ended := map[string]*backendMonitor{}
		for address, m := range old.monitors {
			watched[address] = true
			if u.monitors[address] != m {
				ended[address] = m
			}
		}
		endMonitors(ended)
		if err := u.pool.Reconfigure(u.cfg); err != nil {
			return err
		}
		u.resolver = old.resolver
	}
	for _, b := range u.cfg.Backends {
		if m := u.monitors[b.Address]; m != nil {
			u.follow(m, b.Name)
		} else if watched[b.Address] {
			u.pool.SetHealth(b.Name, nil) // nobody looks any more
		}
	}
	if u.resolver == nil {
		u.resolver = start(u.pool.Run, failed)
	}
	return nil
}

// follow lets the pool hear of a backend, and starts its monitor if that does
// not run.
func (u *upstream) follow(m *backendMonitor, backend string) {
	if m.backend != backend {
		if m.cancel != nil {
			m.cancel()
		}
		if s := m.monitor.Status(); s.State == healthcheck.Down {
			u.pool.SetHealth(backend, s.WhyDown()) // and not a moment later
		}
		m.backend = backend
		m.cancel = follow(m.monitor, func(s healthcheck.Status) { u.pool.SetHealth(backend, s.WhyDown()) })
	}
	if m.task == nil {
		m.task = start(m.monitor.Run, func(err error) { u.log.Error("monitor ended", "backend", backend, "err", err) })
	}
}

// stop ends everything but the connections that there are: those the pool's
// drain timeout ends.
func (u *upstream) stop() {
	endMonitors(u.monitors)
	u.resolver.stop()
	if err := u.pool.Update(nil); err != nil {
		u.log.Error("pool not emptied", "pool", u.cfg.Name, "err", err)
	}
}

// endMonitors ends them, and what they tell.
func endMonitors(monitors map[string]*backendMonitor) {
	var stops []func()
	for _, m := range monitors {
		if m.cancel != nil {
			m.cancel()
		}
		stops = append(stops, m.task.stop)
	}
	together(stops)
}
