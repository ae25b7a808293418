package healthcheck

import (
	"slices"
	"sync/atomic"

	"github.com/havip/havip/internal/quietlog"
)

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
	s := &subscriber{fn: fn, calls: quietlog.NewCalls()}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.subs = append(m.subs, s)
	s.pushStatus(m.core.Status)
	return func() {
		s.cancelled.Store(true)
		m.mu.Lock()
		defer m.mu.Unlock()
		m.subs = slices.DeleteFunc(m.subs, func(other *subscriber) bool { return other == s })
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
	fn        func(Status)
	calls     *quietlog.Calls
	cancelled atomic.Bool
}

func (s *subscriber) pushStatus(status Status) {
	if s.fn == nil || status.State == Unknown {
		return
	}
	s.calls.Add(func() {
		if !s.cancelled.Load() {
			s.fn(status)
		}
	})
}
