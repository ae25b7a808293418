package lb

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/havip/havip/internal/lab/labtest"
)

// record is a backend that keeps what it gets.
func record(t *testing.T) (*labtest.Recorder, Backend) {
	t.Helper()
	rec := labtest.Record(t, labtest.Answers(anOK))
	return rec, Backend{Address: rec.Address}
}

// briefly returns the requests since the last call without the headers that tell of the
// client: the lines of the head, parted by |, then || and the body.
func briefly(rec *labtest.Recorder) []string {
	var brief []string
	for _, r := range rec.Requests() {
		head, body, _ := strings.Cut(r, "\r\n\r\n")
		lines := slices.DeleteFunc(strings.Split(head, "\r\n"), func(line string) bool {
			return strings.HasPrefix(line, "X-Forwarded-") || strings.HasPrefix(line, "X-Real-IP") || strings.HasPrefix(line, "X-Rule")
		})
		brief = append(brief, strings.Join(lines, "|")+"||"+body)
	}
	return brief
}

// What a client sends is one request for backends too, or none at all. Each case ends
// with a request that must not reach a backend as a part of the first, nor be taken for
// a part of it; where the end of the first is uncertain it must not reach one at all.
func TestRequestSmuggling(t *testing.T) {
	t.Run("no rules", func(t *testing.T) { testRequestSmuggling(t, HandlerConfig{}) })
	t.Run("rules", func(t *testing.T) { testRequestSmuggling(t, quietRules()) })
}

// quietRules are rules of most kinds that leave as they are the requests and the responses of
// the tests here, but for headers named X-Rule.
func quietRules() HandlerConfig {
	return HandlerConfig{
		RequestHeaders: map[string]string{"X-Rule": echoes}, ResponseHeaders: map[string]string{"X-Rule": echoes},
		Rules: Rules{
			Access: []AccessRule{{}}, MaxURI: 1000, RequestsPerClient: 1000, RequestRate: 100_000, HashKey: "${cookie_a}${uri}",
			AddRequestHeaders: http.Header{"X-Rule-Added": {"<${uri}>"}}, Sticky: &Sticky{Cookie: "rule", Key: []byte("0123456789abcdef")},
		},
		Routes: []Route{
			{Name: "no", Paths: []string{"~ ^/(no|none)$"}, Methods: []string{"GET"}, HandlerConfig: HandlerConfig{Rules: Rules{Redirect: Redirect{Location: "/${uri}"}}}},
			{Name: "all", Paths: []string{"/"}, HandlerConfig: HandlerConfig{Rules: Rules{Rewrite: Rewrite{Regexp: "(?s)^/(.*)$", Replacement: "/$1"}}}},
		},
	}
}

func testRequestSmuggling(t *testing.T, cfg HandlerConfig) {
	const (
		next  = "GET /next HTTP/1.1\r\nHost: x\r\n\r\n"
		chunk = "3\r\nabc\r\n0\r\n\r\n"
	)
	rec, b := record(t)
	s, h := front(t, cfg, b)
	plain := "POST / HTTP/1.1|Host: x|Content-Length: 3||abc"
	chunked := "POST / HTTP/1.1|Host: x|Transfer-Encoding: chunked||" + chunk
	post := func(headers, body string) string {
		return "POST / HTTP/1.1\r\nHost: x\r\n" + headers + "\r\n" + body
	}
	type fate struct {
		status int
		want   string
		closes bool
	}
	// The event loops refuse what the next server might take otherwise. Backends answer what
	// net/http would.
	refused := fate{400, "", true}
	inLoops := map[string]fate{
		"length twice the same": refused, "encoding in HTTP/1.0": refused, "encoding and length in HTTP/1.0": refused, "lines end with LF": refused,
		"folded line": refused, "folded length": refused, "trailer with a space before the colon": refused,
		"no slash":                    {400, "", false},
		"absolute URI and a bad Host": {400, "", false},
		"expectation unknown":         {200, plain, false},
		"asterisk of OPTIONS":         {200, "OPTIONS * HTTP/1.1|Host: x||", false},
	}
	for _, tt := range []struct {
		name    string
		request string
		status  int
		want    string // "": refused, and the connection ends
		closes  bool
	}{
		{"length", post("Content-Length: 3\r\n", "abc"), 200, plain, false},
		{"chunks", post("Transfer-Encoding: chunked\r\n", chunk), 200, chunked, true},

		// RFC 9112 §6.3: Transfer-Encoding overrides Content-Length. §6.1: the connection
		// ends. That of chunks alone ends too, for net/http does not tell the two apart.
		{"length and chunks", post("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", chunk), 200, chunked, true},
		{"chunks and length", post("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", chunk), 200, chunked, true},
		{"bad length and chunks", post("Content-Length: +3\r\nTransfer-Encoding: chunked\r\n", chunk), 400, "", true},
		{"length twice the same", post("Content-Length: 3\r\nContent-Length: 3\r\n", "abc"), 200, plain, false},
		{"length twice", post("Content-Length: 3\r\nContent-Length: 4\r\n", "abc"), 400, "", true},
		{"length list", post("Content-Length: 3, 3\r\n", "abc"), 400, "", true},
		{"length with sign", post("Content-Length: +3\r\n", "abc"), 400, "", true},
		{"length negative", post("Content-Length: -3\r\n", "abc"), 400, "", true},
		{"length hexadecimal", post("Content-Length: 0x3\r\n", "abc"), 400, "", true},
		{"length with underscore", post("Content-Length: 1_0\r\n", "abc"), 400, "", true},
		{"length empty", post("Content-Length:\r\n", "abc"), 400, "", true},
		{"length overflows", post("Content-Length: 18446744073709551619\r\n", "abc"), 400, "", true},
		{"length within spaces", post("Content-Length:  3 \r\n", "abc"), 200, plain, false},

		{"encoding identity", post("Transfer-Encoding: identity\r\nContent-Length: 3\r\n", "abc"), 501, "", true},
		{"encoding gzip, chunked", post("Transfer-Encoding: gzip, chunked\r\n", chunk), 501, "", true},
		{"encoding chunked, identity", post("Transfer-Encoding: chunked, identity\r\n", chunk), 501, "", true},
		{"encoding twice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", chunk), 501, "", true},
		{"encoding on two lines", post("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", chunk), 501, "", true},
		{"encoding empty", post("Transfer-Encoding:\r\nContent-Length: 3\r\n", "abc"), 501, "", true},
		{"encoding quoted", post("Transfer-Encoding: \"chunked\"\r\n", chunk), 501, "", true},
		{"encoding after a tab", post("Transfer-Encoding:\tchunked\r\n", chunk), 200, chunked, true},
		{"encoding after a vertical tab", post("Transfer-Encoding: \vchunked\r\n", chunk), 400, "", true},
		{"encoding after CR", post("Transfer-Encoding: \rchunked\r\n", chunk), 400, "", true},
		{"encoding in capitals", post("TRANSFER-ENCODING: CHUNKED\r\n", chunk), 200, chunked, true},
		{"encoding in HTTP/1.0", "POST / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk, 200,
			"POST / HTTP/1.1|Host: 127.0.0.1|Content-Length: 0||", true},
		{"encoding and length in HTTP/1.0", "POST / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc", 200,
			"POST / HTTP/1.1|Host: 127.0.0.1|Content-Length: 3||abc", true},

		{"chunk size with sign", post("Transfer-Encoding: chunked\r\n", "+3\r\nabc\r\n0\r\n\r\n"), 400, "", true},
		{"chunk size with prefix", post("Transfer-Encoding: chunked\r\n", "0x3\r\nabc\r\n0\r\n\r\n"), 400, "", true},
		{"chunk size empty", post("Transfer-Encoding: chunked\r\n", "\r\nabc\r\n0\r\n\r\n"), 400, "", true},
		{"chunk size overflows", post("Transfer-Encoding: chunked\r\n", "10000000000000003\r\nabc\r\n0\r\n\r\n"), 400, "", true},
		{"chunk too long", post("Transfer-Encoding: chunked\r\n", "3\r\nabcd\r\n0\r\n\r\n"), 400, "", true},
		{"chunk without CRLF", post("Transfer-Encoding: chunked\r\n", "3\r\nabc0\r\n\r\n"), 400, "", true},
		{"chunk extension is dropped", post("Transfer-Encoding: chunked\r\n", "3;a=\"b\"\r\nabc\r\n0;c\r\n\r\n"), 200, chunked, true},
		{"chunk extension with CR", post("Transfer-Encoding: chunked\r\n", "3;a\rb\r\nabc\r\n0\r\n\r\n"), 400, "", true},
		{"chunk extension with LF", post("Transfer-Encoding: chunked\r\n", "3;a\nabc\r\n0\r\n\r\n"), 400, "", true},

		{"trailer announced", post("Trailer: X-A\r\nTransfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\nX-A: 1\r\n\r\n"), 200,
			"POST / HTTP/1.1|Host: x|Transfer-Encoding: chunked|Trailer: X-A||3\r\nabc\r\n0\r\nX-A: 1\r\n\r\n", true},
		{"trailer not announced", post("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\nX-A: 1\r\n\r\n"), 200, chunked, true},
		{"trailer forbidden", post("Trailer: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\nTransfer-Encoding: x\r\n\r\n"), 400, "", true},
		{"trailers with others", post("Trailer: X-A, Host, X-Real-IP, X-Forwarded-For, a b\r\nTransfer-Encoding: chunked\r\n",
			"3\r\nabc\r\n0\r\nX-A: 1\r\nHost: y\r\nX-Real-IP: 1\r\nX-Forwarded-For: 1\r\nContent-Length: 9\r\nTransfer-Encoding: x\r\n\r\n"), 200,
			"POST / HTTP/1.1|Host: x|Transfer-Encoding: chunked|Trailer: X-A||3\r\nabc\r\n0\r\nX-A: 1\r\n\r\n", true},
		{"trailer with a space before the colon", post("Trailer: X-A\r\nTransfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\nX-A : 1\r\n\r\n"), 200,
			"POST / HTTP/1.1|Host: x|Transfer-Encoding: chunked|Trailer: X-A||" + chunk, true},

		{"lines end with LF", "POST / HTTP/1.1\nHost: x\nContent-Length: 3\n\nabc", 200, plain, false},
		{"CR in a value", post("X: a\rb\r\nContent-Length: 3\r\n", "abc"), 400, "", true},
		{"CR for CRLF", post("X: a\rContent-Length: 3\r\n", "abc"), 400, "", true},
		{"NUL in a value", post("X: a\x00b\r\nContent-Length: 3\r\n", "abc"), 400, "", true},
		{"control byte in a value", post("X: a\x01b\r\nContent-Length: 3\r\n", "abc"), 400, "", true},
		{"control byte in a name", post("X\x01: a\r\nContent-Length: 3\r\n", "abc"), 400, "", true},
		{"space before the colon", post("Content-Length : 3\r\n", "abc"), 400, "", true},
		{"tab before the colon", post("Transfer-Encoding\t: chunked\r\n", chunk), 400, "", true},
		{"space before the name", "POST / HTTP/1.1\r\n Host: x\r\nContent-Length: 3\r\n\r\nabc", 400, "", true},
		{"no colon", post("Content-Length\r\n", "abc"), 400, "", true},
		{"no name", post(": 3\r\n", "abc"), 400, "", true},
		{"folded line", post("X: a\r\n b\r\nContent-Length: 3\r\n", "abc"), 200, "POST / HTTP/1.1|Host: x|Content-Length: 3|X: a b||abc", false},
		{"folded length", post("Content-Length:\r\n 3\r\n", "abc"), 200, plain, false},
		{"no Host", "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 400, "", true},
		{"two Hosts", post("Host: y\r\nContent-Length: 3\r\n", "abc"), 400, "", true},
		{"bad Host", "POST / HTTP/1.1\r\nHost: x\x01y\r\nContent-Length: 3\r\n\r\nabc", 400, "", true},
		{"no Host in HTTP/1.0", "POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc", 200, "POST / HTTP/1.1|Host: 127.0.0.1|Content-Length: 3||abc", true},

		// RFC 9112 §3.2.2: the URI counts.
		{"absolute URI", "POST http://y/a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 200, "POST /a HTTP/1.1|Host: y|Content-Length: 3||abc", false},
		{"absolute URI of another kind", "POST ftp://y/a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 400, "", false},
		{"absolute URI and a bad Host", "GET http://y/a HTTP/1.1\r\nHost: a@b\r\n\r\n", 400, "", true},
		{"opaque URI", "GET x:foo HTTP/1.1\r\nHost: x\r\n\r\n", 400, "", false},
		{"opaque URI of http", "GET http:foo HTTP/1.1\r\nHost: x\r\n\r\n", 400, "", false},
		{"asterisk", "GET * HTTP/1.1\r\nHost: x\r\n\r\n", 400, "", false},
		{"asterisk of OPTIONS", "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 200, "", false}, // net/http answers it
		{"no slash", "GET foo HTTP/1.1\r\nHost: x\r\n\r\n", 400, "", true},
		{"space in the target", "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400, "", true},
		{"control byte in the target", "GET /a\x01 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "", true},
		{"no version", "GET /\r\nHost: x\r\n\r\n", 400, "", true},
		{"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "", true},
		{"HTTP/1.2", "GET / HTTP/1.2\r\nHost: x\r\n\r\n", 200, "GET / HTTP/1.1|Host: x||", false},
		{"HTTP/3.0", "GET / HTTP/3.0\r\nHost: x\r\n\r\n", 505, "", true},
		{"method with a colon", "GE:T / HTTP/1.1\r\nHost: x\r\n\r\n", 400, "", true},

		// What follows may be meant for the other end of a tunnel.
		{"CONNECT", "CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n", 405, "", true},
		{"CONNECT with a bad Host", "CONNECT x:80 HTTP/1.1\r\nHost: a@b\r\n\r\n", 400, "", true},
		{"CONNECT with a length", "CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\nContent-Length: 3\r\n\r\nabc", 405, "", true},

		{"hop-by-hop length", post("Connection: Content-Length\r\nContent-Length: 3\r\n", "abc"), 200, plain, false},
		{"hop-by-hop Host", post("Connection: Host, X-Real-IP\r\nContent-Length: 3\r\n", "abc"), 200, plain, false},
		{"body of GET", "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 200, "GET / HTTP/1.1|Host: x|Content-Length: 3||abc", false},
		{"expectation unknown", post("Expect: a lot\r\nContent-Length: 3\r\n", "abc"), 417, "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if strings.HasPrefix(tt.request, "PRI") {
				onlyNetHTTP(t, "a plane takes it for HTTP/2, as it is")
			}
			if *onEngine {
				// net/http does not tell chunks alone from chunks with a length.
				head, _, _ := strings.Cut(tt.request, "\r\n\r\n")
				if chunks := strings.Contains(tt.want, "|Transfer-Encoding: chunked"); chunks && !strings.Contains(head, "Content-Length") {
					tt.closes = false
				}
				if f, ok := inLoops[tt.name]; ok {
					tt.status, tt.want, tt.closes = f.status, f.want, f.closes
				}
			}
			c := newReader(t, s.Listener.Addr().String())
			io.WriteString(c, tt.request+next)
			res, err := http.ReadResponse(c.r, nil)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, res.Body)
			if res.StatusCode != tt.status {
				t.Errorf("status %d, want %d", res.StatusCode, tt.status)
			}
			res, err = http.ReadResponse(c.r, nil)
			if (err != nil) != tt.closes {
				t.Errorf("the next request gets %+v, %v", res, err)
			}
			want := ""
			if tt.want != "" {
				want = tt.want + "\n"
			}
			if !tt.closes {
				want += "GET /next HTTP/1.1|Host: x||\n"
			}
			got := ""
			for _, r := range briefly(rec) {
				got += strings.ReplaceAll(r, "Host: "+s.Listener.Addr().String(), "Host: 127.0.0.1") + "\n"
			}
			if got != want {
				t.Errorf("the backend got\n%q\nwant\n%q", got, want)
			}
			if n := h.pool().Status().Backends[0].Failures; n != 0 {
				t.Fatal("a client made a healthy backend look bad")
			}
		})
	}
}

// What a backend sends is one response, or an error.
func TestResponseSplitting(t *testing.T) {
	for _, tt := range []struct {
		name     string
		response string
		method   string
		want     int
		body     string
	}{
		{"1xx with a length", "HTTP/1.1 103 Hints\r\nContent-Length: 5\r\n\r\n" + anOK, "GET", 200, "ok"},
		{"HEAD with a length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HEAD", 200, ""},
		{"HEAD with chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HEAD", 200, ""},
		{"204 with a length", "HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", "GET", 204, ""},
		{"304 with a length", "HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n", "GET", 304, ""},
		{"304 with chunks", "HTTP/1.1 304 No\r\nTransfer-Encoding: chunked\r\n\r\n", "GET", 304, ""},
		{"length and chunks", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "GET", 200, "ok"},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", "GET", 502, ""},
		{"length with sign", "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok", "GET", 502, ""},
		{"unknown encoding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "GET", 502, ""},
		{"NUL in a value", "HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 2\r\n\r\nok", "GET", 502, ""},
		{"CR in a value", "HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\nContent-Length: 2\r\n\r\nok", "GET", 502, ""},
		{"CR in the reason", "HTTP/1.1 200 O\rX: K\r\nContent-Length: 2\r\n\r\nok", "GET", 502, ""},
		{"space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok", "GET", 502, ""},
		{"status 000", "HTTP/1.1 000 None\r\nContent-Length: 2\r\n\r\nok", "GET", 502, ""},
		{"status +12", "HTTP/1.1 +12 None\r\nContent-Length: 2\r\n\r\nok", "GET", 502, ""},
		{"HTTP/2.0", "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "GET", 502, ""},
		{"no HTTP", "SSH-2.0-OpenSSH\r\n\r\n", "GET", 502, ""},
		{"switch unasked", "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", "GET", 502, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, h := front(t, HandlerConfig{}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
				http.ReadRequest(r)
				io.WriteString(c, tt.response)
				discard(c, r)
			}))
			req, _ := http.NewRequest(tt.method, s.URL, nil)
			res, err := http.DefaultClient.Do(req)
			got := body(t, res, err)
			failed := tt.want == 502
			if failed && strings.HasPrefix(got, "502 ") {
				got = ""
			}
			waitFor(t, "the end", func() bool { return h.Stats().Active == 0 })
			if res.StatusCode != tt.want || got != tt.body || (h.pool().Status().Backends[0].Failures == 1) != failed {
				t.Errorf("%d %q, %+v", res.StatusCode, got, h.pool().Status().Backends[0])
			}
		})
	}
}
