package lb

import (
	"strconv"
	"strings"

	"github.com/havip/havip/lb/internal/h1"
)

// What variables say of a request, in nginx's words where nginx has some: as the client has
// sent it, whatever a rule has made of it since. Nothing is decoded.

// appendHost appends the host that the client asks, as nginx's $host: in lower case, without a
// port and the dot of the root. Where the client names none, it is the address that the client has connected to.
func appendHost(x *exchange, b []byte) []byte {
	host := x.authority
	if host == "" {
		if local := x.from.localText; strings.IndexByte(local, ':') >= 0 {
			return append(append(append(b, '['), local...), ']')
		}
		return append(b, x.from.localText...)
	}
	if colon := strings.LastIndexByte(host, ':'); colon > strings.LastIndexByte(host, ']') {
		host = host[:colon]
	}
	host = strings.TrimSuffix(host, ".")
	for i := range len(host) {
		c := host[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		b = append(b, c)
	}
	return b
}

// appendAuthority appends the host that the client asks, as it came, with its port. That is
// the one of an absolute target, where nginx's $http_host has a Host that does not count
// (RFC 9112 §3.2.2).
func appendAuthority(x *exchange, b []byte) []byte { return append(b, x.authority...) }

// scheme returns how the client has come: http or https.
func (x *exchange) scheme() string {
	if x.from.secure != nil {
		return "https"
	}
	return "http"
}

// asked returns the target that the client has sent, in origin form: / for *, which would make
// another host of a Location. It is empty if that is none.
func (x *exchange) asked() string {
	target, _, ok := targetOf(x.req.Method, x.req.Target)
	switch {
	case !ok:
		return ""
	case target == "*":
		return "/"
	}
	return target
}

// appendAskedPath appends the part of the target before the query, with its escapes.
func appendAskedPath(x *exchange, b []byte) []byte {
	path, _, _ := strings.Cut(x.asked(), "?")
	return append(b, path...)
}

// query returns what follows the question mark of the target.
func (x *exchange) query() string {
	_, query, _ := strings.Cut(x.asked(), "?")
	return query
}

// appendMark appends the question mark of a query that is not empty, as nginx's $is_args.
func appendMark(x *exchange, b []byte) []byte {
	if x.query() == "" {
		return b
	}
	return append(b, '?')
}

// appendLocalPort appends the port that the client has connected to.
func appendLocalPort(x *exchange, b []byte) []byte {
	if !x.from.local.IsValid() {
		return b
	}
	return strconv.AppendUint(b, uint64(x.from.local.Port()), 10)
}

// captured is what a group of the regular expression has matched by which the request has its
// route, in a path that is encoded.
func captured(group int) textFunc {
	return func(x *exchange, b []byte) []byte {
		if x.matched == nil || group > x.matched.NumSubexp() {
			return b
		}
		if x.groups == nil { // for all groups, by the first that is needed
			x.groups = x.matched.FindStringSubmatchIndex(x.path)
		}
		at := x.groups
		if at == nil || at[2*group] < 0 {
			return b
		}
		return appendEscapedPath(b, x.path[at[2*group]:at[2*group+1]])
	}
}

// appendRoute appends the name of the route that has been taken.
func appendRoute(x *exchange, b []byte) []byte {
	if x.route == nil {
		return b
	}
	return append(b, x.route.name...)
}

// argument is an argument of the query: the first one of that name, in whatever case, as
// nginx's $arg_NAME.
func argument(name string) textFunc {
	return func(x *exchange, b []byte) []byte {
		for rest, more := x.query(), true; more; {
			var arg string
			arg, rest, more = strings.Cut(rest, "&")
			if key, value, is := strings.Cut(arg, "="); is && h1.EqualName(key, name) {
				return append(b, value...)
			}
		}
		return b
	}
}

// cookie is a cookie of the request: the first one of that name, in whatever case, as nginx's
// $cookie_NAME.
func cookie(name string) textFunc {
	return func(x *exchange, b []byte) []byte {
		if !holds(x.req.Has, h1.Cookie) {
			return b
		}
		for i := range x.req.Fields {
			f := &x.req.Fields[i]
			for rest, more := f.Value, f.ID == h1.Cookie; more; {
				var pair string
				pair, rest, more = strings.Cut(rest, ";")
				if key, value, is := strings.Cut(pair, "="); is && h1.EqualName(strings.Trim(key, " \t"), name) {
					return append(b, strings.Trim(value, " \t")...)
				}
			}
		}
		return b
	}
}

// header is a field of the request. Several of a name are joined, as nginx's $http_NAME. Those
// that are dropped for their names do not count: backends do not get them either.
func header(name string) textFunc {
	name = fold(name) // an underscore stands for a hyphen
	separator := ", "
	switch name {
	case "Host":
		return appendAuthority
	case "Cookie":
		separator = "; " // RFC 9113 §8.2.3
	}
	return func(x *exchange, b []byte) []byte {
		start := len(b)
		for i := range x.req.Fields {
			f := &x.req.Fields[i]
			if !foldsTo(f.Name, name) || x.cfg.folds.drops(f) {
				continue
			}
			if len(b) > start {
				b = append(b, separator...)
			}
			b = append(b, f.Value...)
		}
		return b
	}
}
