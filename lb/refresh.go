package lb

import "time"

const (
	// maxEager bounds the backends of a pool where each change makes a snapshot at once.
	maxEager = 256
	// refreshPause is the time in which the changes of a larger pool are gathered.
	refreshPause = 10 * time.Millisecond
)

// eager reports whether a snapshot of r costs so little that no change waits for others.
func (r *roster) eager() bool { return len(r.all) <= maxEager }

// changed makes a snapshot that knows of a change, now or soon. So many changes one after
// the other, as when a rack loses its power, cost one look at all backends, not as many as
// there are changes. p.mu is held.
func (p *Pool) changed() {
	p.changes.Add(1)
	if r := p.snap.Load().roster; r.eager() {
		p.publish(r, nil)
	} else {
		p.refreshSoon()
	}
}

// stale reports whether there was a change that the current snapshot does not know of.
func (p *Pool) stale() bool { return p.snap.Load().changes != p.changes.Load() }

// refreshIfStale makes the snapshot current.
func (p *Pool) refreshIfStale() {
	if p.stale() {
		p.refresh()
	}
}

// refreshSoon has refresh called. p.mu is held.
func (p *Pool) refreshSoon() {
	if p.soon == nil {
		p.soon = time.AfterFunc(min(max(refreshPause, 10*p.took), time.Second), p.refresh)
	}
}

// refresh makes the snapshot current, and cuts what is to be cut.
func (p *Pool) refresh() {
	p.building.Lock()
	defer p.building.Unlock()
	p.mu.Lock()
	if p.soon != nil {
		p.soon.Stop()
		p.soon = nil
	}
	if !p.stale() {
		p.cutGone()
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	start := time.Now()
	r := p.snap.Load().roster
	s := p.buildAhead(r)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.took = time.Since(start)
	p.publish(r, s)
	p.cutGone()
}

// buildAhead makes the next snapshot, of r, without p.mu; nil where that is not worth it.
// p.building is held.
func (p *Pool) buildAhead(r *roster) *snapshot {
	if r.eager() {
		return nil
	}
	return p.newSnapshot(r)
}

// publish makes s current, or a new snapshot of r if s is nil, or if the quorum, on which the
// next quorum depends, is not as it was: a small pool that grows has had others meanwhile.
// p.mu is held.
func (p *Pool) publish(r *roster, s *snapshot) {
	if s == nil || s.had != p.hasQuorum() {
		s = p.newSnapshot(r)
	}
	p.snap.Store(s)
	p.logged.report(p.log, s, p.census)
	p.watchers.push(s)
	if p.stale() {
		p.refreshSoon()
	}
	p.queue.serve()
}
