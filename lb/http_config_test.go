package lb

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// tlsBackend is a web server with a certificate for a name, which tells what it was asked.
func tlsBackend(t *testing.T, a *authority, host string) (port string) {
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: a.certificates(a.issue(host, host)).GetCertificate})
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s for %s", r.TLS.ServerName, r.Host)
	})}
	go srv.Serve(ln)
	t.Cleanup(func() { srv.Close() })
	_, port, _ = net.SplitHostPort(ln.Addr().String())
	return port
}

// The name in the backend's address is verified, also when Run has resolved it; two
// backends may even have the same address.
func TestHandlerBackendTLS(t *testing.T) {
	a := newAuthority(t)
	port := tlsBackend(t, a, "app.test")
	for _, tt := range []struct {
		name     string
		backends []string
		server   string
		want     []string
	}{
		{"name", []string{"app.test:" + port}, "", []string{"app.test for x"}},
		{"wrong name", []string{"other.test:" + port}, "", []string{"502 Bad Gateway\n"}},
		{"configured name", []string{"127.0.0.1:" + port}, "app.test", []string{"app.test for x"}},
		{"address", []string{"127.0.0.1:" + port}, "", []string{"502 Bad Gateway\n"}},
		{"two names of one address", []string{"app.test:" + port, "app.test.:" + port}, "", []string{"app.test for x", "app.test for x", "app.test for x"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := PoolConfig{MaxFails: -1, Resolver: hostsOf(func(string) ([]string, error) { return []string{"127.0.0.1"}, nil })}
			var bs []Backend
			for _, b := range tt.backends {
				bs = append(bs, Backend{Address: b})
			}
			s, h := front(t, HandlerConfig{BackendTLS: &tls.Config{RootCAs: a.pool, ServerName: tt.server}})
			cfg.Backends = bs
			h.pool().Reconfigure(cfg)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go h.pool().Run(ctx)
			waitFor(t, "the name to be resolved", func() bool {
				for _, b := range h.pool().Status().Backends {
					if !strings.HasPrefix(b.Resolved, "127.0.0.1:") {
						return false
					}
				}
				return true
			})
			for _, want := range tt.want {
				if got := rawRequest(t, s, aGet); got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			}
		})
	}
}

// A name that is resolved anew leads to new connections.
func TestKeptConnectionsFollowTheName(t *testing.T) {
	b := webBackend(t, name("old"))
	_, port, _ := net.SplitHostPort(b.Address)
	ln, err := net.Listen("tcp", "127.0.0.2:"+port)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: name("new")}
	go srv.Serve(ln)
	defer srv.Close()
	var address atomic.Value
	address.Store("127.0.0.1")
	s, h := front(t, HandlerConfig{})
	h.pool().Reconfigure(PoolConfig{Backends: []Backend{{Address: "app.test:" + port}}, ResolveInterval: 100 * time.Millisecond,
		Resolver: hostsOf(func(string) ([]string, error) { return []string{address.Load().(string)}, nil })})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go h.pool().Run(ctx)
	for ip, want := range map[string]string{"127.0.0.1": "old", "127.0.0.2": "new"} {
		address.Store(ip)
		waitFor(t, "the name to be resolved", func() bool { return h.pool().Status().Backends[0].Resolved == ip+":"+port })
		if got := rawRequest(t, s, aGet); got != want {
			t.Errorf("%s: got %q, want %q", ip, got, want)
		}
	}
}

// The configuration decides on the Host, and on nothing that the framing depends on.
func TestConfiguredHost(t *testing.T) {
	echo := func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s, %v, %s", r.Host, r.Header["Host"], r.Header.Get("X-Forwarded-Host"))
	}
	for _, tt := range []struct {
		headers map[string]string
		request string
		want    string
	}{
		{nil, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "x, [], x"},
		{nil, "GET / HTTP/1.1\r\nHost:\r\n\r\n", "LOCAL, [], "},
		{nil, "GET / HTTP/1.0\r\n\r\n", "LOCAL, [], "},
		{nil, "GET / HTTP/1.0\r\nHost: x\r\n\r\n", "x, [], x"},
		{map[string]string{"Host": "app.test"}, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "app.test, [], x"},
		{map[string]string{"host": "app.test:81"}, "GET / HTTP/1.0\r\n\r\n", "app.test:81, [], "},
		{map[string]string{"HOST": "${local}"}, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "127.0.0.1, [], x"},
	} {
		s, _ := front(t, HandlerConfig{RequestHeaders: tt.headers}, webBackend(t, echo))
		want := strings.ReplaceAll(tt.want, "LOCAL", s.Listener.Addr().String())
		if got := rawRequest(t, s, tt.request); got != want {
			t.Errorf("%v, %q: %q, want %q", tt.headers, tt.request, got, want)
		}
	}
	// An IPv6 address stands in brackets.
	rec, b := record(t)
	h := newHandler(t, HandlerConfig{RequestHeaders: map[string]string{"Host": "${local}"}, Pool: newPool(t, PoolConfig{Backends: []Backend{b}})})
	defer h.Shutdown(t.Context())
	local := context.WithValue(t.Context(), http.LocalAddrContextKey, net.TCPAddrFromAddrPort(netip.MustParseAddrPort("[2001:db8::1]:80")))
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(local, "GET", "/", nil))
	if got := linesOf(rec); got != "GET / HTTP/1.1|Host: [2001:db8::1]" {
		t.Errorf("the backend got %q", got)
	}
	p := newPool(t, PoolConfig{})
	for _, headers := range []map[string]string{
		{"Content-Length": "1"}, {"content-length": ""}, {"Transfer-Encoding": "chunked"}, {"Connection": "close"}, {"Upgrade": ""},
		{"Trailer": "x"}, {"TE": "trailers"}, {"Keep-Alive": "1"}, {"Expect": "100-continue"},
	} {
		for _, h := range []HandlerConfig{{Pool: p, RequestHeaders: headers}, {Pool: p, ResponseHeaders: headers}} {
			if err := h.Validate(); err == nil || !strings.Contains(err.Error(), "want another header") {
				t.Errorf("%v: %v", headers, err)
			}
		}
	}
	for _, headers := range []map[string]string{{"Host": ""}, {"host": "a b"}, {"Host": "a/b"}, {"Host": "http://a"}, {"Host": "${local}:x"}} {
		if err := (HandlerConfig{Pool: p, RequestHeaders: headers}).Validate(); err == nil || !strings.Contains(err.Error(), "want one host") {
			t.Errorf("%v: %v", headers, err)
		}
	}
	for name, value := range map[string]string{"Authorization": "secret\n", "Upgrade": "secret", "Host": "secret secret"} {
		if err := (HandlerConfig{Pool: p, RequestHeaders: map[string]string{name: value}}).Validate(); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error shows what may be a password: %v", name, err)
		}
	}
	if err := (HandlerConfig{Pool: p, ResponseHeaders: map[string]string{"Server": "", "Date": ""}}).Validate(); err != nil {
		t.Error(err)
	}
}

// Removed is removed, also what net/http would add.
func TestResponseHeaders(t *testing.T) {
	cfg := HandlerConfig{ResponseHeaders: map[string]string{"Date": "", "content-type": "", "Server": "", "X-Backend": "${backend} from ${source}"}}
	s, h := front(t, cfg, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nDate: x\r\nServer: y\r\nContent-Type: z\r\nKeep-Alive: 1\r\nConnection: X-Hop\r\nX-Hop: 1\r\nContent-Length: 2\r\n\r\nok")
	}))
	c := newReader(t, s.Listener.Addr().String())
	res, got, err := c.ask(t, aGet)
	if err != nil || got != "ok" {
		t.Fatal(got, err)
	}
	want := http.Header{"Content-Length": {"2"}, "X-Backend": {h.pool().Status().Backends[0].Name + " from 127.0.0.1"}}
	if fmt.Sprint(res.Header) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", res.Header, want)
	}
}

// TLS over a Unix socket has no name to verify by itself.
func TestUnixBackendWithTLS(t *testing.T) {
	p := newPool(t, PoolConfig{Backends: []Backend{{Name: "app", Address: "unix:/run/app"}}})
	err := (HandlerConfig{Pool: p, BackendTLS: new(tls.Config)}).Validate()
	if err == nil || !strings.Contains(err.Error(), "backend app") || !strings.Contains(err.Error(), "ServerName") {
		t.Error(err)
	}
	for _, cfg := range []TCPConfig{{Pool: p}, {Routes: map[string]*Pool{"a": p}}} {
		if cfg.BackendTLS = new(tls.Config); cfg.Validate() == nil || cfg.Validate().Error() != err.Error() {
			t.Errorf("TCP: %v, want %v", cfg.Validate(), err)
		}
	}
	for _, cfg := range []*tls.Config{{ServerName: "app.test"}, {InsecureSkipVerify: true}, nil} {
		if err := (HandlerConfig{Pool: p, BackendTLS: cfg}).Validate(); err != nil {
			t.Error(err)
		}
	}
}

// Trailers are passed on both ways if they were announced, or came, and may be there;
// also those of a request that is repeated.
func TestTrailersThatMayNotBe(t *testing.T) {
	hangUp := rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		if req, err := http.ReadRequest(r); err == nil {
			io.Copy(io.Discard, req.Body)
		}
	})
	echo := rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		io.Copy(io.Discard, req.Body)
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nTrailer: X-Sum, Set-Cookie, a b, X-Out\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"+
			"X-Sum: %s\r\nSet-Cookie: a=b\r\nContent-Length: 9\r\nX-Forwarded-For: 1\r\nX-Late: 1\r\nX-Out: 1\r\n\r\n", req.Trailer.Get("X-In"))
		discard(c, r)
	})
	var s *httptest.Server
	for _, content := range []string{"1\r\na\r\n", ""} {
		s, _ = front(t, HandlerConfig{ResponseHeaders: map[string]string{"x-out": ""}}, hangUp, echo)
		c := newReader(t, s.Listener.Addr().String())
		io.WriteString(c, "PUT / HTTP/1.1\r\nHost: x\r\nTrailer: X-In\r\nTransfer-Encoding: chunked\r\n\r\n"+content+"0\r\nX-In: 7\r\n\r\n")
		res, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(res.Body); string(b) != "a" || err != nil {
			t.Fatalf("%q, %v", b, err)
		}
		want := http.Header{"X-Sum": {"7"}, "X-Late": {"1"}}
		if fmt.Sprint(res.Trailer) != fmt.Sprint(want) {
			t.Errorf("%q: trailer %v, want %v", content, res.Trailer, want)
		}
	}
	res, got, err := newReader(t, s.Listener.Addr().String()).ask(t, "GET / HTTP/1.0\r\n\r\n")
	if err != nil || got != "a" || res.Header["Trailer"] != nil {
		t.Errorf("HTTP/1.0: %q, %+v, %v", got, res, err)
	}
}

// A client's list of protocols does not hide one that would carry requests past us.
func TestUpgradeLists(t *testing.T) {
	echo := func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%q %q", r.Header["Connection"], r.Header["Upgrade"])
	}
	s, h := front(t, HandlerConfig{}, webBackend(t, echo))
	for send, want := range map[string]string{
		"Connection: Upgrade\r\nUpgrade: , websocket,\r\n":                   `["Upgrade"] ["websocket"]`,
		"Connection: Upgrade\r\nUpgrade: websocket\r\n":                      `["Upgrade"] ["websocket"]`,
		"Connection: Upgrade\r\nUpgrade: websocket, H2C, foo/2\r\n":          `["Upgrade"] ["websocket, foo/2"]`,
		"Connection: Upgrade\r\nUpgrade: h2c\r\nUpgrade: x\r\n":              `["Upgrade"] ["x"]`,
		"Connection: Upgrade\r\nUpgrade: HTTP/2.0, TLS/1.0, h2c\r\n":         `[] []`,
		"Upgrade: websocket\r\n":                                             `[] []`,
		"Connection: keep-alive,\tupgrade ,x\r\nUpgrade:\twebsocket\r\n":     `["Upgrade"] ["websocket"]`,
		"Connection: close\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n": `["Upgrade"] ["websocket"]`,
	} {
		if got := rawRequest(t, s, "GET / HTTP/1.1\r\nHost: x\r\n"+send+"\r\n"); got != want {
			t.Errorf("%q: %s, want %s", send, got, want)
		}
	}
	if got := rawRequest(t, s, "GET / HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"); got != `[] []` {
		t.Errorf("HTTP/1.0: %s", got)
	}
	r := httptest.NewRequest("GET", "/", nil) // the server of net/http refuses it
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0
	r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}}
	rec := httptest.NewRecorder()
	if h.ServeHTTP(rec, r); rec.Body.String() != `[] []` {
		t.Errorf("HTTP/2: %s", rec.Body)
	}
}

// A backend that switches to what was not agreed on is at fault; one that does it too
// early, when the client is to blame for the length of its request, is not.
func TestUpgradesThatFail(t *testing.T) {
	for _, tt := range []struct {
		request, upgrade string
		failures         uint64
	}{
		{"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x, y\r\n\r\n", "x, y", 1},
		{"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x, y\r\n\r\n", "z", 1},
		{"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x, y\r\n\r\n", "", 1},
		{"POST / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x, y\r\nContent-Length: 9\r\n\r\nabc", "x", 0},
	} {
		s, h := front(t, HandlerConfig{}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
			http.ReadRequest(r)
			fmt.Fprintf(c, "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", tt.upgrade)
			discard(c, r)
		}))
		if got := rawStatus(t, s, tt.request); got != 502 {
			t.Errorf("%q: %d, want 502", tt.upgrade, got)
		}
		waitFor(t, "the end", func() bool { return h.Stats().Active == 0 })
		if n := h.pool().Status().Backends[0].Failures; n != tt.failures {
			t.Errorf("%q: %d failures, want %d", tt.upgrade, n, tt.failures)
		}
	}
}

// TestRulesWithoutPool: rules that answer need no Pool, and what comes to none of them gets 404.
func TestRulesWithoutPool(t *testing.T) {
	https := Rules{Redirect: Redirect{Location: RedirectHTTPS}}
	for name, c := range map[string]struct {
		rules   Rules
		trusted string // proxies
		want    string
	}{
		"redirect to a path":                 {Rules{Redirect: Redirect{Location: "/x"}}, "", "302\nLocation: /x\n302 Found\n"},
		"redirect to https":                  {https, "", "301\nLocation: https://x/\n301 Moved Permanently\n"},
		"redirect of what has come by https": {https, "127.0.0.0/8", "404\nLocation: -\n404 Not Found\n"},
		"answer":                             {Rules{Answer: Answer{Status: 410, Content: "gone"}}, "", "410\nLocation: -\ngone"},
		"maintenance":                        {Rules{Maintenance: true}, "", "503\nLocation: -\n503 Service Unavailable\n"},
	} {
		cfg := HandlerConfig{Rules: c.rules}
		if c.trusted != "" {
			cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix(c.trusted)}
		}
		h, err := NewHandler(cfg)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		p, err := NewHTTP(HTTPConfig{HandlerConfig: cfg, ShutdownTimeout: -1})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		s, ln := httptest.NewServer(h), listenTest(t)
		t.Cleanup(s.Close)
		serveHTTP(t, p, ln)
		for front, address := range map[string]string{"Handler": s.Listener.Addr().String(), "loops": ln.Addr().String()} {
			if got := askRaw(t, address, forwardedProto("https", ""), "Location"); got != c.want {
				t.Errorf("%s, %s: %q, want %q", front, name, got, c.want)
			}
		}
	}
}
