package lb

import (
	"net/netip"
	"slices"

	"github.com/havip/havip/internal/words"
)

// maxTries bounds the backends that one flow may try.
const maxTries = 8

// Flow is one connection or request that needs a backend. The zero value will do
// for balancers that do not hash. Picking again with the same Flow avoids the
// backends it was given before; it is not safe for concurrent use.
type Flow struct {
	Client netip.AddrPort // for SourceHash and Maglev
	Key    string         // for KeyHash

	tried [maxTries]*server
	tries int
}

// undo takes the latest try back.
func (f *Flow) undo() { f.tries = max(0, f.tries-1) }

// triedAll reports whether f has tried whatever g has: if nothing is free for g,
// nothing is for f.
func (f *Flow) triedAll(g *Flow) bool {
	for _, s := range g.tried[:g.tries] {
		if !slices.Contains(f.tried[:f.tries], s) {
			return false
		}
	}
	return true
}

// Result is the outcome of using a backend.
type Result uint8

// Outcomes. Only those that the backend is responsible for count.
const (
	Neutral Result = iota // nothing was learned: for instance, the client went away
	Success               // the backend answered
	Failure               // the backend refused, timed out or broke off
)

var results = []string{"neutral", "success", "failure"}

func (r Result) String() string { return words.Of(results, r) }

// MarshalText implements encoding.TextMarshaler.
func (r Result) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *Result) UnmarshalText(text []byte) error { return words.Parse(results, text, r) }

// Balancer is a way of choosing that this package does not have. It may be called
// concurrently and must not block: a pick waits for it, maybe under the lock of the
// pool's queue.
type Balancer interface {
	// Pick returns the index of the backend that f is given. The candidates are those
	// that may be used now, primaries or backups, in the order of the configuration;
	// there is at least one. An index out of range stands for none of them.
	Pick(f Flow, candidates []Candidate) int
}

// Candidate is a backend among which a Balancer chooses.
type Candidate struct{ m *member }

// Backend returns the backend's configuration.
func (c Candidate) Backend() Backend { return c.m.Backend }

// Active returns how many picks of the backend are not done.
func (c Candidate) Active() int64 { return c.m.active.Load() }
