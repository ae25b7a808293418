package lb

import (
	"bytes"
	"regexp/syntax"
	"strings"
)

// appendNormalPath appends the path of a target that is valid, as nginx compares it with its
// locations: decoded, without steps, and with one slash for several. ok is false for a path
// that leads above the root, or has a NUL: nginx answers 400.
func appendNormalPath(b []byte, target string) (_ []byte, ok bool) {
	path, _, _ := strings.Cut(target, "?")
	start := len(b)
	b = appendPath(b, path)
	decoded := b[start:]
	if len(decoded) == 0 || decoded[0] != '/' {
		return b, true // * of OPTIONS
	}
	if bytes.IndexByte(decoded, 0) >= 0 {
		return b, false
	}
	if !bytes.Contains(decoded, []byte("//")) && !bytes.Contains(decoded, []byte("/.")) {
		return b, true // nearly all
	}
	// The result is never longer than what is left to read, so that it can be written over it.
	out := decoded[:0]
	for rest := decoded; len(rest) > 0; {
		rest = rest[1:] // a slash
		end := bytes.IndexByte(rest, '/')
		last := end < 0
		if last {
			end = len(rest)
		}
		step := rest[:end]
		rest = rest[end:]
		switch {
		case len(step) == 0 && !last, len(step) == 1 && step[0] == '.' && !last:
		case len(step) == 0, len(step) == 1 && step[0] == '.':
			out = append(out, '/')
		case string(step) == "..":
			if len(out) == 0 {
				return b, false
			}
			out = out[:bytes.LastIndexByte(out, '/')]
			if last {
				out = append(out, '/')
			}
		default:
			out = append(append(out, '/'), step...)
		}
	}
	return b[:start+len(out)], true
}

// isNormal reports whether a path of a target is as appendNormalPath returns it.
func isNormal(path string) bool {
	slash := false
	for i := range len(path) {
		switch c := path[i]; {
		case c == '%', slash && (c == '/' || c == '.'):
			return false
		default:
			slash = c == '/'
		}
	}
	return true
}

// escapedPath returns a decoded path as it stands in a target.
func escapedPath(path string) string { return string(appendEscapedPath(nil, path)) }

// hexDigits are those of escapes (RFC 3986 §2.1).
const hexDigits = "0123456789ABCDEF"

// appendEscapedPath appends escapedPath(path): all is encoded that is not of a path (RFC 3986
// §3.3).
func appendEscapedPath(b []byte, path string) []byte {
	for i := range len(path) {
		c := path[i]
		if alphanumeric(c) || strings.IndexByte("/-._~!$&'()*+,;=:@", c) >= 0 {
			b = append(b, c)
		} else {
			b = append(b, '%', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return b
}

// literalStart returns the text with which all matches of a regular expression begin, if they
// begin where the path does. Empty: there is no such text, or they need not.
func literalStart(expression string) string {
	re, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return ""
	}
	re = re.Simplify()
	if re.Op != syntax.OpConcat || len(re.Sub) < 2 || re.Sub[0].Op != syntax.OpBeginText {
		return ""
	}
	if l := re.Sub[1]; l.Op == syntax.OpLiteral && l.Flags&syntax.FoldCase == 0 {
		return string(l.Rune)
	}
	return ""
}
