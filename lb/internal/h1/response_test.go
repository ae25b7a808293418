package h1

import (
	"errors"
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

// TestResponse: what is a response, whole and byte by byte.
func TestResponse(t *testing.T) {
	for _, tt := range []struct{ name, method, head, want string }{
		{"a length", "GET", "HTTP/1.1 200 Fine\r\nContent-Length: 5\r\n\r\n", `200 "Fine" 1.1 length=5 nobody=false close=false|Content-Length(Content-Length)=5`},
		{"to HEAD", "HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", `200 "OK" 1.1 length=0 nobody=true close=false|content-length(Content-Length)=5`},
		{"neither length nor reason", "GET", "HTTP/1.1 404\r\n\r\n", `404 "" 1.1 length=-2 nobody=false close=true`},
	} {
		var r Response
		if n, err := r.Parse([]byte(tt.head+"rest"), tt.method, Limits{}); n != len(tt.head) || err != nil || r.describe() != tt.want {
			t.Errorf("%s: %d of %d, %v\n%s\nwant\n%s", tt.name, n, len(tt.head), err, r.describe(), tt.want)
		}
		n, err := byBytes(tt.head, func(b []byte) (int, error) { return r.Parse(b, tt.method, Limits{}) })
		if n != len(tt.head) || err != nil || r.describe() != tt.want {
			t.Errorf("%s, byte by byte: %d of %d, %v\n%s\nwant\n%s", tt.name, n, len(tt.head), err, r.describe(), tt.want)
		}
	}
}

// TestResponseRefused: what is none.
func TestResponseRefused(t *testing.T) {
	for _, tt := range []struct{ name, head string }{
		{"no HTTP", "SSH-2.0-OpenSSH\r\n\r\n"},
		{"a large status", "HTTP/1.1 2000 OK\r\n\r\n"},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n"},
	} {
		var r Response
		var refused *Error
		if _, err := r.Parse([]byte(tt.head), "GET", Limits{}); !errors.As(err, &refused) || refused.Status != 502 {
			t.Errorf("%s: %v", tt.name, err)
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
