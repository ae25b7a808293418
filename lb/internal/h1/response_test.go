package h1

import (
	"fmt"
	"strings"
	"testing"
)

// answer is a response of eight fields.
const answer = "HTTP/1.1 200 OK\r\n" +
	"Server: nginx\r\n" +
	"Date: Sat, 28 Nov 2026 03:00:00 GMT\r\n" +
	"Content-Type: text/html; charset=utf-8\r\n" +
	"Content-Length: 612\r\n" +
	"Last-Modified: Tue, 04 Dec 2025 14:52:24 GMT\r\n" +
	"Connection: keep-alive\r\n" +
	"ETag: \"5c0692e1-264\"\r\n" +
	"Accept-Ranges: bytes\r\n" +
	"\r\n"

// describe tells what Parse has found.
func (r *Response) describe() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %q 1.%d length=%d nobody=%t close=%t", r.Status, r.Reason, r.Minor, r.Length, r.NoBody, r.Close)
	for _, f := range r.Fields {
		fmt.Fprintf(&b, "|%s(%s)=%s", f.Name, f.ID, f.Value)
	}
	return b.String()
}

// TestResponse: what is a response (RFC 9112 §6.3), whole and byte by byte.
func TestResponse(t *testing.T) {
	for _, tt := range []struct{ name, method, head, want string }{
		{"a length", "GET", "HTTP/1.1 200 Fine\r\nContent-Length: 5\r\n\r\n", `200 "Fine" 1.1 length=5 nobody=false close=false|Content-Length(Content-Length)=5`},
		{"no length at all", "GET", "HTTP/1.1 200 OK\r\nx-a:1\r\n\r\n", `200 "OK" 1.1 length=-2 nobody=false close=true|x-a()=1`},
		{"chunks", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", `200 "OK" 1.1 length=-1 nobody=false close=false|Transfer-Encoding(Transfer-Encoding)=Chunked`},
		{"close", "GET", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", `200 "OK" 1.1 length=0 nobody=false close=true|Connection(Connection)=close|Content-Length(Content-Length)=0`},
		{"neither reason nor its space", "POST", "HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n", `404 "" 1.1 length=0 nobody=false close=false|Content-Length(Content-Length)=0`},
		{"no reason", "POST", "HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n", `404 "" 1.1 length=0 nobody=false close=false|Content-Length(Content-Length)=0`},
		{"reason as it came", "GET", "HTTP/1.1 299  \xe4\ta \r\nContent-Length: 0\r\n\r\n", `299 " \xe4\ta " 1.1 length=0 nobody=false close=false|Content-Length(Content-Length)=0`},
		{"the largest status", "GET", "HTTP/1.1 999 x\r\nContent-Length: 0\r\n\r\n", `999 "x" 1.1 length=0 nobody=false close=false|Content-Length(Content-Length)=0`},
		{"the same length twice", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", `200 "OK" 1.1 length=5 nobody=false close=false|Content-Length(Content-Length)=5|Content-Length(Content-Length)=5`},
		// RFC 9112 §6.1: the chunks count, and the connection ends.
		{"length and chunks", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", `200 "OK" 1.1 length=-1 nobody=false close=true|Content-Length(Content-Length)=5|Transfer-Encoding(Transfer-Encoding)=chunked`},

		{"HTTP/1.0", "GET", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", `200 "OK" 1.0 length=5 nobody=false close=true|Content-Length(Content-Length)=5`},
		{"HTTP/1.0 that is kept", "GET", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\n", `200 "OK" 1.0 length=5 nobody=false close=false|Connection(Connection)=keep-alive|Content-Length(Content-Length)=5`},
		{"HTTP/1.0 that is kept, without length", "GET", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", `200 "OK" 1.0 length=-2 nobody=false close=true|Connection(Connection)=keep-alive`},
		// Some servers send them, and frames of chunks are no content.
		{"chunks of HTTP/1.0", "GET", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n", `200 "OK" 1.0 length=-1 nobody=false close=true|Connection(Connection)=keep-alive|Transfer-Encoding(Transfer-Encoding)=chunked`},

		{"HEAD with a length", "HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", `200 "OK" 1.1 length=0 nobody=true close=false|content-length(Content-Length)=5`},
		{"HEAD with chunks", "HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", `200 "OK" 1.1 length=0 nobody=true close=false|Transfer-Encoding(Transfer-Encoding)=chunked`},
		{"HEAD without length", "HEAD", "HTTP/1.1 200 OK\r\n\r\n", `200 "OK" 1.1 length=0 nobody=true close=false`},
		{"head is another method", "head", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", `200 "OK" 1.1 length=5 nobody=false close=false|Content-Length(Content-Length)=5`},
		{"304 with a length", "GET", "HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n", `304 "No" 1.1 length=0 nobody=true close=false|Content-Length(Content-Length)=5`},
		{"304 with chunks", "GET", "HTTP/1.1 304 No\r\nTransfer-Encoding: chunked\r\n\r\n", `304 "No" 1.1 length=0 nobody=true close=false|Transfer-Encoding(Transfer-Encoding)=chunked`},
		{"204", "GET", "HTTP/1.1 204 No\r\n\r\n", `204 "No" 1.1 length=0 nobody=true close=false`},
		{"204 with length 0", "GET", "HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n", `204 "No" 1.1 length=0 nobody=true close=false|Content-Length(Content-Length)=0`},
		// There is no body; whether the backend knows is another question.
		{"204 with a length", "GET", "HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", `204 "No" 1.1 length=0 nobody=true close=true|Content-Length(Content-Length)=5`},
		{"204 with chunks", "GET", "HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n", `204 "No" 1.1 length=0 nobody=true close=true|Transfer-Encoding(Transfer-Encoding)=chunked`},
		{"100", "POST", "HTTP/1.1 100 Continue\r\n\r\n", `100 "Continue" 1.1 length=0 nobody=true close=false`},
		{"103 with a length", "GET", "HTTP/1.1 103 Hints\r\nContent-Length: 5\r\n\r\n", `103 "Hints" 1.1 length=0 nobody=true close=false|Content-Length(Content-Length)=5`},
		{"101", "GET", "HTTP/1.1 101 Go\r\nUpgrade: x\r\n\r\n", `101 "Go" 1.1 length=0 nobody=true close=false|Upgrade(Upgrade)=x`},
		{"205 has a body like others", "GET", "HTTP/1.1 205 Reset\r\n\r\n", `205 "Reset" 1.1 length=-2 nobody=false close=true`},
	} {
		var r Response
		checkTaken(t, tt.name, tt.head, tt.want, r.describe, func(b []byte) (int, error) { return r.Parse(b, tt.method, Limits{}) })
	}
}

// TestResponseRefused: what is none, so that nobody can split one in two.
func TestResponseRefused(t *testing.T) {
	ok := func(fields string) string { return "HTTP/1.1 200 OK\r\n" + fields + "\r\n" }
	for _, tt := range []struct {
		name, head string
		want       Error
	}{
		{"no HTTP", "SSH-2.0-OpenSSH\r\n\r\n", Error{502, 1, "status line is not a version, a status and a reason"}},
		{"HTTP/0.9", "<html>\r\n", Error{502, 1, "status line is not a version, a status and a reason"}},
		{"an empty line before it", "\r\nHTTP/1.1 200 OK\r\n\r\n", Error{502, 1, "status line is not a version, a status and a reason"}},
		{"no status", "HTTP/1.1\r\n\r\n", Error{502, 1, "status line is not a version, a status and a reason"}},
		{"tab after the version", "HTTP/1.1\t200 OK\r\n\r\n", Error{502, 1, "status line is not a version, a status and a reason"}},
		{"HTTP/2.0", "HTTP/2.0 200 OK\r\n\r\n", Error{502, 1, "version is not HTTP/1.0 or HTTP/1.1"}},
		{"version in lower case", "http/1.1 200 OK\r\n\r\n", Error{502, 1, "version is not HTTP/1.0 or HTTP/1.1"}},
		{"status 000", "HTTP/1.1 000 None\r\n\r\n", Error{502, 1, "status is not a number from 100 to 999"}},
		{"status 099", "HTTP/1.1 099 None\r\n\r\n", Error{502, 1, "status is not a number from 100 to 999"}},
		{"status of four digits", "HTTP/1.1 2000 OK\r\n\r\n", Error{502, 1, "status is not a number from 100 to 999"}},
		{"status of two digits", "HTTP/1.1 20 OK\r\n\r\n", Error{502, 1, "status is not a number from 100 to 999"}},
		{"status +12", "HTTP/1.1 +12 None\r\n\r\n", Error{502, 1, "status is not a number from 100 to 999"}},
		{"two spaces before the status", "HTTP/1.1  200 OK\r\n\r\n", Error{502, 1, "status is not a number from 100 to 999"}},
		{"tab after the status", "HTTP/1.1 200\tOK\r\n\r\n", Error{502, 1, "status is not a number from 100 to 999"}},
		{"CR in the reason", "HTTP/1.1 200 O\rX: K\r\n\r\n", Error{502, 1, "control byte in the reason phrase"}},
		{"NUL in the reason", "HTTP/1.1 200 \x00\r\n\r\n", Error{502, 1, "control byte in the reason phrase"}},
		{"lines end in LF", "HTTP/1.1 200 OK\n\n", Error{502, 1, "line ends in LF without CR"}},
		{"a field ends in LF", ok("X: 1\n"), Error{502, 2, "line ends in LF without CR"}},
		{"folded line", ok("X: 1\r\n 2\r\n"), Error{502, 3, "line begins with white space"}},
		{"space before the colon", ok("Content-Length : 2\r\n"), Error{502, 2, "white space in the name of a field"}},
		{"NUL in a value", ok("X: a\x00b\r\n"), Error{502, 2, "control byte in the value of a field"}},
		{"CR in a value", ok("X: a\rSet-Cookie: b\r\n"), Error{502, 2, "control byte in the value of a field"}},
		{"two lengths", ok("Content-Length: 2\r\nContent-Length: 3\r\n"), Error{502, 4, "more than one Content-Length"}},
		{"a length written in two ways", ok("Content-Length: 2\r\nContent-Length: 02\r\n"), Error{502, 4, "more than one Content-Length"}},
		{"length with sign", ok("Content-Length: +2\r\n"), Error{502, 3, "Content-Length is not a number below 2^63"}},
		{"length list", ok("Content-Length: 2, 2\r\n"), Error{502, 3, "Content-Length is not a number below 2^63"}},
		{"bad length beside chunks", ok("Transfer-Encoding: chunked\r\nContent-Length: x\r\n"), Error{502, 4, "Content-Length is not a number below 2^63"}},
		{"unknown coding", ok("Transfer-Encoding: gzip, chunked\r\n"), Error{502, 3, "Transfer-Encoding is not chunked"}},
		{"coding identity", ok("Transfer-Encoding: identity\r\n"), Error{502, 3, "Transfer-Encoding is not chunked"}},
		{"coding twice", ok("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), Error{502, 4, "Transfer-Encoding is not chunked"}},
		{"trailer that frames", ok("Trailer: Content-Length\r\nTransfer-Encoding: chunked\r\n"), Error{502, 4, "Trailer announces fields that frame a message"}},
	} {
		var r Response
		checkRefused(t, tt.name, tt.head+answer, tt.want, func(b []byte) (int, error) { return r.Parse(b, "GET", Limits{}) })
		if n, err := r.Parse([]byte(answer), "GET", Limits{}); n != len(answer) || err != nil || len(r.Fields) != 8 {
			t.Errorf("the response after %s: %d, %v, %d fields", tt.name, n, err, len(r.Fields))
		}
	}
}

func TestResponseAllocatesNothing(t *testing.T) {
	var r Response
	b := []byte(answer)
	if got := testing.AllocsPerRun(100, func() { _, _ = r.Parse(b, "GET", Limits{Header: 64 << 10, Fields: 1000}) }); got != 0 {
		t.Errorf("%v allocations", got)
	}
	if len(r.Fields) != 8 {
		t.Errorf("%d fields", len(r.Fields))
	}
}

func BenchmarkResponse(b *testing.B) {
	var r Response
	head := []byte(answer)
	b.ReportAllocs()
	b.SetBytes(int64(len(head)))
	for b.Loop() {
		if n, err := r.Parse(head, "GET", Limits{Header: 64 << 10, Fields: 1000}); n != len(head) || err != nil {
			b.Fatal(n, err)
		}
	}
}
