package lb

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab/labtest"
)

func TestBodyLimit(t *testing.T) {
	var reached atomic.Int32
	s, _ := front(t, HandlerConfig{MaxBody: 10}, webBackend(t, func(w http.ResponseWriter, r *http.Request) {
		reached.Add(1)
		io.Copy(w, r.Body)
	}))
	for _, tt := range []struct {
		body   io.Reader
		status int
	}{
		{strings.NewReader("0123456789"), 200},
		{strings.NewReader("01234567890"), 413},
		{io.MultiReader(strings.NewReader("0123456789")), 200}, // chunked
		{io.MultiReader(strings.NewReader("01234567890")), 413},
	} {
		res, err := http.Post(s.URL, "text/plain", tt.body)
		body(t, res, err)
		if res.StatusCode != tt.status {
			t.Errorf("status %d, want %d", res.StatusCode, tt.status)
		}
	}
}

// A backend may answer before it has read the request. What the client is still
// sending must not harm the next request on its connection.
func TestEarlyAnswers(t *testing.T) {
	s, _ := front(t, HandlerConfig{}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		switch {
		case err != nil:
		case req.Method == "GET":
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		default:
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly")
			io.Copy(io.Discard, r)
		}
	}))
	var log labtest.Log
	s.Config.ErrorLog = slog.NewLogLogger(slog.NewTextHandler(&log, nil), slog.LevelError)
	for _, tt := range []struct {
		name, head, rest string
		reused           bool
	}{
		{"the rest comes soon", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabc", "def", true},
		{"chunked", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "0\r\n\r\n", *onEngine}, // net/http does not tell chunks from chunks with a length
		{"the rest never comes", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabc", "", false},
		{"there is very much of it", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\nabc", "", false},
	} {
		c := dialTest(t, s.Listener.Addr().String())
		br := bufio.NewReader(c)
		io.WriteString(c, tt.head)
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		io.WriteString(c, tt.rest)
		if got := body(t, res, nil); got != "early" {
			t.Errorf("%s: %q", tt.name, got)
		}
		if tt.reused {
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		}
		start := time.Now()
		res, err = http.ReadResponse(br, nil)
		if (err == nil) != tt.reused || time.Since(start) > bound/2 {
			t.Errorf("%s: the next request gets %v, %v after %v", tt.name, res, err, time.Since(start))
		}
	}
	if got := log.String(); got != "" {
		t.Errorf("the server complains: %s", got)
	}
}

func TestExpectContinue(t *testing.T) {
	var accepted, refused atomic.Int32
	s, _ := front(t, HandlerConfig{}, webBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			refused.Add(1)
			w.WriteHeader(http.StatusForbidden)
			return
		}
		accepted.Add(1)
		io.Copy(w, r.Body)
	}))
	c := dialTest(t, s.Listener.Addr().String())
	br := bufio.NewReader(c)
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
	line, _ := br.ReadString('\n')
	if line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("got %q", line)
	}
	br.ReadString('\n')
	io.WriteString(c, "hello")
	res, err := http.ReadResponse(br, nil)
	if got := body(t, res, err); got != "hello" {
		t.Errorf("body %q", got)
	}
	if got := rawStatus(t, s, "POST /no HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"); got != 403 {
		t.Errorf("the refusal came as %d", got)
	}
	if accepted.Load() != 1 || refused.Load() != 1 {
		t.Errorf("%d accepted, %d refused", accepted.Load(), refused.Load())
	}
}

// A client that was told to continue is not asked again, nor is the next backend.
func TestExpectationIsMetOnce(t *testing.T) {
	s, _ := front(t, HandlerConfig{}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		if req, err := http.ReadRequest(r); err == nil {
			io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
			io.Copy(io.Discard, req.Body)
		}
	}), webBackend(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, r.Body)
		io.WriteString(w, r.Header.Get("Expect"))
	}))
	c := newReader(t, s.Listener.Addr().String())
	if res, _, err := c.ask(t, "PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"); err != nil || res.StatusCode != 100 {
		t.Fatal(res, err)
	}
	if res, got, err := c.ask(t, "abc"); err != nil || res.StatusCode != 200 || got != "abc" {
		t.Errorf("%q, %+v, %v", got, res, err)
	}
}

func TestTrailers(t *testing.T) {
	for _, announce := range []bool{true, false} {
		var got atomic.Value
		s, _ := front(t, HandlerConfig{}, webBackend(t, func(w http.ResponseWriter, r *http.Request) {
			if announce {
				w.Header().Set("Trailer", "X-Sum")
			}
			io.Copy(w, r.Body)
			got.Store(r.Trailer.Get("X-In"))
			w.(http.Flusher).Flush()
			if announce {
				w.Header().Set("X-Sum", "42")
			} else {
				w.Header().Set(http.TrailerPrefix+"X-Sum", "42")
			}
		}))
		req, _ := http.NewRequest("POST", s.URL, io.NopCloser(strings.NewReader("data")))
		req.Trailer = http.Header{"X-In": {"7"}}
		res, err := http.DefaultClient.Do(req)
		if b := body(t, res, err); b != "data" || res.Trailer.Get("X-Sum") != "42" || got.Load() != "7" {
			t.Errorf("announced %v: body %q, response trailer %v, request trailer %v", announce, b, res.Trailer, got.Load())
		}
	}
}

// A response that comes in one piece has its trailers, announced or not.
func TestTrailersOfResponsesThatComeWhole(t *testing.T) {
	for _, announce := range []string{"", "Trailer: X-Sum\r\n"} {
		whole := "HTTP/1.1 200 OK\r\n" + announce + "Transfer-Encoding: chunked\r\n\r\n4\r\ndata\r\n0\r\nX-Sum: 42\r\n\r\n"
		s, _ := front(t, HandlerConfig{}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
			if _, err := http.ReadRequest(r); err == nil {
				io.WriteString(c, whole)
				discard(c, r)
			}
		}))
		res, err := http.Get(s.URL)
		if b := body(t, res, err); b != "data" || res.Trailer.Get("X-Sum") != "42" {
			t.Errorf("%q: body %q, trailer %v", announce, b, res.Trailer)
		}
	}
}

// A client may send trailers that it has not announced. They are dropped, and the
// rest of the request is served.
func TestUnannouncedTrailersAreDropped(t *testing.T) {
	for _, announce := range []string{"", "Trailer: X-Foo\r\n"} {
		s, _ := front(t, HandlerConfig{}, webBackend(t, func(w http.ResponseWriter, r *http.Request) {
			io.Copy(w, r.Body)
			fmt.Fprint(w, r.Trailer)
		}))
		got := rawRequest(t, s, "POST / HTTP/1.1\r\nHost: x\r\n"+announce+
			"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Foo: bar\r\nX-Other: 1\r\n\r\n")
		want := "abcmap[]"
		if announce != "" {
			want = "abcmap[X-Foo:[bar]]"
		}
		if got != want {
			t.Errorf("the backend got %q, want %q", got, want)
		}
	}
}

func TestBodiesAreStreamed(t *testing.T) {
	s, _ := front(t, HandlerConfig{}, webBackend(t, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		b := make([]byte, 1)
		for {
			if _, err := io.ReadFull(r.Body, b); err != nil {
				return
			}
			w.Write(b)
			w.(http.Flusher).Flush()
		}
	}))
	c := dialTest(t, s.Listener.Addr().String())
	br := bufio.NewReader(c)
	io.WriteString(c, "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
	res, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	one := make([]byte, 1)
	for _, letter := range []string{"a", "b", "c"} {
		if letter != "a" {
			io.WriteString(c, "1\r\n"+letter+"\r\n")
		}
		// Each comes back before the next is sent.
		if _, err := io.ReadFull(res.Body, one); err != nil || string(one) != letter {
			t.Fatalf("got %q, %v; want %q", one, err, letter)
		}
	}
}
