package lb

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/havip/havip/internal/field"
)

// FieldError is what is wrong with one field of a configuration. Validate joins
// one error for each fault.
type FieldError = field.Error

// ErrClosed: the plane has been shut down.
var ErrClosed = errors.New("closed")

// ErrServing: the plane serves already.
var ErrServing = errors.New("it serves already")

// Bounds beyond which a number or a duration is a mistake.
const (
	maxCount = 1 << 30
	day      = 24 * time.Hour
)

// validatePrefixes checks the prefixes of peers: the zero Prefix would fit none.
func validatePrefixes(name string, prefixes []netip.Prefix) error {
	if i := slices.IndexFunc(prefixes, func(p netip.Prefix) bool { return !p.IsValid() }); i >= 0 {
		return field.Errorf(fmt.Sprintf("%s[%d]", name, i), "%v: want addresses, such as 192.0.2.0/24", prefixes[i])
	}
	return nil
}

// setDefault gives a field its default where it is zero.
func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Errors of Pick.
var (
	// ErrNoBackend: no backend is up, or all that are have been tried.
	ErrNoBackend = errors.New("lb: no backend available")
	// ErrBusy: every backend that is up has reached its MaxConns.
	ErrBusy = errors.New("lb: all backends are at their connection limit")
)
