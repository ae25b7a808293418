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

// post returns a POST with more fields.
func post(fields string) string { return "POST / HTTP/1.1\r\nHost: x\r\n" + fields + "\r\n" }

// TestRequest: what is a request, whole and byte by byte.
func TestRequest(t *testing.T) {
	const of11 = `1.1 host="x",true `
	for _, tt := range []struct{ name, head, want string }{
		{"the least", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", `GET / ` + of11 + `length=0 close=false|Host(Host)=x`},
		{"case and order stay", "get /%2F?A HTTP/1.1\r\nx-lower: Y\r\nhOST: X\r\n\r\n", `get /%2F?A 1.1 host="X",true length=0 close=false|x-lower()=Y|hOST(Host)=X`},
		{"HTTP/1.0 ends the connection", "GET / HTTP/1.0\r\n\r\n", `GET / 1.0 host="",false length=0 close=true`},
		{"unless it is kept", "GET / HTTP/1.0\r\nConnection: x, Keep-Alive\r\n\r\n", `GET / 1.0 host="",false length=0 close=false|Connection(Connection)=x, Keep-Alive`},
		{"close goes before keep-alive", "GET / HTTP/1.0\r\nConnection: keep-alive\r\nConnection: ,CLOSE ,\r\n\r\n", `GET / 1.0 host="",false length=0 close=true|Connection(Connection)=keep-alive|Connection(Connection)=,CLOSE ,`},
		{"close", post("Connection: a,close\r\n"), `POST / ` + of11 + `length=0 close=true|Host(Host)=x|Connection(Connection)=a,close`},
		{"close on the first of two lines", post("Connection: close\r\nConnection: x\r\n"), `POST / ` + of11 + `length=0 close=true|Host(Host)=x|Connection(Connection)=close|Connection(Connection)=x`},
		{"kept on the first of two lines", "GET / HTTP/1.0\r\nConnection: keep-alive\r\nConnection: x\r\n\r\n", `GET / 1.0 host="",false length=0 close=false|Connection(Connection)=keep-alive|Connection(Connection)=x`},
		{"what only looks like close", post("Connection: closed, \"close\", x close\r\n"), `POST / ` + of11 + `length=0 close=false|Host(Host)=x|Connection(Connection)=closed, "close", x close`},
		{"HTTP/1.2 is HTTP/1.1", "GET / HTTP/1.2\r\nHost: x\r\n\r\n", `GET / ` + of11 + `length=0 close=false|Host(Host)=x`},
		{"what follows CONNECT may be a tunnel's", "CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", `CONNECT x:80 ` + of11 + `length=0 close=true|Host(Host)=x`},
		{"absolute target", "GET http://y/a HTTP/1.1\r\nHost: x\r\n\r\n", `GET http://y/a ` + of11 + `length=0 close=false|Host(Host)=x`},
		{"target beyond ASCII", "GET /\xff\xc3\xa4|{} HTTP/1.1\r\nHost: x\r\n\r\n", "GET /\xff\xc3\xa4|{} " + of11 + `length=0 close=false|Host(Host)=x`},
		{"empty lines before it", "\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", `GET / ` + of11 + `length=0 close=false|Host(Host)=x`},
		{"empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", `GET / 1.1 host="",true length=0 close=false|Host(Host)=`},
		{"no white space, and much", post("A:1\r\nB: \t 2 \t \r\nC:\t\r\nD: a \tb\r\n"), `POST / ` + of11 + "length=0 close=false|Host(Host)=x|A()=1|B()=2|C()=|D()=a \tb"},
		{"values beyond ASCII", post("A: \xe4\xff\x80 \xa0\r\n"), `POST / ` + of11 + "length=0 close=false|Host(Host)=x|A()=\xe4\xff\x80 \xa0"},
		{"every byte of a token", post("!#$%&'*+-.^_`|~09azAZ: 1\r\n"), `POST / ` + of11 + "length=0 close=false|Host(Host)=x|!#$%&'*+-.^_`|~09azAZ()=1"},

		{"length", post("Content-Length: 3\r\n"), `POST / ` + of11 + `length=3 close=false|Host(Host)=x|Content-Length(Content-Length)=3`},
		{"length with zeros", post("content-length: 0003\r\n"), `POST / ` + of11 + `length=3 close=false|Host(Host)=x|content-length(Content-Length)=0003`},
		{"length within spaces", post("Content-Length:  3\t \r\n"), `POST / ` + of11 + `length=3 close=false|Host(Host)=x|Content-Length(Content-Length)=3`},
		{"the longest length", post("Content-Length: 9223372036854775807\r\n"), `POST / ` + of11 + `length=9223372036854775807 close=false|Host(Host)=x|Content-Length(Content-Length)=9223372036854775807`},
		{"chunks", post("Transfer-Encoding: chunked\r\n"), `POST / ` + of11 + `length=-1 close=false|Host(Host)=x|Transfer-Encoding(Transfer-Encoding)=chunked`},
		{"chunks in capitals, after a tab", post("TRANSFER-ENCODING:\tCHUNKED\r\n"), `POST / ` + of11 + `length=-1 close=false|Host(Host)=x|TRANSFER-ENCODING(Transfer-Encoding)=CHUNKED`},
		// RFC 9112 §6.1: the chunks count, and the connection ends.
		{"length and chunks", post("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"), `POST / ` + of11 + `length=-1 close=true|Host(Host)=x|Content-Length(Content-Length)=3|Transfer-Encoding(Transfer-Encoding)=chunked`},
		{"chunks and length", post("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"), `POST / ` + of11 + `length=-1 close=true|Host(Host)=x|Transfer-Encoding(Transfer-Encoding)=chunked|Content-Length(Content-Length)=3`},
		{"announced trailer", post("Trailer: X-A\r\nTransfer-Encoding: chunked\r\n"), `POST / ` + of11 + `length=-1 close=false|Host(Host)=x|Trailer(Trailer)=X-A|Transfer-Encoding(Transfer-Encoding)=chunked`},
		{"trailer without chunks", post("Trailer: Content-Length\r\n"), `POST / ` + of11 + `length=0 close=false|Host(Host)=x|Trailer(Trailer)=Content-Length`},
		{"names that fold to others", post("Content_Length: 3\r\nTransfer.Encoding: chunked\r\n"), `POST / ` + of11 + `length=0 close=false|Host(Host)=x|Content_Length()=3|Transfer.Encoding()=chunked`},
	} {
		var r Request
		checkTaken(t, tt.name, tt.head, tt.want, r.describe, func(b []byte) (int, error) { return r.Parse(b, Limits{}) })
	}
}

// checkTaken parses a head at once and byte by byte, and wants it described by want.
func checkTaken(t *testing.T, name, head, want string, describe func() string, parse func(b []byte) (int, error)) {
	t.Helper()
	if n, err := parse([]byte(head + "rest")); n != len(head) || err != nil || describe() != want {
		t.Errorf("%s: %d of %d, %v\n%s\nwant\n%s", name, n, len(head), err, describe(), want)
	}
	if n, err := byBytes(head, parse); n != len(head) || err != nil || describe() != want {
		t.Errorf("%s, byte by byte: %d of %d, %v\n%s\nwant\n%s", name, n, len(head), err, describe(), want)
	}
}

// checkRefused parses bytes at once and byte by byte, and wants the same error.
func checkRefused(t *testing.T, name, bytes string, want Error, parse func(b []byte) (int, error)) {
	t.Helper()
	var refused *Error
	if _, err := parse([]byte(bytes)); !errors.As(err, &refused) || *refused != want {
		t.Errorf("%s: %v, want %v", name, err, &want)
	}
	if _, err := byBytes(bytes, parse); !errors.As(err, &refused) || *refused != want {
		t.Errorf("%s, byte by byte: %v, want %v", name, err, &want)
	}
}

// TestRequestRefused: what is none, so that nobody can smuggle one behind it. After each head
// comes another one, which must not change anything.
func TestRequestRefused(t *testing.T) {
	for _, tt := range []struct {
		name, head string
		want       Error
	}{
		{"no HTTP, but TLS", "\x16\x03\x01\x02\x00", Error{400, 1, "request begins with a byte that no method begins with"}},
		{"no method", " / HTTP/1.1\r\nHost: x\r\n\r\n", Error{400, 1, "request begins with a byte that no method begins with"}},
		{"method with a colon", "GE:T / HTTP/1.1\r\nHost: x\r\n\r\n", Error{400, 1, "method is not a token"}},
		{"method alone", "GET\r\nHost: x\r\n\r\n", Error{400, 1, "method is not a token"}},
		{"tab after the method", "GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n", Error{400, 1, "method is not a token"}},
		{"two spaces after the method", "GET  / HTTP/1.1\r\nHost: x\r\n\r\n", Error{400, 1, "request line is not a method, a target and a version"}},
		{"no version", "GET /\r\nHost: x\r\n\r\n", Error{400, 1, "request line is not a method, a target and a version"}},
		{"tab in the target", "GET /a\tb HTTP/1.1\r\nHost: x\r\n\r\n", Error{400, 1, "request line is not a method, a target and a version"}},
		{"control byte in the target", "GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n", Error{400, 1, "request line is not a method, a target and a version"}},
		{"control byte in a long target", "GET /abcdefgh\x7f HTTP/1.1\r\nHost: x\r\n\r\n", Error{400, 1, "request line is not a method, a target and a version"}},
		{"CR in the target", "GET /\rHost:x HTTP/1.1\r\nHost: x\r\n\r\n", Error{400, 1, "request line is not a method, a target and a version"}},
		{"space in the target", "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", Error{400, 1, "request line does not end in a version"}},
		{"space after the version", "GET / HTTP/1.1 \r\nHost: x\r\n\r\n", Error{400, 1, "request line does not end in a version"}},
		{"version in lower case", "GET / http/1.1\r\nHost: x\r\n\r\n", Error{400, 1, "request line does not end in a version"}},
		{"version of three numbers", "GET / HTTP/1.10\r\nHost: x\r\n\r\n", Error{400, 1, "request line does not end in a version"}},
		{"version without a point", "GET / HTTP/1,1\r\nHost: x\r\n\r\n", Error{400, 1, "request line does not end in a version"}},
		{"version with a sign", "GET / HTTP/+.1\r\nHost: x\r\n\r\n", Error{400, 1, "request line does not end in a version"}},
		{"version with a letter", "GET / HTTP/1.x\r\nHost: x\r\n\r\n", Error{400, 1, "request line does not end in a version"}},
		{"HTTP/0.9", "GET / HTTP/0.9\r\nHost: x\r\n\r\n", Error{505, 1, "version is not HTTP/1.0 or HTTP/1.1"}},
		{"HTTP/2.0", "PRI * HTTP/2.0\r\n\r\n", Error{505, 1, "version is not HTTP/1.0 or HTTP/1.1"}},

		{"lines end in LF", "POST / HTTP/1.1\nHost: x\n\n", Error{400, 1, "line ends in LF without CR"}},
		{"a line ends in LF", post("A: 1\nContent-Length: 3\r\n"), Error{400, 3, "line ends in LF without CR"}},
		{"the empty line is LF", "GET / HTTP/1.1\r\nHost: x\r\n\n", Error{400, 3, "line ends in LF without CR"}},
		{"an empty line before it is LF", "\r\n\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", Error{400, 2, "request begins with a byte that no method begins with"}},
		{"CR before the request", "\rGET / HTTP/1.1\r\nHost: x\r\n\r\n", Error{400, 1, "method is not a token"}},
		{"CR for CRLF", post("A: 1\rContent-Length: 3\r\n"), Error{400, 3, "control byte in the value of a field"}},
		{"two CR", post("A: 1\r\r\n"), Error{400, 3, "control byte in the value of a field"}},
		{"CR in a value", post("A: 1\r2\r\n"), Error{400, 3, "control byte in the value of a field"}},
		{"CR in a name", post("A\rB: 1\r\n"), Error{400, 3, "name of a field is not a token"}},
		{"NUL in a value", post("A: 1\x002\r\n"), Error{400, 3, "control byte in the value of a field"}},
		{"DEL in a value", post("A: 1\x7f2\r\n"), Error{400, 3, "control byte in the value of a field"}},
		{"control byte in a long value", post("A: 12345678901234567\x1f89\r\n"), Error{400, 3, "control byte in the value of a field"}},
		{"control byte at the end", post("A: 12345678901\x0b\r\n"), Error{400, 3, "control byte in the value of a field"}},
		{"NUL in a name", post("A\x00: 1\r\n"), Error{400, 3, "name of a field is not a token"}},
		{"name beyond ASCII", post("\xc3\xa4: 1\r\n"), Error{400, 3, "name of a field is not a token"}},
		{"no name", post(": 1\r\n"), Error{400, 3, "name of a field is not a token"}},
		{"no colon", post("Content-Length\r\n"), Error{400, 3, "field without a colon"}},
		{"space before the colon", post("Content-Length : 3\r\n"), Error{400, 3, "white space in the name of a field"}},
		{"tab before the colon", post("Transfer-Encoding\t: chunked\r\n"), Error{400, 3, "white space in the name of a field"}},
		{"space in a name", post("A B: 1\r\n"), Error{400, 3, "white space in the name of a field"}},
		{"space before the first name", "GET / HTTP/1.1\r\n Host: x\r\n\r\n", Error{400, 2, "line begins with white space"}},
		{"folded line", post("A: 1\r\n Content-Length: 3\r\n"), Error{400, 4, "line begins with white space"}},
		{"folded line by a tab", post("A: 1\r\n\t2\r\n"), Error{400, 4, "line begins with white space"}},
		{"folded length", post("Content-Length:\r\n 3\r\n"), Error{400, 4, "line begins with white space"}},
		{"line of white space", post(" \r\n"), Error{400, 3, "line begins with white space"}},

		{"no Host", "GET / HTTP/1.1\r\n\r\n", Error{400, 2, "no Host"}},
		{"two Hosts", post("Host: y\r\n"), Error{400, 4, "more than one Host"}},
		{"the same Host twice", post("hOST: x\r\n"), Error{400, 4, "more than one Host"}},
		{"two Hosts in HTTP/1.0", "GET / HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n", Error{400, 4, "more than one Host"}},

		{"length with sign", post("Content-Length: +3\r\n"), Error{400, 4, "Content-Length is not a number below 2^63"}},
		{"length negative", post("Content-Length: -3\r\n"), Error{400, 4, "Content-Length is not a number below 2^63"}},
		{"length hexadecimal", post("Content-Length: 0x3\r\n"), Error{400, 4, "Content-Length is not a number below 2^63"}},
		{"length with underscore", post("Content-Length: 1_0\r\n"), Error{400, 4, "Content-Length is not a number below 2^63"}},
		{"length with a space", post("Content-Length: 1 0\r\n"), Error{400, 4, "Content-Length is not a number below 2^63"}},
		{"length with a point", post("Content-Length: 3.0\r\n"), Error{400, 4, "Content-Length is not a number below 2^63"}},
		{"length with the byte after 9", post("Content-Length: 1:\r\n"), Error{400, 4, "Content-Length is not a number below 2^63"}},
		{"length in other digits", post("Content-Length: \xd9\xa3\r\n"), Error{400, 4, "Content-Length is not a number below 2^63"}},
		{"length empty", post("Content-Length:\r\n"), Error{400, 4, "Content-Length is not a number below 2^63"}},
		{"length list", post("Content-Length: 3, 3\r\n"), Error{400, 4, "Content-Length is not a number below 2^63"}},
		{"length overflows", post("Content-Length: 18446744073709551619\r\n"), Error{400, 4, "Content-Length is not a number below 2^63"}},
		{"length overflows by one", post("Content-Length: 9223372036854775808\r\n"), Error{400, 4, "Content-Length is not a number below 2^63"}},
		{"two lengths", post("Content-Length: 3\r\nContent-Length: 4\r\n"), Error{400, 5, "more than one Content-Length"}},
		{"the same length twice", post("Content-Length: 3\r\ncontent-length: 3\r\n"), Error{400, 5, "more than one Content-Length"}},
		{"bad length and chunks", post("Content-Length: +3\r\nTransfer-Encoding: chunked\r\n"), Error{400, 5, "Content-Length is not a number below 2^63"}},

		{"coding identity", post("Transfer-Encoding: identity\r\n"), Error{501, 4, "Transfer-Encoding is not chunked"}},
		{"coding gzip, chunked", post("Transfer-Encoding: gzip, chunked\r\n"), Error{501, 4, "Transfer-Encoding is not chunked"}},
		{"coding chunked, identity", post("Transfer-Encoding: chunked, identity\r\n"), Error{501, 4, "Transfer-Encoding is not chunked"}},
		{"coding chunked, chunked", post("Transfer-Encoding: chunked, chunked\r\n"), Error{501, 4, "Transfer-Encoding is not chunked"}},
		{"coding with an empty item", post("Transfer-Encoding: ,chunked\r\n"), Error{501, 4, "Transfer-Encoding is not chunked"}},
		{"coding with a parameter", post("Transfer-Encoding: chunked;a=b\r\n"), Error{501, 4, "Transfer-Encoding is not chunked"}},
		{"coding quoted", post("Transfer-Encoding: \"chunked\"\r\n"), Error{501, 4, "Transfer-Encoding is not chunked"}},
		{"coding xchunked", post("Transfer-Encoding: xchunked\r\n"), Error{501, 4, "Transfer-Encoding is not chunked"}},
		{"coding empty", post("Transfer-Encoding:\r\n"), Error{501, 4, "Transfer-Encoding is not chunked"}},
		{"coding twice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), Error{501, 5, "Transfer-Encoding is not chunked"}},
		{"coding on two lines", post("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n"), Error{501, 5, "Transfer-Encoding is not chunked"}},
		{"coding before a hidden one", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n"), Error{501, 5, "Transfer-Encoding is not chunked"}},
		{"coding after a vertical tab", post("Transfer-Encoding: \x0bchunked\r\n"), Error{400, 3, "control byte in the value of a field"}},
		{"coding after CR", post("Transfer-Encoding: \rchunked\r\n"), Error{400, 3, "control byte in the value of a field"}},
		{"coding after a space without a break", post("Transfer-Encoding: \xa0chunked\r\n"), Error{501, 4, "Transfer-Encoding is not chunked"}},
		{"coding in HTTP/1.0", "POST / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n", Error{400, 4, "Transfer-Encoding in HTTP/1.0"}},
		{"coding and length in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", Error{400, 4, "Transfer-Encoding in HTTP/1.0"}},
		{"trailer that frames", post("Trailer: a, content-length\r\nTransfer-Encoding: chunked\r\n"), Error{400, 5, "Trailer announces fields that frame a message"}},
		{"trailer that changes the coding", post("Transfer-Encoding: chunked\r\nTrailer: Transfer-Encoding\r\n"), Error{400, 5, "Trailer announces fields that frame a message"}},
		{"trailer of trailers", post("Transfer-Encoding: chunked\r\nTrailer: Trailer\r\n"), Error{400, 5, "Trailer announces fields that frame a message"}},
	} {
		var r Request
		checkRefused(t, tt.name, tt.head+small, tt.want, func(b []byte) (int, error) { return r.Parse(b, Limits{}) })
		if n, err := r.Parse([]byte(small), Limits{}); n != len(small) || err != nil || len(r.Fields) != 10 {
			t.Errorf("the request after %s: %d, %v, %d fields", tt.name, n, err, len(r.Fields))
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
