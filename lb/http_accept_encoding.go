package lb

import (
	"strings"

	"github.com/havip/havip/internal/words"
	"github.com/havip/havip/lb/internal/h1"
)

// Encoding is a content coding that responses can be compressed with (RFC 9110 §8.4.1).
type Encoding uint8

// The values.
const (
	EncodingGzip Encoding = iota // every client knows it
	EncodingZstd                 // RFC 8878: smaller, and faster to make; most browsers of today know it
)

var encodings = []string{"gzip", "zstd"}

// String returns "gzip" or "zstd".
func (e Encoding) String() string { return words.Of(encodings, e) }

// MarshalText implements encoding.TextMarshaler.
func (e Encoding) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (e *Encoding) UnmarshalText(text []byte) error { return words.Parse(encodings, text, e) }

// unnamed is the weight of a coding that a client has not named.
const unnamed = -1

// acceptance is what a client says of content codings (RFC 9110 §12.5.3): weights from 0, never,
// to 1000, or unnamed.
type acceptance struct {
	gzip, zstd, identity int
	any                  int // of those that are not named
}

// acceptEncoding is the field in which clients say which codings they accept.
const acceptEncoding = "Accept-Encoding"

// readAcceptance reads what a request says. Without the field a client may well accept any
// coding; to assume so would break those that know none, and no server does.
func readAcceptance(fields []h1.Field) acceptance {
	a := acceptance{unnamed, unnamed, unnamed, unnamed}
	for i := range fields {
		if f := &fields[i]; h1.EqualName(f.Name, acceptEncoding) {
			for item := range strings.SplitSeq(f.Value, ",") {
				a.add(item)
			}
		}
	}
	return a
}

// add adds a member of the list. Of one that is there more than once the lowest weight counts.
func (a *acceptance) add(item string) {
	name, weight, weighted := strings.Cut(item, ";")
	var to *int
	switch name = strings.Trim(name, " \t"); {
	case name == "*":
		to = &a.any
	case h1.EqualName(name, "gzip"), h1.EqualName(name, "x-gzip"): // RFC 9110 §8.4.1.3
		to = &a.gzip
	case h1.EqualName(name, "zstd"):
		to = &a.zstd
	case h1.EqualName(name, "identity"):
		to = &a.identity
	default:
		return
	}
	q := 1000
	if weighted {
		q = parseWeight(strings.Trim(weight, " \t"))
	}
	if *to == unnamed || q < *to {
		*to = q
	}
}

// parseWeight parses a weight (RFC 9110 §12.4.2) in thousandths. What is none is 0: who cannot
// be understood gets what everybody understands.
func parseWeight(s string) int {
	if len(s) < len("q=0") || len(s) > len("q=0.000") || s[0]|0x20 != 'q' || s[1] != '=' || s[2] != '0' && s[2] != '1' {
		return 0
	}
	weight, unit := int(s[2]-'0')*1000, 100
	for i, c := range []byte(s[len("q=0"):]) {
		switch {
		case i == 0 && c == '.':
		case i == 0, c < '0', c > '9':
			return 0
		default:
			weight += int(c-'0') * unit
			unit /= 10
		}
	}
	if weight > 1000 {
		return 0
	}
	return weight
}

// choose returns the coding of ours that the client likes best, and of those that it likes as
// well the first; false: it gets none. What "*" stands for is gzip, and never what few know:
// some write it who know nothing else.
func (a acceptance) choose(ours []Encoding) (best Encoding, ok bool) {
	weight := a.identity
	if weight == unnamed {
		weight = a.any // which stands for it, too
	}
	for _, e := range ours {
		w := a.zstd
		if e == EncodingGzip {
			if w = a.gzip; w == unnamed {
				w = a.any
			}
		}
		if w > 0 && (w > weight || !ok && w == weight) {
			best, weight, ok = e, w, true
		}
	}
	return best, ok
}
