package lb

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// pageCases are requests that get a page, or none, and what they get.
var pageCases = []struct {
	name    string
	rules   Rules
	backend http.HandlerFunc // nil: it refuses connections
	request string
	want    string // with the fields of pageFields
	// nginx is the same in nginx's words; empty: nginx has no such thing. A %s is for the
	// folder of the pages.
	nginx string
	// differs is what nginx answers, and why; empty: the same.
	differs, why string
}{
	{"a backend that does not answer", Rules{ErrorPages: fiveHundreds}, nil, "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"502\nContent-Type: text/html\nRetry-After: -\nWWW-Authenticate: -\nX-App: -\n<p>sorry", nginxPage + "location / { proxy_pass http://backends; }", "", ""},
	{"HEAD", Rules{ErrorPages: fiveHundreds}, nil, "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n",
		"502\nContent-Type: text/html\nRetry-After: -\nWWW-Authenticate: -\nX-App: -\n", nginxPage + "location / { proxy_pass http://backends; }", "", ""},
	{"a status of its own", Rules{ErrorPages: []ErrorPage{{[]int{502}, Page{Content: []byte("<p>sorry"), ContentType: "text/html", Status: 200}}}}, nil,
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "200\nContent-Type: text/html\nRetry-After: -\nWWW-Authenticate: -\nX-App: -\n<p>sorry",
		"error_page 502 =200 /sorry.html; location = /sorry.html { root %s; default_type text/html; } location / { proxy_pass http://backends; }", "", ""},
	{"another status has none", Rules{ErrorPages: []ErrorPage{{[]int{503}, Page{Content: []byte("no")}}}}, nil, "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"502\nContent-Type: text/plain; charset=utf-8\nRetry-After: -\nWWW-Authenticate: -\nX-App: -\n502 Bad Gateway\n", "", "", ""},
	{"a backend's own error stays", Rules{ErrorPages: fiveHundreds}, answering(503), "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"503\nContent-Type: text/x-app\nRetry-After: -\nWWW-Authenticate: Digest realm=\"x\"\nX-App: 1\nmine",
		nginxPage + "location / { proxy_pass http://backends; }", "", ""},
	{"a backend's error is intercepted", Rules{ErrorPages: fiveHundreds, InterceptErrors: true}, answering(503), "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"503\nContent-Type: text/html\nRetry-After: -\nWWW-Authenticate: -\nX-App: -\n<p>sorry",
		nginxPage + "location / { proxy_pass http://backends; proxy_intercept_errors on; }", "", ""},
	{"HEAD, intercepted", Rules{ErrorPages: fiveHundreds, InterceptErrors: true}, answering(503), "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n",
		"503\nContent-Type: text/html\nRetry-After: -\nWWW-Authenticate: -\nX-App: -\n",
		nginxPage + "location / { proxy_pass http://backends; proxy_intercept_errors on; }", "", ""},
	{"POST, intercepted", Rules{ErrorPages: fiveHundreds, InterceptErrors: true}, answering(503), "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
		"503\nContent-Type: text/html\nRetry-After: -\nWWW-Authenticate: -\nX-App: -\n<p>sorry",
		nginxPage + "location / { proxy_pass http://backends; proxy_intercept_errors on; }", "", ""},
	{"no page, not intercepted", Rules{ErrorPages: fiveHundreds, InterceptErrors: true}, answering(404), "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"404\nContent-Type: text/x-app\nRetry-After: -\nWWW-Authenticate: Digest realm=\"x\"\nX-App: 1\nmine",
		nginxPage + "location / { proxy_pass http://backends; proxy_intercept_errors on; }", "", ""},
	{"a success is no error", Rules{ErrorPages: fiveHundreds, InterceptErrors: true}, answering(200), "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"200\nContent-Type: text/x-app\nRetry-After: -\nWWW-Authenticate: Digest realm=\"x\"\nX-App: 1\nmine",
		nginxPage + "location / { proxy_pass http://backends; proxy_intercept_errors on; }", "", ""},
	{"401, intercepted, keeps its challenge", Rules{ErrorPages: []ErrorPage{{[]int{401}, Page{Content: []byte("<p>sorry"), ContentType: "text/html"}}}, InterceptErrors: true},
		answering(401), "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "401\nContent-Type: text/html\nRetry-After: -\nWWW-Authenticate: Digest realm=\"x\"\nX-App: -\n<p>sorry",
		"error_page 401 /sorry.html; location = /sorry.html { root %s; default_type text/html; } location / { proxy_pass http://backends; proxy_intercept_errors on; }", "", ""},
	{"denied by address", Rules{ErrorPages: []ErrorPage{{[]int{403}, Page{Content: []byte("<p>sorry"), ContentType: "text/html"}}},
		Access: []AccessRule{{Deny: true, From: netip.MustParsePrefix("127.0.0.0/8")}}}, answering(200), "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"403\nContent-Type: text/html\nRetry-After: -\nWWW-Authenticate: -\nX-App: -\n<p>sorry",
		"error_page 403 /sorry.html; location = /sorry.html { root %s; default_type text/html; } location / { proxy_pass http://backends; deny 127.0.0.0/8; }", "", ""},
	{"maintenance", Rules{ErrorPages: fiveHundreds, Maintenance: true}, answering(200), "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"503\nContent-Type: text/html\nRetry-After: 60\nWWW-Authenticate: -\nX-App: -\n<p>sorry", nginxPage + "location / { return 503; }",
		"503\nContent-Type: text/html\nRetry-After: -\nWWW-Authenticate: -\nX-App: -\n<p>sorry", "RetryAfter is a setting here, and add_header there"},
	{"maintenance with a page of its own", Rules{ErrorPages: fiveHundreds, Maintenance: true, RetryAfter: 90500 * time.Millisecond,
		MaintenancePage: &Page{Content: []byte("soon"), Status: 500}}, answering(200), "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"500\nContent-Type: text/html; charset=utf-8\nRetry-After: 91\nWWW-Authenticate: -\nX-App: -\nsoon", "", "", ""},
	{"maintenance without a word on when", Rules{Maintenance: true, RetryAfter: -1, MaintenancePage: &Page{}}, answering(200), "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"503\nContent-Type: text/plain; charset=utf-8\nRetry-After: -\nWWW-Authenticate: -\nX-App: -\n503 Service Unavailable\n", "", "", ""},
	{"a sorry page is not for a backend that fails", Rules{Sorry: &Page{Content: []byte("none")}}, nil, "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"502\nContent-Type: text/plain; charset=utf-8\nRetry-After: -\nWWW-Authenticate: -\nX-App: -\n502 Bad Gateway\n", "", "", ""},
}

var (
	fiveHundreds = []ErrorPage{{[]int{500, 502, 503, 504}, Page{Content: []byte("<p>sorry"), ContentType: "text/html"}}}
	pageFields   = []string{"Content-Type", "Retry-After", "WWW-Authenticate", "X-App"}
)

const nginxPage = "error_page 500 502 503 504 /sorry.html; location = /sorry.html { root %s; default_type text/html; } "

// answering is a backend that answers with a status, and fields and a body of its own.
func answering(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/x-app")
		w.Header().Set("WWW-Authenticate", `Digest realm="x"`)
		w.Header().Set("X-App", "1")
		w.WriteHeader(status)
		io.WriteString(w, "mine")
	}
}

// TestPages: what a page answers, and in the place of what, on all fronts.
func TestPages(t *testing.T) {
	for _, tt := range pageCases {
		for _, front := range trapFronts() {
			t.Run(tt.name+"/"+front.name, func(t *testing.T) {
				b := closedBackend(t)
				if tt.backend != nil {
					b = webBackend(t, tt.backend)
				}
				s := front.serve(t, HandlerConfig{Rules: tt.rules}, b)
				for range 2 {
					if got := s.askRaw(t, tt.request, pageFields...); got != tt.want {
						t.Errorf("%q, want %q", got, tt.want)
					}
				}
			})
		}
	}
}

// TestSorryPage: while no backend is there a page answers, and when one is it does not, also if
// that has no room.
func TestSorryPage(t *testing.T) {
	for _, front := range trapFronts() {
		t.Run(front.name, func(t *testing.T) {
			begun, release := make(chan struct{}), make(chan struct{})
			b := webBackend(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/held" {
					close(begun)
					<-release
				}
				io.WriteString(w, "app")
			})
			b.MaxConns = 1
			s := front.serve(t, HandlerConfig{Rules: Rules{ErrorPages: fiveHundreds, Sorry: &Page{Content: []byte("none")}}}, b)
			ask := func(target string) string { return s.askRaw(t, get("x "+target), "Retry-After") }
			isFree := func() bool { return s.pool.Status().Backends[0].Active == 0 }
			if got := ask("/"); got != "200\nRetry-After: -\napp" {
				t.Errorf("up: %q", got)
			}
			waitFor(t, "the backend to have room", isFree)
			held := make(chan string, 1)
			go func() { held <- ask("/held") }()
			select {
			case <-begun:
			case <-time.After(bound):
				t.Fatal("the backend is not asked")
			}
			if got := ask("/"); got != "503\nRetry-After: -\n<p>sorry" {
				t.Errorf("busy: %q", got)
			}
			close(release)
			if got := <-held; got != "200\nRetry-After: -\napp" {
				t.Errorf("held: %q", got)
			}
			waitFor(t, "the backend to have room again", isFree)
			s.pool.SetHealth(b.Address, errors.New("down"))
			if got := ask("/"); got != "503\nRetry-After: 60\nnone" {
				t.Errorf("down: %q", got)
			}
		})
	}
}

// TestInterceptedConnections: a connection to a backend goes on after a response that a page
// took the place of, if that has come whole, and the client's in any case.
func TestInterceptedConnections(t *testing.T) {
	for _, tt := range []struct {
		name, response string
		kept           bool
	}{
		{"length", "HTTP/1.1 503 No\r\nContent-Length: 4\r\n\r\nmine", true},
		{"no body", "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", true},
		{"chunks", "HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nmine\r\n0\r\n\r\n", true},
		{"the rest is late", "HTTP/1.1 503 No\r\nContent-Length: 400000\r\n\r\nmine", false},
		{"the last chunk is late", "HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nmine\r\n", false},
		{"a response follows", "HTTP/1.1 503 No\r\nContent-Length: 4\r\n\r\nmine" + anOK, false},
		{"a trailer", "HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nmine\r\n0\r\nX: y\r\n\r\n", true},
		{"half of a trailer", "HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nmine\r\n0\r\nX: y", false},
		{"a bad trailer", "HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nbad line\r\n\r\n", false},
		{"half of a frame", "HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\n" + strings.Repeat("x", 4096) + "\r\n", false},
		{"a bad chunk", "HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", false},
		{"until the end", "HTTP/1.1 503 No\r\n\r\nmine", false},
		{"close", "HTTP/1.1 503 No\r\nConnection: close\r\nContent-Length: 4\r\n\r\nmine", false},
	} {
		for _, front := range trapFronts() {
			t.Run(tt.name+"/"+front.name, func(t *testing.T) {
				s := front.serve(t, HandlerConfig{Rules: Rules{ErrorPages: fiveHundreds, InterceptErrors: true}}, scripted(t, tt.response, false))
				if got := s.ask(t, "GET", ""); got != "503 <p>sorry" {
					t.Errorf("%q", got)
				}
				want := onFresh
				if tt.kept {
					want = onKept
				}
				if got := s.ask(t, "GET", ""); got != want {
					t.Errorf("then %q, want %q", got, want)
				}
			})
		}
	}
}

// TestInterceptedUpload: a page answers before the body of the request has come, and the
// backend does not get a half of it as a whole.
func TestInterceptedUpload(t *testing.T) {
	for _, front := range trapFronts() {
		t.Run(front.name, func(t *testing.T) {
			var whole atomic.Int32
			s := front.serve(t, HandlerConfig{Rules: Rules{ErrorPages: fiveHundreds, InterceptErrors: true}}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
				req, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				fmt.Fprint(c, "HTTP/1.1 503 No\r\nContent-Length: 4\r\n\r\nmine")
				if n, err := io.Copy(io.Discard, req.Body); err == nil && n == 4<<20 {
					whole.Add(1)
				}
			}))
			got := s.ask(t, "POST", strings.Repeat("x", 4<<20))
			if got != "503 <p>sorry" && got != "no answer" { // the client of HTTP/2 may have been stopped while it sent
				t.Errorf("%q", got)
			}
		})
	}
}

// An ErrorHandler answers what pages would.
func TestErrorHandlerBeforePages(t *testing.T) {
	for _, front := range trapFronts() {
		t.Run(front.name, func(t *testing.T) {
			cfg := HandlerConfig{Rules: Rules{ErrorPages: fiveHundreds, Maintenance: true, MaintenancePage: &Page{Content: []byte("no"), Status: 500}},
				ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
					w.WriteHeader(err.(*RequestError).Status)
					fmt.Fprint(w, "handled: ", err)
				}}
			s := front.serve(t, cfg, webBackend(t, name("app")))
			if got, want := s.askRaw(t, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "Retry-After"), "503\nRetry-After: 60\nhandled: maintenance"; got != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

// TestPagesForSlowReaders: a client that goes on reading gets a whole page, however long that takes.
func TestPagesForSlowReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		page := &Page{Content: bytes.Repeat([]byte("a"), maxPage)}
		n := newPipeNet(t, HandlerConfig{ClientTimeout: time.Minute, Rules: Rules{Maintenance: true, MaintenancePage: page}}, discard)
		_, r := n.client(t, aGet)
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		for p := make([]byte, 16<<10); err == nil; time.Sleep(10 * time.Second) {
			var more int
			more, err = res.Body.Read(p)
			got += more
		}
		if got != maxPage || err != io.EOF {
			t.Errorf("%d bytes, %v; want all", got, err)
		}
	})
}
