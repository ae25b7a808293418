package lb

import (
	"log/slog"
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
	"weak"
)

// Pool chooses backends. All methods may be called concurrently.
type Pool struct {
	log   *slog.Logger
	epoch time.Time // zero of the int64 times below, all monotonic

	snap    atomic.Pointer[snapshot]
	changes atomic.Uint64 // of health and draining; see stale
	cuts    atomic.Uint64 // calls of doom; see Pick.isCut

	// restless counts the servers that are ejected or in slow start. While it is
	// zero a pick need not read the clock.
	restless atomic.Int64
	turns    [2]turns // of primaries and backups

	// updating is held from one roster to the next, and building from a look at all
	// backends to the snapshot of what was seen: neither makes a change of health wait.
	updating sync.Mutex
	building sync.Mutex

	// learning is a lock, held while answers of the resolver become part of the pool, with
	// pauses: a channel, since it is for long.
	learning chan struct{}
	asking   atomic.Int64 // names that are looked up now
	settled  sync.Once    // closes ready
	ready    chan struct{}
	renamed  chan struct{}         // gets an item when there are names that were not asked for
	hasRoute func(netip.Addr) bool // see routed

	// mu guards what is current, ejections, and what follows. The locks of this package
	// are taken in this order: Handler.mu, Pool.learning, Pool.updating, Pool.building,
	// Pool.mu, then queue.mu, or a plane's registry.mu and session.mu.
	mu     sync.Mutex
	census census
	logged poolLog
	// overrides are by name; the map never changes. Who changes the pool's configuration,
	// with updating held, need not hold mu to read them.
	overrides map[string]Override
	news      []news                              // that Run has got, and are not part of the pool yet
	soon      *time.Timer                         // calls refresh; nil: nothing has changed
	took      time.Duration                       // the latest refresh
	onGone    map[weak.Pointer[registry]]struct{} // see watchGone
	gone      servers                             // of which onGone is to be told

	watchers  audience
	followers map[*follower]struct{}

	queue queue
}

// config is the configuration that is in force.
func (p *Pool) config() *PoolConfig { return p.snap.Load().cfg }

// now is the pool's time in nanoseconds; never 0.
func (p *Pool) now() int64 { return int64(time.Since(p.epoch)) + 1 }

// find returns the member of that name, or nil. p.mu is held.
func (p *Pool) find(backend string) *member { return p.snap.Load().find(backend) }

// rampUp begins a server's slow start. How long that lasts is up to the
// configuration at each pick.
func (p *Pool) rampUp(s *server, cfg *PoolConfig) {
	if cfg.SlowStart > 0 && s.ramp.Swap(p.now()) == 0 {
		p.restless.Add(1)
	}
}

// settle ends an ejection or slow start, and reports whether there was one.
func (p *Pool) settle(until *atomic.Int64) bool {
	if until.Swap(0) == 0 {
		return false
	}
	p.restless.Add(-1)
	return true
}

// watchGone has r cut the connections of a server when they must end. The pool does not
// keep r: a plane with connections keeps its own. r is called under the pool's lock: what
// is in r must not call the pool.
func (p *Pool) watchGone(r *registry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.onGone, func(w weak.Pointer[registry], _ struct{}) bool { return w.Value() == nil })
	p.onGone[weak.Make(r)] = struct{}{}
}

// unwatchGone undoes watchGone.
func (p *Pool) unwatchGone(r *registry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.onGone, weak.Make(r))
}

// doom has cutGone end the connections that s has now. p.mu is held.
func (p *Pool) doom(s *server) {
	s.lastCut.Store(p.cuts.Add(1))
	if p.gone == nil {
		p.gone = make(servers)
	}
	p.gone[s] = struct{}{}
}

// cutGone tells the planes of the servers to cut. p.mu is held.
func (p *Pool) cutGone() {
	gone := p.gone
	if p.gone = nil; gone == nil {
		return
	}
	for w := range p.onGone {
		if r := w.Value(); r != nil {
			r.cut(gone)
		}
	}
}

// poolLog is what the log was last told of a pool as a whole.
type poolLog struct {
	lost   bool // no backend works,
	quorum bool // those that do are enough,
	panic  bool // and they are too few for health to be believed

	settled bool // there was time for the first answers of the resolver
}

// report logs what is new about the pool as a whole: the loss of the last backend, and
// the return of the first, once each.
func (l *poolLog) report(log *slog.Logger, s *snapshot, n census) {
	up, down, ejected, draining := n[isUp], n[isDown], n[isEjected], n[isDraining]
	log = log.With("pool", s.cfg.Name)
	log.Debug("pool changes", "up", up, "down", down, "ejected", ejected, "draining", draining)
	lost := up == 0 && len(s.all) > 0
	switch {
	case lost && !l.lost:
		log.Error("pool has no working backends", "down", down, "ejected", ejected, "draining", draining)
	case !lost && l.lost && up > 0:
		log.Info("pool has working backends again", "up", up)
	}
	l.lost = up == 0 && (lost || l.lost) // an empty pool is no better than a lost one
	if up == 0 {
		return // that says it all
	}
	// A name without an answer may have any number of addresses: they are no loss before
	// Run has asked for them.
	unknown := !s.quorum && !l.settled && len(s.unresolved) > 0 && down+draining == 0
	if s.quorum != l.quorum && !unknown {
		if l.quorum = s.quorum; s.quorum {
			log.Info("pool has its quorum again", "up", up)
		} else {
			log.Warn("pool is below its quorum", "up", up, "down", down, "backups", len(s.tiers[0].live) > 0 && s.tiers[0].live[0].Backup)
		}
	}
	if s.panic != l.panic {
		if l.panic = s.panic; s.panic {
			log.Warn("too few backends are up: all are used, whatever their health", "up", up, "down", down)
		} else {
			log.Info("enough backends are up: the health of each counts again", "up", up)
		}
	}
}
