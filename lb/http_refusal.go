package lb

import (
	"errors"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/havip/havip/lb/internal/h1"
)

// refusal returns the status for a request that no backend should see, and 0 for all
// others.
func (x *exchange) refusal() int {
	req := x.req
	target, authority, valid := targetOf(req.Method, req.Target)
	x.target, x.authority = target, authority
	if authority == "" {
		x.authority = req.Host
	}
	switch {
	// net/http, too, looks at Host before anything else, and also at a Host that does not
	// count beside an absolute target (RFC 9112 §3.2).
	case !httpguts.ValidHostHeader(req.Host):
		return http.StatusBadRequest
	case req.Method == http.MethodConnect:
		return http.StatusMethodNotAllowed
	case !valid, !x.readForwards(), !x.namesOneHost(), !x.statesOneLength(),
		!validHeader(req.Method, ""): // in HTTP/1 it would spoil the request line
		return http.StatusBadRequest
	case int64(req.Size) > x.cfg.MaxHeader, len(req.Fields) > x.cfg.MaxFields:
		return http.StatusRequestHeaderFieldsTooLarge
	}
	return 0
}

// namesOneHost reports whether the request names one host, or none. HTTP/2 may have Host
// beside :authority, which comes first here; both must agree (RFC 9113 §8.3.1). In HTTP/1 an
// absolute target counts, and Host does not (RFC 9112 §3.2.2).
func (x *exchange) namesOneHost() bool {
	if x.authority != "" && !validAuthority(x.authority) {
		return false
	}
	if x.major == 1 || !holds(x.req.Has, h1.Host) {
		return true
	}
	port, hosts := "80", 0
	if x.from.secure != nil {
		port = "443"
	}
	for i := range x.req.Fields {
		f := &x.req.Fields[i]
		if f.ID != h1.Host {
			continue
		}
		if hosts++; hosts > 2 || !strings.EqualFold(withoutPort(x.authority, port), withoutPort(f.Value, port)) {
			return false
		}
	}
	return true
}

// statesOneLength reports whether all that the request says of its length is one number, and
// whether a body comes if that is not 0 (RFC 9113 §8.1.1). In HTTP/1 that has been seen to. In
// HTTP/2, net/http takes the first of several, 0 for what is no number, and a request that
// ends with its head whatever it announces.
func (x *exchange) statesOneLength() bool {
	if x.major == 1 || !holds(x.req.Has, h1.ContentLength) {
		return true
	}
	length := int64(-1)
	for i := range x.req.Fields {
		f := &x.req.Fields[i]
		if f.ID != h1.ContentLength {
			continue
		}
		n, err := strconv.ParseUint(f.Value, 10, 63)
		if err != nil || length >= 0 && int64(n) != length {
			return false
		}
		length = int64(n)
	}
	return length == 0 || x.req.Length != 0
}

// readForwards reads the Max-Forwards that backends get. It reports whether the values are
// one number (RFC 9110 §7.6.2), or do not count.
func (x *exchange) readForwards() bool {
	x.forwards = ""
	if !holds(x.req.Has, h1.MaxForwards) || !limitsForwards(x.req.Method) {
		return true
	}
	var n uint64
	seen := false
	for i := range x.req.Fields {
		f := &x.req.Fields[i]
		if f.ID != h1.MaxForwards {
			continue
		}
		var err error
		n, err = strconv.ParseUint(f.Value, 10, 64)
		if seen || err != nil && !errors.Is(err, strconv.ErrRange) { // ErrRange: n is the largest
			return false
		}
		seen = true
	}
	if n == 0 {
		x.forwards = lastForward
		return true
	}
	start := len(x.text)
	x.text = strconv.AppendUint(x.text, n-1, 10)
	x.forwards = x.written(start)
	return true
}

// lastForward stands for a Max-Forwards of a request that no backend may get.
const lastForward = "-"

// limitsForwards reports whether Max-Forwards means something for a method.
func limitsForwards(method string) bool {
	return method == http.MethodTrace || method == http.MethodOptions
}

// secrets are the fields that an answer to a TRACE does not show (RFC 9110 §9.3.8).
var secrets = h1.SetOf(h1.Authorization, h1.Cookie, h1.ProxyAuthorization)

// answerLast answers a TRACE or OPTIONS that may go no further, in the place of a backend.
func (x *exchange) answerLast() verdict {
	if x.req.Method != http.MethodTrace {
		return x.answerWith(http.StatusOK, "", nil)
	}
	version := " HTTP/1.1\r\n"
	switch {
	case x.major > 1:
		version = " HTTP/2.0\r\n"
	case x.req.Minor == 0:
		version = " HTTP/1.0\r\n"
	}
	b := append(append(append([]byte("TRACE "), x.target...), version...), "Host: "...)
	b = append(append(b, x.authority...), "\r\n"...)
	for _, f := range x.req.Fields {
		if f.ID != h1.Host && !holds(secrets, f.ID) {
			b = h1.AppendField(b, f.Name, f.Value)
		}
	}
	return x.answerWith(http.StatusOK, "message/http", append(b, "\r\n"...))
}

// holds reports whether a set has an ID.
func holds(s h1.Set, id h1.ID) bool { return s>>id&1 != 0 }
