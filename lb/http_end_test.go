package lb

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/havip/havip/lb/internal/h1"
)

// everything reads until the connection ends.
func everything(t *testing.T, c *reader) string {
	t.Helper()
	b, err := io.ReadAll(c.r)
	if err != nil {
		t.Errorf("after %q: %v", b, err)
	}
	return string(b)
}

// An answer that comes before the request's end is complete, whoever it is from, and
// what is left of the request is not taken for another one.
func TestEarlyAnswersAreComplete(t *testing.T) {
	refuse := func(response string) func(net.Conn, *bufio.Reader) {
		return func(c net.Conn, r *bufio.Reader) {
			http.ReadRequest(r)
			io.WriteString(c, response)
			discard(c, r)
		}
	}
	const own = "Connection: close\r\nContent-Length: %d\r\nContent-Type: text/plain; charset=utf-8\r\n"
	for _, tt := range []struct {
		name    string
		backend func(net.Conn, *bufio.Reader) // nil: there is none
		request string
		want    string // all but Date
	}{
		{"own, expecting", nil, "PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3000000\r\n\r\n",
			"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 24\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n503 Service Unavailable\n"},
		{"own, in the middle", nil, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\n\r\nabc",
			"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 24\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n503 Service Unavailable\n"},
		{"own, malformed chunk", refuse(""), "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nGET /evil HTTP/1.1\r\nHost: x\r\n\r\n",
			fmt.Sprintf("HTTP/1.1 400 Bad Request\r\n"+own+"\r\n400 Bad Request\n", 16)},
		{"length", refuse("HTTP/1.1 401 Unauthorized\r\nContent-Length: 4\r\n\r\nwho?"), "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\n\r\nabc",
			"HTTP/1.1 401 Unauthorized\r\nContent-Length: 4\r\n\r\nwho?"},
		{"chunks", refuse("HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwho?\r\n0\r\nX-Sum: 1\r\n\r\n"),
			"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\n\r\nabc",
			"HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwho?\r\n0\r\nX-Sum: 1\r\n\r\n"},
		{"chunks, expecting", refuse("HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwho?\r\n0\r\n\r\n"),
			"PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3000000\r\n\r\n",
			"HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwho?\r\n0\r\n\r\n"},
		{"until the end, to HTTP/1.0", refuse("HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwho?\r\n0\r\n\r\n"),
			"PUT / HTTP/1.0\r\nContent-Length: 3000\r\n\r\nabc", "HTTP/1.0 401 Unauthorized\r\nConnection: close\r\n\r\nwho?"},
		{"HEAD", refuse("HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\n"), "HEAD / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\n\r\nabc",
			"HTTP/1.1 401 Unauthorized\r\n\r\n"},
		{"not modified", refuse("HTTP/1.1 304 Not Modified\r\n\r\n"), "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\n\r\nabc",
			"HTTP/1.1 304 Not Modified\r\n\r\n"},
		{"no body", refuse("HTTP/1.1 204 No Content\r\n\r\n"), "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\n\r\nabc",
			"HTTP/1.1 204 No Content\r\n\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // each takes its time
			var bs []Backend
			if tt.backend != nil {
				bs = append(bs, rawBackend(t, tt.backend))
			}
			s, h := front(t, HandlerConfig{}, bs...)
			c := newReader(t, s.Listener.Addr().String())
			io.WriteString(c, tt.request)
			got := everything(t, c)
			if at := strings.Index(got, "Date: "); at >= 0 {
				got = got[:at] + got[at+strings.Index(got[at:], "\r\n")+2:]
			}
			if *onEngine { // it says what it speaks, as RFC 9110 §2.5 wants it
				tt.want = strings.Replace(tt.want, "HTTP/1.0", "HTTP/1.1", 1)
			}
			if normalized(got) != normalized(tt.want) {
				t.Errorf("got %q\nwant %q", got, tt.want)
			}
			waitFor(t, "the end of the request", func() bool { return h.Stats().Active == 0 })
			for _, b := range h.pool().Status().Backends {
				if b.Failures != 0 {
					t.Errorf("%d failures, want none", b.Failures)
				}
			}
		})
	}
}

// A backend answers and hangs up while it is still sent to: the reset that follows
// destroys the request, not the answer.
func TestAnswerBeforeTheReset(t *testing.T) {
	s, _ := front(t, HandlerConfig{}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
	}))
	c := newReader(t, s.Listener.Addr().String())
	io.WriteString(c, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n")
	go func() { io.Copy(c, io.LimitReader(neverEnding{}, 3000000)) }()
	res, err := http.ReadResponse(c.r, nil)
	if got := body(t, res, err); got != "big" || res.StatusCode != 413 {
		t.Errorf("%d %q", res.StatusCode, got)
	}
}

// To a client of HTTP/1.0 only a reset can tell that a response is not complete.
func TestTruncationShowsInHTTP10(t *testing.T) {
	withoutLength := func(res *http.Response) error { res.Header.Del("Content-Length"); return nil }
	for _, tt := range []struct {
		response string
		modify   func(*http.Response) error
	}{
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", nil},
		{"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf", withoutLength},
	} {
		half := make(chan bool)
		s, _ := front(t, HandlerConfig{ModifyResponse: tt.modify}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
			http.ReadRequest(r)
			io.WriteString(c, tt.response)
			<-half
		}))
		c := newReader(t, s.Listener.Addr().String())
		io.WriteString(c, "GET / HTTP/1.0\r\n\r\n")
		if _, err := http.ReadResponse(c.r, nil); err != nil {
			t.Fatal(err)
		}
		close(half)
		if b, err := io.ReadAll(c.r); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%q: %q, %v; want a reset", tt.response, b, err)
		}
	}
}

// Both sides ask for the body and hint at what is to come, at the same time.
func TestInformationalResponsesDoNotMix(t *testing.T) {
	s, _ := front(t, HandlerConfig{}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n"+strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", 20))
		io.Copy(io.Discard, req.Body)
		io.WriteString(c, anOK)
	}))
	c := newReader(t, s.Listener.Addr().String())
	io.WriteString(c, "PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
	got := map[int]int{}
	for got[200] == 0 {
		res, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Fatal(got, err)
		}
		if got[res.StatusCode]++; res.StatusCode == 100 {
			io.WriteString(c, "abc")
		}
	}
	if got[100] != 1 || got[103] != 20 {
		t.Errorf("%v", got)
	}
}

// HTTP/1.0 knows no informational responses (RFC 9110 §15.2).
func TestInformationalResponsesAndHTTP10(t *testing.T) {
	s, _ := front(t, HandlerConfig{}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"+anOK)
	}))
	if got := rawRequest(t, s, "GET / HTTP/1.0\r\n\r\n"); got != "ok" {
		t.Errorf("%q", got)
	}
}

// A client that sends in its own time gets the whole answer of a service that is down.
func TestSlowUploadToNobody(t *testing.T) {
	s, _ := front(t, HandlerConfig{})
	pr, pw := io.Pipe()
	go func() {
		defer pw.Close()
		for range 8 {
			if _, err := pw.Write(make([]byte, 1000)); err != nil {
				return
			}
			time.Sleep(drainFor / 5) // longer, all in all, than we wait for it
		}
	}()
	res, err := http.Post(s.URL, "text/plain", pr)
	if got := body(t, res, err); res.StatusCode != 503 || got != "503 Service Unavailable\n" {
		t.Errorf("%d %q", res.StatusCode, got)
	}
}

// TestInformationalResponseLeavesTheFinalOne: what is meant for one of them is not in the
// other, and none comes when the final one has begun.
func TestInformationalResponseLeavesTheFinalOne(t *testing.T) {
	rec := httptest.NewRecorder()
	x := &handling{w: rec, rc: http.NewResponseController(rec), in: httptest.NewRequest("GET", "/", nil), exchange: exchange{cfg: new(handlerSettings)}}
	final := http.Header{"Connection": {"close"}, "X-Final": {"1"}}
	maps.Copy(rec.Header(), final)
	x.passInformational(103, []h1.Field{{Name: "Link", Value: "x"}})
	if got, want := rec.Result().Header, (http.Header{"X-Final": {"1"}, "Link": {"x"}}); rec.Code != 103 || !maps.EqualFunc(got, want, slices.Equal) {
		t.Errorf("%d %v, want %v", rec.Code, got, want)
	}
	if got := rec.Header(); !maps.EqualFunc(got, final, slices.Equal) {
		t.Errorf("left for the final response: %v, want %v", got, final)
	}
	rec = httptest.NewRecorder()
	x.w = rec
	x.beginAnswer()
	if x.passInformational(103, nil); rec.Code == 103 {
		t.Error("it comes in the final response")
	}
}

// askingWriter is a ResponseWriter for which the second request for a body takes a while.
type askingWriter struct {
	*httptest.ResponseRecorder
	t     *testing.T
	asked atomic.Int32
	again chan struct{} // closed when the second one begins
	busy  atomic.Bool
}

func (w *askingWriter) WriteHeader(status int) {
	if status != http.StatusContinue {
		w.ResponseRecorder.WriteHeader(status)
	} else if w.asked.Add(1) == 2 {
		w.busy.Store(true)
		close(w.again)
		time.Sleep(100 * time.Millisecond)
		w.busy.Store(false)
	}
}

func (w *askingWriter) Header() http.Header {
	if w.busy.Load() {
		w.t.Error("the header is used while another goroutine writes it")
	}
	return w.ResponseRecorder.Header()
}

// brokenBody is a body that breaks off after something has happened.
type brokenBody <-chan struct{}

func (b brokenBody) Read([]byte) (int, error) {
	<-b
	return 0, io.ErrUnexpectedEOF
}

// The upload to a backend that was given up may ask for the body while the answer begins.
// Header and ResponseWriter are for one at a time: two at once would end the program.
func TestAbandonedUploadIsApart(t *testing.T) {
	var requests atomic.Int32
	b := func() Backend {
		return rawBackend(t, func(c net.Conn, r *bufio.Reader) {
			http.ReadRequest(r)
			if requests.Add(1) > 1 { // the first one closes the connection
				io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
				discard(c, r)
			}
		})
	}
	h := newHandler(t, HandlerConfig{Pool: newPool(t, PoolConfig{Backends: []Backend{b(), b()}})})
	w := &askingWriter{ResponseRecorder: httptest.NewRecorder(), t: t, again: make(chan struct{})}
	r := httptest.NewRequest("PUT", "/", brokenBody(w.again))
	r.Header.Set("Expect", "100-continue")
	if h.ServeHTTP(w, r); w.Code != 400 || requests.Load() != 2 {
		t.Errorf("status %d after %d requests, want 400 after 2", w.Code, requests.Load())
	}
}
