package lb

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// described is what a client makes of the response to its request: the status and the body, and
// that the body was broken off.
func described(res *http.Response, err error) string {
	if err != nil {
		return "no answer"
	}
	defer res.Body.Close()
	content, err := io.ReadAll(res.Body)
	text := string(content)
	if strings.HasPrefix(text, fmt.Sprint(res.StatusCode, " ")) {
		text = "" // our own page
	}
	text = strings.TrimSpace(fmt.Sprint(res.StatusCode, " ", text))
	if err != nil {
		text += ", broken off"
	}
	return text
}

// versions ask by HTTP/1.1 and by HTTP/2.
var versions = map[string]func(*testing.T, HandlerConfig, ...Backend) (*httptest.Server, *Handler){"HTTP/1.1": front, "HTTP/2": front2}

// outcomeOf sends a request with the body, on a connection of its own.
func outcomeOf(t *testing.T, s *httptest.Server, method, content string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL, strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	client := *s.Client()
	client.Timeout = bound
	req.Close = true
	return described(client.Do(req))
}

// says is a backend that answers each request by the pieces, one after the other, and hangs
// up.
func says(pieces ...string) func(net.Conn, *bufio.Reader) {
	return func(c net.Conn, r *bufio.Reader) {
		if req, err := http.ReadRequest(r); err == nil {
			_, _ = io.Copy(io.Discard, req.Body)
			for _, piece := range pieces {
				io.WriteString(c, piece)
			}
		}
	}
}

// trickles is a backend that answers byte by byte.
func trickles(response string) func(net.Conn, *bufio.Reader) {
	return func(c net.Conn, r *bufio.Reader) {
		says(strings.Split(response, "")...)(pacedConn{c}, r)
	}
}

// pacedConn leaves the peer time to read each write by itself.
type pacedConn struct{ net.Conn }

func (c pacedConn) Write(b []byte) (int, error) {
	time.Sleep(time.Millisecond)
	return c.Conn.Write(b)
}

// saysAndResets is says with a reset at the end.
func saysAndResets(text string) func(net.Conn, *bufio.Reader) {
	return func(c net.Conn, r *bufio.Reader) {
		says(text)(c, r)
		time.Sleep(20 * time.Millisecond) // a reset destroys what was not read
		_ = c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
}

// saysAndWaits is says by a backend that then neither says more nor ends.
func saysAndWaits(text string) func(net.Conn, *bufio.Reader) {
	return func(c net.Conn, r *bufio.Reader) {
		says(text)(c, r)
		discard(c, r)
	}
}

// nastyBackends are tried first; another backend is ready to answer "good".
var nastyBackends = []struct {
	name      string
	backend   func(net.Conn, *bufio.Reader)
	get, post string // outcomes
	failures  uint64
}{
	{"hangs up without a word", says(), "200 good", "502", 1},
	{"hangs up before the request", func(net.Conn, *bufio.Reader) {}, "200 good", "502", 1},
	{"resets", saysAndResets(""), "200 good", "502", 1},
	{"dies in the status line", says("HTTP/1.1 20"), "200 good", "502", 1},
	{"dies in the header", says("HTTP/1.1 200 OK\r\nContent-Le"), "200 good", "502", 1},
	{"dies before the empty line", says("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"), "200 good", "502", 1},
	{"dies in the empty line", says("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r"), "200 good", "502", 1},
	{"resets in the header", saysAndResets("HTTP/1.1 200 OK\r\nContent-Le"), "200 good", "502", 1},
	{"dies after 100 (Continue)", says("HTTP/1.1 100 Continue\r\n\r\n"), "200 good", "502", 1},
	{"dies after 103 (Early Hints)", says("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"), "200 good", "502", 1},
	{"dies in 103 (Early Hints)", says("HTTP/1.1 103 Early Hints\r\nLink"), "200 good", "502", 1},
	{"never answers", saysAndWaits(""), "200 good", "504", 1},
	{"stops in the header", saysAndWaits("HTTP/1.1 200 OK\r\nContent-Le"), "200 good", "504", 1},
	{"never answers after 100 (Continue)", saysAndWaits("HTTP/1.1 100 Continue\r\n\r\n"), "200 good", "504", 1},

	{"dies before the body", says("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"), "200, broken off", "200, broken off", 1},
	{"dies in the body", says("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf"), "200 half, broken off", "200 half, broken off", 1},
	{"resets in the body", saysAndResets("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf"), "200 half, broken off", "200 half, broken off", 1},
	{"dies in a chunk", says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nhalf"), "200 half, broken off", "200 half, broken off", 1},
	{"dies between chunks", says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"), "200 half, broken off", "200 half, broken off", 1},
	{"dies in the size of a chunk", says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n1"), "200 half, broken off", "200 half, broken off", 1},
	{"dies after the last chunk", says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n"), "200 half, broken off", "200 half, broken off", 1},
	{"dies in the trailer", says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\nX-T"), "200 half, broken off", "200 half, broken off", 1},
	{"resets a body until the end", saysAndResets("HTTP/1.1 200 OK\r\nX: y\r\n\r\nhalf"), "200 half, broken off", "200 half, broken off", 1},
	// It has answered: a stream may be silent for long.
	{"stops in the body", saysAndWaits("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf"), "200 half, broken off", "200 half, broken off", 0},
	{"stops in a chunk", saysAndWaits("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nhalf"), "200 half, broken off", "200 half, broken off", 0},
	{"chunk is longer than its size", says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalfmore\r\n0\r\n\r\n"), "200 half, broken off", "200 half, broken off", 1},
	{"size of a chunk is no number", says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n\r\n"), "200 half, broken off", "200 half, broken off", 1},
	{"size of a chunk has a sign", says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n+4\r\nmore\r\n0\r\n\r\n"), "200 half, broken off", "200 half, broken off", 1},
	{"size of a chunk overflows", says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n10000000000000004\r\nmore\r\n0\r\n\r\n"), "200 half, broken off", "200 half, broken off", 1},

	{"speaks no HTTP", says("220 mail.test ESMTP\r\n"), "200 good", "502", 1},
	{"speaks HTTP/0.9", says("<html>hello</html>\r\n\r\n"), "200 good", "502", 1},
	{"speaks HTTP/2", says("\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64"), "200 good", "502", 1},
	{"status of two digits", says("HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n"), "200 good", "502", 1},
	{"status of four digits", says("HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n"), "200 good", "502", 1},
	{"status is a word", says("HTTP/1.1 OK 200\r\nContent-Length: 0\r\n\r\n"), "200 good", "502", 1},
	{"line without a colon", says("HTTP/1.1 200 OK\r\nContent-Length\r\n\r\n"), "200 good", "502", 1},
	{"lengths that differ", says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 4\r\n\r\nokok"), "200 good", "502", 1},
	{"length is no number", says("HTTP/1.1 200 OK\r\nContent-Length: four\r\n\r\nfour"), "200 good", "502", 1},
	{"length is negative", says("HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\nfour"), "200 good", "502", 1},
	{"length overflows", says("HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551620\r\n\r\nfour"), "200 good", "502", 1},
	{"header without an end", says(append([]string{"HTTP/1.1 200 OK\r\n"}, strings.Split(strings.Repeat("X: "+strings.Repeat("y", 997)+"\r\n", 2000), "\n")...)...), "200 good", "502", 1},
	{"informational responses without an end", says(strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: "+strings.Repeat("y", 1000)+"\r\n\r\n", 20000)), "200 good", "502", 1},

	// No harm is done by these.
	{"byte by byte", trickles("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), "200 ok", "200 ok", 0},
	{"chunks, byte by byte", trickles("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;a=b\r\no\r\n1\r\nk\r\n0\r\nX-T: 1\r\n\r\n"), "200 ok", "200 ok", 0},
	{"until the end, byte by byte", trickles("HTTP/1.1 200 OK\r\n\r\nok"), "200 ok", "200 ok", 0},
	{"100 (Continue) unasked, byte by byte", trickles("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), "200 ok", "200 ok", 0},
	{"more than the length", says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\nevil"), "200 ok", "200 ok", 0},
	{"more after the last chunk", says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\nevil"), "200 ok", "200 ok", 0},
	{"body of a 204", says("HTTP/1.1 204 No Content\r\n\r\nevil"), "204", "204", 0},
	{"body of a 304", says("HTTP/1.1 304 Not Modified\r\nX: y\r\n\r\nevil"), "304", "304", 0},
	{"length of a 204", says("HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n"), "204", "204", 0},
	{"no reason phrase", says("HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok"), "200 ok", "200 ok", 0},
	{"HTTP/1.0 until the end", says("HTTP/1.0 200 OK\r\n\r\nok"), "200 ok", "200 ok", 0},
}

// contents are those of requests, by their methods.
var contents = map[string]string{"POST": "content"}

// TestNastyBackends: what a backend does wrong before its answer has begun is another
// backend's chance, if the request may be repeated. A response that has begun is broken off,
// visibly. And what is on a connection beyond a response is nobody's response.
func TestNastyBackends(t *testing.T) {
	for _, tt := range nastyBackends {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // some wait
			var cfg HandlerConfig
			if strings.Contains(tt.name, "never") || strings.Contains(tt.name, "stops") {
				cfg.Timeout = 1500 * time.Millisecond // the good one is faster
			}
			var asking sync.WaitGroup
			defer asking.Wait()
			for version, front := range versions {
				for method, want := range map[string]string{"GET": tt.get, "POST": tt.post} {
					s, h := front(t, cfg, rawBackend(t, tt.backend), webBackend(t, name("good")))
					asking.Go(func() {
						if got := outcomeOf(t, s, method, contents[method]); got != want {
							t.Errorf("%s, %s: %q, want %q", version, method, got, want)
						}
						st := func() BackendStatus { return h.pool().Status().Backends[0] }
						waitFor(t, "the end", func() bool { return h.Stats().Active == 0 && st().Active == 0 })
						if n := st().Failures; n != tt.failures {
							t.Errorf("%s, %s: %d failures, want %d", version, method, n, tt.failures)
						}
					})
				}
			}
		})
	}
}
