package lb

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/havip/havip/internal/lab/labtest"
)

// The bounds of a request's header hold for the Handler itself, whatever the server
// before it takes, and are to the byte the same in HTTP/1.1 and HTTP/2.
func TestHeaderLimits(t *testing.T) {
	for _, tt := range []struct {
		name   string
		cfg    HandlerConfig
		bytes  int // more than fit
		fields int // more than fit
		want   int
	}{
		{"what fits", HandlerConfig{}, 0, 0, 200},
		{"a byte too many", HandlerConfig{}, 1, 0, 431},
		{"a field too many", HandlerConfig{}, 0, 1, 431},
		{"what fits into little", HandlerConfig{MaxHeader: 2000, MaxFields: 10}, 0, 0, 200},
		{"a byte too many for little", HandlerConfig{MaxHeader: 2000, MaxFields: 10}, 1, 0, 431},
		{"what fits into much", HandlerConfig{MaxHeader: 1 << 19, MaxFields: 3000}, 0, 0, 200},
	} {
		b := labtest.Record(t, labtest.Answers(anOK))
		cfg := tt.cfg.WithDefaults()
		one, _ := front(t, tt.cfg, Backend{Address: b.Address})
		two, _ := front2(t, tt.cfg, Backend{Address: b.Address})
		for protocol, s := range map[string]*httptest.Server{"HTTP/1.1": one, "HTTP/2.0": two} {
			req, _ := http.NewRequest("GET", s.URL+"/abc?d", nil)
			req.Host = "example.com"
			req.Header = http.Header{"User-Agent": {"x"}, "Accept-Encoding": {"identity"}}
			size := len("GET/abc?d") + len("Host: example.com\r\nUser-Agent: x\r\nAccept-Encoding: identity\r\nY: \r\n")
			for range cfg.MaxFields + tt.fields - 4 {
				req.Header["X"] = append(req.Header["X"], "v")
				size += len("X: v\r\n")
			}
			req.Header.Set("Y", strings.Repeat("y", int(cfg.MaxHeader)-size+tt.bytes))
			res, err := s.Client().Do(req)
			body(t, res, err)
			if n := len(b.Requests()); res.Proto != protocol || res.StatusCode != tt.want || (n == 1) != (tt.want == 200) {
				t.Errorf("%s: %s %d, %d requests at the backend; want %d", tt.name, res.Proto, res.StatusCode, n, tt.want)
			}
		}
	}
}

// What a middleware makes of the target counts.
func TestHeaderLimitOfAChangedTarget(t *testing.T) {
	b := labtest.Record(t, labtest.Answers(anOK))
	h := newHandler(t, HandlerConfig{Pool: newPool(t, PoolConfig{Backends: []Backend{{Address: b.Address}}})})
	for _, tt := range []struct{ path, query, want int }{
		{defaultMaxHeader / 2, 0, 200}, {defaultMaxHeader, 0, 431}, {0, defaultMaxHeader / 2, 200}, {0, defaultMaxHeader, 431},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.URL.Path, r.URL.RawQuery = "/"+strings.Repeat("a", tt.path), strings.Repeat("b", tt.query)
			h.ServeHTTP(w, r)
		}))
		t.Cleanup(s.Close)
		if got := rawStatus(t, s, aGet); got != tt.want {
			t.Errorf("%+v: %d", tt, got)
		}
	}
}

// client2 speaks HTTP/2 frame by frame.
type client2 struct {
	*http2.Framer
	t     testing.TB
	conn  net.Conn
	block bytes.Buffer
	enc   *hpack.Encoder
}

func dial2(t testing.TB, address string) *client2 {
	t.Helper()
	conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	return newClient2(t, conn)
}

// newClient2 begins HTTP/2 on a connection.
func newClient2(t testing.TB, conn net.Conn) *client2 {
	t.Helper()
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(bound))
	c := &client2{Framer: http2.NewFramer(conn, conn), t: t, conn: conn}
	c.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.enc = hpack.NewEncoder(&c.block)
	io.WriteString(conn, http2.ClientPreface)
	if err := c.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return c
}

// fields encodes a block of fields: names and values by turns.
func (c *client2) fields(list ...string) []byte {
	c.block.Reset()
	for i := 0; i < len(list); i += 2 {
		_ = c.enc.WriteField(hpack.HeaderField{Name: list[i], Value: list[i+1]})
	}
	return bytes.Clone(c.block.Bytes())
}

// answer waits for the answer on a stream: its status, RST_STREAM or GOAWAY.
func (c *client2) answer(stream uint32) string {
	c.t.Helper()
	for {
		f, err := c.ReadFrame()
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			if f.StreamID == stream {
				return f.PseudoValue("status")
			}
		case *http2.RSTStreamFrame:
			if f.StreamID == stream {
				return "RST_STREAM " + f.ErrCode.String()
			}
		case *http2.GoAwayFrame:
			return "GOAWAY " + f.ErrCode.String()
		}
		if err != nil {
			c.t.Fatal(err)
		}
	}
}

var get2 = []string{":method", "GET", ":scheme", "https", ":authority", "x", ":path", "/"}

// HPACK repeats 4 KB by one byte. A request that few bytes blow up does not get to a
// backend.
func TestHPACKBomb(t *testing.T) {
	b := labtest.Record(t, labtest.Answers(anOK))
	s, _ := front2(t, HandlerConfig{}, Backend{Address: b.Address})
	c := dial2(t, s.Listener.Addr().String())
	fuse := []string{"x", strings.Repeat("a", 4000)}
	request := append(append([]string{}, get2...), fuse...)
	c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.fields(request...), EndHeaders: true, EndStream: true})
	if got := c.answer(1); got != "200" {
		t.Fatalf("4 KB: %s", got)
	}
	b.Bytes()
	for range 200 {
		request = append(request, fuse...)
	}
	c.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: c.fields(request...), EndHeaders: true, EndStream: true})
	if got, n := c.answer(3), len(b.Bytes()); got != "431" || n > 0 {
		t.Errorf("%s, and the backend got %d bytes; want 431", got, n)
	}
}

// A trailer has the bounds of a header.
func TestTrailerLimits(t *testing.T) {
	trailer := func(fields, size int) string {
		return strings.Repeat("X-T: "+strings.Repeat("a", size)+"\r\n", fields)
	}
	for _, tt := range []struct {
		name    string
		trailer string
		want    int
	}{
		{"what fits", trailer(10, 92), 200},
		{"a byte too many", trailer(9, 107) + trailer(1, 0), 431},
		{"a field too many", trailer(11, 1), 431},
	} {
		b := labtest.Record(t, labtest.Answers(anOK))
		s, _ := front(t, HandlerConfig{MaxHeader: 1024, MaxFields: 10}, Backend{Address: b.Address})
		got := rawStatus(t, s, "POST / HTTP/1.1\r\nHost: x\r\nTrailer: X-T\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n"+tt.trailer+"\r\n")
		if bytes := b.Bytes(); got != tt.want || strings.Contains(bytes, "X-T: ") != (tt.want == 200) {
			t.Errorf("%s: %d, the backend got %q; want %d", tt.name, got, bytes, tt.want)
		}
	}
	// In HTTP/2 a trailer may be blown up as well.
	b := labtest.Record(t, labtest.Answers(anOK))
	s, _ := front2(t, HandlerConfig{}, Backend{Address: b.Address})
	c := dial2(t, s.Listener.Addr().String())
	c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.fields(append(get2, "trailer", "x")...), EndHeaders: true})
	c.WriteData(1, false, []byte("hi"))
	var fuse []string
	for range 200 {
		fuse = append(fuse, "x", strings.Repeat("a", 4000))
	}
	c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.fields(fuse...), EndHeaders: true, EndStream: true})
	if got, n := c.answer(1), len(b.Bytes()); got != "431" || n > 5000 {
		t.Errorf("%s, and the backend got %d bytes; want 431", got, n)
	}
}

// A backend's header is bounded in fields, too: the memory that a field takes here is a
// multiple of its bytes.
func TestResponseFieldLimit(t *testing.T) {
	for fields, want := range map[int]int{maxResponseFields: 200, maxResponseFields + 1: 502} {
		var header strings.Builder
		for i := range fields - 1 {
			fmt.Fprintf(&header, "X%d:\r\n", i)
		}
		b := labtest.Record(t, labtest.Answers("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"+header.String()+"\r\n"))
		s, _ := front(t, HandlerConfig{}, Backend{Address: b.Address})
		if got := rawStatus(t, s, aGet); got != want {
			t.Errorf("%d fields: %d, want %d", fields, got, want)
		}
	}
}

// Browsers cut the Cookie of HTTP/2 into many fields, which are one (RFC 9113 §8.2.3).
func TestCookieCrumbs(t *testing.T) {
	b := labtest.Record(t, labtest.Answers(anOK))
	s, _ := front2(t, HandlerConfig{}, Backend{Address: b.Address})
	c := dial2(t, s.Listener.Addr().String())
	request := get2
	for range 2 * defaultMaxFields {
		request = append(request, "cookie", "a=b")
	}
	c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.fields(request...), EndHeaders: true, EndStream: true})
	if got := c.answer(1); got != "200" || strings.Count(b.Bytes(), "a=b") != 2*defaultMaxFields {
		t.Errorf("%s", got)
	}
}

// The trailer of a response has the bounds of its header: a response that exceeds them is
// broken off.
func TestResponseTrailerLimit(t *testing.T) {
	const buffered = 8 << 10
	for trailer, whole := range map[string]bool{
		"X-T: " + strings.Repeat("t", 60000) + "\r\n":                      true,
		"X-T: " + strings.Repeat("t", maxResponseHeader+buffered) + "\r\n": false,
		strings.Repeat("X-T: t\r\n", maxResponseFields):                    true,
		strings.Repeat("X-T: t\r\n", maxResponseFields+1):                  false,
	} {
		b := labtest.Record(t, labtest.Answers("HTTP/1.1 200 OK\r\nTrailer: X-T\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n"+trailer+"\r\n"))
		s, _ := front(t, HandlerConfig{}, Backend{Address: b.Address})
		c := dialTest(t, s.Listener.Addr().String())
		io.WriteString(c, aLastGet)
		got, _ := io.ReadAll(c)
		if strings.HasSuffix(string(got), "0\r\n"+trailer+"\r\n") != whole || strings.HasSuffix(string(got), "\r\n\r\n") != whole {
			t.Errorf("%d bytes: the client got %d, which end in %q", len(trailer), len(got), got[len(got)-10:])
		}
	}
}
