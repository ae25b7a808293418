package lb

import (
	"context"
	"sync"
)

// registry knows the sessions of a plane, to end them.
type registry struct {
	mu       sync.Mutex
	sessions map[*session]struct{}
	closed   bool
	empty    chan struct{} // Closed when the last session has gone; made by drain.
}

// add registers s; false if no session may start any more: while others are drained
// it may, for its client has been accepted before.
func (r *registry) add(s *session) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	if r.sessions == nil {
		r.sessions = make(map[*session]struct{})
	}
	r.sessions[s] = struct{}{}
	return true
}

func (r *registry) remove(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sessions, s)
	if r.empty != nil && len(r.sessions) == 0 {
		r.closed = true
		close(r.empty)
		r.empty = nil
	}
}

// cut ends the sessions of a server, or all if it is nil.
func (r *registry) cut(server *server) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for s := range r.sessions {
		s.cut(server)
	}
}

// drain waits until all sessions have ended; those left when ctx ends are cut. After
// that none may start.
func (r *registry) drain(ctx context.Context) {
	r.mu.Lock()
	if len(r.sessions) == 0 {
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
