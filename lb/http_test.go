package lb

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/netip"
	"net/textproto"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab/labtest"
)

// bound is how long a test waits for what must happen.
const bound = 20 * time.Second

// webBackend is a backend that runs f.
func webBackend(t *testing.T, f http.HandlerFunc) Backend {
	t.Helper()
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return Backend{Address: s.Listener.Addr().String()}
}

// rawBackend is a backend that treats each connection with f.
func rawBackend(t *testing.T, f func(net.Conn, *bufio.Reader)) Backend {
	t.Helper()
	return Backend{Address: labtest.Listen(t, func(c net.Conn) { f(c, bufio.NewReader(c)) })}
}

// closedBackend refuses connections.
func closedBackend(t *testing.T) Backend {
	t.Helper()
	// The port of a connection's own end: taken, and nobody listens there.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return Backend{Address: dialTest(t, ln.Addr().String()).LocalAddr().String()}
}

func body(t *testing.T, res *http.Response, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func name(s string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, s) }
}

func TestRequestsGoRound(t *testing.T) {
	s, _ := front(t, HandlerConfig{}, webBackend(t, name("a")), webBackend(t, name("b")), webBackend(t, name("c")))
	got := ""
	for range 6 {
		res, err := http.Get(s.URL)
		got += body(t, res, err)
	}
	if got != "abcabc" {
		t.Errorf("order %q, want abcabc", got)
	}
}

// rawRequest sends the bytes and returns the body of the response.
func rawRequest(t *testing.T, s *httptest.Server, request string) string {
	t.Helper()
	c := dialTest(t, s.Listener.Addr().String())
	io.WriteString(c, request)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	return body(t, res, err)
}

func dialTest(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(bound))
	return c.(*net.TCPConn)
}

func TestRetry(t *testing.T) {
	const upload = "0123456789"
	hangUp := func(c net.Conn, r *bufio.Reader) {
		if req, err := http.ReadRequest(r); err == nil {
			io.Copy(io.Discard, req.Body)
		}
	}
	hang := func(c net.Conn, r *bufio.Reader) { io.Copy(io.Discard, r) }
	for _, tt := range []struct {
		name   string
		method string
		first  func(net.Conn, *bufio.Reader) // nil: refuses connections
		status int
	}{
		{"GET, refused", "GET", nil, 200},
		{"POST, refused", "POST", nil, 200},
		{"PATCH, refused", "PATCH", nil, 200},
		{"GET, broken off", "GET", hangUp, 200},
		{"PUT, broken off", "PUT", hangUp, 200},
		{"DELETE, broken off", "DELETE", hangUp, 200},
		{"OPTIONS, broken off", "OPTIONS", hangUp, 200},
		{"TRACE, broken off", "TRACE", hangUp, 200},
		{"POST, broken off", "POST", hangUp, 502},
		{"PATCH, broken off", "PATCH", hangUp, 502},
		{"LOCK, broken off", "LOCK", hangUp, 502},
		// What an unknown method does nobody knows, and methods are case-sensitive.
		{"unknown, broken off", "RPC", hangUp, 502},
		{"unknown, refused", "RPC", nil, 200},
		{"unknown, silence", "RPC", hang, 504},
		{"post, broken off", "post", hangUp, 502},
		{"get, broken off", "get", hangUp, 502},
		{"GET, silence", "GET", hang, 200},
		{"POST, silence", "POST", hang, 504},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var firsts, seconds atomic.Int32
			first := closedBackend(t)
			if tt.first != nil {
				first = rawBackend(t, func(c net.Conn, r *bufio.Reader) { firsts.Add(1); tt.first(c, r) })
			}
			second := webBackend(t, func(w http.ResponseWriter, r *http.Request) {
				seconds.Add(1)
				io.Copy(w, r.Body)
			})
			cfg := HandlerConfig{}
			if strings.HasSuffix(tt.name, "silence") {
				cfg.Timeout = 300 * time.Millisecond
			}
			s, h := front(t, cfg, first, second)
			content := ""
			if tt.method != "GET" {
				content = upload
			}
			req, _ := http.NewRequest(tt.method, s.URL, io.NopCloser(strings.NewReader(content)))
			req.ContentLength = int64(len(content))
			res, err := http.DefaultClient.Do(req)
			got := body(t, res, err)
			if res.StatusCode != tt.status {
				t.Errorf("status %d, want %d", res.StatusCode, tt.status)
			}
			want, wantSeconds := content, int32(1)
			if tt.status != 200 {
				want, wantSeconds = fmt.Sprintf("%d %s\n", tt.status, http.StatusText(tt.status)), 0
			}
			if got != want {
				t.Errorf("body %q, want %q", got, want)
			}
			if firsts.Load() > 1 || seconds.Load() != wantSeconds {
				t.Errorf("sent %d and %d times, want at most 1 and %d", firsts.Load(), seconds.Load(), wantSeconds)
			}
			if st := h.pool().Status().Backends[0]; st.Failures != 1 || !st.Ejected || st.Active != 0 {
				t.Errorf("first backend: %+v, want one failure, ejected, idle", st)
			}
		})
	}
}

func TestLargeUploadIsNotRepeated(t *testing.T) {
	var got atomic.Int64
	first := rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		req, _ := http.ReadRequest(r)
		io.CopyN(io.Discard, req.Body, replayLimit*4) // more than is kept, then break off
	})
	second := webBackend(t, func(w http.ResponseWriter, r *http.Request) { got.Add(1) })
	s, _ := front(t, HandlerConfig{}, first, second)
	req, _ := http.NewRequest("PUT", s.URL, bytes.NewReader(make([]byte, replayLimit*16)))
	res, err := http.DefaultClient.Do(req)
	if err == nil {
		res.Body.Close()
	}
	// The client may also have been cut off while sending.
	if err == nil && res.StatusCode != 502 || got.Load() != 0 {
		t.Errorf("status %v, %d requests went to another backend", res, got.Load())
	}
}

func TestNobodyToServe(t *testing.T) {
	s, _ := front(t, HandlerConfig{})
	res, err := http.Get(s.URL)
	if got := body(t, res, err); res.StatusCode != 503 || got != "503 Service Unavailable\n" {
		t.Errorf("%d %q", res.StatusCode, got)
	}
	s, _ = front(t, HandlerConfig{}, closedBackend(t))
	res, err = http.Get(s.URL)
	if got := body(t, res, err); res.StatusCode != 502 || got != "502 Bad Gateway\n" {
		t.Errorf("%d %q", res.StatusCode, got)
	}
	if got := rawStatus(t, s, "CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n"); got != 405 {
		t.Errorf("CONNECT: %d", got)
	}
}

func rawStatus(t *testing.T, s *httptest.Server, request string) int {
	t.Helper()
	c := dialTest(t, s.Listener.Addr().String())
	io.WriteString(c, request)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode
}

func TestHeadDoesNotHang(t *testing.T) {
	s, _ := front(t, HandlerConfig{}, webBackend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		w.WriteHeader(200)
	}))
	c := dialTest(t, s.Listener.Addr().String())
	br := bufio.NewReader(c)
	for range 3 { // on one connection: nothing may be left behind on it
		io.WriteString(c, "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
		res, err := http.ReadResponse(br, &http.Request{Method: "HEAD"})
		if err != nil || res.ContentLength != 1000 {
			t.Fatalf("%v, %v", res, err)
		}
	}
}

func TestTruncatedResponseIsBrokenOff(t *testing.T) {
	for name, response := range map[string]string{
		"length":      "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
		"chunked":     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
		"chunk":       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhalf",
		"bad chunk":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
		"no last crl": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			s, h := front(t, HandlerConfig{}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
				http.ReadRequest(r)
				io.WriteString(c, response)
			}))
			res, err := http.Get(s.URL)
			if err == nil {
				var b []byte
				b, err = io.ReadAll(res.Body)
				if strings.Contains(string(b), "502") {
					t.Errorf("an error page was appended: %q", b)
				}
			}
			if err == nil {
				t.Error("the truncated response looks complete")
			}
			if n := h.pool().Status().Backends[0].Failures; n != 1 {
				t.Errorf("%d failures, want 1", n)
			}
		})
	}
}

func TestInformationalResponsesPass(t *testing.T) {
	s, _ := front(t, HandlerConfig{}, webBackend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(103)
		w.Header().Del("Link")
		io.WriteString(w, "done")
	}))
	var got []string
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		got = append(got, fmt.Sprint(code, h.Get("Link")))
		return nil
	}}
	req, _ := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), "GET", s.URL, nil)
	res, err := http.DefaultClient.Do(req)
	if b := body(t, res, err); b != "done" || len(got) != 1 || got[0] != "103</style.css>; rel=preload" {
		t.Errorf("body %q, informational %q", b, got)
	}
	if link := res.Header.Get("Link"); link != "" {
		t.Errorf("the final response has the informational one's Link %q", link)
	}
}

func TestClientThatLeavesEndsTheRequest(t *testing.T) {
	started, ended := make(chan bool), make(chan bool)
	s, h := front(t, HandlerConfig{}, webBackend(t, func(w http.ResponseWriter, r *http.Request) {
		started <- true
		<-r.Context().Done()
		ended <- true
	}))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		req, _ := http.NewRequestWithContext(ctx, "GET", s.URL, nil)
		if res, err := http.DefaultClient.Do(req); err == nil {
			res.Body.Close()
		}
	}()
	<-started
	cancel()
	select {
	case <-ended:
	case <-time.After(bound):
		t.Fatal("the backend's request goes on")
	}
	waitFor(t, "the pick to be returned", func() bool { return h.pool().Status().Backends[0].Active == 0 })
	if n, st := h.pool().Status().Backends[0].Failures, h.Stats(); n != 0 || st.Retries != 0 {
		t.Errorf("%d failures, %d retries, want none: it was the client", n, st.Retries)
	}
}

func waitFor(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(bound); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if cond() {
			return
		}
	}
	t.Fatalf("waited in vain for %s", what)
}

// Backends close idle connections whenever they like. That is neither a failure
// nor may it show to clients.
func TestStaleConnectionsDoNotShow(t *testing.T) {
	var served atomic.Int32
	s, h := front(t, HandlerConfig{}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		for range 2 { // kept alive, and then, without a word, not
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			io.Copy(io.Discard, req.Body)
			served.Add(1)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	}))
	for i := range 60 {
		res, err := http.Get(s.URL)
		if got := body(t, res, err); got != "ok" {
			t.Fatalf("request %d: %d %q", i, res.StatusCode, got)
		}
	}
	if n := h.pool().Status().Backends[0].Failures; n != 0 || served.Load() != 60 {
		t.Errorf("%d failures, %d served, want none and 60", n, served.Load())
	}
}

func TestUnixBackend(t *testing.T) {
	path := t.TempDir() + "/s"
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: name("unix")}
	go srv.Serve(ln)
	t.Cleanup(func() { srv.Close() })
	s, _ := front(t, HandlerConfig{}, Backend{Address: "unix:" + path})
	res, err := http.Get(s.URL)
	if got := body(t, res, err); got != "unix" {
		t.Errorf("%q", got)
	}
}

func TestHandlerRefusesBadConfiguration(t *testing.T) {
	p := newPool(t, PoolConfig{})
	headers := func(name, value string) map[string]string { return map[string]string{name: value} }
	const ofRequest = "${host}, ${http_host}, ${scheme}, ${method}, ${uri}, ${path}, ${query}, ${is_args}, ${arg_NAME}, ${cookie_NAME}, ${header_NAME}, ${request_id}, ${user}, ${route}, ${server_port}, "
	const ofTLS = ofRequest + "${client_cert_verified}, ${client_cert_subject}, ${client_cert_issuer}, ${client_cert_serial}, ${client_cert_fingerprint}, " +
		"${client_cert}, ${tls_version}, ${tls_cipher} or ${server_name}"
	for want, cfg := range map[string]HandlerConfig{
		"Pool: none: want a pool":               {},
		"ConnectTimeout: -1ns: want 1ms to 1h":  {Pool: p, ConnectTimeout: -1},
		"Timeout: -1ns: want 1ms to 24h":        {Pool: p, Timeout: -1},
		"TunnelTimeout: 721h: want 1ms to 720h": {Pool: p, TunnelTimeout: 721 * time.Hour},
		"Answer.Status: 444: closes the connection without an answer: want another, or no type and content": {Pool: p, Rules: Rules{Answer: Answer{Status: 444, Content: "x"}}},
		"Tries: 9: want 1 to 8": {Pool: p, Tries: 9},
		"TrustedProxies[1]: invalid Prefix: want addresses, such as 192.0.2.0/24":                                                            {Pool: p, TrustedProxies: append(loopback, netip.Prefix{})},
		"MaxHeader: 1023: want 1024 to 1048576":                                                                                              {Pool: p, MaxHeader: 1023},
		"MaxFields: -1: want 10 to 10000":                                                                                                    {Pool: p, MaxFields: -1},
		"Underscores: Underscores(2): want drop or pass":                                                                                     {Pool: p, Underscores: 2},
		"MaxBody: -1: want at least 0":                                                                                                       {Pool: p, MaxBody: -1},
		"ResponseHeaders[X]: want the value of a header":                                                                                     {Pool: p, ResponseHeaders: headers("X", "a\r\nSet-Cookie: b")},
		"RequestHeaders[a b]: want the name of a header, such as X-Balancer":                                                                 {Pool: p, RequestHeaders: headers("a b", "x")},
		`RequestHeaders[X]: "${source}": no such variable here: want ${client}, ${local}, ` + ofTLS:                                          {Pool: p, RequestHeaders: headers("X", "${client} ${source}")},
		`ResponseHeaders[X]: "${": no such variable here: want ${client}, ${local}, ${backend}, ${source}, ` + ofTLS:                         {Pool: p, ResponseHeaders: headers("X", "${source} ${")},
		"AddRequestHeaders[content-type]: want a header that there can be several of, which Content-Type is not: others are set, not added":  {Pool: p, Rules: Rules{AddRequestHeaders: alone(headers("content-type", "a"))}},
		"AddResponseHeaders[Connection]: want another header than Connection: leave it out, upgrades are passed on and connections are kept": {Pool: p, Rules: Rules{AddResponseHeaders: alone(headers("Connection", "a"))}},
		"AddResponseHeaders[Link][1]: want the value of a header":                                                                            {Pool: p, Rules: Rules{AddResponseHeaders: http.Header{"Link": {"a", "b\n"}}}},
		`Via: "a b": want a name without spaces, such as lb, or a host, such as lb.example.org:443`:                                          {Pool: p, Rules: Rules{Via: "a b"}},
		"RequestID: RequestID(4): want off, keep or make":                                                                                    {Pool: p, Rules: Rules{RequestID: 4}},
		"ResponseHeaders[x]: want one of a name, in upper or lower case":                                                                     {Pool: p, ResponseHeaders: map[string]string{"X": "1", "x": "2"}},
		"ResponseHeaders[host]: want another header than Host: the proxy itself decides on this one":                                         {Pool: p, ResponseHeaders: headers("host", "a")},
		"ClientTimeout: -1ns: want 1ms to 24h\nPool: none: want a pool":                                                                      {ClientTimeout: -1},
	} {
		for range 2 { // looking changes nothing
			if err := cfg.Validate(); err == nil || err.Error() != want {
				t.Errorf("error %v, want %q", err, want)
			}
		}
		if h, err := NewHandler(cfg); h != nil || err == nil || err.Error() != "lb: Handler: "+want {
			t.Errorf("%v, error %v, want %q", h, err, want)
		}
	}
}
