// Package field names the field of a configuration that is wrong. Validate methods of the
// public packages return such errors, joined. Package config turns the name of a field into
// the place of its value in the file.
package field

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Error is what is wrong with one field.
type Error struct {
	// Field is the field's name in Go, with the way to it: "Backends[1].Weight".
	Field string
	// Err is the value and what is wanted, without the field: "0: want 1 to 256".
	Err error
}

func (e *Error) Error() string { return e.Field + ": " + e.Err.Error() }

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Errorf returns an Error; format and args are fmt.Errorf's.
func Errorf(name, format string, args ...any) error {
	return &Error{Field: name, Err: fmt.Errorf(format, args...)}
}

// If returns Errorf's error if broken is true, and otherwise nil: a rule in one line.
func If(broken bool, name, format string, args ...any) error {
	if !broken {
		return nil
	}
	return Errorf(name, format, args...)
}

// In returns err, which may be joined, with the fields below parent: Weight
// becomes Backends[1].Weight. An error that names no field becomes one of
// parent itself.
func In(parent string, err error) error {
	var errs []error
	for _, e := range All(err) {
		name := parent
		if e.Field != "" {
			name += "." + e.Field
		}
		errs = append(errs, &Error{Field: name, Err: e.Err})
	}
	return errors.Join(errs...)
}

// All returns the Errors that are joined in err, in order. An error that is no Error
// becomes one with an empty Field. What an Error wraps is not searched.
func All(err error) []*Error {
	switch e := err.(type) {
	case nil:
		return nil
	case *Error:
		return []*Error{e}
	case interface{ Unwrap() []error }:
		var list []*Error
		for _, sub := range e.Unwrap() {
			list = append(list, All(sub)...)
		}
		return list
	}
	if inner := errors.Unwrap(err); inner != nil && (errors.As(inner, new(*Error))) {
		return All(inner)
	}
	return []*Error{{Err: err}}
}

// Number is a type that has a range.
type Number interface {
	~int | ~int8 | ~int16 | ~int32 | ~int64 | ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~float64
}

// Between returns an Error unless value is in the range from least to most, both
// included: "0: want 1 to 256", "2h: want 10ms to 1h".
func Between[T Number](name string, value, least, most T) error {
	if least <= value && value <= most {
		return nil
	}
	return Errorf(name, "%s: want %s to %s", Text(value), Text(least), Text(most))
}

// Text prints a number: a duration as Span does, a float64 without an exponent.
func Text(v any) string {
	switch v := v.(type) {
	case time.Duration:
		return Span(v)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return fmt.Sprint(v)
}

// Span prints a duration without the units that are zero: 1m, not 1m0s.
func Span(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
