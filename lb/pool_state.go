package lb

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Pool chooses backends. All methods may be called concurrently.
type Pool struct {
	log   *slog.Logger
	epoch time.Time // zero of the int64 times below, all monotonic

	snap atomic.Pointer[snapshot]

	// restless counts the servers that are ejected or in slow start. While it is
	// zero a pick need not read the clock.
	restless atomic.Int64
	turns    [2]turns // of primaries and backups

	mu     sync.Mutex // guards building a snapshot, and what follows
	quorum bool
	logged poolLog
	onGone map[cutter]int // see watchGone

	watchers audience

	queue queue
}

// config is the configuration that is in force.
func (p *Pool) config() *PoolConfig { return p.snap.Load().cfg }

// now is the pool's time in nanoseconds; never 0.
func (p *Pool) now() int64 { return int64(time.Since(p.epoch)) + 1 }

// find returns the member of that name, or nil. p.mu is held.
func (p *Pool) find(backend string) *member {
	return p.snap.Load().byName[backend]
}

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

// watchGone has c cut the connections of a server when they must end, until each call
// with c has been undone. c runs under the pool's lock: it must not call the pool.
func (p *Pool) watchGone(c cutter) (undo func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.onGone[c]++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.onGone[c]--; p.onGone[c] == 0 {
			delete(p.onGone, c)
		}
	}
}

// cut tells the planes to end the connections of s. p.mu is held.
func (p *Pool) cut(s *server) {
	for c := range p.onGone {
		c.cut(s)
	}
}
