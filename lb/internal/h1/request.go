package h1

import (
	"bytes"
	"unsafe"
)

// Request is the head of a request. Its strings share the memory of the bytes given to the
// Parse that has completed it: they are valid while those stay as they are. The zero value
// is ready for Parse, and one Request can serve many heads, one after the other.
type Request struct {
	Method  string
	Target  string // origin, absolute, authority or asterisk form (RFC 9112 §3.2), as it came
	Minor   int    // of the version: 0 for HTTP/1.0, 1 for HTTP/1.1 and what comes after it
	Host    string // the value of the Host field
	HasHost bool
	Fields  []Field // all, in the order in which they came
	Has     Set     // the IDs that occur in Fields, and maybe Other
	Length  int64   // of the body, or Chunked
	// Close: no other request may be taken from the connection after this one. The client
	// says so, or its version does, or where the request ends is not certain: with a
	// Content-Length beside the chunks (RFC 9112 §6.1), and for CONNECT.
	Close bool
	Size  int // bytes as Limits.Header counts them

	lines lines
}

// Parse parses the head at the beginning of b, and returns how many bytes it takes: empty
// lines before it (RFC 9112 §2.2) and the one that ends it included. If it returns 0, and no
// error, the head is not complete: Parse wants to be called again when there are more
// bytes, with those of before, which may lie elsewhere by now. No byte is looked at again.
// An error is an *Error; the connection cannot be used after it.
func (r *Request) Parse(b []byte, lim Limits) (n int, err error) {
	s := &r.lines
	if s.base == nil {
		r.begin(b)
	} else {
		s.move(b, r.Fields, &r.Method, &r.Target)
	}
	for r.Method == "" {
		if s.begun = s.at < len(b) && b[s.at] != '\r'; s.begun && lower[b[s.at]] == 0 {
			s.count++ // it may be TLS, which might never have an LF
			return r.end(0, s.fail(400, "request begins with a byte that no method begins with"))
		}
		line, more, err := s.next(b, lim)
		if more || err != nil {
			return r.end(0, err)
		}
		if len(line) > 0 {
			if err = r.parseLine(line, lim); err != nil {
				return r.end(0, err)
			}
		}
	}
	if more, err := s.fields(b, lim, &r.Fields, &r.Has); more || err != nil {
		return r.end(0, err)
	}
	return r.end(s.at, r.conclude())
}

// begin forgets the request before.
func (r *Request) begin(b []byte) {
	*r = Request{Fields: r.Fields[:0], lines: lines{base: unsafe.Pointer(unsafe.SliceData(b))}}
}

// end returns from Parse. The next call begins anew if a head or an error has come.
func (r *Request) end(n int, err error) (int, error) {
	r.Size = r.lines.size
	if err != nil {
		n = 0
	}
	if n > 0 || err != nil {
		r.lines.base = nil
	}
	return n, err
}

// Begun reports whether a part of a head has come, beyond empty lines, whose rest has not.
func (r *Request) Begun() bool { return r.lines.base != nil && r.lines.begun }

// Reset forgets the head, or what has come of it, and the memory that it refers to.
func (r *Request) Reset() {
	clear(r.Fields[:cap(r.Fields)])
	*r = Request{Fields: r.Fields[:0]}
}

// parseLine parses the request line (RFC 9112 §3).
func (r *Request) parseLine(line []byte, lim Limits) error {
	s := &r.lines
	n := 0
	for n < len(line) && lower[line[n]] != 0 {
		n++
	}
	if n == 0 || n == len(line) || line[n] != ' ' {
		return s.fail(400, "method is not a token")
	}
	rest := line[n+1:]
	end := bytes.IndexByte(rest, ' ')
	if end <= 0 || hasSpace(rest[:end]) {
		return s.fail(400, "request line is not a method, a target and a version")
	}
	major, minor := parseVersion(rest[end+1:])
	switch {
	case major < 0:
		return s.fail(400, "request line does not end in a version")
	case major != 1:
		return s.fail(505, "version is not HTTP/1.0 or HTTP/1.1")
	}
	if s.size = n + end; lim.Header != 0 && s.size > lim.Header {
		return s.fail(431, "target is too long")
	}
	r.Method, r.Target, r.Minor = text(line[:n]), text(rest[:end]), minor
	return nil
}

// conclude looks at the fields as a whole.
func (r *Request) conclude() error {
	s := &r.lines
	for i := range r.Fields {
		if r.Fields[i].ID != Host {
			continue
		}
		if r.HasHost {
			return s.fail(400, "more than one Host")
		}
		r.Host, r.HasHost = r.Fields[i].Value, true
	}
	if !r.HasHost && r.Minor > 0 {
		return s.fail(400, "no Host") // RFC 9112 §3.2
	}
	f, status, reason := frame(r.Fields, r.Has, false)
	switch {
	case status != 0:
		return s.fail(status, reason)
	case f.chunked && r.Minor == 0:
		return s.fail(400, "Transfer-Encoding in HTTP/1.0") // RFC 9112 §6.1
	}
	r.Close = f.close || r.Minor == 0 && !f.keepAlive || f.chunked && f.length >= 0 || r.Method == "CONNECT"
	if r.Length = max(f.length, 0); f.chunked {
		r.Length = Chunked
	}
	return nil
}
