package lb

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// pipelined are n requests of all kinds of framing, and what echoing answers to each.
func pipelined(n int) (requests string, answers []string) {
	var b strings.Builder
	for i := range n {
		text := fmt.Sprint(i, strings.Repeat("x", i*i%900))
		switch i % 5 {
		case 0:
			fmt.Fprintf(&b, "GET /%d HTTP/1.1\r\nHost: x\r\n\r\n", i)
			text = ""
		case 1:
			fmt.Fprintf(&b, "POST /%d HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", i, len(text), text)
		case 2:
			fmt.Fprintf(&b, "PUT /%d HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nX-Long: %s\r\n\r\n%s", i, len(text), strings.Repeat("y", 2000), text)
		case 3:
			fmt.Fprintf(&b, "GET /%d HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", i, len(text), text)
		default:
			fmt.Fprintf(&b, "DELETE /%d HTTP/1.1\r\nHost: x\r\n\r\n", i)
			text = ""
		}
		answers = append(answers, fmt.Sprintf("/%d %s", i, text))
	}
	return b.String(), answers
}

// echoing answers with the target and the body of the request, with a length or in chunks.
func echoing(w http.ResponseWriter, r *http.Request) {
	content, _ := io.ReadAll(r.Body)
	if len(content)%2 == 1 {
		w.(http.Flusher).Flush()
	}
	fmt.Fprintf(w, "%s %s", r.RequestURI, content)
}

// TestPipelineInOneWrite: many requests that come at once are answered one after the other, in
// their order, with and without TLS.
func TestPipelineInOneWrite(t *testing.T) {
	const n = 200
	requests, want := pipelined(n)
	for name, dial := range dials(t, webBackend(t, echoing)) {
		c := dial(t)
		go io.WriteString(c, requests)
		for i := range n {
			res, err := http.ReadResponse(c.r, nil)
			if got := body(t, res, err); got != want[i] {
				t.Fatalf("%s: answer %d is %q, want %q", name, i, got, want[i])
			}
		}
		c.Close()
	}
}

// dials connect to fronts of a backend.
func dials(t *testing.T, b Backend) map[string]func(*testing.T) *reader {
	plain, _ := listening(t, HandlerConfig{}, b)
	encrypted := listeningTLS(t, shell{}, b)
	return map[string]func(*testing.T) *reader{
		"plain": func(t *testing.T) *reader { return newReader(t, plain) },
		"TLS": func(t *testing.T) *reader {
			c := tls.Client(dialTest(t, encrypted), &tls.Config{InsecureSkipVerify: true})
			return &reader{c, bufio.NewReader(c)}
		},
	}
}

// TestRequestsSplitAnywhere: what two requests say does not depend on where the bytes are cut.
func TestRequestsSplitAnywhere(t *testing.T) {
	const requests = "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello" +
		"PUT /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\nConnection: close\r\n\r\n5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nX-T: 1\r\n\r\n"
	const want = "POST /a HTTP/1.1|Host: x|Content-Length: 5||hello\nPUT /b HTTP/1.1|Host: x|Transfer-Encoding: chunked|Trailer: X-T||hello!"
	rec, b := record(t)
	for name, dial := range dials(t, b) {
		step := 1
		if name == "TLS" {
			step = 7 // a handshake each
		}
		for at := 1; at < len(requests); at += step {
			c := dial(t)
			io.WriteString(c, requests[:at])
			io.WriteString(pacedConn{c}, requests[at:])
			if got := statusLines(everything(t, c)); got != "200 OK|200 OK" {
				t.Errorf("%s, split at %d (%q): %q", name, at, requests[:at], got)
			}
			if got := dechunked(briefly(rec)); got != want {
				t.Errorf("%s, split at %d (%q): the backend got %q, want %q", name, at, requests[:at], got, want)
			}
			c.Close()
		}
	}
}

// splitResponses are responses, and what they are for a client: status lines and the body.
var splitResponses = []struct{ response, want string }{
	{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: 1\r\n\r\nhello", "200 OK hello"},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n00001\r\n!\r\n0\r\nX-T: 1\r\n\r\n", "200 OK hello!"},
	{"HTTP/1.1 200 OK\r\nX-A: 1\r\n\r\nhello", "200 OK hello"},
	{"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n", "103 Early Hints|204 No Content "},
	{"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "404 Not Found "},
}

// TestResponsesSplitAnywhere: the same of responses, in all their splits into two.
func TestResponsesSplitAnywhere(t *testing.T) {
	for _, tt := range splitResponses {
		var at atomic.Int64
		address, h := listening(t, HandlerConfig{}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
			if _, err := http.ReadRequest(r); err == nil {
				io.WriteString(c, tt.response[:at.Load()])
				io.WriteString(pacedConn{c}, tt.response[at.Load():])
			}
		}))
		for i := range len(tt.response) {
			at.Store(int64(i))
			c := newReader(t, address)
			io.WriteString(c, aLastGet)
			all := everything(t, c)
			if got := statusLines(all) + " " + contentOf(all); got != tt.want {
				t.Errorf("split at %d (%q): %q, want %q", i, tt.response[:i], got, tt.want)
			}
			c.Close()
		}
		if n := h.pool().Status().Backends[0].Failures; n != 0 {
			t.Errorf("%q: %d failures", tt.response, n)
		}
	}
}

// contentOf returns the body of the final one of some responses.
func contentOf(responses string) string {
	in := bufio.NewReader(strings.NewReader(responses))
	for {
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			return err.Error()
		}
		if res.StatusCode >= 200 {
			content, err := io.ReadAll(res.Body)
			if err != nil {
				return err.Error()
			}
			return string(content)
		}
	}
}

// TestExcessBytesEndAConnection: what a backend says beyond its response is passed to nobody,
// and its connection serves no other request: the next answer might be an old one.
func TestExcessBytesEndAConnection(t *testing.T) {
	const evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
	for _, tt := range []struct{ name, method, response string }{
		{"after a length", "GET", anOK},
		{"after a length of 0", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
		{"after chunks", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"},
		{"after a trailer", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-T: 1\r\n\r\n"},
		{"after a response to HEAD", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"},
		{"after 204", "GET", "HTTP/1.1 204 No Content\r\n\r\n"},
		{"after 304", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"},
		{"after the answer to an upload", "PUT", anOK},
	} {
		for _, late := range []bool{false, true} {
			gone := make(chan bool, 2)
			address, h := listening(t, HandlerConfig{}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
				req, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, req.Body)
				switch {
				case req.URL.Path == "/next":
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext")
				case late:
					io.WriteString(c, tt.response)
					io.WriteString(pacedConn{c}, evil)
				default:
					io.WriteString(c, tt.response+evil)
				}
				discard(c, r)
				gone <- true
			}))
			c := newReader(t, address)
			request := tt.method + " / HTTP/1.1\r\nHost: x\r\n\r\n"
			if tt.method == "PUT" {
				request = aPut3 + "abc"
			}
			if _, got, err := c.ask(t, request); err != nil || strings.Contains(got, "evil") {
				t.Errorf("%s: %q, %v", tt.name, got, err)
			}
			select {
			case <-gone:
			case <-time.After(bound):
				t.Errorf("%s, late %v: the connection stays", tt.name, late)
			}
			if _, got, err := c.ask(t, "GET /next HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil || got != "next" {
				t.Errorf("%s, late %v: the next answer is %q, %v", tt.name, late, got, err)
			}
			if n := h.pool().Status().Backends[0].Connects; n != 2 {
				t.Errorf("%s, late %v: %d connections, want 2", tt.name, late, n)
			}
		}
	}
}
