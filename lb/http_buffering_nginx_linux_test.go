package lb

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// buffered are requests, and what a backend says that it gets: with buffering, and without. What
// nginx does otherwise comes with the reason.
var buffered = []struct {
	name, request string
	on, off       string
	nginxOn       string // empty: the same
	nginxOff      string
	why           string
}{
	{name: "a length", request: "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", on: "200\nPOST length=5 [] trailer=map[] got 5", off: "200\nPOST length=5 [] trailer=map[] got 5"},
	{name: "no body", request: "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", on: "200\nPOST length=0 [] trailer=map[] got 0", off: "200\nPOST length=0 [] trailer=map[] got 0"},
	{name: "chunks", request: inOnePut("", "1388\r\n"+fiveKB+"\r\n0\r\n\r\n"), on: "200\nPUT length=5000 [] trailer=map[] got 5000", off: "200\nPUT length=-1 [] trailer=map[] got 5000",
		nginxOff: "200\nPUT length=5000 [] trailer=map[] got 5000", why: cameWithHead},
	{name: "no content in chunks", request: inOnePut("", "0\r\n\r\n"), on: "200\nPUT length=0 [] trailer=map[] got 0", off: "200\nPUT length=-1 [] trailer=map[] got 0",
		nginxOff: "200\nPUT length=0 [] trailer=map[] got 0", why: cameWithHead},
	{name: "an expectation", request: "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
		on: "200\nPOST length=5 [] trailer=map[] got 5", off: "200\nPOST length=5 [100-continue] trailer=map[] got 5",
		nginxOff: "200\nPOST length=5 [] trailer=map[] got 5", why: "the backend decides whether it wants the body, and nginx asks for all"},
	{name: "an expectation, and no content in chunks", request: inOnePut("Expect: 100-continue\r\n", "0\r\n\r\n"),
		on: "200\nPUT length=0 [] trailer=map[] got 0", off: "200\nPUT length=-1 [100-continue] trailer=map[] got 0",
		nginxOff: "200\nPUT length=0 [] trailer=map[] got 0", why: "as with content"},
	{name: "a trailer", request: inOnePut("Trailer: X-Sum\r\n", "5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n"),
		on: "200\nPUT length=-1 [] trailer=map[X-Sum:[7]] got 5", off: "200\nPUT length=-1 [] trailer=map[X-Sum:[7]] got 5",
		nginxOn: "200\nPUT length=5 [] trailer=map[] got 5", nginxOff: "200\nPUT length=5 [] trailer=map[] got 5", why: "nginx passes no trailers of requests on; " + cameWithHead},
	{name: "too large, by its length", request: "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6001\r\n\r\n", on: "413\n", off: "413\n"},
	{name: "too large, in chunks", request: inOnePut("", "1388\r\n"+fiveKB+"\r\n1388\r\n"+fiveKB+"\r\n0\r\n\r\n"), on: "413\n", off: "413\n"},
	{name: "no chunk", request: inOnePut("", "5\r\nhello\r\nx\r\n"), on: "400\n", off: "400\n"},
	{name: "an early answer", request: "POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n" + fiveKB, on: "403\nPOST length=5000 [] trailer=map[] got 0", off: "403\nPOST length=5000 [] trailer=map[] got 0"},
}

const cameWithHead = "of what has come together with its head nginx knows the length, and without buffering that is chance"

// TestBufferingBesideNginx: backends get the same as from nginx with proxy_request_buffering on and
// off, except where the table says so, and nothing of a body that is cut short if it is on.
func TestBufferingBesideNginx(t *testing.T) {
	var begun atomic.Int32
	b := webBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/cut" {
			begun.Add(1)
		}
		expect := r.Header["Expect"]
		var content []byte
		if strings.HasPrefix(r.URL.Path, "/early") {
			_ = http.NewResponseController(w).EnableFullDuplex()
			w.WriteHeader(http.StatusForbidden)
			defer func() {
				w.(http.Flusher).Flush()
				_, _ = io.Copy(io.Discard, r.Body) // a reset could destroy the answer
			}()
		} else {
			content, _ = io.ReadAll(r.Body)
		}
		fmt.Fprint(w, r.Method, " length=", r.ContentLength, " ", expect, " trailer=", r.Trailer, " got ", len(content))
	})
	for _, buffering := range []Buffering{BufferingOn, BufferingOff} {
		sites := map[string]string{"nginx": besideNginx(t, fmt.Sprintf(`client_max_body_size 6000; location / {
			proxy_pass http://backends; proxy_http_version 1.1; proxy_request_buffering %v; }`, buffering), b)}
		for _, f := range bufferFronts() {
			sites[f.name] = f.serve(t, HandlerConfig{MaxBody: 6000, Rules: Rules{Buffering: buffering}}, b).address
		}
		for name, address := range sites {
			for _, tt := range buffered {
				want := tt.on
				if (tt.nginxOn+tt.nginxOff != "") != (tt.why != "") {
					t.Errorf("%s: want a reason for what is different, and for nothing else", tt.name)
				}
				switch {
				case buffering == BufferingOff && name == "nginx":
					want = cmp.Or(tt.nginxOff, tt.off)
				case buffering == BufferingOff:
					want = tt.off
				case name == "nginx":
					want = cmp.Or(tt.nginxOn, tt.on)
				}
				got := askRaw(t, address, tt.request)
				if strings.HasSuffix(want, "\n") { // the page is each one's own
					got = got[:min(len(got), len(want))]
				}
				if got != want {
					t.Errorf("%s, %s, buffering %v: %q, want %q", name, tt.name, buffering, got, want)
				}
			}
			// Who waits to be asked for the body is asked, by us or by the backend.
			asker := newReader(t, address)
			io.WriteString(asker, "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
			_ = asker.SetReadDeadline(time.Now().Add(bound))
			if line, err := asker.r.ReadString('\n'); line != "HTTP/1.1 100 Continue\r\n" {
				t.Errorf("%s, buffering %v: a client that waits gets %q, %v", name, buffering, line, err)
			}
			asker.Close()
			// What is cut short.
			before := begun.Load()
			c := dialTest(t, address)
			io.WriteString(c, "POST /cut HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n"+fiveKB[:4000])
			if buffering == BufferingOff {
				waitFor(t, name+": the backend to get what has come", func() bool { return begun.Load() == before+1 })
			}
			_ = c.CloseWrite()
			_ = c.SetReadDeadline(time.Now().Add(bound))
			if _, err := io.ReadAll(c); err != nil { // it ends, with an answer or without
				t.Errorf("%s: %v", name, err)
			}
			c.Close()
			if n := begun.Load() - before; (n > 0) != (buffering == BufferingOff) {
				t.Errorf("%s, buffering %v: the backend gets %d requests of a client that leaves", name, buffering, n)
			}
		}
	}
}
