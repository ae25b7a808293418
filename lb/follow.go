package lb

import "github.com/havip/havip/internal/quietlog"

// follower knows which backends a function was told of.
type follower struct {
	pool  *Pool
	begin func(BackendSnapshot) func()
	calls *quietlog.Calls
	ends  map[*server]func() // of the backends that have begun
}

// Follow calls begin for each backend of the pool, before it returns, and for each backend
// that comes later: that Update brings, or that is another address of a name. When that
// backend is no more, the function that begin returned is called; nil: none. A backend with
// another Name, Address or Resolved is another backend. So probes can come and go with the
// backends, each at its own address: see the example Healthcheck.
//
// The calls come one after the other, those for what is no more before those for what is
// new. They may take their time, and may call the pool, which does not wait for them. stop
// ends what has begun, and returns when it has ended. The functions must not call stop.
func (p *Pool) Follow(begin func(BackendSnapshot) (end func())) (stop func()) {
	f := &follower{pool: p, begin: begin, calls: quietlog.NewCalls(), ends: make(map[*server]func())}
	p.mu.Lock()
	p.followers[f] = struct{}{}
	f.calls.Add(f.catchUp)
	p.mu.Unlock()
	f.calls.Wait()
	return func() {
		p.mu.Lock()
		delete(p.followers, f)
		p.mu.Unlock()
		f.calls.Add(func() { f.endExcept(nil) })
		f.calls.Wait()
	}
}

// catchUp makes the calls for what has changed since it was called last.
func (f *follower) catchUp() {
	s := f.pool.snap.Load()
	present := make(map[*server]bool, len(s.all))
	for _, m := range s.all {
		present[m.server] = true
	}
	f.endExcept(present)
	for _, m := range s.all {
		if _, known := f.ends[m.server]; !known {
			f.ends[m.server] = f.begin(s.backend(m))
		}
	}
}

// endExcept ends what is not present.
func (f *follower) endExcept(present map[*server]bool) {
	for s, end := range f.ends {
		if !present[s] {
			delete(f.ends, s)
			if end != nil {
				end()
			}
		}
	}
}
