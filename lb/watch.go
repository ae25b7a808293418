package lb

import "sync"

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
		Up: !m.down.Load(), Draining: m.Drain || m.draining.Load(), InUse: s.live[m.index]}
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

// watcher delivers snapshots to one function, by a goroutine that exists while there
// is something to deliver.
type watcher struct {
	f func(PoolSnapshot)

	mu      sync.Mutex    // guards what follows; f is called without it
	next    *PoolSnapshot // to be delivered; nil: none
	busy    bool          // somebody delivers
	stopped bool
}

func (w *watcher) push(s *PoolSnapshot) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.next = s
	if !w.busy && !w.stopped {
		w.busy = true
		go w.deliver()
	}
}

func (w *watcher) deliver() {
	for s := w.take(); s != nil; s = w.take() {
		w.f(*s)
	}
}

// take returns the snapshot to deliver; nil, and w is not busy any more, if there is
// none.
func (w *watcher) take() *PoolSnapshot {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.next
	w.next = nil
	if w.stopped {
		s = nil
	}
	w.busy = s != nil
	return s
}

func (w *watcher) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
}
