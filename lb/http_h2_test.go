package lb

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"
)

// Clients of HTTP/2 get from backends of HTTP/1.1 what others get.
func TestHTTP2Clients(t *testing.T) {
	s, _ := front2(t, HandlerConfig{}, webBackend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		w.Header().Set("Link", "x")
		w.WriteHeader(103)
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s %s %v", r.Method, r.Host, r.URL, b, r.Trailer)
		w.Header().Set("X-Sum", "1")
	}))
	for _, method := range []string{"GET", "POST", "PUT"} {
		hints := 0
		trace := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(int, textproto.MIMEHeader) error { hints++; return nil }})
		var content io.Reader
		if method != "GET" {
			content = io.MultiReader(strings.NewReader("hello")) // of unknown length
		}
		req, _ := http.NewRequestWithContext(trace, method, s.URL+"/a?b", content)
		want := method + " example.com /a?b  map[]"
		if method != "GET" {
			req.Trailer = http.Header{"X-In": {"7"}}
			req.Header.Set("Expect", "100-continue")
			want = method + " example.com /a?b hello map[X-In:[7]]"
		}
		req.Host = "example.com"
		res, err := s.Client().Do(req)
		if got := body(t, res, err); got != want || res.ProtoMajor != 2 || res.Trailer.Get("X-Sum") != "1" || hints == 0 {
			t.Errorf("%s: HTTP/%d %q, trailer %v, %d hints; want %q", method, res.ProtoMajor, got, res.Trailer, hints, want)
		}
	}
}

// What HTTP/2 can carry and HTTP/1.1 cannot does not get to a backend. The server of
// net/http refuses some of it; other servers may not.
func TestHTTP2RequestsThatHTTP1CannotHold(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(*http.Request)
	}{
		{"space in the query", func(r *http.Request) { r.URL.RawQuery = "a b" }},
		{"tab in the query", func(r *http.Request) { r.URL.RawQuery = "a\tb" }},
		{"DEL in the query", func(r *http.Request) { r.URL.RawQuery = "a\x7fb" }},
		{"version in the query", func(r *http.Request) { r.URL.RawQuery = " HTTP/1.1\r\nHost: y\r\n\r\n" }},
		{"space in the method", func(r *http.Request) { r.Method = "GET /evil HTTP/1.1\r\nX:" }},
		{"empty method", func(r *http.Request) { r.Method = "" }},
		{"CRLF in the host", func(r *http.Request) { r.Host = "x\r\nX: 1" }},
		{"space in the host", func(r *http.Request) { r.Host = "x y" }},
	} {
		rec, b := record(t)
		h := newHandler(t, HandlerConfig{Pool: newPool(t, PoolConfig{Backends: []Backend{b}})})
		r := httptest.NewRequest("GET", "/", nil)
		r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0
		tt.spoil(r)
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != 400 || len(rec.Requests()) != 0 {
			t.Errorf("%s: %d, want 400", tt.name, w.Code)
		}
		h.Shutdown(t.Context())
	}
	// In a value there is room for it, but not for the end of a line.
	rec, b := record(t)
	h := newHandler(t, HandlerConfig{Pool: newPool(t, PoolConfig{Backends: []Backend{b}})})
	r := httptest.NewRequest("GET", "/", nil)
	r.Header = http.Header{"X": {"a\r\nEvil: b\nc"}, "Evil\r\nY": {"1"}}
	h.ServeHTTP(httptest.NewRecorder(), r)
	if got, want := fmt.Sprint(briefly(rec)), "[GET / HTTP/1.1|Host: example.com|X: a  Evil: b c||]"; got != want {
		t.Errorf("the backend got %q, want %q", got, want)
	}
	h.Shutdown(t.Context())
}

// The end of a line in a header of HTTP/2 is the end of that request.
func TestHTTP2HeaderSplitting(t *testing.T) {
	rec, b := record(t)
	s, _ := front2(t, HandlerConfig{}, b)
	for _, value := range []string{"good", "a\r\nEvil: b", "a\nb", "a\rb", "a\x00b"} {
		status := askHTTP2(t, s, ":method", "GET", ":scheme", "https", ":authority", "x", ":path", "/", "x", value)
		if good := value == "good"; good && status != "200" || !good && status != "reset" {
			t.Errorf("%q: %s", value, status)
		}
		if got := rec.Requests(); (len(got) == 1) != (value == "good") {
			t.Errorf("%q: the backend got %q", value, got)
		}
	}
}

// askHTTP2 sends one request with exactly these names and values of fields, and returns
// the status of the response, or "reset".
func askHTTP2(t *testing.T, s *httptest.Server, fields ...string) string {
	t.Helper()
	c := dialHTTP2(t, s)
	defer c.Close()
	c.writeHeaders(true, fields...)
	for {
		switch f := c.readFrame(t); f.kind {
		case frameHeaders:
			decoded, err := hpack.NewDecoder(4096, nil).DecodeFull(f.payload)
			if err != nil {
				t.Fatal(err)
			}
			return decoded[0].Value // of :status
		case frameReset:
			return "reset"
		}
	}
}

// frame is one of HTTP/2 (RFC 9113 §6), of the first stream or of the connection.
type frame struct {
	kind, flags byte
	payload     []byte
}

const (
	frameData, frameHeaders, frameReset, frameSettings, framePing = 0, 1, 3, 4, 6

	flagEndStream, flagEndHeaders, flagAck = 1, 4, 1
)

// conn2 is a connection of HTTP/2 with one stream.
type conn2 struct{ net.Conn }

// dialHTTP2 connects to s, and begins with settings that change nothing.
func dialHTTP2(t *testing.T, s *httptest.Server) conn2 {
	t.Helper()
	config := s.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	config.NextProtos = []string{"h2"}
	c, err := tls.Dial("tcp", s.Listener.Addr().String(), config)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(bound))
	io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	conn2{c}.writeFrame(0, frame{kind: frameSettings})
	return conn2{c}
}

func (c conn2) writeFrame(stream byte, f frame) {
	n := len(f.payload)
	c.Write(append([]byte{0, byte(n >> 8), byte(n), f.kind, f.flags, 0, 0, 0, stream}, f.payload...))
}

// writeHeaders begins a request of these names and values, which may end with them.
func (c conn2) writeHeaders(end bool, fields ...string) {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for f := range slices.Chunk(fields, 2) {
		encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	f := frame{kind: frameHeaders, flags: flagEndHeaders, payload: block.Bytes()}
	if end {
		f.flags |= flagEndStream
	}
	c.writeFrame(1, f)
}

func (c conn2) readFrame(t *testing.T) frame {
	t.Helper()
	head := make([]byte, 9)
	if _, err := io.ReadFull(c, head); err != nil {
		t.Fatal(err)
	}
	f := frame{head[3], head[4], make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))}
	if _, err := io.ReadFull(c, f.payload); err != nil {
		t.Fatal(err)
	}
	return f
}

// A client that is still sending when its answer comes may end its request in peace: an
// HAProxy that gets a reset in place of that does not pass the answer on. How much time the
// client has is another matter, so that one of a few attempts must do.
func TestHTTP2EarlyAnswerIsNoReset(t *testing.T) {
	s, _ := front2(t, HandlerConfig{}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		if req, err := http.ReadRequest(r); err == nil {
			io.WriteString(c, map[string]string{
				"/length":  "HTTP/1.1 401 No\r\nContent-Length: 4\r\n\r\nwho?",
				"/chunked": "HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwho?\r\n0\r\n\r\n",
			}[req.URL.Path])
			discard(c, r)
		}
	}))
	attempt := func(path string) (reset bool) {
		c := dialHTTP2(t, s)
		defer c.Close()
		c.writeHeaders(false, ":method", "POST", ":scheme", "https", ":authority", "x", ":path", path)
		for got := ""; got != "who?"; {
			switch f := c.readFrame(t); f.kind {
			case frameData:
				got += string(f.payload)
			case frameReset:
				return true
			}
		}
		c.writeFrame(1, frame{frameData, flagEndStream, []byte("it is me")})
		for ended := false; ; {
			switch f := c.readFrame(t); {
			case f.kind == frameReset:
				return true
			case f.kind == frameData && f.flags&flagEndStream != 0 && !ended:
				ended = true
				c.writeFrame(0, frame{kind: framePing, payload: make([]byte, 8)})
			case f.kind == framePing && f.flags&flagAck != 0:
				return false
			}
		}
	}
	for _, path := range []string{"/length", "/chunked"} {
		attempts := 5
		for attempts > 0 && attempt(path) {
			attempts--
		}
		if attempts == 0 {
			t.Errorf("%s: each time a reset", path)
		}
	}
}

// An answer in the middle of a request ends its stream, and no more.
func TestHTTP2EarlyAnswer(t *testing.T) {
	s, h := front2(t, HandlerConfig{}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		if req.Method == "POST" {
			io.WriteString(c, "HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwho?\r\n0\r\n\r\n")
		} else {
			io.WriteString(c, anOK)
		}
		discard(c, r)
	}))
	pr, pw := io.Pipe()
	defer pw.Close()
	res, err := s.Client().Post(s.URL, "text/plain", pr)
	if got := body(t, res, err); got != "who?" || res.StatusCode != 401 {
		t.Errorf("%d %q", res.StatusCode, got)
	}
	res, err = s.Client().Get(s.URL)
	if got := body(t, res, err); got != "ok" {
		t.Errorf("%q", got)
	}
	waitFor(t, "the end", func() bool { return h.Stats().Active == 0 })
}
