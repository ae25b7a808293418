package lb

import (
	"errors"
	"net/http"
)

const (
	// defaultMaxHeader is what nginx's header buffers hold by default.
	defaultMaxHeader = 32 << 10
	// defaultMaxFields is what HAProxy takes by default, less one.
	defaultMaxFields = 100
	// maxResponseFields bounds the fields of a backend's response. A map of many tiny fields
	// is a multiple of their bytes, which maxResponseHeader bounds.
	maxResponseFields = 1000
)

// errFieldsTooLarge: the trailer of a request exceeds MaxHeader or MaxFields.
var errFieldsTooLarge = errors.New("trailer is too large")

// trailerFits reports whether the trailer of a request is within MaxHeader and MaxFields.
func (c *HandlerConfig) trailerFits(h http.Header) bool {
	size, fields := 0, 0
	for name, values := range h {
		for _, value := range values {
			size += fieldSize(name, value)
		}
		fields += len(values)
	}
	return int64(size) <= c.MaxHeader && fields <= c.MaxFields
}

// fieldSize returns how many bytes a field takes in HTTP/1.1. HTTP/2 may need one byte: HPACK
// repeats a field by its number.
func fieldSize(name, value string) int {
	return len(name) + len(": ") + len(value) + len("\r\n")
}
