package lb

import (
	"context"
	"sync"
	"sync/atomic"
)

// registry knows what a plane has under way, to end it.
type registry struct {
	mu     sync.Mutex
	all    map[cutter]struct{}
	closed bool
	empty  chan struct{} // closed when the last one has gone; made by drain
}

// cutter is a session, or an engine with all of its own.
type cutter interface {
	// cut ends what is connected to a server, or all if it is nil.
	cut(*server)
}

// users counts who goes by some settings: the plane while the settings are current, and
// each connection, session or request that began by them.
type users struct {
	n    atomic.Int64
	undo []func() // called when the last user has left
}

// begin counts the plane, which has begun to watch the pools of the settings.
func (u *users) begin(undo ...func()) {
	u.undo = undo
	u.n.Store(1)
}

// enter adds a user; false if there is none any more, and so nobody watches the pools.
func (u *users) enter() bool {
	for n := u.n.Load(); n > 0; n = u.n.Load() {
		if u.n.CompareAndSwap(n, n+1) {
			return true
		}
	}
	return false
}

// leave takes a user away.
func (u *users) leave() {
	if u.n.Add(-1) == 0 {
		for _, undo := range u.undo {
			undo()
		}
	}
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

// cut ends the sessions of a server, or all if it is nil.
func (r *registry) cut(server *server) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.all {
		c.cut(server)
	}
}

// drain waits until all sessions have ended, and cuts what is left when ctx ends. No
// session may start afterwards.
func (r *registry) drain(ctx context.Context) {
	r.mu.Lock()
	if len(r.all) == 0 {
		r.closed = true
	} else if r.empty == nil {
		r.empty = make(chan struct{})
	}
	empty := r.empty
	r.mu.Unlock()
	if empty == nil {
		return
	}
	select {
	case <-empty:
	case <-ctx.Done():
		r.mu.Lock()
		r.closed = true
		r.mu.Unlock()
		r.cut(nil)
		<-empty
	}
}
