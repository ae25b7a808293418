package lb

import (
	"fmt"

	"github.com/havip/havip/lb/internal/h1"
)

// bodyStream is the body of a message on its way through a loop: how much of it is still to come,
// and how it goes on.
type bodyStream struct {
	left    int64             // bytes that are still to come, or h1.Chunked, or h1.UntilClose
	chunks  h1.Chunks         // if it comes in chunks
	reframe bool              // it goes on in chunks
	plain   bool              // but not by take, which leaves the content as it is
	over    bool              // it has come whole, trailer and all
	trailer []byte            // in chunks: what has come of the trailer section
	section h1.TrailerSection // trailer, once it has been parsed
	moved   int64             // bytes of content that have come
}

// begin prepares for a body of that length, which goes on in chunks or not.
func (s *bodyStream) begin(length int64, reframe bool) {
	s.section.Reset()
	*s = bodyStream{left: length, reframe: reframe, over: length == 0, trailer: s.trailer[:0], section: s.section}
}

// errTrailerTooLong: the trailer section has more bytes than a header may have.
var errTrailerTooLong = fmt.Errorf("trailer: %w", errFieldsTooLarge)

// take takes what it can of b. content is what goes on now, framed; unframed content is a part
// of b, and framed content is made in dst. used is how much of b belongs to the body; if the
// body is over the rest does not.
func (s *bodyStream) take(dst, b []byte, maxTrailer int) (content []byte, used int, err error) {
	switch {
	case s.over || len(b) == 0:
		if s.frames() {
			content = dst
		}
		return content, 0, nil
	case s.left == h1.Chunked:
		return s.takeChunks(dst, b, maxTrailer)
	case s.left >= 0:
		used = int(min(s.left, int64(len(b))))
		s.left -= int64(used)
		s.over = s.left == 0
	default:
		used = len(b)
	}
	s.moved += int64(used)
	if s.frames() {
		return h1.AppendChunk(dst, b[:used]), used, nil
	}
	return b[:used], used, nil
}

// frames reports whether take makes chunks.
func (s *bodyStream) frames() bool { return s.reframe && !s.plain }

// skip notes that n bytes of content have gone another way.
func (s *bodyStream) skip(n int) {
	s.moved += int64(n)
	if s.left > 0 {
		s.left -= int64(n)
		s.over = s.left == 0
	}
}

// takeChunks takes content out of its chunks.
func (s *bodyStream) takeChunks(dst, b []byte, maxTrailer int) (content []byte, used int, err error) {
	end := 0 // of the content that was moved to the front of b, where frames were
	for used < len(b) && !s.chunks.Ended() {
		if s.chunks.Left() == 0 {
			n, err := s.chunks.Frame(b[used:])
			used += n
			if err != nil {
				return s.taken(dst, b[:end]), used, err
			}
			continue
		}
		n := int(min(s.chunks.Left(), uint64(len(b)-used)))
		switch {
		case s.frames(): // b stays as it is: it may be needed again
			dst = h1.AppendChunk(dst, b[used:used+n])
		case end != used:
			copy(b[end:], b[used:used+n])
		}
		s.chunks.Took(n)
		s.moved += int64(n)
		end += n
		used += n
	}
	if s.chunks.Ended() {
		var n int
		n, err = s.takeTrailer(b[used:], maxTrailer)
		used += n
	}
	return s.taken(dst, b[:end]), used, err
}

// taken returns the content that goes on: framed in dst, or plain.
func (s *bodyStream) taken(dst, plain []byte) []byte {
	if s.frames() {
		return dst
	}
	return plain
}

// takeTrailer collects the trailer section, up to the empty line that ends it.
func (s *bodyStream) takeTrailer(b []byte, maxTrailer int) (used int, err error) {
	for _, c := range b {
		used++
		s.trailer = append(s.trailer, c)
		if n := len(s.trailer); c == '\n' && (n == 2 && s.trailer[0] == '\r' || n >= 4 && string(s.trailer[n-4:]) == "\r\n\r\n") {
			s.over = true
			return used, nil
		}
		if len(s.trailer) > maxTrailer {
			return used, errTrailerTooLong
		}
	}
	return used, nil
}
