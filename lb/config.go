package lb

import (
	"cmp"
	"errors"
	"time"

	"github.com/havip/havip/internal/field"
)

// FieldError is what is wrong with one field of a configuration. The errors of
// Validate, NewX and Reconfigure consist of them: errors.As finds the first.
type FieldError = field.Error

// ErrClosed: the plane has been shut down.
var ErrClosed = errors.New("lb: closed")

// Bounds beyond which a number or a duration is a mistake.
const (
	maxCount = 1 << 30
	day      = 24 * time.Hour
)

// setDefault gives a field its default where it is zero.
func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// between returns the error of a field whose value is not in a range; nil if it is.
func between[T cmp.Ordered](name string, value, low, high T) error {
	if value < low || value > high {
		return field.Errorf(name, "%v: want %v to %v", value, low, high)
	}
	return nil
}

// notNegative returns the error of a field whose value is negative; nil if it is not.
func notNegative[T cmp.Ordered](name string, value T) error {
	var zero T
	if value < zero {
		return field.Errorf(name, "%v: want %v or more", value, zero)
	}
	return nil
}
