package report

import (
	"context"
	"maps"
	"sync"
)

// Ring keeps the latest events. Its methods may be called from any goroutine, and none
// waits for a reader.
type Ring struct {
	mu     sync.Mutex // guards what follows; a leaf
	size   int
	events []Event // the oldest first
	last   uint64  // ID of the latest
	grown  chan struct{}
	kinds  map[string]uint64 // all that were added, by kind
}

// NewRing returns a Ring of so many events.
func NewRing(size int) *Ring {
	return &Ring{size: size, grown: make(chan struct{}), kinds: map[string]uint64{}}
}

// Add gives e its ID and keeps it, in the place of the oldest if there is no room.
func (r *Ring) Add(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last++
	e.ID = r.last
	r.kinds[e.Kind]++
	if len(r.events) >= 2*r.size {
		r.events = append(r.events[:0:0], r.events[len(r.events)-r.size+1:]...)
	}
	r.events = append(r.events, e)
	close(r.grown)
	r.grown = make(chan struct{})
}

// After returns the events behind the one with an ID, the oldest first, and the ID of the
// latest. lost reports that some of them are not kept any more. An ID that was not given
// yet, such as one of before a restart, counts as 0.
func (r *Ring) After(id uint64) (events []Event, last uint64, lost bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if id > r.last {
		id = 0
	}
	kept := r.events[max(0, len(r.events)-r.size):]
	if len(kept) == 0 {
		return nil, r.last, false
	}
	first := kept[0].ID
	lost = id+1 < first
	if id >= first {
		kept = kept[id-first+1:]
	}
	return append([]Event(nil), kept...), r.last, lost
}

// Counts returns how many events there were of each kind, those that are not kept any
// more included.
func (r *Ring) Counts() map[string]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.kinds)
}

// Wait returns when there is an event behind the one with an ID, or ctx ends.
func (r *Ring) Wait(ctx context.Context, id uint64) error {
	for {
		r.mu.Lock()
		last, grown := r.last, r.grown
		r.mu.Unlock()
		if last != id {
			return nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
