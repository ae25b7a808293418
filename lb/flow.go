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
