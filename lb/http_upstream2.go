package lb

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http2/hpack"

	"github.com/havip/havip/lb/internal/h1"
	"github.com/havip/havip/lb/internal/h2"
)

// newUpstream2 returns an upstream that is a stream of a connection of HTTP/2.
func newUpstream2(conn *sharedConn, stream *h2.Stream, to destination) *upstream {
	u := &upstream{Conn: streamConn{conn.net, stream}, to: to, stream: stream, shared: conn}
	u.w = bufio.NewWriterSize(u, 16) // nothing is written there
	stream.Awaiting = func() error {
		if u.reader == nil {
			return nil
		}
		return u.reader.flush()
	}
	return u
}

// streamConn is a stream as a connection that carries one body each way. The addresses are
// those of the connection below.
type streamConn struct {
	net.Conn
	stream *h2.Stream
}

func (c streamConn) Read(p []byte) (int, error) { return c.stream.Read(p) }

func (c streamConn) Write(p []byte) (int, error) {
	if err := c.stream.Write(p, false); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close gives the stream up unless it is complete.
func (c streamConn) Close() error { c.stream.Close(); return nil }

func (c streamConn) SetReadDeadline(t time.Time) error { c.stream.SetReadDeadline(t); return nil }

// SetWriteDeadline does nothing: streams have a timeout of their own.
func (c streamConn) SetWriteDeadline(time.Time) error { return nil }

func (c streamConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// writeHead2 begins the request on a stream.
func (x *handling) writeHead2(u *upstream, body, expect bool) error {
	if err := u.stream.WriteHead(x.requestFields2(body, expect, u.to.tls != nil), !body); err != nil {
		return err
	}
	u.written.Add(1)
	return nil
}

// requestFields2 returns the head of the request in HTTP/2. body: there is one. expect: the
// backend says whether it wants that.
func (x *exchange) requestFields2(body, expect, secure bool) []hpack.HeaderField {
	fields := make([]hpack.HeaderField, 0, len(x.fields)+6)
	// HPACK remembers values for longer than the memory of the request lasts.
	add := func(name, value string) {
		fields = append(fields, hpack.HeaderField{Name: name, Value: strings.Clone(value)})
	}
	add(":method", x.req.Method)
	scheme := "http"
	if secure {
		scheme = "https"
	}
	add(":scheme", scheme)
	if x.host != "" {
		add(":authority", x.host)
	}
	add(":path", x.target)
	switch {
	case body && x.length >= 0:
		add("content-length", strconv.FormatInt(x.length, 10))
	case body && len(x.trailers) > 0:
		add("trailer", strings.ToLower(strings.Join(x.trailers, ", ")))
	case !body && (holds(x.req.Has, h1.ContentLength) || usuallyHasBody(x.req.Method)):
		add("content-length", "0")
	}
	for i := range x.fields {
		f := &x.fields[i]
		// HTTP/2 has no options of a connection (RFC 9113 §8.2.2).
		if f.ID != h1.Connection && (f.ID != h1.Expect || expect) {
			add(strings.ToLower(f.Name), f.Value)
		}
	}
	return fields
}

// fields2 returns fields as HTTP/2 has them: names are in lower case (RFC 9113 §8.2).
func fields2(fields []h1.Field) []hpack.HeaderField {
	list := make([]hpack.HeaderField, len(fields))
	for i, f := range fields {
		list[i] = hpack.HeaderField{Name: strings.ToLower(f.Name), Value: f.Value}
	}
	return list
}

// fields1 returns fields of HTTP/2 as others here are.
func fields1(fields []hpack.HeaderField) []h1.Field {
	list := make([]h1.Field, len(fields))
	for i, f := range fields {
		list[i] = h1.Field{Name: f.Name, Value: strings.Trim(f.Value, " \t"), ID: h1.IDOf(f.Name)}
	}
	return list
}

// writeBody2 copies the request's body to the backend.
func (x *handling) writeBody2(u *upstream, body io.Reader) error {
	left := x.length
	err := copyPieces(body, func(p []byte) error {
		left -= int64(len(p))
		u.written.Add(int64(len(p)))
		return u.stream.Write(p, left == 0) // the last piece is known by the length
	})
	if err != nil || left == 0 {
		return err
	}
	if trailer := x.requestTrailer(nil, x.body.trailer()); len(trailer) > 0 {
		return u.stream.WriteTrailer(fields2(trailer))
	}
	return u.stream.Write(nil, true)
}

// readHead2 reads a head of the response.
func (x *handling) readHead2(u *upstream) error {
	if u.sent.Load() {
		_ = u.SetReadDeadline(time.Now().Add(u.timeout))
	}
	fields, err := u.stream.ReadHead()
	if err != nil {
		return err
	}
	u.heard = true
	u.shared.answered.Store(true)
	for _, f := range fields {
		u.headerLeft -= fieldSize(f.Name, f.Value)
	}
	if u.headerLeft < 0 {
		return errHeaderTooLong
	}
	res := &x.res
	res.Status, _ = strconv.Atoi(fields[0].Value)
	res.Reason, res.Minor = http.StatusText(res.Status), 1
	res.Fields = fields1(fields[1:])
	res.Has = idsOf(res.Fields)
	res.NoBody = x.req.Method == http.MethodHead || res.Status < 200 || res.Status == http.StatusNoContent || res.Status == http.StatusNotModified
	// In HTTP/1.1 only chunks have a trailer.
	if !res.NoBody && (x.major > 1 || !holds(res.Has, h1.Trailer)) {
		res.Length = lengthIn(res.Fields)
	} else if !res.NoBody {
		res.Length = h1.Chunked
	}
	return nil
}

// lengthIn returns the Content-Length among fields, h1.Chunked if there is none.
func lengthIn(fields []h1.Field) int64 {
	for i := range fields {
		if fields[i].ID == h1.ContentLength {
			n, _ := strconv.ParseInt(fields[i].Value, 10, 64) // the stream has checked it
			return n
		}
	}
	return h1.Chunked
}

// bodyLeft2 returns how much is to come of the body: 0, nothing, or h1.Chunked, not known.
func (u *upstream) bodyLeft2() int64 {
	if u.stream.Ended() && !u.stream.HasBody() && len(u.stream.Trailer()) == 0 {
		return 0
	}
	return h1.Chunked
}

// readStream reads the body of a response that comes by HTTP/2.
func (b *backendBody) readStream(p []byte) (n int, err error) {
	n, b.err = b.u.Read(p)
	if b.err == io.EOF {
		b.keepTrailer(fields1(b.u.stream.Trailer()))
	}
	return n, b.err
}

// isGRPC reports whether a request is one of gRPC. Its clients take an answer that comes
// before they have ended the request.
func isGRPC(r *http.Request) bool {
	return r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
}
