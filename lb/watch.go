package lb

import (
	"sync/atomic"
	"time"

	"github.com/havip/havip/internal/quietlog"
)

// PoolSnapshot is what a pool knew at one moment. Whoever gets one must not change it.
//
// A snapshot is for a plane that chooses among the backends elsewhere, such as in a
// kernel. Ejections, slow starts and counters are not part of it, since only the planes
// of this process know of them: see [Pool.Status].
type PoolSnapshot struct {
	Name     string
	Balance  Balance
	Quorum   bool // the healthy backends weigh enough
	Panic    bool // too few are healthy: health is ignored, and so is Quorum
	Backends []BackendSnapshot
}

// BackendSnapshot is one backend of a PoolSnapshot.
type BackendSnapshot struct {
	// Backend is as configured, or as an Override says. If Address is a name, each of its
	// addresses is a backend with a Name of its own, and, from an SRV record, Weight and
	// Backup.
	Backend
	ConfiguredWeight int    // Weight without an Override
	Origin           string // the Name of the backend as it is configured
	Resolved         string // where connections go: Address, or what it resolved to
	// Authority is host:port, by which a check speaks of the backend: Address, or for an
	// SRV record the domain and the record's port.
	Authority string
	Up        bool // what SetHealth said last; true at first
	Draining  bool // by configuration, Override or SetDrain
	// InUse: new connections go to this backend, and to the others in use, in
	// proportion to their Weight. [MaglevTable] of their names and weights is a table
	// that is the same on all nodes.
	InUse bool
}

// public returns s for whoever watches.
func (s *snapshot) public() *PoolSnapshot {
	ps := &PoolSnapshot{Name: s.cfg.Name, Balance: s.cfg.Balance, Quorum: s.quorum, Panic: s.panic,
		Backends: make([]BackendSnapshot, len(s.all))}
	for i, m := range s.all {
		ps.Backends[i] = s.backend(m)
	}
	return ps
}

func (s *snapshot) backend(m *member) BackendSnapshot {
	origin := m.Name
	if m.origin != nil {
		origin = m.origin.backend
	}
	return BackendSnapshot{Backend: m.Backend, ConfiguredWeight: m.configured, Origin: origin, Resolved: m.connectTo, Authority: m.authority,
		Up: !m.down.Load(), Draining: m.isDraining(), InUse: s.live[m.index] && s.uses(m)}
}

// audience is who watches a pool.
type audience map[*watcher]struct{}

// push hands out s.
func (a audience) push(s *snapshot) {
	if len(a) == 0 {
		return
	}
	next := s.public()
	for w := range a {
		w.push(next)
	}
}

// watcher delivers snapshots to one function.
type watcher struct {
	f     func(PoolSnapshot)
	next  atomic.Pointer[PoolSnapshot] // to be delivered; nil: none
	calls *quietlog.Calls
}

// push has s delivered, unless there is a later snapshot by then.
func (w *watcher) push(s *PoolSnapshot) {
	if w.next.Swap(s) == nil {
		w.calls.Add(w.deliver)
	}
}

func (w *watcher) deliver() {
	if s := w.next.Swap(nil); s != nil {
		w.f(*s)
	}
}

// BackendStatus is what a pool knows about one backend.
type BackendStatus struct {
	BackendSnapshot           // but not InUse while it is Ejected
	Ejected         bool      // taken out by MaxFails for now
	Since           time.Time // last change of Up; zero if there was none

	// Counters, since the backend was added.
	Active      int64         // picks that are not done
	Picks       uint64        // all picks
	Failures    uint64        // picks whose outcome was Failure
	Ejects      uint64        // times that MaxFails took it out
	Received    uint64        // bytes from the backend
	Sent        uint64        // bytes to the backend
	Connects    uint64        // connections made
	ConnectTime time.Duration // which all of them took together
	Ended       uint64        // connections, sessions or requests that have ended
	Lasted      time.Duration // which all of them took together, from the client's beginning
}

// PoolStatus is a pool's state at one moment.
type PoolStatus struct {
	Name     string
	Quorum   bool   // the healthy backends weigh enough
	Panic    bool   // too few are healthy: health is ignored, and so is Quorum
	Queued   int    // flows that wait for a backend now
	Waits    uint64 // flows that have waited, since the pool was made
	Overflow uint64 // flows that found no room in the queue, or waited in vain
	Backends []BackendStatus
	// Unresolved are the Names of the backends whose names have had no answer yet. Those
	// of SRV records are not among Backends.
	Unresolved []string
}

// Status returns the pool's state.
func (p *Pool) Status() PoolStatus {
	p.refreshIfStale()
	s := p.snap.Load()
	now := p.now()
	st := PoolStatus{Name: p.config().Name, Quorum: s.quorum, Panic: s.panic,
		Queued: int(p.queue.waiting.Load()), Waits: p.queue.waits.Load(), Overflow: p.queue.overflow.Load(), Unresolved: s.unresolved,
		Backends: make([]BackendStatus, 0, len(s.all))}
	for _, m := range s.all {
		b := BackendStatus{
			BackendSnapshot: s.backend(m),

			Ejected: m.ejected.Load() > now,

			Active:      m.active.Load(),
			Picks:       m.picks.Load(),
			Failures:    m.failures.Load(),
			Ejects:      m.ejects.Load(),
			Received:    m.received.Load(),
			Sent:        m.sent.Load(),
			ConnectTime: time.Duration(m.connectTime.Load()),
			Connects:    m.connects.Load(),
			Ended:       m.ended.Load(),
			Lasted:      time.Duration(m.lasted.Load()),
		}
		b.InUse = b.InUse && !b.Ejected
		if at := m.changed.Load(); at != 0 {
			b.Since = p.epoch.Add(time.Duration(at))
		}
		st.Backends = append(st.Backends, b)
	}
	return st
}

// Watch calls f with the present snapshot, before it returns, and with a later one
// whenever something in it has changed. The calls come one after the other and in
// order. f may take its time, and may call the pool, which does not wait for f: a
// snapshot is left out if there is a later one by the time f returns.
//
// After stop no further call begins.
func (p *Pool) Watch(f func(PoolSnapshot)) (stop func()) {
	w := &watcher{f: f, calls: quietlog.NewCalls()}
	p.mu.Lock()
	p.watchers[w] = struct{}{}
	w.push(p.snap.Load().public())
	p.mu.Unlock()
	w.calls.Wait()
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.watchers, w)
		w.next.Store(nil) // what waits is not delivered any more
	}
}
