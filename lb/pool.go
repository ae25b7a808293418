package lb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/havip/havip/internal/quietlog"
)

// Errors of Pick.
var (
	// ErrNoBackend: no backend is up, or all that are have been tried.
	ErrNoBackend = errors.New("lb: no backend available")
	// ErrBusy: every backend that is up has reached its MaxConns.
	ErrBusy = errors.New("lb: all backends are at their connection limit")
)

// PoolConfig configures a pool.
type PoolConfig struct {
	// Name appears in errors, logs and Status.
	Name string
	// Balance chooses among the available backends. Default RoundRobin.
	Balance Balance
	// Backends are the first set; Update replaces it.
	Backends []Backend
	// MaxFails is the number of failures, reported through Done, within
	// FailTimeout that takes a backend out for FailTimeout. After it one
	// connection tries the backend again. Default 1 as in nginx; negative: never.
	// The last backend is never taken out this way.
	MaxFails int
	// FailTimeout is the window and the duration of MaxFails. Default 10 s.
	FailTimeout time.Duration
	// SlowStart is the time in which a backend that has come up, or was added by
	// Update, is given a growing share of its traffic. Backends that are
	// there from the beginning start at their full share. 0: off.
	SlowStart time.Duration
	// Quorum is the total weight of healthy non-backup backends below which the
	// backup ones are used. Default 1: backups serve when all others are down. The
	// Backends given with it must weigh so much.
	Quorum int
	// Hysteresis widens Quorum: it is lost below Quorum - Hysteresis and regained
	// at Quorum + Hysteresis, or when all that do not drain are healthy again and
	// weigh Quorum. Must be less than Quorum.
	Hysteresis int
	// Panic is the percentage, 0 to 100, of the backends in use - the primaries, or
	// the backups while those serve - below which health is not believed any
	// more and all are used, primaries before backups. Default 0: health is
	// always believed.
	Panic int
	// KillOnDown cuts the connections of a backend that goes down, the requests
	// under way and the UDP sessions; by default they live as long as the backend
	// answers, except that a UDP session moves with its next datagram.
	KillOnDown bool
	// DrainTimeout is how long after a backend began to drain, or was removed, its
	// connections, requests and UDP sessions are cut. A change is for all that
	// drain, but not for those that were removed before. Default 0: never.
	DrainTimeout time.Duration
	// Queue is how many flows may wait, first come first served, while all
	// backends are at their MaxConns. Default 0: none waits. See Acquire; datagrams
	// never wait.
	Queue int
	// QueueTimeout bounds the wait. Default 10 s.
	QueueTimeout time.Duration
	// ResolveInterval is how often Run resolves the names among the
	// addresses. Default 10 s.
	ResolveInterval time.Duration
	// Lookup resolves a name for Run. Default net.DefaultResolver.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error) `json:"-"`
	// Logger gets changes of health. Nothing waits for it. nil: silent.
	Logger *slog.Logger
}

// Pool chooses backends. All methods may be called concurrently.
type Pool struct {
	log   *slog.Logger
	epoch time.Time // Zero of the int64 times below, all monotonic.

	snap atomic.Pointer[snapshot]

	// restless counts the servers that are ejected or in slow start. While it is
	// zero a pick need not read the clock.
	restless atomic.Int64
	turns    [2]turns // Of primaries and backups.

	mu     sync.Mutex // Guards building a snapshot, and what follows.
	quorum bool
	told   told
	onGone map[int]func(*server) // See watchGone.
	nextID int

	queue queue
}

// NewPool returns a pool whose backends all count as up.
func NewPool(cfg PoolConfig) (*Pool, error) {
	p := &Pool{log: quietlog.New(cfg.Logger), epoch: time.Now(), quorum: true, told: told{quorum: true}, onGone: make(map[int]func(*server))}
	if err := p.Reconfigure(cfg); err != nil {
		return nil, err
	}
	return p, nil
}

// Reconfigure replaces all settings, except for Logger, and the backends as Update
// does. Connections stay, and so do health, counters and ejections. On error
// nothing changes.
func (p *Pool) Reconfigure(cfg PoolConfig) error {
	if err := cfg.validate(); err != nil {
		return fmt.Errorf("lb: pool %q: %w", cfg.Name, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.update(&cfg, cfg.Backends)
}

// config is the configuration that is in force.
func (p *Pool) config() *PoolConfig { return p.snap.Load().cfg }

// validate checks c and fills in its defaults.
func (c *PoolConfig) validate() error {
	setDefault(&c.Balance, RoundRobin)
	if !c.Balance.valid() {
		return fmt.Errorf("balance %q: unknown", c.Balance)
	}
	setDefault(&c.MaxFails, 1)
	setDefault(&c.FailTimeout, 10*time.Second)
	setDefault(&c.Quorum, 1)
	setDefault(&c.QueueTimeout, 10*time.Second)
	setDefault(&c.ResolveInterval, 10*time.Second)
	if c.Lookup == nil {
		c.Lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	weight := 0
	for _, b := range c.Backends {
		if !b.Backup {
			weight += max(b.Weight, 1)
		}
	}
	switch {
	case c.DrainTimeout < 0:
		return fmt.Errorf("drain timeout %v: must not be negative", c.DrainTimeout)
	case c.Queue < 0:
		return fmt.Errorf("queue %d: must not be negative", c.Queue)
	case c.QueueTimeout < 0:
		return fmt.Errorf("queue timeout %v: must not be negative", c.QueueTimeout)
	case c.ResolveInterval < 0:
		return fmt.Errorf("resolve interval %v: must not be negative", c.ResolveInterval)
	case c.FailTimeout < 0:
		return fmt.Errorf("fail timeout %v: must not be negative", c.FailTimeout)
	case c.SlowStart < 0:
		return fmt.Errorf("slow start %v: must not be negative", c.SlowStart)
	case c.Quorum < 0:
		return fmt.Errorf("quorum %d: must not be negative", c.Quorum)
	case c.Quorum > weight && weight > 0:
		return fmt.Errorf("quorum %d: out of reach, the backends that are not backups weigh %d in all", c.Quorum, weight)
	case c.Hysteresis < 0 || c.Hysteresis >= c.Quorum:
		return fmt.Errorf("hysteresis %d: want 0 to quorum - 1 = %d", c.Hysteresis, c.Quorum-1)
	case c.Panic < 0 || c.Panic > 100:
		return fmt.Errorf("panic threshold %d: want 0 to 100 percent", c.Panic)
	}
	return nil
}

// Update replaces the set of backends. One that keeps its name and address keeps
// its health, counters and connections, whatever else of it changes. On error
// nothing changes.
func (p *Pool) Update(backends []Backend) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.update(p.config(), backends)
}

// update makes a roster of cfg and backends current. p.mu is held.
func (p *Pool) update(cfg *PoolConfig, backends []Backend) error {
	old := make(map[string]*member)
	prev := p.snap.Load()
	if prev != nil {
		for _, m := range prev.all {
			old[m.Name] = m
		}
	}
	all := make([]*member, 0, len(backends))
	seen := make(map[string]bool, len(backends))
	for i, b := range backends {
		if err := b.validate(); err != nil {
			return fmt.Errorf("lb: pool %q: backend %d: %w", cfg.Name, i+1, err)
		}
		if seen[b.Name] {
			return fmt.Errorf("lb: pool %q: backend %d: name %q is taken", cfg.Name, i+1, b.Name)
		}
		seen[b.Name] = true
		m := &member{Backend: b, index: i, hash: hashString(b.Name)}
		if o := old[b.Name]; o != nil && o.Address == b.Address {
			m.server = o.server
		} else {
			m.server = newServer(b.Address)
		}
		all = append(all, m)
	}
	// Only now is it certain that the update takes place.
	for _, m := range all {
		if o := old[m.Name]; prev != nil && (o == nil || o.server != m.server) {
			p.rampUp(m.server, cfg)
		}
		if cfg.SlowStart == 0 {
			p.settle(&m.ramp)
		}
	}
	p.publish(newRoster(all, cfg))
	if prev != nil {
		p.forget(prev.all, all)
	}
	return nil
}

// forget lets go of the servers of before that all does not hold any more: they
// drain, and restless does not count them.
func (p *Pool) forget(before, all []*member) {
	kept := make(map[*server]bool, len(all))
	for _, m := range all {
		kept[m.server] = true
	}
	for _, m := range before {
		if kept[m.server] {
			continue
		}
		m.mu.Lock()
		m.removed = true
		p.settle(&m.ejected)
		m.mu.Unlock()
		p.settle(&m.ramp)
		p.drain(m.server, true)
	}
}

// SetHealth tells what a probe found out about a backend: why it is down, or nil if
// it is up. A name that the pool does not have is logged and otherwise ignored:
// probes of a backend that was just removed may still be under way.
func (p *Pool) SetHealth(backend string, why error) {
	up := why == nil
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.find(backend)
	if m == nil {
		p.log.Warn("health of an unknown backend", "pool", p.config().Name, "backend", backend, "up", up)
		return
	}
	if m.down.Load() == !up {
		return
	}
	m.down.Store(!up)
	m.changed.Store(p.now())
	snap := p.snap.Load()
	remaining, _, _, _ := snap.census()
	log := p.log.With("pool", p.config().Name, "backend", backend, "up", remaining, "backends", len(snap.all))
	if up {
		log.Info("backend is up")
		// What happened before the backend went down says nothing any more.
		m.fails.Store(0)
		p.settle(&m.ejected)
		p.rampUp(m.server, p.config())
	} else {
		log.Warn("backend is down", "err", why)
		p.settle(&m.ramp)
	}
	p.publish(p.snap.Load().roster)
	if !up && p.config().KillOnDown {
		p.cut(m.server)
	}
}

// SetDrain starts or ends keeping new connections away from a backend, on top of
// what its configuration says, until the backend is removed. It reports
// whether the pool has such a backend.
func (p *Pool) SetDrain(backend string, drain bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.find(backend)
	if m == nil {
		return false
	}
	if m.draining.Swap(drain) != drain {
		p.log.Info("backend drain", "pool", p.config().Name, "backend", backend, "drain", drain)
		p.publish(p.snap.Load().roster)
	}
	return true
}

// find returns the member of that name, or nil. p.mu is held.
func (p *Pool) find(backend string) *member {
	return p.snap.Load().byName[backend]
}

// publish makes the next snapshot of r current. p.mu is held.
func (p *Pool) publish(r *roster) {
	s := newSnapshot(r, p.quorum, &p.turns)
	p.quorum = s.quorum
	p.snap.Store(s)
	p.tell(s)
	for _, m := range r.all {
		p.drain(m.server, m.Drain || m.draining.Load())
	}
	p.serveQueue()
}

// drain arms or disarms the end of a server's connections. p.mu is held.
func (p *Pool) drain(s *server, draining bool) {
	timeout := p.config().DrainTimeout
	switch {
	case !draining:
		s.drains, timeout = 0, 0
	case s.drains == 0:
		s.drains = p.now()
	}
	if timeout == s.drainTimeout {
		return
	}
	if s.drainTimer != nil {
		s.drainTimer.Stop()
		s.drainTimer = nil
	}
	if s.drainTimeout = timeout; timeout == 0 {
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(timeout-time.Duration(p.now()-s.drains), func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		// It may have been too late for Stop.
		if s.drainTimer == timer {
			p.cut(s)
		}
	})
	s.drainTimer = timer
}

// watchGone registers what a plane does when the connections of a server must
// end. f runs under the pool's lock: it must not call the pool. It returns the undo.
func (p *Pool) watchGone(f func(*server)) (undo func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	id := p.nextID
	p.nextID++
	p.onGone[id] = f
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.onGone, id)
	}
}

// cut tells the planes to end the connections of s. p.mu is held.
func (p *Pool) cut(s *server) {
	for _, f := range p.onGone {
		f(s)
	}
}

// now is the pool's time in nanoseconds; never 0.
func (p *Pool) now() int64 { return int64(time.Since(p.epoch)) + 1 }
