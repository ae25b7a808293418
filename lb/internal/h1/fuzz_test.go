package h1

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// FuzzRequest: what is a request for Parse is one for net/http, and they see the same in it;
// with its bytes in pieces, and written anew, it stays the same.
func FuzzRequest(f *testing.F) {
	for _, head := range []string{
		small,
		"\r\nGET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",                              // an old client
		"POST /a%2F|b?%zz HTTP/1.1\r\nHost: x\r\nContent-Length: 0003\r\n\r\nabc",           // not encoded anew
		"POST / HTTP/1.1\r\nhOST:\r\nTransfer-Encoding:\tChunked \r\nTrailer: A,B\r\n\r\n0", // white space, lists
		"PUT http://y HTTP/1.9\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
		"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: x\r\nPragma: no-cache\r\n\r\n", // net/http adds a Cache-Control
		"GET / HTTP/1.1\r\nHost: x\r\nConnection: close, x\r\nA: \xff\t\x80 a\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\nA: 1\r\n 2\r\n\r\n",      // folded
		"GET / HTTP/1.1\nHost: x\n\n",                          // LF
		"GET / HTTP/1.1\r\nHost : x\r\n\r\n",                   // space before the colon
		"GET / HTTP/1.1\r\nHost: x\r\nA: \x00\x7f\r\r\n\r\n",   // control bytes
		"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", // no chunks in HTTP/1.0
	} {
		f.Add([]byte(head), uint16(20))
	}
	f.Fuzz(func(t *testing.T, b []byte, cut uint16) {
		var r, again Request
		lim := Limits{Header: 4 << 10, Fields: 50}
		n, err := r.Parse(b, lim)
		if n > len(b) || err != nil && n != 0 || (n > 0) != (r.Method != "" && err == nil && r.lines.base == nil) {
			t.Fatalf("%d, %v", n, err)
		}
		if code := status(t, err); err != nil && !slices.Contains([]int{400, 431, 501, 505}, code) {
			t.Fatal(err)
		}
		// In two pieces, the second of which lies elsewhere.
		first := bytes.Clone(b[:min(int(cut), len(b))])
		m, errOfPieces := again.Parse(first, lim)
		if m == 0 && errOfPieces == nil {
			clear(first)
			m, errOfPieces = again.Parse(b, lim)
		}
		if m != n || status(t, errOfPieces) != status(t, err) || n > 0 && again.describe() != r.describe() {
			t.Fatalf("%d, %v, %s\nin pieces %d, %v, %s", n, err, r.describe(), m, errOfPieces, again.describe())
		}
		if n == 0 {
			return
		}
		if rest, err := again.Parse(b[:n-1], lim); rest != 0 || err != nil {
			t.Fatalf("without the last byte: %d, %v", rest, err)
		}
		again.Reset()
		written := append(AppendFields(AppendRequestLine(nil, r.Method, r.Target), r.Fields), "\r\n"...)
		if r.Minor == 0 {
			written = bytes.Replace(written, []byte(" HTTP/1.1\r\n"), []byte(" HTTP/1.0\r\n"), 1)
		}
		if m, err := again.Parse(written, lim); m != len(written) || err != nil || again.describe() != r.describe() {
			t.Fatalf("%s\nwritten anew %d of %d, %v, %s", r.describe(), m, len(written), err, again.describe())
		}
		compareRequest(t, &r, written)
	})
}

// compareRequest compares a request with what net/http sees in it. Of the form of a target
// Parse knows nothing.
func compareRequest(t *testing.T, r *Request, head []byte) {
	theirs, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(head)))
	if err != nil {
		if _, err := url.ParseRequestURI(r.Target); err == nil && r.Method != "CONNECT" {
			t.Fatalf("net/http refuses %q: %v", head, err)
		}
		return
	}
	host := theirs.Host
	if theirs.URL.Host != "" { // the target's
		host = r.Host
	}
	length := theirs.ContentLength
	if chunked := slices.Equal(theirs.TransferEncoding, []string{"chunked"}); chunked != (r.Length == Chunked) || chunked != (length == Chunked) {
		t.Fatalf("%q: length %d, net/http has %d, %q", head, r.Length, length, theirs.TransferEncoding)
	}
	ends := theirs.Close || r.Method == "CONNECT" || r.Length == Chunked && r.Has.Any(ContentLength)
	got := fmt.Sprint(r.Method, r.Target, r.Minor, r.Host, r.Length, r.Close, compared(r.Fields))
	want := fmt.Sprint(theirs.Method, theirs.RequestURI, min(theirs.ProtoMinor, 1), host, length, ends, comparedHeader(theirs.Header))
	if theirs.ProtoMajor != 1 || got != want {
		t.Fatalf("%q:\n%s\nnet/http has\n%s", head, got, want)
	}
}

// compared returns the fields but those that net/http changes, sorted by their names.
func compared(fields []Field) string {
	h := make(http.Header)
	for _, f := range fields {
		h.Add(f.Name, f.Value)
	}
	return comparedHeader(h)
}

func comparedHeader(h http.Header) string {
	for _, id := range []ID{CacheControl, Connection, ContentLength, Host, Trailer, TransferEncoding} {
		h.Del(id.String())
	}
	return fmt.Sprint(map[string][]string(h))
}

// FuzzResponse: what is a response for Parse is one for net/http, and they see the same in
// it; with its bytes in pieces, and written anew, it stays the same.
func FuzzResponse(f *testing.F) {
	for _, head := range []string{
		answer,
		"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 204\r\nContent-Length: 5\r\n\r\n", // a length without a body, and no reason
		"HTTP/1.1 304 Not \xff \r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n",
		"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", // net/http takes frames for content
		"HTTP/1.1 200 OK\r\nConnection: close\r\nPragma: no-cache\r\n\r\n",
		"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
		"HTTP/1.1  200 OK\r\n\r\n",         // two spaces
		"HTTP/1.1 200 O\rK\r\nA: \r\n\r\n", // CR
		"HTTP/1.1 +20 OK\nA: 1\r\n 2\n\n",  // what net/http takes
	} {
		f.Add([]byte(head), "GET", uint16(20))
	}
	f.Add([]byte(answer), "HEAD", uint16(100))
	f.Fuzz(func(t *testing.T, b []byte, method string, cut uint16) {
		var r, again Response
		lim := Limits{Header: 4 << 10, Fields: 50}
		n, err := r.Parse(b, method, lim)
		if n > len(b) || err != nil && (n != 0 || status(t, err) != 502) {
			t.Fatalf("%d, %v", n, err)
		}
		first := bytes.Clone(b[:min(int(cut), len(b))])
		m, errOfPieces := again.Parse(first, method, lim)
		if m == 0 && errOfPieces == nil {
			clear(first)
			m, errOfPieces = again.Parse(b, method, lim)
		}
		if m != n || status(t, errOfPieces) != status(t, err) || n > 0 && again.describe() != r.describe() {
			t.Fatalf("%d, %v, %s\nin pieces %d, %v, %s", n, err, r.describe(), m, errOfPieces, again.describe())
		}
		if n == 0 {
			return
		}
		if rest, err := again.Parse(b[:n-1], method, lim); rest != 0 || err != nil {
			t.Fatalf("without the last byte: %d, %v", rest, err)
		}
		again.Reset()
		written := append(AppendFields(AppendStatusLine(nil, r.Status, r.Reason), r.Fields), "\r\n"...)
		if r.Minor == 0 {
			written[len("HTTP/1.")] = '0'
		}
		if m, err := again.Parse(written, method, lim); m != len(written) || err != nil || again.describe() != r.describe() {
			t.Fatalf("%s\nwritten anew %d of %d, %v, %s", r.describe(), m, len(written), err, again.describe())
		}
		compareResponse(t, &r, written, method)
	})
}

// compareResponse compares a response with what net/http sees in it.
func compareResponse(t *testing.T, r *Response, head []byte, method string) {
	theirs, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(head)), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("net/http refuses %q: %v", head, err)
	}
	status := fmt.Sprintf("%03d %s", r.Status, r.Reason)
	if got, want := fmt.Sprint(r.Status, strings.TrimSpace(status), r.Minor, compared(r.Fields)),
		fmt.Sprint(theirs.StatusCode, strings.TrimSpace(theirs.Status), min(theirs.ProtoMinor, 1), comparedHeader(theirs.Header)); got != want {
		t.Fatalf("%q:\n%s\nnet/http has\n%s", head, got, want)
	}
	if theirs.Close && !r.Close {
		t.Fatalf("%q: net/http closes", head)
	}
	if r.Minor == 0 && r.Has.Any(TransferEncoding) {
		return // net/http does not know chunks of HTTP/1.0
	}
	want := theirs.ContentLength
	switch {
	case r.NoBody:
		want = 0
	case theirs.ContentLength < 0 && len(theirs.TransferEncoding) == 0:
		want = UntilClose
	}
	if r.Length != want || r.NoBody && theirs.Body != http.NoBody {
		t.Fatalf("%q: length %d, no body %t; net/http has %d, %T", head, r.Length, r.NoBody, theirs.ContentLength, theirs.Body)
	}
}

// FuzzTrailerSection: what is a trailer section for Parse is one for net/http.
func FuzzTrailerSection(f *testing.F) {
	for _, section := range []string{"\r\n", "A: 1\r\nb:\t2 \r\n\r\n", "A : 1\r\n\r\n", "A: 1\r\n 2\r\n\r\n", "\n", "A: \xff\r\n\r\n"} {
		f.Add([]byte(section), uint16(3))
	}
	f.Fuzz(func(t *testing.T, b []byte, cut uint16) {
		var s, again TrailerSection
		lim := Limits{Header: 4 << 10, Fields: 50}
		n, err := s.Parse(b, lim)
		first := bytes.Clone(b[:min(int(cut), len(b))])
		m, errOfPieces := again.Parse(first, lim)
		if m == 0 && errOfPieces == nil {
			clear(first)
			m, errOfPieces = again.Parse(b, lim)
		}
		if m != n || status(t, errOfPieces) != status(t, err) || !slices.Equal(s.Fields, again.Fields) {
			t.Fatalf("%d, %v, %v; in pieces %d, %v, %v", n, err, s.Fields, m, errOfPieces, again.Fields)
		}
		if n == 0 {
			return
		}
		theirs, err := textproto.NewReader(bufio.NewReader(bytes.NewReader(b[:n]))).ReadMIMEHeader()
		if err != nil || compared(s.Fields) != comparedHeader(http.Header(theirs)) {
			t.Fatalf("%q: %v; net/http has %v, %v", b[:n], s.Fields, theirs, err)
		}
	})
}

// FuzzNames: a name has the ID that it has for strings.EqualFold.
func FuzzNames(f *testing.F) {
	for _, name := range []string{"host", "X-REAL-IP", "x_real_ip", "t\xc5\xbfe", "\x0dte", ""} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		want := Other
		for id := Other + 1; id < lastID; id++ {
			if isASCII(name) && strings.EqualFold(id.String(), name) {
				want = id
			}
		}
		if got := IDOf(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	})
}

func isASCII(s string) bool { return !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 }) }
