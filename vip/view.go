package vip

import (
	"time"

	"github.com/havip/havip/internal/quietlog"
)

// view is what the kernel has shown of what the addresses depend on.
type view struct {
	links    map[string]link     // by name, as last seen
	occupied bool                // our macvlan has an address that is not ours
	seen     map[target]bool     // where the addresses were looked for the last time
	spared   map[assigned]string // why Takeover leaves an unmarked address; empty: it does not
}

const (
	// spacing bounds how often the addresses are looked at, so that a fight
	// with another program over one of them costs little.
	spacing = 10 * time.Millisecond
	// patrol is how often they are looked at although nothing seems to have
	// happened.
	patrol = 30 * time.Second
	// again is when what failed is tried again.
	again = time.Second
)

// looks says when the addresses are looked at. It reads no clock.
type looks struct {
	last time.Time
	next time.Time // if nothing happens
}

// begun takes note of a look.
func (l *looks) begun(now time.Time) { l.last, l.next = now, now.Add(patrol) }

// soon has the addresses looked at again although nothing may happen.
func (l *looks) soon() { l.next = l.last.Add(again) }

// due returns when to look; dirty: something has happened.
func (l looks) due(dirty bool) time.Time {
	if dirty {
		return l.last.Add(spacing)
	}
	return l.next
}

// calls are made by goroutines of their own, which the Manager does not wait for, but
// Run does at its end.
type calls struct {
	lost, conflict *quietlog.Calls // of OnLost and OnConflict
	asides         *quietlog.Calls // for lines that take a question
}

func newCalls() calls {
	return calls{quietlog.NewCalls(), quietlog.NewCalls(), quietlog.NewCalls()}
}

func (c calls) wait() {
	c.asides.Wait()
	c.conflict.Wait()
	c.lost.Wait()
}
