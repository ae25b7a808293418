package lb

import (
	"errors"
	"maps"
	"net/http"
	"slices"

	"github.com/havip/havip/internal/field"
	"github.com/havip/havip/lb/internal/h1"
)

// singular are the fields of which a message has one at most, or that are added to here.
var singular = []string{
	"Authorization", "Content-Encoding", "Content-Range", "Content-Type", "Date", "Etag", "Forwarded", "Host", "Last-Modified", "Location",
	"Max-Forwards", "Retry-After", "Server", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip", "X-Request-Id",
}

// validateAdded returns what is wrong with headers that are added.
func validateAdded(name string, headers http.Header, in parts) error {
	errs := []error{validateHeaders(name, headers, in)}
	for _, header := range slices.Sorted(maps.Keys(headers)) {
		if slices.Contains(singular, http.CanonicalHeaderKey(header)) && validHeader(header, "") {
			errs = append(errs, field.Errorf(name+"["+header+"]", "want a header that there can be several of, which %s is not: others are set, not added", http.CanonicalHeaderKey(header)))
		}
	}
	return errors.Join(errs...)
}

// compileOwn returns the fields that requests get by the configuration, and then those of
// responses: the set ones, and the added ones.
func compileOwn(cfg *HandlerConfig) (requests, addedRequests, responses, addedResponses setFields) {
	requests = compileFields(alone(cfg.RequestHeaders), inRequests|inHost)
	responses = compileFields(alone(cfg.ResponseHeaders), inResponses)
	addedRequests = compileFields(cfg.AddRequestHeaders, inRequests)
	addedResponses = compileFields(cfg.AddResponseHeaders, inResponses)
	if cfg.Forwarded {
		requests.include("Forwarded", template{{text: appendForwarded}})
	}
	if cfg.RequestID > RequestIDOff {
		id := template{{text: func(x *exchange, b []byte) []byte { return append(b, x.requestID()...) }}}
		requests.include(requestIDName, id)
		responses.include(requestIDName, id)
	}
	if cfg.Via != "" {
		name := piece{literal: " " + cfg.Via}
		addedRequests.include("Via", template{{text: viaRequest}, name})
		addedResponses.include("Via", template{{text: viaResponse}, name})
	}
	return requests, addedRequests, responses, addedResponses
}

// include adds a field, unless the configuration has said itself what it should be.
func (s *setFields) include(name string, value template) {
	f := setField{name: name, id: h1.IDOf(name), value: value}
	if !s.sets(&h1.Field{Name: name, ID: f.id}) {
		s.add(f)
	}
}

// replyFields appends the fields that an answer made here gets by the configuration: those of
// responses of backends, as nginx's add_header with always.
func (x *exchange) replyFields(dst []h1.Field) []h1.Field {
	dst = x.cfg.responseFields.appendTo(dst, x)
	for i := range x.cfg.responseAdded.list {
		if f := &x.cfg.responseAdded.list[i]; f.id != h1.Via { // nobody has sent it (RFC 9110 §7.6.3)
			dst = f.appendTo(dst, x)
		}
	}
	return dst
}
