package healthcheck

import (
	"slices"
	"sync"
)

// maxQueue bounds the changes that wait for a consumer that hangs. The oldest is dropped
// for a new one: the last change is what matters.
const maxQueue = 64

// Subscribe calls fn with the present Status, then after every change of State or
// Paused, in order, one call at a time. A Status whose State is Unknown says nothing
// about the target: fn never sees one, and the first call comes with the first result.
// A slow fn delays its own calls only; if it falls more than 64 changes behind it
// misses the oldest. fn runs in a goroutine that exists while there is something to
// tell. A nil fn is told nothing.
//
// cancel ends this. It does not wait for a call that is under way, so that fn
// may call it too.
func (m *Monitor) Subscribe(fn func(Status)) (cancel func()) {
	s := &subscriber{fn: fn}
	m.mu.Lock()
	m.subs = append(m.subs, s)
	s.pushStatus(m.core.Status)
	m.mu.Unlock()
	return func() {
		s.mu.Lock()
		s.cancelled, s.queue = true, nil
		s.mu.Unlock()
		m.mu.Lock()
		defer m.mu.Unlock()
		m.subs = slices.DeleteFunc(m.subs, func(x *subscriber) bool { return x == s })
	}
}

// publish queues the present Status for all subscribers. The caller holds m.mu, which
// keeps every queue in order.
func (m *Monitor) publish() {
	for _, s := range m.subs {
		s.pushStatus(m.core.Status)
	}
}

// subscriber is one consumer and the changes that it has not been told yet.
type subscriber struct {
	fn func(Status)

	mu        sync.Mutex
	queue     []Status
	active    bool // a goroutine is emptying the queue
	cancelled bool
}

func (s *subscriber) pushStatus(status Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancelled || s.fn == nil || status.State == Unknown {
		return
	}
	if len(s.queue) == maxQueue {
		s.queue = s.queue[1:]
	}
	s.queue = append(s.queue, status)
	if !s.active {
		s.active = true
		go s.drainQueue()
	}
}

func (s *subscriber) drainQueue() {
	for {
		s.mu.Lock()
		if len(s.queue) == 0 {
			s.active, s.queue = false, nil
			s.mu.Unlock()
			return
		}
		status := s.queue[0]
		s.queue = s.queue[1:]
		s.mu.Unlock()
		s.fn(status)
	}
}
