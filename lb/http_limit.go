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

// headerFits reports whether the header of a request is within MaxHeader and MaxFields.
// The server that brings the request may allow more.
func (c *HandlerConfig) headerFits(r *http.Request) bool {
	// A middleware may have changed the URL, and the server takes the Host out of the header.
	size := len(r.Method) + max(len(r.RequestURI), len(r.URL.Path)+len(r.URL.RawQuery))
	return c.fieldsFit(r.Header, size+fieldSize("Host", r.Host), 1)
}

// fieldsFit reports whether the fields of h, with size bytes and fields more, are within
// MaxHeader and MaxFields.
func (c *HandlerConfig) fieldsFit(h http.Header, size, fields int) bool {
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
