package lb

import (
	"net/http"
	"slices"
	"strings"

	"github.com/havip/havip/internal/words"
	"github.com/havip/havip/lb/internal/h1"
)

// Underscores is what becomes of a header whose name is unusual.
type Underscores uint8

// The values.
const (
	UnderscoresDrop Underscores = iota // the header is dropped, as nginx does by default
	UnderscoresPass                    // the header is passed on
)

var underscores = []string{"drop", "pass"}

// String returns "drop" or "pass".
func (u Underscores) String() string { return words.Of(underscores, u) }

// MarshalText implements encoding.TextMarshaler.
func (u Underscores) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (u *Underscores) UnmarshalText(text []byte) error { return words.Parse(underscores, text, u) }

// fold returns the header that a name becomes for a program that tells letters and digits
// apart and nothing else: X-Real-Ip for x_real.ip. CGI and WSGI turn a hyphen into an
// underscore (RFC 3875 §4.1.18), PHP also a dot, and lighttpd every other character.
func fold(name string) string {
	return http.CanonicalHeaderKey(strings.Map(func(r rune) rune {
		if r < 0x80 && alphanumeric(byte(r)) {
			return r
		}
		return '-'
	}, name))
}

// usualName reports whether a name is of letters, digits and hyphens, so that it can only
// be folded onto from other names.
func usualName(name string) bool {
	for i := range len(name) {
		if !alphanumeric(name[i]) && name[i] != '-' {
			return false
		}
	}
	return true
}

// decidedHere are the headers, but for X-Forwarded-*, that no other name may stand for:
// those that concern the connection or the framing, and those that requests get here.
var decidedHere = slices.Concat(hopByHop, unsettable, []string{"Host", "Max-Forwards", "X-Real-Ip"})

// foldRule says which headers and trailers of requests are dropped for their names.
type foldRule struct {
	underscores Underscores
	ours        []string // what RequestHeaders fold to
	unusual     bool     // a name of RequestHeaders is unusual
}

func newFoldRule(u Underscores, set setFields) foldRule {
	unusual := slices.ContainsFunc(set.list, func(f setField) bool { return !usualName(f.name) })
	return foldRule{underscores: u, ours: set.folded, unusual: unusual}
}

// drops reports whether a field is dropped for its name. One of RequestHeaders may be: its
// value is replaced anyway.
func (r *foldRule) drops(f *h1.Field) bool {
	if f.ID != h1.Other && !r.unusual {
		return false // such a name is usual
	}
	return r.dropsName(f.Name)
}

// dropsName is drops for any name.
func (r *foldRule) dropsName(name string) bool {
	usual := usualName(name)
	switch {
	case usual && !r.unusual:
		return false
	case !usual && r.underscores == UnderscoresDrop:
		return true
	}
	folds := func(folded string) bool { return foldsTo(name, folded) }
	return slices.ContainsFunc(r.ours, folds) || !usual && (slices.ContainsFunc(decidedHere, folds) || foldsToPrefix(name, forwarded))
}

const forwarded = "X-Forwarded-"

// foldsToPrefix reports whether what a name folds to begins with prefix.
func foldsToPrefix(name, prefix string) bool {
	return len(name) >= len(prefix) && foldsTo(name[:len(prefix)], prefix)
}

// foldsTo reports whether fold returns folded for a name.
func foldsTo(name, folded string) bool {
	if len(name) != len(folded) {
		return false
	}
	for i := range len(name) {
		if c := folded[i]; alphanumeric(name[i]) {
			if name[i]|0x20 != c|0x20 {
				return false
			}
		} else if c != '-' {
			return false
		}
	}
	return true
}
