package lb

import (
	"sync/atomic"

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
	Backend         // as it is configured
	Resolved string // where connections go: Address, or what it resolved to
	Up       bool   // what SetHealth said last; true at first
	Draining bool   // by configuration or SetDrain
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
	return BackendSnapshot{Backend: m.Backend, Resolved: *m.address.Load(),
		Up: !m.down.Load(), Draining: m.isDraining(), InUse: s.live[m.index]}
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
