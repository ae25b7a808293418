package lb

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// said2 is a request of HTTP/2 as a client says it, right or wrong.
type said2 struct {
	fields  []string // names and values besides those of a plain request; ":" names replace them
	data    string   // "": the head ends the request
	trailer []string // names and values
}

// plain2 are the fields of a request that nothing is wrong with.
var plain2 = []string{":method", "POST", ":scheme", "http", ":authority", "x", ":path", "/"}

// block encodes names and values.
func block(fields []string) []byte {
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	for f := range slices.Chunk(fields, 2) {
		_ = enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	return b.Bytes()
}

// head returns all fields: pseudo-header fields first, without those whose value is "-".
func (s *said2) head() []string {
	pseudo, others := slices.Clone(plain2), []string(nil)
	for f := range slices.Chunk(s.fields, 2) {
		switch i := slices.Index(pseudo, f[0]); {
		case i < 0 && strings.HasPrefix(f[0], ":"):
			pseudo = append(pseudo, f...)
		case i < 0:
			others = append(others, f...)
		case f[1] == "-":
			pseudo = slices.Delete(pseudo, i, i+2)
		default:
			pseudo[i+1] = f[1]
		}
	}
	return append(pseudo, others...)
}

// talk2 says s on a connection of its own, and returns the status that it gets, but for
// "refused" if that is 400, or if the stream or the connection ends instead: which of them
// comes first may be a matter of time.
func talk2(t *testing.T, c net.Conn, s *said2) string {
	t.Helper()
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(bound))
	io.WriteString(c, http2.ClientPreface)
	fr := http2.NewFramer(c, c)
	fr.AllowIllegalWrites = true
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_ = fr.WriteSettings()
	_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block(s.head()), EndHeaders: true, EndStream: s.data == "" && s.trailer == nil})
	if s.data != "" {
		_ = fr.WriteData(1, s.trailer == nil, []byte(s.data))
	}
	if s.trailer != nil {
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block(s.trailer), EndHeaders: true, EndStream: true})
	}
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			return "refused"
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			if f.PseudoValue("status") == "400" {
				return "refused"
			}
			return f.PseudoValue("status")
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return "refused"
		}
	}
}

// requestTraps2 are traps in what a client of HTTP/2 says (RFC 9113 §8.2, §8.3, §8.1.1). want
// is what a backend of HTTP/1.1 gets; "": none gets a request.
var requestTraps2 = []struct {
	name   string
	says   said2
	status string
	want   string
}{
	{"good", said2{data: "abc", fields: []string{"content-length", "3"}}, "200", "POST / HTTP/1.1|Host: x|Content-Length: 3||abc"},
	{"no length", said2{data: "abc"}, "200", "POST / HTTP/1.1|Host: x|Transfer-Encoding: chunked||3\r\nabc\r\n0\r\n\r\n"},
	{"length shorter than the data", said2{data: "abcd", fields: []string{"content-length", "3"}}, "refused", ""},
	{"length longer than the data", said2{data: "ab", fields: []string{"content-length", "3"}}, "refused", ""},
	{"length without data", said2{fields: []string{"content-length", "3"}}, "refused", ""},
	{"length twice the same", said2{data: "abc", fields: []string{"content-length", "3", "content-length", "3"}}, "200", "POST / HTTP/1.1|Host: x|Content-Length: 3||abc"},
	{"lengths that differ", said2{data: "abc", fields: []string{"content-length", "3", "content-length", "4"}}, "refused", ""},
	{"length list", said2{data: "abc", fields: []string{"content-length", "3, 3"}}, "refused", ""},
	{"length +3", said2{data: "abc", fields: []string{"content-length", "+3"}}, "refused", ""},
	{"length 0x3", said2{data: "abc", fields: []string{"content-length", "0x3"}}, "refused", ""},
	{"length 1_0", said2{data: "abc", fields: []string{"content-length", "1_0"}}, "refused", ""},
	{"length empty", said2{data: "abc", fields: []string{"content-length", ""}}, "refused", ""},
	{"length overflows", said2{data: "abc", fields: []string{"content-length", "18446744073709551619"}}, "refused", ""},
	{"encoding chunked", said2{data: "abc", fields: []string{"transfer-encoding", "chunked"}}, "refused", ""},
	{"encoding chunked and length", said2{data: "abc", fields: []string{"transfer-encoding", "chunked", "content-length", "3"}}, "refused", ""},
	{"encoding identity", said2{data: "abc", fields: []string{"transfer-encoding", "identity"}}, "refused", ""},
	{"Connection names X-Forwarded-For", said2{fields: []string{"connection", "x-forwarded-for"}}, "refused", ""},
	{"h2c upgrade", said2{fields: []string{"connection", "upgrade", "upgrade", "h2c"}}, "refused", ""},
	{"upgrade alone", said2{fields: []string{"upgrade", "websocket"}}, "refused", ""},
	{"keep-alive", said2{fields: []string{"keep-alive", "5"}}, "refused", ""},
	{"TE other than trailers", said2{fields: []string{"te", "gzip"}}, "refused", ""},
	{"CRLF in a value", said2{fields: []string{"x", "a\r\nEvil: b"}}, "refused", ""},
	{"LF in a value", said2{fields: []string{"x", "a\nb"}}, "refused", ""},
	{"CR in a value", said2{fields: []string{"x", "a\rb"}}, "refused", ""},
	{"NUL in a value", said2{fields: []string{"x", "a\x00b"}}, "refused", ""},
	{"control byte in a value", said2{fields: []string{"x", "a\x01b"}}, "refused", ""},
	{"CRLF in a name", said2{fields: []string{"x\r\nevil", "a"}}, "refused", ""},
	{"space in a name", said2{fields: []string{"x ", "a"}}, "refused", ""},
	{"colon in a name", said2{fields: []string{"x:", "a"}}, "refused", ""},
	{"empty name", said2{fields: []string{"", "a"}}, "refused", ""},
	{"capitals in a name", said2{fields: []string{"Content-Length", "3"}}, "refused", ""},
	{"CRLF in the path", said2{fields: []string{":path", "/ HTTP/1.1\r\nEvil: b"}}, "refused", ""},
	{"space in the path", said2{fields: []string{":path", "/a b"}}, "refused", ""},
	{"path is absolute", said2{fields: []string{":path", "http://y/"}}, "refused", ""},
	{"path without a slash", said2{fields: []string{":path", "foo"}}, "refused", ""},
	{"path is empty", said2{fields: []string{":path", ""}}, "refused", ""},
	{"no path", said2{fields: []string{":path", "-"}}, "refused", ""},
	{"CRLF in the method", said2{fields: []string{":method", "GET / HTTP/1.1\r\nEvil:"}}, "refused", ""},
	{"space in the method", said2{fields: []string{":method", "GET /evil"}}, "refused", ""},
	{"no method", said2{fields: []string{":method", "-"}}, "refused", ""},
	{"no scheme", said2{fields: []string{":scheme", "-"}}, "refused", ""},
	{"CRLF in the authority", said2{fields: []string{":authority", "x\r\nEvil: b"}}, "refused", ""},
	{"authority is not the host", said2{fields: []string{"host", "y"}}, "refused", ""},
	{"host twice", said2{fields: []string{":authority", "-", "host", "y", "host", "y"}}, "refused", ""},
	{"two paths", said2{fields: []string{"x-none", "a", ":Path", "/b"}}, "refused", ""},
	{"unknown pseudo-header field", said2{fields: []string{":x", "a"}}, "refused", ""},
	{"CONNECT", said2{fields: []string{":method", "CONNECT", ":path", "-", ":scheme", "-"}}, "405", ""},
	{"forbidden trailer", said2{data: "abc", trailer: []string{"content-length", "9"}}, "200", "POST / HTTP/1.1|Host: x|Transfer-Encoding: chunked||3\r\nabc\r\n0\r\n\r\n"},
	{"pseudo-header field in the trailer", said2{data: "abc", trailer: []string{":path", "/b"}}, "refused", ""},
	{"CRLF in the trailer", said2{data: "abc", fields: []string{"trailer", "x"}, trailer: []string{"x", "a\r\nEvil: b"}}, "refused", ""},
}

// TestHTTP2RequestTraps: what a client of HTTP/2 says is one request for backends of either
// protocol, or none at all.
func TestHTTP2RequestTraps(t *testing.T) {
	for _, front := range trapFronts() {
		if !front.http2 {
			continue
		}
		t.Run(front.name, func(t *testing.T) {
			rec, b := record(t)
			one := front.serve(t, HandlerConfig{}, b)
			var served atomic.Int32
			two := front.serve(t, HandlerConfig{BackendProtocol: BackendHTTP2}, webBackend2(t, false, func(_ http.ResponseWriter, r *http.Request) {
				if _, err := io.Copy(io.Discard, r.Body); err == nil {
					served.Add(1)
				}
			}))
			for _, tt := range requestTraps2 {
				t.Run(tt.name, func(t *testing.T) {
					if got := talk2(t, one.dial(), &tt.says); got != tt.status {
						t.Errorf("%s, want %s", got, tt.status)
					}
					if got := strings.Join(briefly(rec), "\n"); got != tt.want {
						t.Errorf("the backend got\n%q\nwant\n%q", got, tt.want)
					}
					got := talk2(t, two.dial(), &tt.says)
					if n := served.Swap(0); got != tt.status || (n == 1) != (tt.want != "") {
						t.Errorf("with a backend of HTTP/2: %s and %d requests, want %s", got, n, tt.status)
					}
				})
			}
			for _, s := range []*trapSite{one, two} {
				if n := s.pool.Status().Backends[0].Failures; n != 0 {
					t.Errorf("%d failures of a backend that has done nothing wrong", n)
				}
			}
		})
	}
}
