package h1

import (
	"bytes"
	"fmt"
	"slices"
	"unsafe"
)

// Field is a line of a header or trailer section (RFC 9112 §5).
type Field struct {
	Name  string // in the case in which it came
	Value string // without the white space around it
	ID    ID
}

// Limits bound a section of fields. 0 is no bound.
type Limits struct {
	// Header is how many bytes the fields take as they are written in HTTP/1.1: name, colon,
	// space, value, CRLF. The method and the target of a request count, too.
	Header int
	Fields int
}

// slack is what a head may have beyond what Limits.Header counts: version, reason phrase,
// empty lines, and much white space.
const slack = 1 << 10

// Bytes returns how long a head can be that is not refused: in a buffer of that size there
// is room for every one. 0: no bound.
func (l Limits) Bytes() int {
	if l.Header == 0 {
		return 0
	}
	return l.Header + slack
}

// Error is why a head, or a trailer section, is refused.
type Error struct {
	Status int    // for the client: 400, 431, 501 or 505; in a response 502
	Line   int    // in which line, from 1
	Reason string // what is wrong
}

func (e *Error) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Reason) }

// lines takes lines from the beginning of a buffer that grows between calls, and may move.
type lines struct {
	at    int            // where the next line begins
	seen  int            // up to here, no LF is in it
	count int            // of lines that were taken
	size  int            // as Limits.Header counts
	begun bool           // a byte has come, beyond empty lines
	base  unsafe.Pointer // of the buffer, for what refers to it
}

// fail returns the error of the line that was taken last.
func (s *lines) fail(status int, reason string) error {
	return &Error{Status: status, Line: s.count, Reason: reason}
}

// next takes a line, without its CRLF. more: it is not complete.
func (s *lines) next(b []byte, lim Limits) (line []byte, more bool, err error) {
	i := bytes.IndexByte(b[s.seen:], '\n')
	end := s.seen + i
	if i < 0 {
		s.seen, end = len(b), len(b)
	}
	if lim.Header != 0 && end >= lim.Bytes() {
		s.count++
		return nil, false, s.fail(431, "header is too large")
	}
	if i < 0 {
		return nil, true, nil
	}
	s.count++
	if end == s.at || b[end-1] != '\r' {
		return nil, false, s.fail(400, "line ends in LF without CR")
	}
	line = b[s.at : end-1]
	s.at, s.seen = end+1, end+1
	return line, false, nil
}

// fields takes lines up to the empty one. more: that has not come yet.
func (s *lines) fields(b []byte, lim Limits, fields *[]Field, has *Set) (more bool, err error) {
	for {
		line, more, err := s.next(b, lim)
		if more || err != nil || len(line) == 0 {
			return more, err
		}
		n := len(*fields)
		if lim.Fields != 0 && n >= lim.Fields {
			return false, s.fail(431, "too many fields")
		}
		// The field is parsed where it stays: to copy one takes as long as to parse a short one.
		if n == cap(*fields) {
			*fields = slices.Grow(*fields, 16)
		}
		*fields = (*fields)[:n+1]
		f := &(*fields)[n]
		if reason := f.parse(line); reason != "" {
			*fields = (*fields)[:n]
			return false, s.fail(400, reason)
		}
		if s.size += len(f.Name) + len(f.Value) + len(": \r\n"); lim.Header != 0 && s.size > lim.Header {
			return false, s.fail(431, "header is too large")
		}
		*has |= 1 << f.ID
	}
}

// parse parses a line (RFC 9112 §5.1). It returns what is wrong with it.
func (f *Field) parse(line []byte) (reason string) {
	n := 0
	for n < len(line) && lower[line[n]] != 0 {
		n++
	}
	if n == 0 || n == len(line) || line[n] != ':' {
		return badName(line, n)
	}
	from, to := n+1, len(line)
	for from < to && isSpace(line[from]) {
		from++
	}
	for from < to && isSpace(line[to-1]) {
		to--
	}
	value := line[from:to]
	if !validValue(value) {
		return "control byte in the value of a field"
	}
	f.Name, f.Value = text(line[:n]), text(value)
	f.ID = IDOf(f.Name)
	return ""
}

// badName tells what is wrong with a line whose first n bytes may be of a name.
func badName(line []byte, n int) string {
	switch {
	case n == len(line):
		return "field without a colon"
	case n == 0 && isSpace(line[0]):
		return "line begins with white space" // RFC 9112 §2.2, §5.2
	case isSpace(line[n]):
		return "white space in the name of a field" // RFC 9112 §5.1
	}
	return "name of a field is not a token"
}

// move makes what refers to the buffer refer to b, which holds the same bytes elsewhere.
// What the memory before holds now does not matter.
func (s *lines) move(b []byte, fields []Field, more ...*string) {
	base := unsafe.Pointer(unsafe.SliceData(b))
	if base == s.base {
		return
	}
	old := uintptr(s.base)
	moved := func(t string) string {
		if t == "" {
			return ""
		}
		offset := uintptr(unsafe.Pointer(unsafe.StringData(t))) - old
		return text(b[offset : offset+uintptr(len(t))])
	}
	for i := range fields {
		fields[i].Name, fields[i].Value = moved(fields[i].Name), moved(fields[i].Value)
	}
	for _, t := range more {
		*t = moved(*t)
	}
	s.base = base
}
