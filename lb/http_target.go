package lb

import (
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// targetOf returns the target that backends get for what a client has sent, byte by byte, in
// origin form or *, and the authority of an absolute target. ok is false for what is no
// target, or cannot be passed on.
func targetOf(method, sent string) (target, authority string, ok bool) {
	switch {
	case sent == "*":
		return sent, "", method == http.MethodOptions // RFC 9112 §3.2.4
	case sent != "" && sent[0] == '/':
		return sent, "", validTarget(sent)
	}
	scheme, rest, absolute := strings.Cut(sent, "://")
	if !absolute || !strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https") {
		return "", "", false
	}
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	// An empty host is invalid (RFC 9110 §4.2.1), user information hides who is meant (§4.2.4),
	// a zone means nothing to others, and what else is encoded could be read in two ways.
	authority, target = rest[:end], rest[end:]
	switch {
	case authority == "" || strings.ContainsAny(authority, "@%"):
		return "", "", false
	case target == "" && method == http.MethodOptions:
		return "*", authority, true // RFC 9112 §3.2.4
	case target == "" || target[0] != '/':
		target = "/" + target
	}
	return target, authority, validTarget(target)
}

// validTarget reports whether a target in origin form can be passed on: nothing in it ends
// the target, or is a fragment, and what is encoded in the path can be decoded.
func validTarget(target string) bool {
	path := true
	for i := 0; i < len(target); i++ {
		switch c := target[i]; {
		case notInTarget(rune(c)):
			return false
		case c == '?':
			path = false
		case c == '%' && path && (i+2 >= len(target) || !hexadecimal(target[i+1]) || !hexadecimal(target[i+2])):
			return false
		}
	}
	return true
}

// appendPath appends the path of a target, decoded, as net/url does: what KeyHash goes by.
func appendPath(b []byte, target string) []byte {
	path, _, _ := strings.Cut(target, "?")
	for i := 0; i < len(path); i++ {
		c := path[i]
		if c == '%' && i+2 < len(path) {
			n, _ := strconv.ParseUint(path[i+1:i+3], 16, 8)
			c, i = byte(n), i+2
		}
		b = append(b, c)
	}
	return b
}

// requestTarget returns the target that backends get. That is what the client has sent,
// byte by byte, in origin form or *, unless a middleware has changed u. Nothing is encoded
// anew: client and backend would not mean the same by it. ok is false for what is no target,
// or cannot be passed on so. sent is what stood in the request line or in :path, empty if
// that is not known.
func requestTarget(method, sent string, major int, u *url.URL) (target string, ok bool) {
	if u == nil || u.Opaque != "" {
		return "", false
	}
	if sent == "*" && u.Path == "*" {
		return "*", method == http.MethodOptions // RFC 9112 §3.2.4
	}
	// A URL without a scheme is a middleware's, which has replaced that of an absolute target.
	if absolute := sent != "" && sent != "*" && sent[0] != '/' && u.Scheme != ""; absolute {
		// In HTTP/2 the authority has a field of its own (RFC 9113 §8.3.1). An empty host is
		// invalid (RFC 9110 §4.2.1), and user information hides who is meant (§4.2.4). A zone
		// means nothing to others, and net/url has decoded what stood before it.
		if major != 1 || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Contains(u.Host, "%") {
			return "", false
		}
		if method == http.MethodOptions && u.Path == "" && u.RawQuery == "" && !u.ForceQuery {
			return "*", true // RFC 9112 §3.2.4
		}
	}
	target = writtenPath(u)
	if u.RawQuery != "" || u.ForceQuery {
		target += "?" + u.RawQuery
	}
	return target, !strings.ContainsFunc(target, notInTarget)
}

// notInTarget reports whether a target may not hold r. White space would end the target in
// HTTP/1. A fragment is none of a server's business (RFC 9112 §3.2), and programs differ in
// whether it belongs to the path. Other characters that RFC 3986 excludes do no harm, and
// clients send them.
func notInTarget(r rune) bool { return r <= ' ' || r == 0x7f || r == '#' }

// writtenPath returns the path as the client has written it. net/url keeps that in RawPath
// where its own way to write the path is another one. Where RawPath does not fit to Path,
// a middleware has set Path.
func writtenPath(u *url.URL) string {
	path := u.RawPath
	if clear, err := url.PathUnescape(path); path == "" || err != nil || clear != u.Path || strings.Contains(path, "?") {
		path = (&url.URL{Path: u.Path}).EscapedPath()
	}
	if !strings.HasPrefix(path, "/") { // http://x, or what http.StripPrefix has left
		path = "/" + path
	}
	return path
}

// withoutPort returns an authority without an empty port, or the default one.
func withoutPort(authority, port string) string {
	return strings.TrimSuffix(strings.TrimSuffix(authority, ":"+port), ":")
}

// validAuthority reports whether s is a host, and maybe a port (RFC 3986 §3.2), without
// user information: what Host, :authority and an absolute target may have.
func validAuthority(s string) bool {
	host := s
	if colon := strings.LastIndexByte(s, ':'); colon > strings.LastIndexByte(s, ']') {
		host = s[:colon]
		if strings.Trim(s[colon+1:], "0123456789") != "" {
			return false
		}
	}
	if address, ok := strings.CutPrefix(host, "["); ok {
		address, ok = strings.CutSuffix(address, "]")
		a, err := netip.ParseAddr(address)
		return ok && err == nil && a.Is6() && validName(a.Zone())
	}
	// A dot at the end is the root's. A label is not empty, otherwise (RFC 1034 §3.1): nginx refuses
	// that, too, as the host would be another name than the one that routes know.
	return host != "" && host != "." && !strings.Contains(host, "..") && validName(host)
}

// validName reports whether s consists of what a registered name may have (RFC 3986 §3.2.2).
func validName(s string) bool {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case alphanumeric(c), strings.IndexByte("-._~!$&'()*+,;=", c) >= 0:
		case c == '%' && i+2 < len(s) && hexadecimal(s[i+1]) && hexadecimal(s[i+2]):
			i += 2
		default:
			return false
		}
	}
	return true
}

func alphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

func hexadecimal(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}
