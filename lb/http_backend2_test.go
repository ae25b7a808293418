package lb

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/havip/havip/internal/lab/labtest"
)

// webBackend2 is a backend that runs f and speaks HTTP/2, with TLS or without.
func webBackend2(t *testing.T, secure bool, f http.HandlerFunc, prepare ...func(*http.Server)) Backend {
	t.Helper()
	s := httptest.NewUnstartedServer(f)
	for _, p := range prepare {
		p(s.Config)
	}
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	b := Backend{}
	if secure {
		s.EnableHTTP2 = true
		s.StartTLS()
		b.TLS = &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "example.com"}
		b.TLS.RootCAs.AddCert(s.Certificate())
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	b.Address = s.Listener.Addr().String()
	return b
}

// script2 is one connection of a backend of HTTP/2 that does what a test says.
type script2 struct {
	net.Conn
	*http2.Framer
}

// rawBackend2 is a backend that treats each connection with f, after its beginning.
func rawBackend2(t *testing.T, f func(script2), settings ...http2.Setting) Backend {
	t.Helper()
	return Backend{Address: labtest.Listen(t, func(c net.Conn) {
		s := script2{c, http2.NewFramer(c, c)}
		_ = s.WriteSettings(settings...)
		if _, err := io.CopyN(io.Discard, c, int64(len(http2.ClientPreface))); err == nil {
			f(s)
		}
	})}
}

// next returns the next frame of a kind; nil: the connection has ended.
func (s script2) next(kinds ...http2.FrameType) http2.Frame {
	for {
		f, err := s.ReadFrame()
		if err != nil || slices.Contains(kinds, f.Header().Type) {
			return f
		}
	}
}

// head writes a head of these names and values.
func (s script2) head(id uint32, end bool, fields ...string) {
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for f := range slices.Chunk(fields, 2) {
		_ = enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	_ = s.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: end})
}

// fronts2 are the fronts that requests to backends of HTTP/2 come by.
var fronts2 = map[string]func(*testing.T, HandlerConfig, ...Backend) (*httptest.Server, *Handler){"http1": front, "http2": front2}

// TestBackendsOfHTTP2: clients get from backends of HTTP/2 what they get from others, whatever
// client and backend speak.
func TestBackendsOfHTTP2(t *testing.T) {
	for name, front := range fronts2 {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " TLS:", secure), func(t *testing.T) {
				b := webBackend2(t, secure, func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Trailer", "X-Sum")
					w.Header().Set("Link", "x")
					w.WriteHeader(103)
					b, _ := io.ReadAll(r.Body)
					w.Header()["X-Two"] = []string{"1", "2"}
					fmt.Fprintf(w, "%s %s %s %s %s %v %v %q", r.Proto, r.Method, r.Host, r.RequestURI, b, r.Trailer, r.Header["X-Two"], r.Header["X-Forwarded-For"])
					w.Header().Set("X-Sum", "1")
					w.Header().Set(http.TrailerPrefix+"X-Late", "2")
				})
				s, h := front(t, HandlerConfig{BackendProtocol: BackendHTTP2, ResponseHeaders: map[string]string{"X-Source": "${source}", "Date": ""}}, b)
				for _, method := range []string{"GET", "POST", "PUT", "HEAD"} {
					hints := 0
					trace := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
						Got1xxResponse: func(int, textproto.MIMEHeader) error { hints++; return nil }})
					var content io.Reader
					if method[0] == 'P' {
						content = io.MultiReader(strings.NewReader("hello")) // of unknown length
					}
					req, _ := http.NewRequestWithContext(trace, method, s.URL+"/%7ea?b=%20", content)
					req.Host = "example.com"
					req.Header["X-Two"] = []string{"1", "2"}
					want := "HTTP/2.0 " + method + ` example.com /%7ea?b=%20  map[] [1 2] ["127.0.0.1"]`
					if content != nil {
						req.Trailer = http.Header{"X-In": {"7"}}
						want = "HTTP/2.0 " + method + ` example.com /%7ea?b=%20 hello map[X-In:[7]] [1 2] ["127.0.0.1"]`
					}
					if method == "HEAD" {
						want = ""
					}
					res, err := s.Client().Do(req)
					got := body(t, res, err)
					if got != want || method != "HEAD" && (res.Trailer.Get("X-Sum") != "1" || res.Trailer.Get("X-Late") != "2" && name == "http2") || hints == 0 {
						t.Errorf("%s: %q, trailer %v, %d hints; want %q", method, got, res.Trailer, hints, want)
					}
					if fmt.Sprint(res.Header["X-Two"], res.Header["X-Source"], len(res.Header["Date"])) != "[1 2] [127.0.0.1] 0" {
						t.Errorf("%s: header %v", method, res.Header)
					}
				}
				if st := h.pool().Status().Backends[0]; st.Connects != 1 || st.Failures != 0 || st.Active != 0 {
					t.Errorf("%+v, want one connection", st)
				}
			})
		}
	}
}

// TestRetryHTTP2: a request goes to another backend, or again to the same one, as HTTP/1.1 has
// it; and also one that must not be sent twice if the backend says that it has not looked at it.
func TestRetryHTTP2(t *testing.T) {
	for _, tt := range []struct {
		name, method string
		first        func(s script2) // nil: refuses connections
		status       int
		failures     uint64 // of the first backend
	}{
		{"GET, refused", "GET", nil, 200, 1},
		{"POST, refused", "POST", nil, 200, 1},
		{"GET, broken off", "GET", func(s script2) { s.next(http2.FrameHeaders) }, 200, 1},
		{"POST, broken off", "POST", func(s script2) { s.next(http2.FrameHeaders) }, 502, 1},
		{"GET, reset", "GET", resetWith(http2.ErrCodeInternal), 200, 1},
		{"POST, reset", "POST", resetWith(http2.ErrCodeInternal), 502, 1},
		{"POST, stream refused", "POST", resetWith(http2.ErrCodeRefusedStream), 200, 1},
		{"POST, GOAWAY before it", "POST", func(s script2) {
			s.next(http2.FrameHeaders)
			s.WriteGoAway(0, http2.ErrCodeNo, nil)
			s.next(255)
		}, 200, 1},
		{"POST, GOAWAY after it", "POST", func(s script2) {
			s.next(http2.FrameHeaders)
			s.WriteGoAway(1, http2.ErrCodeNo, nil)
		}, 502, 1},
		{"POST, GOAWAY at once", "POST", func(s script2) { s.WriteGoAway(0, http2.ErrCodeNo, nil); s.next(255) }, 200, 1},
		{"GET, silence", "GET", func(s script2) { s.next(255) }, 200, 1},
		{"POST, silence", "POST", func(s script2) { s.next(255) }, 504, 1},
		{"GET, malformed", "GET", func(s script2) {
			s.next(http2.FrameHeaders)
			s.head(1, true, ":status", "200", "connection", "close")
			s.next(255)
		}, 200, 1},
		{"POST, header too large for it", "POST", func(s script2) { s.next(255) }, 431, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			first := closedBackend(t)
			if tt.first != nil {
				var settings []http2.Setting
				if tt.status == 431 {
					settings = append(settings, http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: 100})
				}
				first = rawBackend2(t, tt.first, settings...)
			}
			backends := []Backend{first}
			if tt.status != 431 {
				second := webBackend2(t, false, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
				backends = append(backends, second)
			}
			cfg := HandlerConfig{BackendProtocol: BackendHTTP2}
			if strings.HasSuffix(tt.name, "silence") {
				cfg.Timeout = 300 * time.Millisecond
			}
			s, h := front(t, cfg, backends...)
			content := ""
			if tt.method == "POST" {
				content = "0123456789"
			}
			req, _ := http.NewRequest(tt.method, s.URL, strings.NewReader(content))
			res, err := http.DefaultClient.Do(req)
			got := body(t, res, err)
			if res.StatusCode != tt.status || tt.status == 200 && got != content {
				t.Errorf("%d %q, want %d", res.StatusCode, got, tt.status)
			}
			if st := h.pool().Status().Backends[0]; st.Failures != tt.failures || st.Active != 0 {
				t.Errorf("first backend: %+v, want %d failures", st, tt.failures)
			}
		})
	}
}

// resetWith resets the first request of each connection.
func resetWith(code http2.ErrCode) func(script2) {
	return func(s script2) {
		s.next(http2.FrameHeaders)
		s.WriteRSTStream(1, code)
		s.next(255)
	}
}

// TestGoAwayDoesNotShow: a backend may end its connections whenever it likes, even under
// requests that must not be sent twice. That is no failure, and no client notices.
func TestGoAwayDoesNotShow(t *testing.T) {
	var served atomic.Int32
	s, h := front(t, HandlerConfig{BackendProtocol: BackendHTTP2}, rawBackend2(t, func(s script2) {
		for id := uint32(1); id < 5; id += 2 {
			if s.next(http2.FrameHeaders) == nil {
				return
			}
			served.Add(1)
			s.head(id, true, ":status", "204")
		}
		// The third request is on its way when it comes to the backend's mind to leave.
		if s.next(http2.FrameHeaders) != nil {
			s.WriteGoAway(3, http2.ErrCodeNo, nil)
			s.next(255)
		}
	}))
	for i := range 200 { // the backend's word may come before the request is known to be out
		if got := rawStatus(t, s, aPost); got != 204 {
			t.Fatalf("request %d: %d", i, got)
		}
	}
	if st := h.pool().Status().Backends[0]; st.Failures != 0 || served.Load() != 200 || st.Connects != 100 {
		t.Errorf("%d failures, %d served on %d connections, want none, 200, 100", st.Failures, served.Load(), st.Connects)
	}
}

// TestStreamsPerConnection: as many requests share a connection as its backend allows, and
// for more there are more connections. All of them are idle afterwards.
func TestStreamsPerConnection(t *testing.T) {
	const requests, limit = 12, 3
	var conns, most atomic.Int32
	arrived, answer := make(chan struct{}, requests), make(chan struct{})
	s, h := front(t, HandlerConfig{BackendProtocol: BackendHTTP2}, rawBackend2(t, func(s script2) {
		conns.Add(1)
		var under atomic.Int32
		var writing sync.Mutex
		for {
			f, _ := s.next(http2.FrameHeaders).(*http2.HeadersFrame)
			if f == nil {
				return
			}
			most.Store(max(most.Load(), under.Add(1)))
			arrived <- struct{}{}
			id := f.StreamID
			go func() {
				<-answer
				writing.Lock()
				defer writing.Unlock()
				under.Add(-1)
				s.head(id, true, ":status", "204")
			}()
		}
	}, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: limit}))
	var clients sync.WaitGroup
	for range requests {
		clients.Go(func() {
			if got := rawStatus(t, s, aPost); got != 204 {
				t.Errorf("%d", got)
			}
		})
	}
	for range requests {
		select {
		case <-arrived:
		case <-time.After(bound):
			t.Fatal("a request waits")
		}
	}
	close(answer)
	clients.Wait()
	if most.Load() != limit || conns.Load() < requests/limit || conns.Load() > requests {
		t.Errorf("up to %d requests on one of %d connections", most.Load(), conns.Load())
	}
	shared := h.settings.Load().shared
	waitFor(t, "all connections to be idle", func() bool {
		shared.mu.Lock()
		defer shared.mu.Unlock()
		for _, list := range shared.to {
			for _, conn := range list.conns {
				if conn.State().Streams > 0 {
					return false
				}
			}
		}
		return true
	})
	shared.giveWay()
	waitFor(t, "none to be left", func() bool {
		shared.mu.Lock()
		defer shared.mu.Unlock()
		return len(shared.to) == 0
	})
}

// TestSharedConnectionsGoWithTheBackend: connections do not survive their backend; nor do
// requests on them, if the pool says so.
func TestSharedConnectionsGoWithTheBackend(t *testing.T) {
	closed, began := make(chan struct{}, 9), make(chan struct{})
	b := webBackend2(t, false, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			w.(http.Flusher).Flush()
			began <- struct{}{}
			<-r.Context().Done()
		}
	}, func(web *http.Server) {
		web.ConnState = func(_ net.Conn, s http.ConnState) {
			if s == http.StateClosed {
				closed <- struct{}{}
			}
		}
	})
	s, h := front(t, HandlerConfig{BackendProtocol: BackendHTTP2}, b)
	gone := func(what string) {
		t.Helper()
		select {
		case <-closed:
		case <-time.After(bound):
			t.Fatalf("%s: the connection stays", what)
		}
	}
	name := h.pool().Status().Backends[0].Name
	for _, kill := range []bool{true, false} {
		h.pool().Reconfigure(PoolConfig{KillOnDown: kill, Backends: []Backend{b}})
		held := dialTest(t, s.Listener.Addr().String())
		io.WriteString(held, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n")
		<-began
		if _, err := io.ReadFull(held, make([]byte, len("HTTP/1.1 200"))); err != nil {
			t.Fatal(err)
		}
		if kill {
			h.pool().SetHealth(name, errDown)
			if _, err := io.ReadAll(held); err != nil && isTimeout(err) {
				t.Error("the request goes on")
			}
			gone("down")
			h.pool().SetHealth(name, nil)
			continue
		}
		go func() { time.Sleep(10 * time.Millisecond); held.Close() }()
		if *onEngine {
			return // a plane ends with its Serve
		}
		h.Shutdown(t.Context())
		gone("shut down")
	}
}

// TestBackendsWithoutHTTP2: whoever speaks HTTP/1.1 only is told apart before anything is sent
// to it, and the log says what is wrong.
func TestBackendsWithoutHTTP2(t *testing.T) {
	plain := webBackend(t, name("ok"))
	old := httptest.NewTLSServer(name("ok"))
	defer old.Close()
	secure := Backend{Address: old.Listener.Addr().String(), TLS: &tls.Config{InsecureSkipVerify: true}}
	for want, b := range map[string]Backend{"does not speak HTTP/2": plain, "no application protocol": secure} {
		var lines labtest.Log
		s, _ := front(t, HandlerConfig{BackendProtocol: BackendHTTP2, Logger: slog.New(slog.NewTextHandler(&lines, nil)), ConnectTimeout: time.Second}, b)
		if got := rawStatus(t, s, aPost); got != 502 && got != 504 {
			t.Errorf("%d", got)
		}
		waitFor(t, "a line with "+want, func() bool { return strings.Contains(lines.String(), want) })
	}
}

// TestNoUpgradeToHTTP2: a backend of HTTP/2 cannot switch to another protocol, and gets the
// request as any other.
func TestNoUpgradeToHTTP2(t *testing.T) {
	b := webBackend2(t, false, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Header["Upgrade"], r.Header["Connection"])
	})
	s, _ := front(t, HandlerConfig{BackendProtocol: BackendHTTP2}, b)
	if got := rawRequest(t, s, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"); got != "[] []" {
		t.Errorf("%q", got)
	}
}

// TestLoginsOnSharedConnections: a connection that NTLM may have authenticated serves nobody
// else.
func TestLoginsOnSharedConnections(t *testing.T) {
	b := webBackend2(t, false, name("ok"))
	s, h := front(t, HandlerConfig{BackendProtocol: BackendHTTP2, Reuse: ReuseAlways}, b)
	for _, credentials := range []string{"", "Authorization: NTLM x\r\n", ""} {
		if got := rawRequest(t, s, "GET / HTTP/1.1\r\nHost: x\r\n"+credentials+"\r\n"); got != "ok" {
			t.Errorf("%q", got)
		}
	}
	if n := h.pool().Status().Backends[0].Connects; n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

// TestReuseNeverHTTP2: each request has a connection of its own, which ends with it.
func TestReuseNeverHTTP2(t *testing.T) {
	b := webBackend2(t, false, name("ok"))
	s, h := front(t, HandlerConfig{BackendProtocol: BackendHTTP2, Reuse: ReuseNever}, b)
	for range 3 {
		if got := rawRequest(t, s, aGet); got != "ok" {
			t.Errorf("%q", got)
		}
	}
	if n := h.pool().Status().Backends[0].Connects; n != 3 {
		t.Errorf("%d connections, want 3", n)
	}
}
