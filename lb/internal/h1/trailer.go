package h1

import "unsafe"

// TrailerSection is what follows the last chunk of a body (RFC 9112 §7.1.2). What is said of
// Request's memory holds for it, too.
type TrailerSection struct {
	Fields []Field
	Has    Set // the IDs that occur in Fields, and maybe Other
	Size   int // bytes as Limits.Header counts them

	lines lines
}

// Parse parses the section at the beginning of b, as Request.Parse does. Mostly that is
// only the empty line that ends it.
func (t *TrailerSection) Parse(b []byte, lim Limits) (n int, err error) {
	s := &t.lines
	if s.base == nil {
		*t = TrailerSection{Fields: t.Fields[:0], lines: lines{base: unsafe.Pointer(unsafe.SliceData(b))}}
	} else {
		s.move(b, t.Fields)
	}
	more, err := s.fields(b, lim, &t.Fields, &t.Has)
	if t.Size = s.size; more {
		return 0, nil
	}
	s.base = nil
	if err != nil {
		return 0, err
	}
	return s.at, nil
}

// Reset forgets the section, or what has come of it, and the memory that it refers to.
func (t *TrailerSection) Reset() {
	clear(t.Fields[:cap(t.Fields)])
	*t = TrailerSection{Fields: t.Fields[:0]}
}
