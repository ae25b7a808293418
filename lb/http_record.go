package lb

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unsafe"

	"github.com/havip/havip/lb/internal/h1"
)

// RequestRecord is what a Record has of a request beyond what it has of everything else. It
// refers to memory of the request: it is valid until the function returns that gets the
// Record. Whoever keeps a Record for longer keeps a [Record.Clone].
type RequestRecord struct {
	Method string // empty: what came was no request, see Line
	Target string // as the client has sent it
	Proto  string // HTTP/1.0, HTTP/1.1 or HTTP/2.0
	Line   string // the first line, or what came of it, of what was no request
	Host   string // of an absolute target, :authority or Host
	Route  string // the name of the route that was taken; empty: none
	// Upstream is the address of the backend that was tried last, and UpstreamStatus what that
	// has answered, whatever the client gets. Empty and 0: there was none.
	Upstream       string
	UpstreamStatus int
	// HeaderTime is how long it took until the head of the response had come from the backend,
	// connecting included. 0: none has come.
	HeaderTime time.Duration
	RequestID  string
	TLS        string // the version, as in TLSv1.3; empty: no TLS
	Left       bool   // the client has left before it was answered
	Unlogged   bool   // by the rule of that name: an AccessLog and LogRecords leave it out

	fields []h1.Field
}

// Header returns the value of the first field of the request with that name. ok: there is one.
func (r *RequestRecord) Header(name string) (value string, ok bool) {
	for i := range r.fields {
		if f := &r.fields[i]; len(f.Name) == len(name) && h1.EqualName(f.Name, name) {
			return f.Value, true
		}
	}
	return "", false
}

// User returns the name that the client has sent for basic authentication (RFC 7617), whether
// that was looked at or not; empty: none.
func (r *RequestRecord) User() string { return string(r.appendUser(nil)) }

// appendUser appends the name of User to b.
func (r *RequestRecord) appendUser(b []byte) []byte {
	value, _ := r.Header("Authorization")
	const scheme = "Basic "
	if len(value) < len(scheme) || !strings.EqualFold(value[:len(scheme)], scheme) {
		return b
	}
	start := len(b)
	// As in nginx, it does not matter what the encoding has behind its end.
	encoded, _, _ := strings.Cut(strings.TrimLeft(value[len(scheme):], " "), "=")
	b, err := base64.RawStdEncoding.AppendDecode(b, unsafe.Slice(unsafe.StringData(encoded), len(encoded)))
	end := start
	if colon := bytes.IndexByte(b[start:], ':'); colon > 0 && err == nil {
		end += colon
	}
	clear(b[end:]) // the password stays nowhere
	return b[:end]
}

// clone returns a copy with memory of its own.
func (r *RequestRecord) clone() *RequestRecord {
	c := *r
	for _, s := range []*string{&c.Method, &c.Target, &c.Proto, &c.Line, &c.Host, &c.Route, &c.Upstream, &c.RequestID, &c.TLS} {
		*s = strings.Clone(*s)
	}
	c.fields = nil
	for _, f := range r.fields {
		c.fields = append(c.fields, h1.Field{Name: strings.Clone(f.Name), Value: strings.Clone(f.Value), ID: f.ID})
	}
	return &c
}

// appendAttrs appends what a line of a log says of the request beside the rest of a Record.
func (r *RequestRecord) appendAttrs(attrs []slog.Attr) []slog.Attr {
	for _, a := range []slog.Attr{
		slog.String("method", r.Method), slog.String("target", r.Target), slog.String("line", r.Line), slog.String("host", r.Host),
		slog.String("route", r.Route), slog.String("upstream", r.Upstream), slog.String("request_id", r.RequestID),
	} {
		if a.Value.String() != "" {
			attrs = append(attrs, a)
		}
	}
	if r.UpstreamStatus != 0 {
		attrs = append(attrs, slog.Int("upstream_status", r.UpstreamStatus))
	}
	if r.HeaderTime != 0 {
		attrs = append(attrs, slog.Duration("header", r.HeaderTime))
	}
	return attrs
}

// describe fills in what the record says of the request.
func (x *exchange) describe() {
	r := &x.told
	x.record.HTTP = r
	r.TLS, r.Unlogged = x.from.protocol(), x.cfg.Unlogged
	if x.route != nil {
		r.Route = x.route.name
	}
	if x.req.Method == "" {
		return
	}
	r.Method, r.Target, r.Host, r.fields = x.req.Method, x.req.Target, x.authority, x.req.Fields
	if x.hook != nil && x.hook.RequestURI != "" { // net/http has it as it came
		r.Target = x.hook.RequestURI
	}
	switch {
	case x.major > 1:
		r.Proto = "HTTP/2.0"
	case x.req.Minor == 0:
		r.Proto = "HTTP/1.0"
	default:
		r.Proto = "HTTP/1.1"
	}
}

// noteHead notes when the head of the backend's response has come, and its status.
func (x *exchange) noteHead(status int, now time.Time) {
	x.told.UpstreamStatus, x.told.HeaderTime = status, now.Sub(x.record.Start)
}

// firstLine returns the first line of what has come, or what has come of it, without empty
// lines before it.
func firstLine(b []byte) string {
	b = bytes.TrimLeft(b, "\r\n")
	if end := bytes.IndexAny(b, "\r\n"); end >= 0 {
		b = b[:end]
	}
	return bytesText(b)
}

// What has come is the beginning of something else than the port is for.
var (
	errTLSUnexpected   = errors.New("TLS on a port without TLS")
	errPlainUnexpected = errors.New("HTTP on a port with TLS")
)

// wordsForGarbage returns why what has come is no request: err, unless the beginning tells
// what the client takes the port for. secure: there is TLS already.
func wordsForGarbage(b []byte, secure bool, err error) error {
	const record = "\x16\x03" // a handshake, and the version that TLS has kept (RFC 8446 §5.1)
	switch {
	case !secure && len(b) >= len(record) && string(b[:len(record)]) == record:
		return errTLSUnexpected
	case strings.HasPrefix(firstLine(b), "PRI * HTTP/2"):
		return fmt.Errorf("bad preface of HTTP/2: %w", err)
	}
	return err
}

// recordGarbage records what was no request, and is not counted as one.
func (s *handlerSettings) recordGarbage(from *requestOrigin, status int, err error, line string) {
	if s.Record == nil {
		return
	}
	s.Record(Record{
		Service: s.Pool.config().Name, Client: from.client, Start: time.Now(), Status: status, Reason: err.Error(),
		HTTP: &RequestRecord{Line: line, TLS: from.protocol(), Unlogged: s.Unlogged},
	})
}
