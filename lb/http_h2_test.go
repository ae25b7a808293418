package lb

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
)

// front2 serves h over the backends by HTTP/2.
func front2(t *testing.T, h *Handler, bs ...Backend) *httptest.Server {
	t.Helper()
	h.Pool = newPool(t, PoolConfig{Backends: bs})
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	t.Cleanup(func() { h.Shutdown(t.Context()) })
	return s
}

// Clients of HTTP/2 get from backends of HTTP/1.1 what others get.
func TestHTTP2Clients(t *testing.T) {
	h := new(Handler)
	s := front2(t, h, webBackend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		w.Header().Set("Link", "x")
		w.WriteHeader(103)
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s %s %v", r.Method, r.Host, r.URL, b, r.Trailer)
		w.Header().Set("X-Sum", "1")
	}))
	for _, method := range []string{"GET", "POST", "PUT"} {
		hints := 0
		trace := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(int, textproto.MIMEHeader) error { hints++; return nil }})
		var content io.Reader
		if method != "GET" {
			content = io.MultiReader(strings.NewReader("hello")) // Of unknown length.
		}
		req, _ := http.NewRequestWithContext(trace, method, s.URL+"/a?b", content)
		want := method + " example.com /a?b  map[]"
		if method != "GET" {
			req.Trailer = http.Header{"X-In": {"7"}}
			req.Header.Set("Expect", "100-continue")
			want = method + " example.com /a?b hello map[X-In:[7]]"
		}
		req.Host = "example.com"
		res, err := s.Client().Do(req)
		if got := body(t, res, err); got != want || res.ProtoMajor != 2 || res.Trailer.Get("X-Sum") != "1" || hints == 0 {
			t.Errorf("%s: HTTP/%d %q, trailer %v, %d hints; want %q", method, res.ProtoMajor, got, res.Trailer, hints, want)
		}
	}
	// What the request line of HTTP/1.1 cannot hold does not get there.
	for _, query := range []string{"a b", "a\tb", "a\x7fb", " HTTP/1.1"} {
		r := httptest.NewRequest("GET", "/", nil)
		r.URL.RawQuery = query
		rec := httptest.NewRecorder()
		before := h.Pool.Status().Backends[0].Picks
		if h.ServeHTTP(rec, r); rec.Code != 400 || h.Pool.Status().Backends[0].Picks != before {
			t.Errorf("query %q: %d, want 400, from us", query, rec.Code)
		}
	}
}

// An answer in the middle of a request ends its stream, and no more.
func TestHTTP2EarlyAnswer(t *testing.T) {
	h := new(Handler)
	s := front2(t, h, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		if req.Method == "POST" {
			io.WriteString(c, "HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwho?\r\n0\r\n\r\n")
		} else {
			io.WriteString(c, anOK)
		}
		discard(c, r)
	}))
	pr, pw := io.Pipe()
	defer pw.Close()
	res, err := s.Client().Post(s.URL, "text/plain", pr)
	if got := body(t, res, err); got != "who?" || res.StatusCode != 401 {
		t.Errorf("%d %q", res.StatusCode, got)
	}
	res, err = s.Client().Get(s.URL)
	if got := body(t, res, err); got != "ok" {
		t.Errorf("%q", got)
	}
	waitFor(t, "the end", func() bool { return h.Stats().Active == 0 })
}
