package h1

import (
	"encoding/binary"
	"strings"
	"unsafe"
)

// lower has the lower case of the bytes that a token may have (RFC 9110 §5.6.2), and 0 for
// all others.
var lower = func() (table [256]byte) {
	for _, c := range []byte("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz") {
		table[c] = c
		if 'a' <= c && c <= 'z' {
			table[c-'a'+'A'] = c
		}
	}
	return table
}()

// EqualName reports whether two names of fields, or other tokens, are the same. Case does
// not matter. What is no token equals nothing.
func EqualName(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if c := lower[a[i]]; c == 0 || c != lower[b[i]] {
			return false
		}
	}
	return true
}

// HasToken reports whether token is in the list that a value is (RFC 9110 §5.6.1).
func HasToken(value, token string) bool {
	for more := true; more; {
		var item string
		if item, value, more = strings.Cut(value, ","); EqualName(trim(item), token) {
			return true
		}
	}
	return false
}

// trim returns s without the white space around it.
func trim(s string) string {
	for s != "" && isSpace(s[0]) {
		s = s[1:]
	}
	for s != "" && isSpace(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

// eight repeats a byte eight times when it is multiplied with it.
const eight = 0x0101010101010101

// hasBelow reports whether one of eight bytes is below limit, or is DEL. limit is 0x80 at
// most. Where it is false there is none; otherwise there is one.
func hasBelow(x uint64, limit byte) bool {
	del := x ^ 0x7f*eight
	return ((x-eight*uint64(limit))&^x|(del-eight)&^del)&(0x80*eight) != 0
}

// validValue reports whether b may be a field value (RFC 9110 §5.5), or a reason phrase:
// no control bytes but tabs. The bytes from 0x80 on, obs-text, belong to whoever
// understands them.
func validValue(b []byte) bool {
	last := len(b) - 8
	if last < 0 {
		return visible(b)
	}
	for i := 0; ; i = min(i+8, last) { // the last eight may have been looked at in part
		if hasBelow(binary.LittleEndian.Uint64(b[i:]), ' ') && !visible(b[i:i+8]) {
			return false
		}
		if i == last {
			return true
		}
	}
}

// visible is validValue, byte by byte.
func visible(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// hasSpace reports whether b has white space or control bytes.
func hasSpace(b []byte) bool {
	for ; len(b) >= 8; b = b[8:] {
		if hasBelow(binary.LittleEndian.Uint64(b), ' '+1) {
			return true
		}
	}
	for _, c := range b {
		if c <= ' ' || c == 0x7f {
			return true
		}
	}
	return false
}

// text returns b as a string that shares its memory.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
