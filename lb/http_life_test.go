package lb

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/havip/havip/internal/lab/labtest"
	"github.com/havip/havip/internal/quietlog"
)

// Every request that comes in is recorded and counted, also one that no backend sees.
func TestEveryRequestIsRecorded(t *testing.T) {
	var mu sync.Mutex
	var records []Record
	cfg := HandlerConfig{MaxBody: 10, Record: func(r Record) {
		mu.Lock()
		defer mu.Unlock()
		records = append(records, r)
	}}
	s, h := front(t, cfg, webBackend(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
	for i, tt := range []struct {
		request        string
		status         int
		reason         string
		received, sent int64
	}{
		{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", 200, "", 5, 5},
		{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\nhello world", 413, "Request Entity Too Large", 0, 29},
		{"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n", 413, "request body", 10, 29},
		{"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n", 405, "Method Not Allowed", 0, 23},
		{"GET x:foo HTTP/1.1\r\nHost: x\r\n\r\n", 400, "Bad Request", 0, 16},
	} {
		if got := rawStatus(t, s, tt.request); got != tt.status {
			t.Errorf("%q: %d, want %d", tt.request, got, tt.status)
		}
		var r Record
		waitFor(t, "the record", func() bool {
			mu.Lock()
			defer mu.Unlock()
			if len(records) != i+1 {
				return false
			}
			r = records[i]
			return true
		})
		if r.Status != tt.status || !strings.Contains(r.Reason, tt.reason) || (r.Reason == "") != (tt.reason == "") ||
			r.Received != tt.received || r.Sent != tt.sent || r.Service != "web" || !r.Client.IsValid() || (r.Backend != "") != (tt.status == 200) || r.Retries != 0 {
			t.Errorf("%q: %+v", tt.request, r)
		}
	}
	if st := h.Stats(); st.Accepted != 5 || st.Active != 0 || st.Refused != 4 || st.Received != 15 || st.Sent != 5+29+29+23+16 {
		t.Errorf("%+v", st)
	}
	if b := h.pool().Status().Backends[0]; b.Ended != 1 || b.Lasted <= 0 {
		t.Errorf("%+v, want the one request that the backend has answered", b)
	}
}

// KillOnDown and DrainTimeout are for requests as much as for connections: one that
// waits for its answer gets it from another backend, one that is being answered is
// broken off. The backend that was cut is not blamed.
func TestRequestsAreCutWithTheirBackend(t *testing.T) {
	for _, drain := range []bool{false, true} {
		for _, answering := range []bool{false, true} {
			t.Run(fmt.Sprint("drain:", drain, " answering:", answering), func(t *testing.T) {
				reached := make(chan bool, 1)
				s, h := front(t, HandlerConfig{}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
					http.ReadRequest(r)
					if answering {
						io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
					}
					reached <- true
					discard(c, r)
				}), webBackend(t, name("other")))
				st := h.pool().Status()
				h.pool().Reconfigure(PoolConfig{KillOnDown: !drain, DrainTimeout: time.Millisecond,
					Backends: []Backend{st.Backends[0].Backend, st.Backends[1].Backend}})
				cut := func() {
					<-reached
					if drain {
						h.pool().SetDrain(st.Backends[0].Name, true)
					} else {
						h.pool().SetHealth(st.Backends[0].Name, errDown)
					}
				}
				if !answering {
					go cut()
				}
				res, err := http.Get(s.URL)
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				if answering {
					cut()
				}
				b, err := io.ReadAll(res.Body)
				if answering && err == nil || !answering && string(b) != "other" {
					t.Errorf("%q, %v", b, err)
				}
				waitFor(t, "the end", func() bool { return h.Stats().Active == 0 })
				if st := h.pool().Status().Backends[0]; st.Failures != 0 || st.Active != 0 {
					t.Errorf("%d failures, %d active", st.Failures, st.Active)
				}
			})
		}
	}
}

// Shutdown waits for requests, and cuts them when its time is over. Those that come
// later are served nevertheless: a server may have accepted them long before.
func TestShutdownAndRequests(t *testing.T) {
	onlyNetHTTP(t, "a plane ends with its Serve")
	reached, answer := make(chan bool), make(chan bool)
	s, h := front(t, HandlerConfig{}, webBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			w.Header().Set("Connection", "Upgrade")
			w.Header().Set("Upgrade", "x")
			w.WriteHeader(101)
			return
		}
		if r.URL.Path == "/wait" {
			reached <- true
			select {
			case <-answer:
			case <-r.Context().Done():
			}
		}
		io.WriteString(w, "ok")
	}))
	get := func(path string) chan string {
		got := make(chan string, 1)
		go func() {
			res, err := http.Get(s.URL + path)
			if err != nil {
				got <- err.Error()
				return
			}
			defer res.Body.Close()
			b, _ := io.ReadAll(res.Body)
			got <- string(b)
		}()
		return got
	}
	first := get("/wait")
	<-reached
	done := make(chan bool)
	go func() { h.Shutdown(t.Context()); close(done) }()
	waitFor(t, "Shutdown", func() bool {
		h.sessions.mu.Lock()
		defer h.sessions.mu.Unlock()
		return h.sessions.empty != nil
	})
	select {
	case <-done:
		t.Fatal("Shutdown does not wait")
	default:
	}
	answer <- true
	if got := <-first; got != "ok" {
		t.Error(got)
	}
	<-done
	second := get("/wait")
	<-reached
	answer <- true
	if got := <-second; got != "ok" {
		t.Error(got)
	}

	// But nothing new that an http.Server would not know of.
	if got := rawStatus(t, s, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"); got != 503 {
		t.Errorf("upgrade: %d, want 503", got)
	}

	s, h = front(t, HandlerConfig{}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		reached <- true
		discard(c, r)
	}), webBackend(t, name("other")))
	third := get("/")
	<-reached
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	h.Shutdown(ctx)
	if got := <-third; got != "503 Service Unavailable\n" {
		t.Errorf("cut: %q", got)
	}
	if n, st := h.pool().Status().Backends[0].Failures, h.Stats(); n != 0 || st.Retries != 0 {
		t.Errorf("cut: %d failures, %d retries", n, st.Retries)
	}
}

// A WebSocket goes on when the configuration changes around it, also when its backend
// is not in the pool any more.
func TestTunnelsSurviveChanges(t *testing.T) {
	s, h := front(t, HandlerConfig{}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		io.Copy(c, r)
	}))
	c := newReader(t, s.Listener.Addr().String())
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	if res, err := http.ReadResponse(c.r, nil); err != nil || res.StatusCode != 101 {
		t.Fatal(res, err)
	}
	b := h.pool().Status().Backends[0].Backend
	heavier := b
	heavier.Weight = 7
	for i, change := range []func(){
		func() { h.pool().Update([]Backend{heavier}) },
		func() { h.pool().Reconfigure(PoolConfig{Balance: LeastConn, Backends: []Backend{b}}) },
		func() { h.pool().SetHealth(b.Name, errDown) },
		func() { h.pool().SetDrain(b.Name, true) },
		func() { h.pool().Update(nil) },
	} {
		change()
		io.WriteString(c, "ping")
		got := make([]byte, 4)
		if _, err := io.ReadFull(c.r, got); err != nil || string(got) != "ping" {
			t.Fatalf("change %d: %q, %v", i, got, err)
		}
	}
	c.Close()
	waitFor(t, "the end", func() bool { return h.Stats().Active == 0 })
}

// A panic is an error that a service wants to know of; net/http would write it where
// the daemon does not look by default.
func TestPanicsAreLogged(t *testing.T) {
	onlyNetHTTP(t, "a ResponseWriter")
	var out labtest.Log
	cfg := HandlerConfig{Logger: slog.New(quietlog.Unblocked(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelError})))}
	s, h := front(t, cfg, webBackend(t, name("ok")))
	backend := s.Config.Handler
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { backend.ServeHTTP(panicking{w}, r) })
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	if res, err := http.Get(s.URL); err == nil {
		t.Errorf("%+v", res)
	}
	waitFor(t, "the end", func() bool { return h.Stats().Active == 0 && h.pool().Status().Backends[0].Active == 0 })
	s.Close()
	if got := out.String(); !strings.Contains(got, "level=ERROR") || !strings.Contains(got, "on purpose") || !strings.Contains(got, "WriteHeader") {
		t.Errorf("log: %q", got)
	}
}

// The body of a request is read in a goroutine of its own, whose panic nobody else
// would catch: it is the end of that request only.
func TestPanicOfABody(t *testing.T) {
	onlyNetHTTP(t, "a middleware")
	var out labtest.Log
	cfg := HandlerConfig{Logger: slog.New(quietlog.Unblocked(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn})))}
	s, h := front(t, cfg, rawBackend(t, discard))
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = panicking{}
		h.ServeHTTP(w, r)
	})
	if got := rawStatus(t, s, aPut3+"abc"); got != 400 {
		t.Errorf("%d, want 400", got)
	}
	waitFor(t, "the end", func() bool { return h.Stats().Active == 0 })
	if got := out.String(); !strings.Contains(got, "on purpose") || h.pool().Status().Backends[0].Failures != 0 {
		t.Errorf("log: %q, %+v", got, h.pool().Status().Backends[0])
	}
}

// panicking is a ResponseWriter, or a body, that does.
type panicking struct{ http.ResponseWriter }

func (panicking) WriteHeader(int)          { panic("on purpose") }
func (panicking) Read([]byte) (int, error) { panic("on purpose") }
func (panicking) Close() error             { return nil }

// What a middleware's body says about its length does not become the framing of what
// backends get.
func TestBodyOfAnotherLength(t *testing.T) {
	onlyNetHTTP(t, "a middleware")
	for _, content := range []string{"ab", "abcdef"} {
		rec, b := record(t)
		s, h := front(t, HandlerConfig{}, b)
		s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Body = io.NopCloser(strings.NewReader(content))
			h.ServeHTTP(w, r)
		})
		c := newReader(t, s.Listener.Addr().String())
		if res, _, err := c.ask(t, aPut3+"abc"); err != nil || res.StatusCode != 400 || !res.Close {
			t.Errorf("%q: %+v, %v, want 400 and the end of the connection", content, res, err)
		}
		waitFor(t, "the end", func() bool { return h.Stats().Active == 0 })
		if got := rec.Requests(); len(got) != 0 {
			t.Errorf("%q: the backend got %q", content, got)
		}
	}
}

// A ResponseWriter that can do nothing special will do.
func TestPlainResponseWriter(t *testing.T) {
	h := newHandler(t, HandlerConfig{Pool: newPool(t, PoolConfig{Backends: []Backend{webBackend(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.(http.Flusher).Flush() // of unknown length
		w.Write(b)
	})}})})
	rec := httptest.NewRecorder()
	h.ServeHTTP(struct{ http.ResponseWriter }{rec}, httptest.NewRequest("POST", "/", strings.NewReader("hello")))
	if rec.Code != 200 || rec.Body.String() != "hello" {
		t.Errorf("%d %q", rec.Code, rec.Body)
	}
	h.Shutdown(t.Context())

	// The rest of the request is the server's business.
	rec = httptest.NewRecorder()
	newHandler(t, HandlerConfig{Pool: newPool(t, PoolConfig{})}).ServeHTTP(struct{ http.ResponseWriter }{rec},
		httptest.NewRequest("POST", "/", iotest.ErrReader(io.ErrUnexpectedEOF)))
	if rec.Code != 503 {
		t.Errorf("%d, want 503", rec.Code)
	}

	// Nobody ends the context of such a request, nor is that needed.
	closed := make(chan bool)
	h = newHandler(t, HandlerConfig{Pool: newPool(t, PoolConfig{Backends: []Backend{rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		io.WriteString(c, "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")
		discard(c, r)
		close(closed)
	})}})})
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	select {
	case <-closed:
	case <-time.After(bound):
		t.Error("the connection to the backend stays open")
	}
}

// A host that is out of descriptors has no reason to blame its backends.
func TestStarvingIsNoFailureOfABackend(t *testing.T) {
	var starving atomic.Bool
	starving.Store(true)
	var dials atomic.Int32
	dial := func(context.Context, string, string) (net.Conn, error) {
		if dials.Add(1); starving.Load() {
			return nil, fmt.Errorf("dial: %w", syscall.EMFILE)
		}
		return nil, errors.New("refused")
	}
	s, h := front(t, HandlerConfig{Dial: dial}, webBackend(t, name("ok")), webBackend(t, name("ok")))
	if got := rawStatus(t, s, aGet); got != 503 {
		t.Errorf("%d, want 503", got)
	}
	// Another backend needs the same, and nobody was tried in vain.
	if st := h.Stats(); dials.Load() != 1 || st.Retries != 0 {
		t.Errorf("%d attempts, %d retries, want one attempt", dials.Load(), st.Retries)
	}
	for _, b := range h.pool().Status().Backends {
		if b.Failures != 0 {
			t.Errorf("%d failures", b.Failures)
		}
	}
	starving.Store(false)
	if got := rawStatus(t, s, aGet); got != 502 {
		t.Errorf("%d, want 502", got)
	}
}

// countedConn is open until it is closed.
type countedConn struct {
	net.Conn
	open *atomic.Int32
	once sync.Once
}

func (c *countedConn) Close() error {
	c.once.Do(func() { c.open.Add(-1) })
	return c.Conn.Close()
}

// Out of descriptors, connections to one backend that wait for a request give way to a
// request for another backend.
func TestIdleConnectionsGiveWayToRequests(t *testing.T) {
	var open atomic.Int32
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		if open.Load() > 0 {
			return nil, syscall.EMFILE
		}
		c, err := new(net.Dialer).DialContext(ctx, network, address)
		if err == nil {
			open.Add(1)
			c = &countedConn{Conn: c, open: &open}
		}
		return c, err
	}
	s, _ := front(t, HandlerConfig{Dial: dial}, webBackend(t, name("ok")), webBackend(t, name("ok")))
	for range 4 { // each backend in its turn
		if got := rawStatus(t, s, aGet); got != 200 {
			t.Errorf("%d, want 200", got)
		}
	}
}

// TestNobodyElseIsTriedAtTheEnd: when the client has left, or the time of Shutdown is over,
// no other backend is asked.
func TestNobodyElseIsTriedAtTheEnd(t *testing.T) {
	for name, end := range map[string]func(*Handler, func()){
		"the client leaves": func(_ *Handler, leave func()) { leave() },
		"Shutdown": func(h *Handler, _ func()) {
			over, cancel := context.WithCancel(context.Background())
			cancel()
			go h.Shutdown(over)
		},
	} {
		ctx, leave := context.WithCancel(t.Context())
		var dials atomic.Int32
		var h *Handler
		h = newHandler(t, HandlerConfig{Pool: newPool(t, PoolConfig{Backends: backends(1, 1, 1)}),
			Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				if dials.Add(1) == 1 {
					end(h, leave)
				}
				<-ctx.Done()
				return nil, ctx.Err()
			}})
		recovered(func() { h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "GET", "/", nil)) })
		if n := dials.Load(); n != 1 {
			t.Errorf("%s: %d backends are asked, want 1", name, n)
		}
		leave()
		h.Shutdown(t.Context())
	}
}

// timingOut is a body that ends as that of net/http does when the client sends nothing for
// too long: the context of the request ends first.
type timingOut struct{ end func() }

func (b timingOut) Read([]byte) (int, error) {
	b.end()
	time.Sleep(50 * time.Millisecond)
	return 0, os.ErrDeadlineExceeded
}

// TestTimeoutOfABodyIsNoDeparture: a client that was too slow is told so.
func TestTimeoutOfABodyIsNoDeparture(t *testing.T) {
	_, h := front(t, HandlerConfig{ClientTimeout: time.Millisecond}, rawBackend(t, discard))
	ctx, cancel := context.WithCancel(t.Context())
	rec := httptest.NewRecorder()
	if got := recovered(func() { h.ServeHTTP(rec, httptest.NewRequestWithContext(ctx, "PUT", "/", timingOut{cancel})) }); got != nil || rec.Code != 408 {
		t.Errorf("%v, %d, want 408", got, rec.Code)
	}
}
