package lb

import (
	"context"
	"maps"
	"slices"
	"sync"
)

// registry knows what a plane has under way, to end it.
type registry struct {
	mu     sync.Mutex
	all    map[cutter]struct{}
	closed bool
	empty  chan struct{} // closed when the last one has gone; made by drain
}

// cutter is a session, an event loop with all of its own, or another registry.
type cutter interface {
	// cut ends what is connected to servers that are gone.
	cut(gone servers)
}

// servers are some of them, which do not change any more; nil: all. What many have in common
// is looked through once for all that are gone, however many go at the same time.
type servers map[*server]struct{}

func (all servers) has(s *server) bool {
	_, ok := all[s]
	return ok || all == nil
}

// end reports whether a connection that began with k must end. Its server may be in use again
// by the time that a cut comes about, and a connection that began since then stays.
func (all servers) end(k Pick) bool {
	return all == nil || k.member != nil && all.has(k.member.server) && k.isCut()
}

// open allows sessions again that drain has forbidden.
func (r *registry) open() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = false
}

// add registers c; false if no session may start any more. During a drain a session may
// start, since its client was accepted before the drain began.
func (r *registry) add(c cutter) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	if r.all == nil {
		r.all = make(map[cutter]struct{})
	}
	r.all[c] = struct{}{}
	return true
}

func (r *registry) remove(c cutter) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.all, c)
	if r.empty != nil && len(r.all) == 0 {
		r.closed = true
		close(r.empty)
		r.empty = nil
	}
}

// cut ends the sessions of servers.
func (r *registry) cut(gone servers) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.all {
		c.cut(gone)
	}
}

// drain waits until all sessions have ended, and cuts what is left when ctx ends. No
// session may start afterwards.
func (r *registry) drain(ctx context.Context) {
	empty := r.awaitEmpty(ctx)
	if empty == nil {
		return
	}
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.cut(nil)
	<-empty
}

// awaitEmpty waits until all sessions have ended: no session may start then. If ctx ends
// first, it returns what is closed when they have.
func (r *registry) awaitEmpty(ctx context.Context) (empty <-chan struct{}) {
	r.mu.Lock()
	if len(r.all) == 0 {
		r.closed = true
	} else if r.empty == nil {
		r.empty = make(chan struct{})
	}
	empty = r.empty
	r.mu.Unlock()
	if empty == nil {
		return nil
	}
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return empty
	}
}

// list returns what is under way.
func (r *registry) list() []cutter {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Keys(r.all))
}
