package lb

import (
	"slices"
	"strings"

	"github.com/havip/havip/lb/internal/h1"
)

// notInTrailers are the fields that change how a message is framed, routed or
// understood, or name the sender. A trailer comes too late for them (RFC 9110 §6.5.1).
var notInTrailers = append([]string{
	"Authorization", "Cache-Control", "Content-Encoding", "Content-Range", "Content-Type", "Cookie", "Date",
	"Forwarded", "Host", "Location", "Max-Forwards", "Pragma",
	"Proxy-Authenticate", "Proxy-Authorization", "Range", "Retry-After", "Set-Cookie", "Vary", "Via",
	"Www-Authenticate", "X-Real-Ip", "X-Request-Id",
}, unsettable...)

// allowsTrailer reports whether a field may stand in a trailer beside the fields of s.
func (s *setFields) allowsTrailer(name string) bool {
	folds := func(folded string) bool { return foldsTo(name, folded) }
	return validHeader(name, "") && !slices.ContainsFunc(notInTrailers, folds) && !foldsToPrefix(name, "If-") &&
		!foldsToPrefix(name, forwarded) && !slices.ContainsFunc(s.folded, folds)
}

// readTrailers reads the names of the trailers that backends get: those that the client has
// announced, as many as there may be.
func (x *exchange) readTrailers() {
	x.trailers = x.trailers[:0]
	if holds(x.req.Has, h1.Trailer) {
		x.trailers = appendTrailers(x.trailers, x.req.Fields, x.cfg.MaxFields, x.passesTrailer)
	}
}

// passesTrailer reports whether backends may get a trailer of that name.
func (x *exchange) passesTrailer(name string) bool {
	f := h1.Field{Name: name, ID: h1.IDOf(name)}
	return !x.cfg.folds.drops(&f) && x.cfg.requestFields.allowsTrailer(name)
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
		if x.cfg.responseFields.allowsTrailer(f.Name) && validHeader(f.Name, f.Value) && !(x.encoded && isOfPlainContent(f.Name)) {
			dst = append(dst, f)
		}
	}
	return dst
}
