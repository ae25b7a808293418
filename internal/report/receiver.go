package report

import (
	"fmt"
	"time"
)

// Receiver is one of those that alarms are told to, and how that goes.
type Receiver struct {
	Name string `json:"name"`
	Kind string `json:"kind"` // mail, or webhook and its format
	// Delivered counts messages that have arrived, trials included, and Failed attempts
	// that have not.
	Delivered uint64 `json:"delivered"`
	Failed    uint64 `json:"failed"`
	Waiting   int    `json:"waiting"` // alarms in the message that is being delivered now
	// Error is why the latest attempt failed that did, and ErrorAt when.
	Error   string    `json:"error,omitempty"`
	ErrorAt time.Time `json:"error_at,omitzero"`
	// FailingSince is the first of the failures since the latest success; zero: the latest
	// attempt was one.
	FailingSince time.Time `json:"failing_since,omitzero"`
}

// Count takes in what came of an attempt.
func (r *Receiver) Count(at time.Time, err error) {
	if err == nil {
		r.Delivered++
		r.FailingSince = time.Time{}
		return
	}
	r.Failed++
	r.Error, r.ErrorAt = err.Error(), at
	if r.FailingSince.IsZero() {
		r.FailingSince = at
	}
}

// failsLong is for how long a receiver may fail before that needs a person: a restart of
// the other end is no problem.
const failsLong = 5 * time.Minute

// receiverProblem says that a receiver does not hear of alarms; empty: it does.
func (s *Status) receiverProblem(r *Receiver) string {
	if r.FailingSince.IsZero() || r.ErrorAt.Sub(r.FailingSince) < failsLong {
		return ""
	}
	return fmt.Sprintf("alarms are not delivered for %s: %s", age(s.Node.Time, r.FailingSince), r.Error)
}
