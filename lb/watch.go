package lb

import "sync"

// PoolSnapshot is what a pool knew at one moment. Whoever gets one must not change it.
//
// What only the planes of this process learn is not in it, since the backends of a
// snapshot are for whoever chooses among them elsewhere, such as a kernel: neither
// ejections nor counters nor slow starts. [Pool.Status] has those.
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

// Watch calls f with the present snapshot, before it returns, and with a later one
// whenever something in it has changed. The calls come one after the other and in
// order. f may take its time, and may call the pool, which does not wait for f: a
// snapshot is left out if there is a later one by the time f returns.
//
// After stop no further call begins.
func (p *Pool) Watch(f func(PoolSnapshot)) (stop func()) {
	w := &watcher{f: f, busy: true}
	p.mu.Lock()
	w.next = p.snap.Load().public()
	p.watchers[w] = struct{}{}
	p.mu.Unlock()
	w.deliver()
	return func() {
		p.mu.Lock()
		delete(p.watchers, w)
		p.mu.Unlock()
		w.stop()
	}
}

// tellWatchers hands out the present snapshot. p.mu is held.
func (p *Pool) tellWatchers() {
	if len(p.watchers) == 0 {
		return
	}
	s := p.snap.Load().public()
	for w := range p.watchers {
		w.push(s)
	}
}

// public returns s for whoever watches.
func (s *snapshot) public() *PoolSnapshot {
	ps := &PoolSnapshot{Name: s.cfg.Name, Balance: s.cfg.Balance, Quorum: s.quorum, Panic: s.panic,
		Backends: make([]BackendSnapshot, len(s.all))}
	for i, m := range s.all {
		ps.Backends[i] = BackendSnapshot{Backend: m.Backend, Resolved: *m.address.Load(),
			Up: !m.down.Load(), Draining: m.Drain || m.draining.Load(), InUse: s.live[i]}
	}
	return ps
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

// take returns what is to be delivered; nil, and nobody delivers any more, if there
// is nothing.
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
