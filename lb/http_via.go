package lb

import (
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/havip/havip/internal/field"
	"github.com/havip/havip/lb/internal/h1"
)

// validateVia returns what is wrong with how this proxy is called (RFC 9110 §7.6.3).
func validateVia(name string) error {
	valid := name == "" || httpguts.ValidHeaderFieldName(name) || validAuthority(name)
	return field.If(!valid, "Via", "%q: want a name without spaces, such as lb, or a host, such as lb.example.org:443", name)
}

// viaRequest appends the version by which the request has come.
func viaRequest(x *exchange, b []byte) []byte {
	if x.major > 1 {
		return append(b, "2.0"...)
	}
	return append(b, '1', '.', '0'+byte(min(x.req.Minor, 1)))
}

// viaResponse appends the version by which the backend has answered.
func viaResponse(x *exchange, b []byte) []byte {
	if x.cfg.BackendProtocol == BackendHTTP2 {
		return append(b, "2.0"...)
	}
	return append(b, '1', '.', '0'+byte(min(x.minor, 1)))
}

// appendForwarded appends the Forwarded of backends (RFC 7239 §4): what has come, of proxies
// that are believed as in X-Forwarded-For, and an element about who has connected here. What
// cannot be parsed is left out, or our element might be a part of it: of a quoted string, say.
func appendForwarded(x *exchange, b []byte) []byte {
	start := len(b)
	if holds(x.req.Has, h1.Forwarded) && !x.estranged() {
		for i := range x.req.Fields {
			f := &x.req.Fields[i]
			if f.ID != h1.Forwarded || !x.passes(f) {
				continue
			}
			if !validForwarded(f.Value) {
				b = b[:start]
				break
			}
			b = append(append(b, f.Value...), ", "...)
		}
	}
	switch client := x.from.client.Addr(); {
	case !client.IsValid():
		b = append(b, "for=unknown"...)
	case client.Is4():
		b = appendAddr(append(b, "for="...), client)
	default:
		b = append(appendAddr(append(b, `for="[`...), client), `]"`...)
	}
	if x.authority != "" {
		b = append(b, ";host="...)
		if httpguts.ValidHeaderFieldName(x.authority) { // a token
			b = append(b, x.authority...)
		} else {
			b = append(append(append(b, '"'), x.authority...), '"') // has no quotes: see validAuthority
		}
	}
	return append(append(b, ";proto="...), x.scheme()...)
}

// validForwarded reports whether a value is a list of elements of pairs, one at least.
func validForwarded(s string) bool {
	for {
		s = strings.TrimLeft(s, " \t")
		n := tokenLength(s)
		if n == 0 || n == len(s) || s[n] != '=' {
			return false
		}
		s = s[n+1:]
		if n = valueLength(s); n == 0 {
			return false
		}
		if s = strings.TrimLeft(s[n:], " \t"); s == "" {
			return true
		}
		if s[0] != ';' && s[0] != ',' {
			return false
		}
		s = s[1:]
	}
}

// valueLength returns how long the token, or quoted string, at the beginning of s is; 0: there
// is none (RFC 9110 §5.6.4).
func valueLength(s string) int {
	if s == "" || s[0] != '"' {
		return tokenLength(s)
	}
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return 0
}

// tokenLength returns how long the token at the beginning of s is.
func tokenLength(s string) int {
	n := 0
	for n < len(s) && httpguts.IsTokenRune(rune(s[n])) {
		n++
	}
	return n
}
