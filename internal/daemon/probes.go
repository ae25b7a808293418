package daemon

import (
	"cmp"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/havip/havip/healthcheck"
	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/lb"
)

// probes are the monitors of a pool's backends: each address has its own for as long as
// the pool has the address.
type probes struct {
	pool   *lb.Pool
	log    *slog.Logger
	failed func(error)

	name     string        // of the pool
	check    *config.Check // nil: none
	unfollow func()
	ending   sync.WaitGroup // Wait comes when there is no Go any more: a misuse would end the daemon

	// mu guards what follows. Under it only monitors are paused and resumed.
	mu       sync.Mutex
	monitors map[string]*check // by the name of the backend
	parked   map[string]*check // by target: they may go on for backends of the next configuration; nil: none may
	said     map[string]pause  // by the name of a backend, or of one address of its name
}

// newProbes begins to probe the backends of a pool.
func newProbes(cfg upstreamConfig, pool *lb.Pool, log *slog.Logger, failed func(error)) *probes {
	p := &probes{pool: pool, log: log, failed: failed, monitors: map[string]*check{}, said: map[string]pause{}}
	p.follow(cfg)
	return p
}

func (p *probes) follow(cfg upstreamConfig) {
	p.name, p.check = cfg.pool.Name, cfg.check
	p.unfollow = func() {}
	if p.check != nil {
		p.unfollow = p.pool.Follow(p.begin)
	}
}

// reconfigure goes on with the pool's next configuration, which change makes current. A
// monitor of an address that stays goes on if nothing of its check changes; otherwise the
// next monitor begins with what it has found. Those that end have said their last before.
func (p *probes) reconfigure(next upstreamConfig, change func() error) error {
	p.setParked(map[string]*check{})
	p.unfollow()
	cfg := upstreamConfig{pool: lb.PoolConfig{Name: p.name}, check: p.check}
	err := change()
	if err == nil {
		p.forget(next)
		cfg = next
	}
	p.follow(cfg)
	var ends []func()
	for _, c := range p.setParked(nil) {
		ends = append(ends, c.task.stop)
	}
	together(ends)
	if cfg.check == nil { // a backend that nobody probes counts as up
		for _, b := range cfg.pool.Backends {
			p.pool.SetHealth(b.Name, nil)
		}
	}
	return err
}

func (p *probes) setParked(next map[string]*check) (parked map[string]*check) {
	p.mu.Lock()
	defer p.mu.Unlock()
	parked, p.parked = p.parked, next
	return parked
}

// begin probes a backend, until end is called.
func (p *probes) begin(b lb.BackendSnapshot) (end func()) {
	target := b.Resolved + " " + b.Authority
	plan := &checkPlan{name: p.name + "/" + b.Address, cfg: *p.check, backend: b.Name}
	at, authority := "", b.Authority
	switch {
	case strings.HasPrefix(b.Address, "unix:"): // whose server has no other name
		at, authority = b.Address, "localhost:80"
	case b.Resolved != b.Address:
		at = b.Resolved
		plan.name += "/" + at
	}
	p.mu.Lock()
	c := p.parked[target]
	delete(p.parked, target)
	p.mu.Unlock()
	switch {
	// A Monitor cannot change the names that are in its log, nor its checker.
	case c != nil && c.name == plan.name && c.backend == b.Name && c.cfg.Equal(&plan.cfg):
		c.tell(b.Name, p.pool)
	default:
		known := c.state()
		if c != nil {
			p.end(c)
		}
		var err error
		if plan.monitor, err = newMonitor(plan.cfg, plan.name, authority, at, known, p.log.With("backend", b.Name)); err != nil {
			p.log.Error("backend not checked", "pool", p.name, "backend", b.Name, "err", err)
			return nil
		}
		// What was found at another address of the backend says nothing of this one.
		if !b.Up && plan.monitor.Status().State != healthcheck.Down {
			p.pool.SetHealth(b.Name, nil)
		}
		if p.isPaused(b.Name, b.Origin) {
			plan.monitor.Pause() // before its first probe
		}
		c = newCheck(plan, p.pool, p.failed)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	c.origin, p.monitors[b.Name] = b.Origin, c
	p.steerMonitor(c) // a command may have come meanwhile
	return func() { p.leave(b.Name, target) }
}

// leave ends the monitor of a backend, or parks it.
func (p *probes) leave(backend, target string) {
	p.mu.Lock()
	c := p.monitors[backend]
	delete(p.monitors, backend)
	parks := p.parked != nil && p.parked[target] == nil
	if parks {
		p.parked[target] = c
	}
	p.mu.Unlock()
	c.unfollow()
	if !parks {
		p.end(c)
	}
}

// end ends a monitor of which nobody hears any more. It does not wait: probes may take
// their time to end.
func (p *probes) end(c *check) {
	c.task.cancel(nil)
	p.ending.Go(c.task.stop)
}

// stop ends all monitors.
func (p *probes) stop() {
	p.unfollow()
	p.ending.Wait()
}

// views are the monitors that there are now, by the names of their backends.
func (p *probes) views() (all []MonitorView) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, c := range p.monitors {
		all = append(all, MonitorView{name, c.monitor})
	}
	slices.SortFunc(all, func(a, b MonitorView) int { return cmp.Compare(a.Backend, b.Backend) })
	return all
}

// tellPool lets a pool hear what a monitor finds, until cancel. What is known to
// be down now is down in the pool before tellPool returns.
func tellPool(m *healthcheck.Monitor, pool *lb.Pool, backend string) (cancel func()) {
	if s := m.Status(); s.State == healthcheck.Down {
		pool.SetHealth(backend, s.WhyDown())
	}
	return followMonitor(m, func(s healthcheck.Status) { pool.SetHealth(backend, s.WhyDown()) })
}
