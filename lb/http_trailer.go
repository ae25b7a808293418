package lb

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/havip/havip/lb/internal/h1"
)

// readTrailers reads the names of the trailers that backends get: those that the client has
// announced, as many as there may be.
func (x *exchange) readTrailers() {
	x.trailers = x.trailers[:0]
	if holds(x.req.Has, h1.Trailer) {
		x.trailers = appendTrailers(x.trailers, x.req.Fields, x.cfg.MaxFields, func(name string) bool {
			return x.passesTrailer(name)
		})
	}
}

// passesTrailer reports whether backends may get a trailer of that name.
func (x *exchange) passesTrailer(name string) bool {
	f := h1.Field{Name: name, ID: h1.IDOf(name)}
	return !x.cfg.folds.drops(&f) && validTrailer(name, x.cfg.RequestHeaders)
}

// appendTrailers appends the names in the fields Trailer that are valid, once each.
func appendTrailers(names []string, fields []h1.Field, most int, valid func(string) bool) []string {
	for i := range fields {
		if fields[i].ID != h1.Trailer {
			continue
		}
		for name := range strings.SplitSeq(fields[i].Value, ",") {
			name = strings.TrimSpace(name)
			known := slices.ContainsFunc(names, func(other string) bool { return h1.EqualName(name, other) })
			if len(names) < most && !known && valid(name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// appendRequestTrailer appends the fields of a trailer section that backends get, without the
// empty line that ends it. The section is complete.
func (x *exchange) appendRequestTrailer(b, section []byte) ([]byte, error) {
	if _, err := x.section.Parse(section, h1.Limits{Header: int(x.cfg.MaxHeader), Fields: x.cfg.MaxFields}); err != nil {
		var refusal *h1.Error
		if errors.As(err, &refusal) && refusal.Status == http.StatusRequestHeaderFieldsTooLarge {
			err = errFieldsTooLarge
		}
		return b, err
	}
	x.answer = x.requestTrailer(x.answer[:0], x.section.Fields)
	return h1.AppendFields(b, x.answer), nil
}

// appendResponseTrailer appends the fields of a trailer section that clients get.
func (x *exchange) appendResponseTrailer(b, section []byte) ([]byte, error) {
	if _, err := x.section.Parse(section, h1.Limits{Header: maxResponseHeader, Fields: maxResponseFields}); err != nil {
		return b, fmt.Errorf("trailer of the response: %w", err)
	}
	x.answer = x.responseTrailer(x.answer[:0], x.section.Fields)
	return h1.AppendFields(b, x.answer), nil
}

// requestTrailer appends those fields of a trailer that backends get: those that were
// announced.
func (x *exchange) requestTrailer(dst, trailer []h1.Field) []h1.Field {
	for _, f := range trailer {
		if slices.ContainsFunc(x.trailers, func(name string) bool { return h1.EqualName(name, f.Name) }) && validHeader(f.Name, f.Value) {
			dst = append(dst, f)
		}
	}
	return dst
}

// responseTrailer appends those fields of a trailer that clients get.
func (x *exchange) responseTrailer(dst, trailer []h1.Field) []h1.Field {
	for _, f := range trailer {
		if validTrailer(f.Name, x.cfg.ResponseHeaders) && validHeader(f.Name, f.Value) {
			dst = append(dst, f)
		}
	}
	return dst
}
