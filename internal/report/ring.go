package report

import (
	"cmp"
	"context"
	"slices"
	"sync"
)

// Ring keeps the latest events. If there is no room the oldest one of the kind goes that has
// the most: so a kind that somebody else can cause at will, as with a check that flaps, does
// not push out what is rare, and tells why the addresses moved. Its methods may be called
// from any goroutine, and none waits for a reader.
type Ring struct {
	mu    sync.Mutex // guards what follows; a leaf
	room  int        // for so many more
	kept  map[string]*queue
	last  uint64 // ID of the latest event
	gone  uint64 // highest ID of those that are not kept any more; 0: all are
	grown chan struct{}
}

// queue has the events of one kind.
type queue struct {
	events []Event // the oldest first
	all    uint64  // how many there were
}

// NewRing returns a Ring of so many events.
func NewRing(size int) *Ring {
	return &Ring{room: size, kept: map[string]*queue{}, grown: make(chan struct{})}
}

// Add gives e its ID and keeps it.
func (r *Ring) Add(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last++
	e.ID = r.last
	q := r.kept[e.Kind]
	if q == nil {
		q = &queue{}
		r.kept[e.Kind] = q
	}
	q.all++
	q.events = append(q.events, e)
	if r.room > 0 {
		r.room--
	} else {
		r.drop()
	}
	close(r.grown)
	r.grown = make(chan struct{})
}

// drop lets go of one event. r.mu is held.
func (r *Ring) drop() {
	var most *queue
	for _, q := range r.kept {
		if len(q.events) == 0 {
			continue
		}
		if most == nil || len(q.events) > len(most.events) || len(q.events) == len(most.events) && q.events[0].ID < most.events[0].ID {
			most = q
		}
	}
	r.gone = max(r.gone, most.events[0].ID)
	most.events[0] = Event{} // what it holds is free before the queue moves
	most.events = most.events[1:]
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
	for _, q := range r.kept {
		i, _ := slices.BinarySearchFunc(q.events, id+1, func(e Event, id uint64) int { return cmp.Compare(e.ID, id) })
		events = append(events, q.events[i:]...)
	}
	slices.SortFunc(events, func(a, b Event) int { return cmp.Compare(a.ID, b.ID) })
	return events, r.last, r.gone > id
}

// Counts returns how many events there were of each kind, those that are not kept any
// more included.
func (r *Ring) Counts() map[string]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make(map[string]uint64, len(r.kept))
	for kind, q := range r.kept {
		all[kind] = q.all
	}
	return all
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
