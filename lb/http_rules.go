package lb

import (
	"errors"
)

// Rules are what a Handler decides about requests and responses by itself, beside choosing a
// backend. The zero value has none, and costs nothing.
type Rules struct {
	// Access says which clients get an answer: the first rule whose network has the client
	// counts. A client of none of them is allowed, as in nginx. Others get 403.
	Access []AccessRule
	// Maintenance answers all requests with 503.
	Maintenance bool
	// Compress says which responses are compressed. nil: none; one without Encodings: none, too.
	Compress *Compress
}

// decide reports whether there are rules for requests.
func (r *Rules) decide() bool { return len(r.Access) > 0 || r.Maintenance }

// Validate returns all that is wrong with r: FieldErrors, joined.
func (r Rules) Validate() error {
	return errors.Join(
		validateAccess(r.Access),
		validateCompress(r.Compress),
	)
}
