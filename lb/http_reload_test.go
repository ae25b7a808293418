package lb

import (
	"bufio"
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// reload is rules before and after a reload, with the request that shows which of both an answer
// has been made by.
type reload struct {
	name          string
	before, after HandlerConfig
	request       string
	says          [2]string // parts of the answers of before and after, each of which is there, with " & " between them
}

// tells reports whether an answer has all of the parts. Those that begin with a 1 and a colon are
// for clients of HTTP/1.1 alone.
func tells(answer, parts string, http1 bool) bool {
	for part := range strings.SplitSeq(parts, " & ") {
		part, only1 := strings.CutPrefix(part, "1:")
		if !strings.Contains(answer, part) && (http1 || !only1) {
			return false
		}
	}
	return true
}

// ways are the headers of a configuration before and after a reload, where the rules themselves
// cannot be seen in each answer.
func ways(before, after Rules) (HandlerConfig, HandlerConfig) {
	cfg := func(way string, r Rules) HandlerConfig {
		return HandlerConfig{RequestHeaders: map[string]string{"X-Sent": way}, ResponseHeaders: map[string]string{"X-Way": way}, Rules: r}
	}
	return cfg("1", before), cfg("2", after)
}

var (
	saysWays     = [2]string{"X-Way: 1\n & [1]", "X-Way: 2\n & [2]"}
	saysBuffered = [2]string{saysWays[0] + " & 1:5000 of 5000,", saysWays[1] + " & 1:5000 of -1,"}
)

// reloads are all of them.
func reloads(t *testing.T) []reload {
	headers, otherHeaders := ways(Rules{}, Rules{})
	buffered, streamed := ways(Rules{Buffering: BufferingOn, BufferMemory: 1 << 10}, Rules{Buffering: BufferingOff})
	little, elsewhere := ways(Rules{Buffering: BufferingOn, BufferMemory: 1 << 10, BufferTotal: 1 << 20},
		Rules{Buffering: BufferingOn, BufferMemory: 2 << 10, BufferFolder: "/tmp"})
	somewhere, nowhere := ways(Rules{Buffering: BufferingOn, BufferMemory: 1 << 10, BufferFolder: "/tmp"},
		Rules{Buffering: BufferingOn, BufferMemory: 1 << 10, BufferFolder: "/none"})
	large := string(numbered(600_000)) // more than one body may have of a BufferTotal of 1 MiB
	hashed := newPool(t, PoolConfig{Balance: KeyHash})
	var bs []Backend
	for _, one := range []string{"one", "two", "three"} {
		b := webBackend(t, name(one))
		b.Name = one
		bs = append(bs, b)
	}
	if err := hashed.Update(bs); err != nil {
		t.Fatal(err)
	}
	byKey := func(key string) HandlerConfig {
		return HandlerConfig{Routes: []Route{{Name: "hashed", Paths: []string{"/"}, HandlerConfig: HandlerConfig{Pool: hashed, Rules: Rules{HashKey: key}}}}}
	}
	return []reload{
		{"headers", headers, otherHeaders, get("x /a"), saysWays},
		{"added headers, of which one has several values", HandlerConfig{Rules: Rules{AddRequestHeaders: http.Header{"X-Sent": {"1"}}, AddResponseHeaders: http.Header{"X-Way": {"1", "one"}}}},
			HandlerConfig{Rules: Rules{AddRequestHeaders: http.Header{"X-Sent": {"2", "two"}}, AddResponseHeaders: http.Header{"X-Way": {"2"}}}}, get("x /a"), [2]string{"X-Way: 1 + one\n & [1]", "X-Way: 2\n & [2 two]"}},
		{"a route with all there is", HandlerConfig{Routes: []Route{{Name: "1", Paths: []string{"/a"}, HandlerConfig: HandlerConfig{
			RequestHeaders: map[string]string{"X-Sent": "1"}, ResponseHeaders: map[string]string{"X-Way": "1"}, Rules: Rules{Rewrite: Rewrite{AddPrefix: "/1"}}}}}},
			HandlerConfig{Routes: []Route{{Name: "2", Paths: []string{"~ ^/a"}, HandlerConfig: HandlerConfig{
				RequestHeaders: map[string]string{"X-Sent": "2"}, ResponseHeaders: map[string]string{"X-Way": "2"}, Rules: Rules{Rewrite: Rewrite{AddPrefix: "/2"}}}}}}, get("x /a"), [2]string{"X-Way: 1\n & GET /1/a [1]", "X-Way: 2\n & GET /2/a [2]"}},
		{"a route that comes and goes", HandlerConfig{ResponseHeaders: map[string]string{"X-Way": "1"}},
			HandlerConfig{ResponseHeaders: map[string]string{"X-Way": "1"}, Routes: []Route{{Name: "2", Paths: []string{"/a"}, HandlerConfig: HandlerConfig{
				ResponseHeaders: map[string]string{"X-Way": "2"}, Rules: Rules{Answer: Answer{Status: 200, Content: "2"}}}}}}, get("x /a"), [2]string{"X-Way: 1\n & GET /a", "X-Way: 2\n & X-Content: -"}},
		{"redirect", HandlerConfig{Rules: Rules{Redirect: Redirect{Location: "/1", Status: 301}}}, HandlerConfig{Rules: Rules{Redirect: Redirect{Location: "/2", Status: 302}}}, get("x /a"), [2]string{"301\n & Location: /1\n", "302\n & Location: /2\n"}},
		{"answer", HandlerConfig{Rules: Rules{Answer: Answer{Status: 200, Content: "1"}}}, HandlerConfig{Rules: Rules{Answer: Answer{Status: 202, Type: "text/html", Content: "2"}}}, get("x /a"), [2]string{"200\n & text/plain & \n1", "202\n & text/html & \n2"}},
		{"rewrite", HandlerConfig{Rules: Rules{Rewrite: Rewrite{StripPrefix: "/a", AddPrefix: "/1"}}}, HandlerConfig{Rules: Rules{Rewrite: Rewrite{Regexp: "^/a(.*)", Replacement: "/2$1?2"}}}, get("x /a/b?c"), [2]string{"GET /1/b?c [", "GET /2/b?2&c ["}},
		{"where redirects of backends lead", HandlerConfig{Rules: Rules{RewriteLocation: []LocationRewrite{{Prefix: "/", To: "/1/"}}}},
			HandlerConfig{Rules: Rules{RewriteLocation: []LocationRewrite{{Regexp: "^/(.*)$", To: "/2/$1"}}}}, get("x /to"), [2]string{"Location: /1/a\n", "Location: /2/a\n"}},
		{"access", HandlerConfig{}, HandlerConfig{Rules: Rules{Access: []AccessRule{{Deny: true}}}}, get("x /a"), [2]string{"200\n", "403\n"}},
		{"maintenance", HandlerConfig{Rules: Rules{Maintenance: true}}, HandlerConfig{}, get("x /a"), [2]string{"503\n", "200\n"}},
		{"a bound for bodies", HandlerConfig{MaxBody: 2}, HandlerConfig{}, "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", [2]string{"413\n", "200\n"}},
		{"compression", HandlerConfig{Rules: Rules{Compress: &Compress{Encodings: []Encoding{EncodingGzip}, Types: []string{"*"}, MinLength: 1}}}, HandlerConfig{},
			"GET /a HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n", [2]string{"Content-Encoding: gzip\n", "Content-Encoding: -\n"}},
		{"sticky, whose key is another one", HandlerConfig{Rules: Rules{Sticky: &Sticky{Cookie: "to", Key: []byte("0123456789abcdef")}}},
			HandlerConfig{Rules: Rules{Sticky: &Sticky{Cookie: "to", Key: []byte("fedcba9876543210")}}}, get("x /a"), [2]string{"Set-Cookie: to=", "Set-Cookie: to="}},
		{"what is hashed", byKey("${uri}"), byKey("${header_host}"), get("x /c"), [2]string{"\ntwo", "\none"}},
		{"a bound for targets", HandlerConfig{Rules: Rules{MaxURI: 3}}, HandlerConfig{Rules: Rules{MaxURI: 4}}, get("x /abc"), [2]string{"414\n", "200\n"}},
		{"limits of requests", HandlerConfig{Rules: Rules{RequestRate: 1e6, RequestBurst: 1e6, RequestsPerClient: 1000}}, HandlerConfig{Rules: Rules{RequestRate: 0.001, RequestBurst: 1, RequestsPerClient: 1000}}, get("x /a"), [2]string{"200\n", "429\n"}},
		{"trusted proxies", HandlerConfig{ResponseHeaders: map[string]string{"X-Way": "${client}"}}, HandlerConfig{ResponseHeaders: map[string]string{"X-Way": "${client}"}, TrustedProxies: localProxies},
			fromClient("/a", "192.0.2.1"), [2]string{"X-Way: 127.0.0.1\n", "X-Way: 192.0.2.1\n"}},
		{"request ids", HandlerConfig{Rules: Rules{RequestID: RequestIDKeep}}, HandlerConfig{}, "GET /a HTTP/1.1\r\nHost: x\r\nX-Request-ID: 7\r\n\r\n", [2]string{"X-Request-Id: 7\n", "X-Request-Id: -\n"}},
		{"buffering on and off", buffered, streamed, inOnePut("", "1388\r\n"+fiveKB+"\r\n0\r\n\r\n"), saysBuffered},
		{"where bodies are held, and how much of them", little, elsewhere, inOnePut("", "927c0\r\n"+large+"\r\n0\r\n\r\n"),
			[2]string{saysWays[0] + " & 1:600000 of -1,", saysWays[1] + " & 1:600000 of 600000,"}},
		{"a folder for bodies that is not there", somewhere, nowhere, inOnePut("", "1388\r\n"+fiveKB+"\r\n0\r\n\r\n"), saysBuffered},
		{"auth", HandlerConfig{ResponseHeaders: map[string]string{"X-Way": "1"}, Rules: Rules{Auth: &BasicAuth{Users: reloadedUsers("a:" + hashes["bcrypt"])}}},
			HandlerConfig{ResponseHeaders: map[string]string{"X-Way": "2"}, Rules: Rules{Auth: &BasicAuth{Users: reloadedUsers("b:" + hashes["sha512"])}}},
			asked("/a", basic("a", "secret")), [2]string{"200\nX-Way: 1\n", "401\nX-Way: 2\n"}},
		{"a route whose requests are not logged", HandlerConfig{Routes: []Route{{Name: "1", HandlerConfig: HandlerConfig{ResponseHeaders: map[string]string{"X-Way": "1"}, Rules: Rules{Unlogged: true}}}}},
			HandlerConfig{Routes: []Route{{Name: "1", HandlerConfig: HandlerConfig{ResponseHeaders: map[string]string{"X-Way": "2"}}}}}, get("x /a"), [2]string{"X-Way: 1\n", "X-Way: 2\n"}},
		{"auth, with a user more", HandlerConfig{ResponseHeaders: map[string]string{"X-Way": "1"}, Rules: Rules{Auth: &BasicAuth{Users: reloadedUsers("a:" + hashes["bcrypt"])}}},
			HandlerConfig{ResponseHeaders: map[string]string{"X-Way": "${user}"}, Rules: Rules{Auth: &BasicAuth{Users: reloadedUsers("a:" + hashes["bcrypt"] + "\nb:" + hashes["sha512"])}}},
			asked("/a", basic("a", "secret")), [2]string{"200\nX-Way: 1\n", "200\nX-Way: a\n"}},
		{"how many backends are asked", HandlerConfig{Tries: 1, Rules: Rules{RetryStatuses: []int{503}, RetryBudget: -1}},
			HandlerConfig{Tries: 2, Rules: Rules{RetryStatuses: []int{503}, RetryBudget: -1}}, get("x /fail"), [2]string{"503\n", "200\n & other"}},
		{"statuses for which another backend is asked", HandlerConfig{Rules: Rules{RetryBudget: -1}}, HandlerConfig{Rules: Rules{RetryBudget: -1, RetryStatuses: []int{503}}}, get("x /fail"), [2]string{"503\n", "200\n & other"}},
		{"PROXY headers to backends", HandlerConfig{}, HandlerConfig{Rules: Rules{SendProxy: ProxyV1}}, get("x /a"), [2]string{"X-Way: -\n", "X-Way: greeted\n"}},
		{"pages in the place of errors", HandlerConfig{Rules: Rules{InterceptErrors: true, ErrorPages: []ErrorPage{{[]int{503}, Page{Content: []byte("one")}}}}},
			HandlerConfig{Rules: Rules{InterceptErrors: true, ErrorPages: []ErrorPage{{[]int{503}, Page{Content: []byte("two"), ContentType: "text/plain", Status: 500}}}}}, get("x /fail"), [2]string{"503\n & text/html & \none", "500\n & text/plain\n & \ntwo"}},
		{"pages of maintenance", HandlerConfig{Rules: Rules{Maintenance: true, MaintenancePage: &Page{Content: pattern("one", 100_000)}}},
			HandlerConfig{Rules: Rules{Maintenance: true, MaintenancePage: &Page{Content: pattern("two", 200_000), Status: 500}}}, get("x /a"), [2]string{"503\n & \none", "500\n & \ntwo"}},
	}
}

// reloadedUsers are those of a text that is valid.
func reloadedUsers(text string) *Htpasswd {
	u, err := ParseHtpasswd([]byte(text))
	if err != nil {
		panic(err)
	}
	return u
}

// reloadSite is a way by which clients reach backends, and the way to change its rules.
type reloadSite struct {
	name        string
	site        func() *trapSite // for one client
	reconfigure func(HandlerConfig) error
}

// reloadSites are all of them, with a pool of their own.
func reloadSites(t *testing.T, bs ...Backend) []reloadSite {
	pool := func() *Pool { return newPool(t, PoolConfig{Backends: bs, MaxFails: -1}) }
	one, two := pool(), pool()
	s, h := front(t, HandlerConfig{Pool: one})
	s2, h2 := front2(t, HandlerConfig{Pool: two})
	three := pool()
	p, err := NewHTTP(HTTPConfig{HandlerConfig: HandlerConfig{Pool: three}, ShutdownTimeout: -1})
	if err != nil {
		t.Fatal(err)
	}
	ln := listenTest(t)
	serveHTTP(t, p, ln)
	with := func(pool *Pool, reconfigure func(HandlerConfig) error) func(HandlerConfig) error {
		return func(cfg HandlerConfig) error { cfg.Pool = pool; return reconfigure(cfg) }
	}
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	whole := with(three, func(cfg HandlerConfig) error {
		return p.Reconfigure(HTTPConfig{HandlerConfig: cfg, ShutdownTimeout: -1})
	})
	return []reloadSite{
		{"Handler, HTTP/1.1", func() *trapSite { return siteAt(t, s.Listener.Addr().String(), one) }, with(one, h.Reconfigure)},
		{"Handler, HTTP/2", func() *trapSite { return &trapSite{url: s2.URL, pool: two, client: s2.Client()} }, with(two, h2.Reconfigure)},
		{"loops, HTTP/1.1", func() *trapSite { return siteAt(t, ln.Addr().String(), three) }, whole},
		{"loops, HTTP/2 by prior knowledge", func() *trapSite {
			return &trapSite{url: "http://" + ln.Addr().String(), pool: three, client: &http.Client{Transport: transport}}
		}, whole},
	}
}

// perhapsGreeted is a backend whose connections may begin with a PROXY header: the field X-Way of
// its answers says whether that is so.
func perhapsGreeted(t *testing.T, f http.HandlerFunc) Backend {
	t.Helper()
	type key struct{}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Context().Value(key{}).(*perhapsGreetedConn).greeted.Load() {
			w.Header().Set("X-Way", "greeted")
		}
		f(w, r)
	}))
	s.Listener = perhapsGreetedListener{s.Listener}
	s.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, key{}, c) }
	s.Start()
	t.Cleanup(s.Close)
	return Backend{Address: s.Listener.Addr().String()}
}

// perhapsGreetedListener brings connections of that kind.
type perhapsGreetedListener struct{ net.Listener }

type perhapsGreetedConn struct {
	net.Conn
	r       *bufio.Reader
	first   sync.Once
	greeted atomic.Bool
}

func (l perhapsGreetedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &perhapsGreetedConn{Conn: c, r: bufio.NewReader(c)}, nil
}

func (c *perhapsGreetedConn) Read(p []byte) (int, error) {
	c.first.Do(func() {
		if b, _ := c.r.Peek(len("PROXY ")); string(b) == "PROXY " {
			_, _ = c.r.ReadString('\n')
			c.greeted.Store(true)
		}
	})
	return c.r.Read(p)
}

// TestReloadOfRulesUnderLoad: while rules change, no request is lost, and each answer is wholly
// that of before or that of after.
func TestReloadOfRulesUnderLoad(t *testing.T) {
	b := perhapsGreeted(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		content, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Content", fmt.Sprintf("%d of %d, %08x", len(content), r.ContentLength, crc32.ChecksumIEEE(content)))
		if r.URL.Path == "/to" {
			w.Header().Set("Location", "/a")
		}
		if r.URL.Path == "/fail" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		fmt.Fprint(w, r.Method, " ", r.RequestURI, " ", r.Header["X-Sent"])
	})
	other := perhapsGreeted(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "other") })
	other.Backup = true // it is asked when the first one has failed
	fields := []string{"X-Way", "Location", "Content-Type", "Content-Encoding", "X-Content", "Set-Cookie", "X-Request-Id"}
	for _, s := range reloadSites(t, b, other) {
		t.Run(s.name, func(t *testing.T) {
			for _, c := range reloads(t) {
				site := s.site()
				var allowed [2]string
				for i, cfg := range []HandlerConfig{c.before, c.after} {
					if err := s.reconfigure(cfg); err != nil {
						t.Fatal(c.name, err)
					}
					for range 2 { // what is counted says so from the second request on
						allowed[i] = site.askRaw(t, c.request, fields...)
					}
					if !tells(allowed[i], c.says[i], site.client == nil) {
						t.Errorf("%s, %d: %.500q, want %q in it", c.name, i, allowed[i], c.says[i])
					}
				}
				if allowed[0] == allowed[1] {
					t.Errorf("%s: both answer %.500q", c.name, allowed[0])
				}
				var load sync.WaitGroup
				var over atomic.Bool
				var asked atomic.Int64
				for range 4 {
					site := s.site()
					load.Go(func() {
						for !over.Load() {
							if got := site.askRaw(t, c.request, fields...); !slices.Contains(allowed[:], got) {
								t.Errorf("%s: %.500q, want one of %.500q", c.name, got, allowed)
								return
							}
							asked.Add(1)
						}
					})
				}
				for i := range 20 {
					if err := s.reconfigure([]HandlerConfig{c.before, c.after}[i%2]); err != nil {
						t.Error(c.name, err)
					}
					before := asked.Load()
					for deadline := time.Now().Add(bound); asked.Load() < before+4 && !t.Failed() && time.Now().Before(deadline); {
						time.Sleep(time.Millisecond)
					}
				}
				over.Store(true)
				load.Wait()
			}
		})
	}
}
