package lb

import (
	"io"
	"net/http"
	"net/textproto"

	"github.com/havip/havip/lb/internal/h1"
)

// chunkedBody is the body of a backend's response in chunks. It gives what has come: that
// of net/http waits for the rest of a chunk.
type chunkedBody struct {
	res    *http.Response // which gets the trailer
	u      *upstream
	chunks h1.Chunks
	err    error
}

// Read fills p with what is here already, and waits only for the first byte.
func (b *chunkedBody) Read(p []byte) (n int, err error) {
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
			return 0, b.end(b.readTrailer())
		}
	}
	return n, b.end(b.err)
}

// end keeps how the body has ended. The end of the connection is not the end of the body.
func (b *chunkedBody) end(err error) error {
	if b.err = err; err == io.EOF && !b.chunks.Ended() {
		b.err = io.ErrUnexpectedEOF
	}
	return b.err
}

// readFrame reads what there is of a frame.
func (b *chunkedBody) readFrame() error {
	if _, err := b.u.r.Peek(1); err != nil {
		return err
	}
	here, _ := b.u.r.Peek(b.u.r.Buffered())
	n, err := b.chunks.Frame(here)
	_, _ = b.u.r.Discard(n)
	return err
}

// readTrailer reads the trailer section. It returns io.EOF: the body is complete.
func (b *chunkedBody) readTrailer() error {
	b.u.headerLeft = maxResponseHeader
	defer func() { b.u.headerLeft = -1 }()
	trailer, err := textproto.NewReader(b.u.r).ReadMIMEHeader()
	switch {
	case err == io.EOF:
		return io.ErrUnexpectedEOF
	case err != nil:
		return err
	}
	if len(trailer) > 0 && b.res.Trailer == nil {
		b.res.Trailer = make(http.Header)
	}
	fields := 0
	for name, values := range trailer {
		if fields += len(values); fields > maxResponseFields {
			return errHeaderTooLong
		}
		b.res.Trailer[name] = values
	}
	return io.EOF
}

// Close does nothing: whether the connection is used again depends on what was read.
func (b *chunkedBody) Close() error { return nil }
