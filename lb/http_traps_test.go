package lb

import (
	"bufio"
	"cmp"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// trapFront is a way by which clients reach backends.
type trapFront struct {
	name  string
	http2 bool
	serve func(*testing.T, HandlerConfig, ...Backend) *trapSite
}

// trapSite is what a trapFront serves, and a client of it.
type trapSite struct {
	url    string
	pool   *Pool
	h      *Handler        // which serves it, behind net/http or on the loops; nil: not known
	client *http.Client    // nil: HTTP/1.1, read as it comes
	dial   func() net.Conn // for a client that says what it likes
	c      *reader         // the kept connection of HTTP/1.1
}

// trapFronts are all ways: a Handler and the event loops, with clients of HTTP/1.1 and HTTP/2.
func trapFronts() []trapFront {
	shells := "Handler"
	if *onEngine {
		shells = "loops, once more"
	}
	return []trapFront{
		{shells + ", HTTP/1.1", false, func(t *testing.T, cfg HandlerConfig, bs ...Backend) *trapSite {
			s, h := front(t, cfg, bs...)
			site := siteAt(t, s.Listener.Addr().String(), h.pool())
			site.h = h
			return site
		}},
		{shells + ", HTTP/2", true, func(t *testing.T, cfg HandlerConfig, bs ...Backend) *trapSite {
			s, h := front2(t, cfg, bs...)
			s.Client().Transport.(*http.Transport).DisableCompression = true // requests are as tests say
			return &trapSite{url: s.URL, pool: h.pool(), h: h, client: s.Client(), dial: func() net.Conn {
				config := s.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
				config.NextProtos = []string{"h2"}
				c, err := tls.Dial("tcp", s.Listener.Addr().String(), config)
				if err != nil {
					t.Fatal(err)
				}
				return c
			}}
		}},
		{"loops, HTTP/1.1", false, func(t *testing.T, cfg HandlerConfig, bs ...Backend) *trapSite {
			return planeSite(t, cfg, bs)
		}},
		{"loops, HTTP/2 by prior knowledge", true, func(t *testing.T, cfg HandlerConfig, bs ...Backend) *trapSite {
			s := planeSite(t, cfg, bs)
			transport := &http.Transport{Protocols: new(http.Protocols), DisableCompression: true}
			transport.Protocols.SetUnencryptedHTTP2(true)
			t.Cleanup(transport.CloseIdleConnections)
			s.client = &http.Client{Transport: transport}
			return s
		}},
	}
}

// siteAt is a trapSite at an address, without TLS.
func siteAt(t *testing.T, address string, p *Pool) *trapSite {
	return &trapSite{url: "http://" + address, pool: p, dial: func() net.Conn { return dialTest(t, address) }}
}

// planeSite serves backends by a plane, whose connections are in event loops where there are
// such.
func planeSite(t *testing.T, cfg HandlerConfig, bs []Backend) *trapSite {
	t.Helper()
	if cfg.Pool == nil {
		cfg.Pool = newPool(t, PoolConfig{Backends: bs})
	}
	cfg.Buffering = cmp.Or(cfg.Buffering, BufferingOff) // as a Handler
	p, err := NewHTTP(HTTPConfig{HandlerConfig: cfg, ShutdownTimeout: -1})
	if err != nil {
		t.Fatal(err)
	}
	ln := listenTest(t)
	serveHTTP(t, p, ln)
	site := siteAt(t, ln.Addr().String(), cfg.Pool)
	site.h = p.handler
	return site
}

// ask returns what a client makes of the answer to its request: "status length=announced body",
// each if there is one, and before it what is said of informational responses. Our own pages
// have no body here. Requests share a connection as long as that lasts.
func (s *trapSite) ask(t *testing.T, method, content string) string {
	t.Helper()
	var seen []string
	if s.client == nil {
		return strings.Join(append(seen, s.ask1(t, method, content)...), " | ")
	}
	trace := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(status int, h textproto.MIMEHeader) error {
			seen = append(seen, described1xx(status, http.Header(h)))
			return nil
		}})
	req, err := http.NewRequestWithContext(trace, method, s.url, strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	client := *s.client
	client.Timeout = bound
	res, err := client.Do(req)
	answer := described(res, err)
	if err == nil {
		answer = withLength(answer, res)
	}
	if err == nil && res.StatusCode == http.StatusNotModified {
		answer = strings.TrimSuffix(answer, ", broken off") // this client awaits a body, against RFC 9113 §8.1.1
	}
	return strings.Join(append(seen, answer), " | ")
}

// ask1 is ask by HTTP/1.1, and returns what has come, response by response.
func (s *trapSite) ask1(t *testing.T, method, content string) (seen []string) {
	t.Helper()
	if s.c == nil {
		c := s.dial()
		s.c = &reader{c.(*net.TCPConn), bufio.NewReader(c)}
	}
	request := method + " / HTTP/1.1\r\nHost: x\r\n"
	if content != "" {
		request += fmt.Sprintf("Content-Length: %d\r\n", len(content))
	}
	io.WriteString(s.c, request+"\r\n"+content)
	for {
		res, err := http.ReadResponse(s.c.r, &http.Request{Method: method})
		if err == nil && res.StatusCode < 200 && res.StatusCode != http.StatusSwitchingProtocols {
			seen = append(seen, described1xx(res.StatusCode, res.Header))
			continue
		}
		answer := described(res, err)
		if err == nil {
			answer = withLength(answer, res)
		}
		if err != nil || res.Close || strings.HasSuffix(answer, "broken off") {
			s.c.Close()
			s.c = nil
		}
		return append(seen, answer)
	}
}

func described1xx(status int, h http.Header) string {
	return strings.TrimSpace(fmt.Sprint(status, " ", h.Get("Content-Length"), h.Get("Transfer-Encoding")))
}

// withLength puts the length that a response announces behind its status, but for the length
// of the body that comes with it: net/http gives that to some that come in chunks.
func withLength(answer string, res *http.Response) string {
	length := res.Header.Get("Content-Length")
	_, content, _ := strings.Cut(answer, " ")
	if length == "" || res.StatusCode >= 400 || length == fmt.Sprint(len(content)) { // a body that comes whole has one
		return answer
	}
	return strings.Replace(answer, fmt.Sprint(res.StatusCode), fmt.Sprint(res.StatusCode, " length=", length), 1)
}

// scripted is a backend whose first connection answers its first request with a response, and
// further ones with "kept". Other connections answer with "fresh".
func scripted(t *testing.T, response string, hangsUp bool) Backend {
	var conns atomic.Int32
	return rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		answer := "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfresh"
		if conns.Add(1) == 1 {
			answer = response
		}
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			io.WriteString(c, answer)
			if hangsUp && answer == response {
				return
			}
			if answer == response {
				answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nkept"
			}
		}
	})
}

const (
	okChunks = "2\r\nok\r\n0\r\n\r\n"
	inChunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
	onKept   = "200 kept"
	onFresh  = "200 fresh"
)

func okWith(fields string) string { return "HTTP/1.1 200 OK\r\n" + fields + "\r\nok" }

// responseTraps are traps in what a backend says. next is what the next request gets: "kept"
// if the connection to the backend may be used once more.
var responseTraps = []struct {
	name, method, response string
	hangsUp                bool
	want, next             string
}{
	{"HEAD hangs: length", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", false, "200 length=9", onKept},
	{"HEAD hangs: chunks", "HEAD", inChunks + "\r\n", false, "200", onKept},
	{"HEAD hangs: neither", "HEAD", "HTTP/1.1 200 OK\r\n\r\n", false, "200", onKept},
	{"HEAD has a body", "HEAD", okWith("Content-Length: 2\r\n"), false, "200 length=2", onFresh},
	{"chunk sizes leak", "GET", inChunks + "\r\n" + okChunks, false, "200 ok", onKept},
	{"chunk extensions leak", "GET", inChunks + "\r\n2;a=\"b\"\r\nok\r\n0;c\r\n\r\n", false, "200 ok", onKept},
	{"trailers leak into the body", "GET", inChunks + "\r\n2\r\nok\r\n0\r\nX-A: 1\r\n\r\n", false, "200 ok", onKept},
	{"chunk sizes of HTTP/1.0 leak", "GET", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" + okChunks, false, "200 ok", onFresh},
	{"error page in a body: length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf", true, "200 length=8 half, broken off", onFresh},
	{"error page in a body: chunks", "GET", inChunks + "\r\n4\r\nhalf\r\n", true, "200 half, broken off", onFresh},
	{"error page in a body: bad chunk", "GET", inChunks + "\r\n4\r\nhalf\r\nzz\r\n", false, "200 half, broken off", onFresh},
	{"excess bytes: length", "GET", okWith("Content-Length: 2\r\n") + anOK, false, "200 ok", onFresh},
	{"excess bytes: chunks", "GET", inChunks + "\r\n" + okChunks + anOK, false, "200 ok", onFresh},
	{"excess bytes: 304", "GET", "HTTP/1.1 304 No\r\nX: y\r\n\r\n" + anOK, false, "304", onFresh},

	{"103 with a length", "GET", "HTTP/1.1 103 Hints\r\nContent-Length: 9\r\n\r\n" + anOK, false, "103 | 200 ok", onKept},
	{"103 with chunks", "GET", "HTTP/1.1 103 Hints\r\nTransfer-Encoding: chunked\r\n\r\n" + anOK, false, "103 | 200 ok", onKept},
	{"204 with a length", "GET", "HTTP/1.1 204 No\r\nContent-Length: 9\r\n\r\n", false, "204", onFresh},
	{"204 with chunks", "GET", "HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n", false, "204", onFresh},
	{"304 with a length", "GET", "HTTP/1.1 304 No\r\nContent-Length: 9\r\n\r\n", false, "304 length=9", onKept},
	{"304 with chunks", "GET", "HTTP/1.1 304 No\r\nTransfer-Encoding: chunked\r\n\r\n", false, "304", onKept},
	{"304 of HEAD with a length", "HEAD", "HTTP/1.1 304 No\r\nContent-Length: 9\r\n\r\n", false, "304 length=9", onKept},

	{"length and chunks", "GET", inChunks + "Content-Length: 9\r\n\r\n" + okChunks, false, "200 ok", onFresh},
	{"length twice the same", "GET", okWith("Content-Length: 2\r\nContent-Length: 2\r\n"), false, "200 ok", onKept},
	{"lengths that differ", "GET", okWith("Content-Length: 2\r\nContent-Length: 3\r\n"), false, "502", onFresh},
	{"length list", "GET", okWith("Content-Length: 2, 2\r\n"), false, "502", onFresh},
	{"length +2", "GET", okWith("Content-Length: +2\r\n"), false, "502", onFresh},
	{"length 0x2", "GET", okWith("Content-Length: 0x2\r\n"), false, "502", onFresh},
	{"length 1_0", "GET", okWith("Content-Length: 1_0\r\n"), false, "502", onFresh},
	{"length empty", "GET", okWith("Content-Length:\r\n"), false, "502", onFresh},
	{"length overflows", "GET", okWith("Content-Length: 18446744073709551618\r\n"), false, "502", onFresh},
	{"encoding identity", "GET", okWith("Transfer-Encoding: identity\r\n"), true, "502", onFresh},
	{"encoding gzip, chunked", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n" + okChunks, false, "502", onFresh},
	{"encoding on two lines", "GET", inChunks + "Transfer-Encoding: identity\r\n\r\n" + okChunks, false, "502", onFresh},
	{"encoding after a tab", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding:\tchunked\r\n\r\n" + okChunks, false, "200 ok", onKept},
	{"encoding after CR", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: \rchunked\r\n\r\n" + okChunks, false, "502", onFresh},
	{"LF without CR", "GET", okWith("X: y\nContent-Length: 2\r\n"), false, "502", onFresh},
	{"CR without LF", "GET", okWith("X: y\rContent-Length: 2\r\n"), false, "502", onFresh},
	{"NUL", "GET", okWith("X: a\x00b\r\nContent-Length: 2\r\n"), false, "502", onFresh},
	{"control byte", "GET", okWith("X: a\x01b\r\nContent-Length: 2\r\n"), false, "502", onFresh},
	{"space before the colon", "GET", okWith("Content-Length : 2\r\n"), false, "502", onFresh},
	{"folded line", "GET", okWith("X: a\r\n b\r\nContent-Length: 2\r\n"), false, "502", onFresh},
	{"chunk size +2", "GET", inChunks + "\r\n2\r\nok\r\n+2\r\nno\r\n0\r\n\r\n", false, "200 ok, broken off", onFresh},
	{"chunk size 0x2", "GET", inChunks + "\r\n2\r\nok\r\n0x2\r\nno\r\n0\r\n\r\n", false, "200 ok, broken off", onFresh},
	{"chunk size overflows", "GET", inChunks + "\r\n2\r\nok\r\n10000000000000002\r\nno\r\n0\r\n\r\n", false, "200 ok, broken off", onFresh},
	{"chunk extension with LF", "GET", inChunks + "\r\n2\r\nok\r\n2;a\nno\r\n0\r\n\r\n", false, "200 ok, broken off", onFresh},
	{"forbidden trailer announced", "GET", inChunks + "Trailer: Content-Length\r\n\r\n" + okChunks, false, "502", onFresh},
	{"forbidden trailer", "GET", inChunks + "\r\n2\r\nok\r\n0\r\nContent-Length: 9\r\n\r\n", false, "200 ok", onKept},
	{"switch that nobody asked for", "GET", "HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n" + anOK, false, "502", onFresh},
}

// TestResponseTraps: on no way is what a backend says taken for more, or less, than one
// response, and the next request gets its own.
func TestResponseTraps(t *testing.T) {
	for _, front := range trapFronts() {
		for rules, cfg := range map[string]HandlerConfig{"": {}, ", rules": quietRules()} {
			if rules != "" {
				cfg.Compress = &Compress{Encodings: []Encoding{EncodingGzip}, MinLength: 1} // which no client here accepts
			}
			t.Run(front.name+rules, func(t *testing.T) {
				for _, tt := range responseTraps {
					t.Run(tt.name, func(t *testing.T) {
						s := front.serve(t, cfg, scripted(t, tt.response, tt.hangsUp))
						if got := s.ask(t, tt.method, ""); got != tt.want {
							t.Errorf("%q, want %q", got, tt.want)
						}
						if got := s.ask(t, "GET", ""); got != tt.next {
							t.Errorf("then %q, want %q", got, tt.next)
						}
					})
				}
			})
		}
	}
}

// TestNextUpstream: another backend is asked after an error or silence only, and not with what
// may have been done already (nginx's proxy_next_upstream).
func TestNextUpstream(t *testing.T) {
	answers := func(status string) func(net.Conn, *bufio.Reader) {
		return says("HTTP/1.1 " + status + " No\r\nContent-Length: 5\r\n\r\nfirst")
	}
	for _, tt := range []struct {
		name    string
		methods string
		first   func(net.Conn, *bufio.Reader) // nil: refuses connections
		want    string
		second  bool // has been asked
	}{
		{"refused connection", "GET HEAD PUT DELETE OPTIONS POST PATCH LOCK RPC", nil, "200", true},
		{"sent, hangs up, may be repeated", "GET HEAD PUT DELETE OPTIONS", says(), "200", true},
		{"sent, hangs up, not repeated", "POST PATCH LOCK RPC", says(), "502", false},
		{"sent, silence, may be repeated", "GET PUT", saysAndWaits(""), "200", true},
		{"sent, silence, not repeated", "POST PATCH LOCK", saysAndWaits(""), "504", false},
		{"500", "GET POST", answers("500"), "500 first", false},
		{"502", "GET POST", answers("502"), "502 first", false},
		{"503", "GET POST", answers("503"), "503 first", false},
		{"504", "GET POST", answers("504"), "504 first", false},
		{"404", "GET POST", answers("404"), "404 first", false},
		{"429", "GET POST", answers("429"), "429 first", false},
	} {
		for _, front := range trapFronts() {
			t.Run(tt.name+"/"+front.name, func(t *testing.T) {
				t.Parallel() // some wait
				var asking sync.WaitGroup
				defer asking.Wait()
				for method := range strings.FieldsSeq(tt.methods) {
					first := closedBackend(t)
					if tt.first != nil {
						first = rawBackend(t, tt.first)
					}
					var seconds atomic.Int32
					var cfg HandlerConfig
					if strings.Contains(tt.name, "silence") {
						cfg.Timeout = 1500 * time.Millisecond // the second one is faster
					}
					s := front.serve(t, cfg, first, webBackend(t, func(http.ResponseWriter, *http.Request) { seconds.Add(1) }))
					asking.Go(func() {
						content := "abc"
						if method == "GET" || method == "HEAD" {
							content = ""
						}
						got := strings.Replace(s.ask(t, method, content), "200 length=0", "200", 1)
						if got != tt.want || (seconds.Load() == 1) != tt.second || seconds.Load() > 1 {
							t.Errorf("%s: %q, the second backend has been asked %d times; want %q", method, got, seconds.Load(), tt.want)
						}
					})
				}
			})
		}
	}
}

// TestWeightsAndEjection: backends take turns as with nginx, one failure puts a backend out
// for a while, and the only one is never out.
func TestWeightsAndEjection(t *testing.T) {
	for _, front := range trapFronts() {
		several := func(t *testing.T, s *trapSite, n int) (got []string) {
			for range n {
				got = append(got, strings.TrimPrefix(s.ask(t, "GET", ""), "200 "))
			}
			return got
		}
		t.Run("smooth weighted round-robin/"+front.name, func(t *testing.T) {
			a, b, c := webBackend(t, name("a")), webBackend(t, name("b")), webBackend(t, name("c"))
			a.Weight = 5
			b.Weight, c.Weight = 1, 1
			got := several(t, front.serve(t, HandlerConfig{}, a, b, c), 14)
			if want := strings.Split("aabacaaaabacaa", ""); !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
		})
		t.Run("out after one failure/"+front.name, func(t *testing.T) {
			var tried atomic.Int32
			bad := rawBackend(t, func(c net.Conn, r *bufio.Reader) { tried.Add(1); says()(c, r) })
			s := front.serve(t, HandlerConfig{}, bad, webBackend(t, name("b")))
			if got := strings.Join(several(t, s, 6), ""); got != "bbbbbb" || tried.Load() != 1 {
				t.Errorf("%q, and the bad one was tried %d times", got, tried.Load())
			}
		})
		t.Run("the only one is never out/"+front.name, func(t *testing.T) {
			var tried atomic.Int32
			bad := rawBackend(t, func(c net.Conn, r *bufio.Reader) { tried.Add(1); says()(c, r) })
			got := several(t, front.serve(t, HandlerConfig{}, bad), 3)
			if want := []string{"502", "502", "502"}; !slices.Equal(got, want) || tried.Load() != 3 {
				t.Errorf("%q, and it was tried %d times", got, tried.Load())
			}
		})
		t.Run("body limit/"+front.name, func(t *testing.T) {
			s := front.serve(t, HandlerConfig{MaxBody: 3}, webBackend(t, name("a")))
			for content, want := range map[string]string{"abc": "200 a", "abcd": "413"} {
				if got := s.ask(t, "POST", content); got != want {
					t.Errorf("%q: %q, want %q", content, got, want)
				}
			}
		})
	}
}
