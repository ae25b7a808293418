package h1

import "unsafe"

// Response is the head of a response. What is said of Request's memory holds for it, too.
type Response struct {
	Status int // 100 to 999
	Reason string
	Minor  int // of the version: 0 for HTTP/1.0, 1 for HTTP/1.1 and what comes after it
	Fields []Field
	Has    Set   // the IDs that occur in Fields, and maybe Other
	Length int64 // of the body, Chunked or UntilClose; 0 with NoBody
	NoBody bool  // whatever the fields say (RFC 9112 §6.3): that of HEAD, 1xx, 204, 304
	// Close: no other response may be taken from the connection. The backend says so, or its
	// version does, or where the response ends is not certain.
	Close bool
	Size  int // bytes as Limits.Header counts them

	lines lines
}

// Parse parses the head of a response to a request with method, as Request.Parse does.
// After one with a status below 200, but 101, another one follows.
func (r *Response) Parse(b []byte, method string, lim Limits) (n int, err error) {
	s := &r.lines
	if s.base == nil {
		*r = Response{Fields: r.Fields[:0], lines: lines{base: unsafe.Pointer(unsafe.SliceData(b))}}
	} else {
		s.move(b, r.Fields, &r.Reason)
	}
	if r.Status == 0 {
		line, more, err := s.next(b, lim)
		if more || err != nil {
			return r.end(0, err)
		}
		if err = r.parseLine(line); err != nil {
			return r.end(0, err)
		}
	}
	if more, err := s.fields(b, lim, &r.Fields, &r.Has); more || err != nil {
		return r.end(0, err)
	}
	return r.end(s.at, r.conclude(method))
}

// end returns from Parse. The next call begins anew if a head or an error has come.
func (r *Response) end(n int, err error) (int, error) {
	r.Size = r.lines.size
	if err != nil {
		n, err.(*Error).Status = 0, 502
	}
	if n > 0 || err != nil {
		r.lines.base = nil
	}
	return n, err
}

// Reset forgets the head, or what has come of it, and the memory that it refers to.
func (r *Response) Reset() {
	clear(r.Fields[:cap(r.Fields)])
	*r = Response{Fields: r.Fields[:0]}
}

// parseLine parses the status line (RFC 9112 §4). Some servers leave out the reason phrase,
// and the space before it.
func (r *Response) parseLine(line []byte) error {
	s := &r.lines
	const example = "HTTP/1.1 200"
	if len(line) < len(example) || line[8] != ' ' {
		return s.fail(502, "status line is not a version, a status and a reason")
	}
	major, minor := parseVersion(line[:8])
	if major != 1 {
		return s.fail(502, "version is not HTTP/1.0 or HTTP/1.1")
	}
	status, valid := parseNumber(text(line[9:12]))
	reason := line[12:]
	if !valid || status < 100 || len(reason) > 0 && reason[0] != ' ' {
		return s.fail(502, "status is not a number from 100 to 999")
	}
	if len(reason) > 0 {
		reason = reason[1:]
	}
	if !validValue(reason) {
		return s.fail(502, "control byte in the reason phrase")
	}
	r.Status, r.Minor, r.Reason = int(status), minor, text(reason)
	return nil
}

// conclude looks at the fields as a whole (RFC 9112 §6.3).
func (r *Response) conclude(method string) error {
	f, status, reason := frame(r.Fields, r.Has, true)
	if status != 0 {
		return r.lines.fail(502, reason)
	}
	r.Close = f.close || r.Minor == 0 && (!f.keepAlive || f.chunked) || f.chunked && f.length >= 0
	switch {
	case r.Status < 200 || r.Status == 204:
		r.NoBody = true
		// There can be none, but the backend may think otherwise.
		r.Close = r.Close || r.Status == 204 && (f.chunked || f.length > 0)
	case method == "HEAD" || r.Status == 304:
		r.NoBody = true
	case f.chunked:
		r.Length = Chunked
	case f.length >= 0:
		r.Length = f.length
	default:
		r.Length, r.Close = UntilClose, true
	}
	return nil
}
