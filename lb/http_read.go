package lb

import (
	"io"
	"maps"
	"net/http"

	"github.com/havip/havip/lb/internal/h1"
)

// readResponse reads the head of the final response. Informational responses that come
// before are passed on.
func (x *handling) readResponse(u *upstream) error {
	for {
		if err := x.readResponseHead(u); err != nil {
			return err
		}
		switch {
		case x.res.Status == http.StatusContinue:
			x.upload.askForBody()
			continue
		case x.res.Status < 200 && x.res.Status != http.StatusSwitchingProtocols:
			if fields, ok := x.interimFields(&x.res); ok {
				x.passInformational(x.res.Status, fields)
			}
			continue
		}
		if err := x.checkResponse(&x.res); err != nil {
			return err
		}
		u.headerLeft = -1
		x.origin = &backendBody{u: u, left: x.res.Length}
		if u.stream != nil {
			x.origin.left = u.bodyLeft2()
		}
		close(x.upload.answered)
		return nil
	}
}

// readResponseHead reads a head. What comes behind it stays in u.r.
func (x *handling) readResponseHead(u *upstream) error {
	x.res.Reset() // the attempt before may have left a part of a head
	if u.stream != nil {
		return x.readHead2(u)
	}
	limits := h1.Limits{Header: maxResponseHeader, Fields: maxResponseFields}
	var head []byte // nobody else's: x.res refers to it
	n, err := 0, error(nil)
	for n == 0 && err == nil {
		var here []byte
		if here, err = u.peek(); err != nil {
			return err
		}
		before := len(head)
		head = append(head, here...)
		n, err = x.res.Parse(head, x.req.Method, limits)
		if n > 0 {
			here = here[:n-before]
		}
		_, _ = u.r.Discard(len(here))
	}
	return err
}

// peek returns what has come, and waits for the first byte of it. The end of the connection
// comes too early.
func (u *upstream) peek() ([]byte, error) {
	if _, err := u.r.Peek(1); err == io.EOF {
		return nil, io.ErrUnexpectedEOF
	} else if err != nil {
		return nil, err
	}
	return u.r.Peek(u.r.Buffered())
}

// backendBody is the body of a backend's response. It gives what has come, for a client may
// wait for the beginning of a chunk whose rest comes much later.
type backendBody struct {
	u       *upstream
	left    int64 // bytes that are still to come, h1.Chunked or h1.UntilClose
	chunks  h1.Chunks
	trailer []h1.Field
	res     *http.Response // gets the trailer, too; nil: there is none
	err     error          // how the body has ended
}

// over reports whether the body has been read to its end.
func (b *backendBody) over() bool { return b.err == io.EOF || b.left == 0 }

func (b *backendBody) Read(p []byte) (n int, err error) {
	switch {
	case b.err != nil:
		return 0, b.err
	case b.left == 0:
		b.err = io.EOF
		return 0, io.EOF
	case b.u.stream != nil:
		return b.readStream(p)
	case b.left == h1.Chunked:
		return b.readChunks(p)
	case b.left == h1.UntilClose:
		if n, b.err = b.u.r.Read(p); b.err == io.EOF && b.u.isTorn() {
			b.err = io.ErrUnexpectedEOF
		}
		return n, b.err
	}
	n, b.err = b.u.r.Read(p[:min(int64(len(p)), b.left)])
	switch b.left -= int64(n); {
	case b.left == 0:
		b.err = io.EOF
	case b.err == io.EOF:
		b.err = io.ErrUnexpectedEOF
	}
	return n, b.err
}

// readChunks fills p with what is here already, and waits only for the first byte.
func (b *backendBody) readChunks(p []byte) (n int, err error) {
	for b.err == nil && n < len(p) && (n == 0 || b.u.r.Buffered() > 0 || b.u.hasMore()) {
		switch {
		case b.chunks.Left() > 0:
			rest := p[n:]
			got, err := b.u.r.Read(rest[:min(uint64(len(rest)), b.chunks.Left())])
			b.chunks.Took(got)
			n += got
			b.err = err
		case !b.chunks.Ended():
			b.err = b.readFrame()
		case n > 0:
			return n, nil // the trailer may be late
		default:
			b.err = b.readTrailer()
			return 0, b.err
		}
	}
	// The end of the connection is not the end of the body.
	if b.err == io.EOF {
		b.err = io.ErrUnexpectedEOF
	}
	return n, b.err
}

// readFrame reads what there is of a frame.
func (b *backendBody) readFrame() error {
	here, err := b.u.peek()
	if err != nil {
		return err
	}
	n, err := b.chunks.Frame(here)
	_, _ = b.u.r.Discard(n)
	return err
}

// readTrailer reads the trailer section. It returns io.EOF: the body is complete.
func (b *backendBody) readTrailer() error {
	b.u.headerLeft = maxResponseHeader
	defer func() { b.u.headerLeft = -1 }()
	var section []byte // nobody else's: b.trailer refers to it
	var trailer h1.TrailerSection
	for {
		here, err := b.u.peek()
		if err != nil {
			return err
		}
		before := len(section)
		section = append(section, here...)
		n, err := trailer.Parse(section, h1.Limits{Header: maxResponseHeader, Fields: maxResponseFields})
		if n > 0 {
			here = here[:n-before]
		}
		_, _ = b.u.r.Discard(len(here))
		switch {
		case err != nil:
			return err
		case n > 0:
			b.keepTrailer(trailer.Fields)
			return io.EOF
		}
	}
}

// discardHere throws away what has come of the body, and waits for nothing.
func (b *backendBody) discardHere() {
	for total := 0; b.u.stream == nil && !b.over() && b.err == nil && total < relayBuffer; {
		if b.u.r.Buffered() == 0 && !b.u.hasMore() {
			return
		}
		here, err := b.u.peek()
		if b.err = err; err != nil {
			return
		}
		n := b.discard(here)
		_, _ = b.u.r.Discard(n)
		if total += n; n == 0 {
			return
		}
	}
}

// discard returns how much of what has come is the body's; 0: it must come with more.
func (b *backendBody) discard(here []byte) (n int) {
	switch {
	case b.left >= 0:
		n = int(min(b.left, int64(len(here))))
		b.left -= int64(n)
	case b.left == h1.UntilClose:
		n = len(here)
	case b.chunks.Left() > 0:
		n = int(min(b.chunks.Left(), uint64(len(here))))
		b.chunks.Took(n)
	case !b.chunks.Ended():
		n, b.err = b.chunks.Frame(here)
	default:
		var trailer h1.TrailerSection
		n, b.err = trailer.Parse(here, h1.Limits{Header: maxResponseHeader, Fields: maxResponseFields})
		if n > 0 && b.err == nil {
			b.err = io.EOF
		}
	}
	return n
}

// keepTrailer keeps the fields of the trailer section.
func (b *backendBody) keepTrailer(fields []h1.Field) {
	if b.trailer = fields; b.res == nil || len(fields) == 0 {
		return
	}
	if b.res.Trailer == nil {
		b.res.Trailer = make(http.Header)
	}
	maps.Copy(b.res.Trailer, headerOf(fields, nil))
}

// Close does nothing: whether the connection is used again depends on what was read.
func (b *backendBody) Close() error { return nil }
