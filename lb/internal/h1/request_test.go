package h1

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// small is a request of ten fields, as a browser sends.
const small = "GET /articles/2026/11/index.html?page=2 HTTP/1.1\r\n" +
	"Host: www.example.com\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n" +
	"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n" +
	"Accept-Language: en-US,en;q=0.5\r\n" +
	"Accept-Encoding: gzip, deflate, br\r\n" +
	"Connection: keep-alive\r\n" +
	"Referer: https://www.example.com/\r\n" +
	"Cookie: session=0123456789abcdef0123456789abcdef\r\n" +
	"Upgrade-Insecure-Requests: 1\r\n" +
	"Cache-Control: max-age=0\r\n" +
	"\r\n"

// byBytes parses a head that comes byte by byte, each time in other memory, while that of
// before is overwritten.
func byBytes(head string, parse func(b []byte) (int, error)) (int, error) {
	var before []byte
	for i := 0; i <= len(head); i++ {
		b := []byte(head[:i])
		for j := range before {
			before[j] = '!'
		}
		if n, err := parse(b); n > 0 || err != nil {
			return n, err
		}
		before = b
	}
	return 0, nil
}

// describe tells what Parse has found.
func (r *Request) describe() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s 1.%d host=%q,%t length=%d close=%t", r.Method, r.Target, r.Minor, r.Host, r.HasHost, r.Length, r.Close)
	for _, f := range r.Fields {
		fmt.Fprintf(&b, "|%s(%s)=%s", f.Name, f.ID, f.Value)
	}
	return b.String()
}

// TestRequest: what is a request, whole and byte by byte.
func TestRequest(t *testing.T) {
	for _, tt := range []struct{ name, head, want string }{
		{"the least", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", `GET / 1.1 host="x",true length=0 close=false|Host(Host)=x`},
		{"case stays", "get /%2F?A HTTP/1.1\r\nhOST: X\r\nx-lower: Y\r\n\r\n", `get /%2F?A 1.1 host="X",true length=0 close=false|hOST(Host)=X|x-lower()=Y`},
		{"an old client", "GET / HTTP/1.0\r\n\r\n", `GET / 1.0 host="",false length=0 close=true`},
	} {
		var r Request
		if n, err := r.Parse([]byte(tt.head+"rest"), Limits{}); n != len(tt.head) || err != nil || r.describe() != tt.want {
			t.Errorf("%s: %d of %d, %v\n%s\nwant\n%s", tt.name, n, len(tt.head), err, r.describe(), tt.want)
		}
		n, err := byBytes(tt.head, func(b []byte) (int, error) { return r.Parse(b, Limits{}) })
		if n != len(tt.head) || err != nil || r.describe() != tt.want {
			t.Errorf("%s, byte by byte: %d of %d, %v\n%s\nwant\n%s", tt.name, n, len(tt.head), err, r.describe(), tt.want)
		}
	}
}

// TestRequestRefused: what is none.
func TestRequestRefused(t *testing.T) {
	for _, tt := range []struct {
		name, head string
		status     int
	}{
		{"no Host", "GET / HTTP/1.1\r\n\r\n", 400},
		{"no HTTP", "\x16\x03\x01", 400},
		{"HTTP/2.0", "PRI * HTTP/2.0\r\n\r\n", 505},
	} {
		var r Request
		var whole, bytes *Error
		_, err := r.Parse([]byte(tt.head), Limits{})
		if !errors.As(err, &whole) || whole.Status != tt.status {
			t.Errorf("%s: %v, want %d", tt.name, err, tt.status)
		}
		_, err = byBytes(tt.head, func(b []byte) (int, error) { return r.Parse(b, Limits{}) })
		if !errors.As(err, &bytes) || bytes.Status != tt.status {
			t.Errorf("%s, byte by byte: %v, want %d", tt.name, err, tt.status)
		}
	}
}

func TestRequestAllocatesNothing(t *testing.T) {
	var r Request
	b := []byte(small)
	if got := testing.AllocsPerRun(100, func() { _, _ = r.Parse(b, Limits{Header: 32 << 10, Fields: 100}) }); got != 0 {
		t.Errorf("%v allocations", got)
	}
	if len(r.Fields) != 10 {
		t.Errorf("%d fields", len(r.Fields))
	}
}

func BenchmarkRequest(b *testing.B) {
	var r Request
	head := []byte(small)
	b.ReportAllocs()
	b.SetBytes(int64(len(head)))
	for b.Loop() {
		if n, err := r.Parse(head, Limits{Header: 32 << 10, Fields: 100}); n != len(head) || err != nil {
			b.Fatal(n, err)
		}
	}
}
