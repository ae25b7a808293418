package healthcheck

import (
	"cmp"
	"errors"
	"time"

	"github.com/havip/havip/internal/words"
)

// State is what a [Monitor] holds its target to be.
type State uint8

const (
	// Unknown is the state before the first result.
	Unknown State = iota
	// Up means that the target works.
	Up
	// Down means that it does not.
	Down
)

var stateNames = []string{Unknown: "unknown", Up: "up", Down: "down"}

// String returns "unknown", "up" or "down".
func (s State) String() string { return words.Of(stateNames, s) }

// MarshalText returns the same word as String.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText accepts "unknown", "up" and "down".
func (s *State) UnmarshalText(text []byte) error { return words.Parse(stateNames, text, s) }

// Status is what a [Monitor] knows at one moment.
type Status struct {
	// Name is the Monitor's name.
	Name string
	// State is the target's state, and Since the time of its last change, or
	// of the Monitor's making.
	State State
	Since time.Time
	// Paused says that no probes are made.
	Paused bool
	// Checked is when the latest probe ended, zero before the first one, and
	// Latency how long it took.
	Checked time.Time
	Latency time.Duration
	// Err is what the latest probe returned: nil if it succeeded.
	Err error
	// Successes and Failures count the latest equal results in a row; one of
	// the two is always 0.
	Successes, Failures int
	// Probes, Failed and Changes count since the Monitor was made: probes
	// that ended, those of them that failed, and changes of State.
	Probes, Failed, Changes uint64
}

// errNotYet is why a target is Down that has been so from the beginning, or whose
// latest probe has succeeded.
var errNotYet = errors.New("its check has not succeeded yet")

// WhyDown returns nil unless the State is Down, and otherwise the reason: this is what
// a pool of backends wants to know. A target whose State is Unknown is not down, and
// one that is Up stays so while Err says that the latest probe has failed.
func (s Status) WhyDown() error {
	if s.State != Down {
		return nil
	}
	return cmp.Or(s.Err, errNotYet)
}
