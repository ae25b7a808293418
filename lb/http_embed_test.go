package lb

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

// A request is tied to a backend by whatever the embedder finds in it.
func TestKeyOfARequest(t *testing.T) {
	pool := newPool(t, PoolConfig{Balance: KeyHash, Backends: []Backend{webBackend(t, name("a")), webBackend(t, name("b")), webBackend(t, name("c"))}})
	for _, byUser := range []bool{false, true} {
		cfg := HandlerConfig{Pool: pool}
		if byUser {
			cfg.Key = func(r *http.Request) string { return r.Header.Get("X-User") }
		}
		h := newHandler(t, cfg)
		seen := map[string]bool{}
		for i := range 32 {
			r := httptest.NewRequest("GET", fmt.Sprint("/", i), nil)
			r.Header.Set("X-User", "ann")
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, r)
			seen[rec.Body.String()] = true
		}
		if want := map[bool]int{false: 3, true: 1}[byUser]; len(seen) != want {
			t.Errorf("by user: %v: the paths lead to %d backends, want %d", byUser, len(seen), want)
		}
	}
}

// What the Handler would say itself is the embedder's to say.
func TestErrorHandler(t *testing.T) {
	records := make(chan Record, 1)
	cfg := HandlerConfig{
		Record: func(r Record) { records <- r },
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			var why *RequestError
			if !errors.As(err, &why) {
				t.Errorf("%T: %v, want a RequestError", err, err)
				return
			}
			w.Header().Set("X-No-Backend", fmt.Sprint(errors.Is(err, ErrNoBackend)))
			if r.URL.Path == "/silent" {
				return
			}
			w.WriteHeader(why.Status + 50)
			fmt.Fprintf(w, "sorry, %s", r.Method)
		},
	}
	s, h := front(t, cfg)
	for _, tt := range []struct {
		request, body string
		status        int
		noBackend     string
	}{
		{"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "sorry, GET", 553, "true"},
		{"GET /silent HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "", 200, "true"},
		{"CONNECT x:80 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "sorry, CONNECT", 455, "false"},
		// The rest of its request is not read: the end of the answer can be told.
		{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n", "sorry, POST", 553, "true"},
		{"POST / HTTP/1.0\r\nHost: x\r\nContent-Length: 3\r\n\r\n", "sorry, POST", 553, "true"},
	} {
		c := newReader(t, s.Listener.Addr().String())
		io.WriteString(c, tt.request)
		res, err := http.ReadResponse(c.r, nil)
		if got := body(t, res, err); res.StatusCode != tt.status || got != tt.body || res.Header.Get("X-No-Backend") != tt.noBackend {
			t.Errorf("%q: %d %q %v", tt.request, res.StatusCode, got, res.Header)
		}
		c.Close()
		if r := <-records; r.Status != tt.status || r.Sent != int64(len(tt.body)) || r.Reason == "" {
			t.Errorf("%q: record %+v", tt.request, r)
		}
	}
	if st := h.Stats(); st.Failed != 4 || st.Refused != 1 || st.Active != 0 { // CONNECT is no request of a backend
		t.Errorf("%+v", st)
	}
}

// Under a prefix that the backend does not know, its redirects are mended.
func TestModifyResponse(t *testing.T) {
	onlyNetHTTP(t, "a middleware")
	errBad := errors.New("not fit to be seen")
	var open atomic.Int32
	cfg := HandlerConfig{
		ModifyResponse: func(res *http.Response) error {
			switch res.Request.URL.Path {
			case "/bad":
				return errBad
			case "/upper":
				b, err := io.ReadAll(res.Body)
				res.Body = io.NopCloser(bytes.NewReader(bytes.ToUpper(b)))
				return err
			case "/longer":
				b, err := io.ReadAll(res.Body)
				open.Add(1)
				res.Body, res.ContentLength = &closing{io.MultiReader(bytes.NewReader(b), strings.NewReader(" and more")), &open}, -1
				res.Header.Del("Content-Length")
				return err
			case "/empty":
				res.Body, res.ContentLength = io.NopCloser(strings.NewReader("filled")), 6
				res.Header.Set("Content-Length", "6")
			case "/ignored":
				res.Body = nil
				res.Header.Set("Content-Length", "0")
			case "/login":
				u, err := res.Location()
				if err != nil {
					return err
				}
				u.Path = "/app" + u.Path
				res.Header.Set("Location", u.String())
			}
			return nil
		},
	}
	s, h := front(t, cfg, webBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/login" {
			http.Redirect(w, r, "/home", http.StatusFound)
			return
		} else if r.URL.Path == "/empty" {
			return
		}
		io.WriteString(w, "text of "+r.URL.Path)
	}))
	s.Config.Handler = http.StripPrefix("/app", h)
	client := s.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for i, tt := range []struct {
		path, body string
		status     int
		connects   uint64 // so far
	}{
		{"/plain", "text of /plain", 200, 1},
		{"/upper", "TEXT OF /UPPER", 200, 1},
		{"/longer", "text of /longer and more", 200, 1},
		{"/empty", "filled", 200, 1},
		{"/login", "<a href=\"/home\">Found</a>.\n\n", 302, 1},
		// What was not read makes the connection useless.
		{"/ignored", "", 200, 1},
		{"/bad", "502 Bad Gateway\n", 502, 2},
		{"/plain", "text of /plain", 200, 3},
	} {
		res, err := client.Get(s.URL + "/app" + tt.path)
		if got := body(t, res, err); got != tt.body || res.StatusCode != tt.status {
			t.Errorf("%s: %d %q, want %d %q", tt.path, res.StatusCode, got, tt.status, tt.body)
		}
		if u, err := res.Location(); tt.status == 302 && (err != nil || u.Path != "/app/home") {
			t.Errorf("%s: leads to %v, %v", tt.path, u, err)
		}
		waitFor(t, "the end", func() bool { return h.Stats().Active == 0 })
		if st := h.pool().Status().Backends[0]; st.Connects != tt.connects || st.Failures != 0 || st.Active != 0 {
			t.Errorf("case %d: %d connections, want %d; %d failures, %d active", i, st.Connects, tt.connects, st.Failures, st.Active)
		}
	}
	if open.Load() != 0 {
		t.Error("a body is not closed")
	}
}

// closing is a body that counts down when it is closed.
type closing struct {
	io.Reader
	open *atomic.Int32
}

func (c *closing) Close() error { c.open.Add(-1); return nil }

// The panic of what an embedder gives to a Handler is the embedder's: it arrives as
// it was, and leaves nothing behind.
func TestForeignPanics(t *testing.T) {
	for name, spoil := range map[string]func(*HandlerConfig, func()){
		"Key":            func(c *HandlerConfig, p func()) { c.Key = func(*http.Request) string { p(); return "" } },
		"ModifyResponse": func(c *HandlerConfig, p func()) { c.ModifyResponse = func(*http.Response) error { p(); return nil } },
		"Record":         func(c *HandlerConfig, p func()) { c.Record = func(Record) { p() } },
		"Dial": func(c *HandlerConfig, p func()) {
			c.Dial = func(context.Context, string, string) (net.Conn, error) { p(); return nil, nil }
		},
		"ErrorHandler": func(c *HandlerConfig, p func()) {
			c.ModifyResponse = func(*http.Response) error { return errors.New("bad") }
			c.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { p() }
		},
	} {
		for _, value := range []any{new(int), http.ErrAbortHandler} {
			var reason string
			cfg := HandlerConfig{
				Record: func(r Record) { reason = r.Reason },
				Pool:   newPool(t, PoolConfig{Backends: []Backend{webBackend(t, func(w http.ResponseWriter, r *http.Request) {})}}),
			}
			spoil(&cfg, func() { panic(value) })
			h := newHandler(t, cfg)
			if got := recovered(func() { h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)) }); got != value {
				t.Errorf("%s: panics with %v, want %v", name, got, value)
			}
			if reason == "" && name != "Record" {
				t.Errorf("%s: the record gives no reason", name)
			}
			if st := cfg.Pool.Status().Backends[0]; st.Active != 0 || st.Failures != 0 || h.Stats().Active != 0 {
				t.Errorf("%s: %d picks and %d requests are left, %d failures", name, st.Active, h.Stats().Active, st.Failures)
			}
			h.Shutdown(t.Context())
		}
	}
}

// recovered returns what f panics with.
func recovered(f func()) (value any) {
	defer func() { value = recover() }()
	f()
	return nil
}

// noContinue is a ResponseWriter that panics at informational responses.
type noContinue struct{ http.ResponseWriter }

func (w noContinue) WriteHeader(status int) {
	if status < 200 {
		panic(errSinkFailed)
	}
	w.ResponseWriter.WriteHeader(status)
}

// The upload of a body has a goroutine of its own, but its panic comes out here.
func TestForeignPanicOfAnUpload(t *testing.T) {
	_, h := front(t, HandlerConfig{}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
		discard(c, r)
	}))
	r := httptest.NewRequest("PUT", "/", strings.NewReader("x"))
	r.Header.Set("Expect", "100-continue")
	if got := recovered(func() { h.ServeHTTP(noContinue{httptest.NewRecorder()}, r) }); got != errSinkFailed {
		t.Errorf("panics with %v, want %v", got, errSinkFailed)
	}
	if n := h.pool().Status().Backends[0].Active; n != 0 || h.Stats().Active != 0 {
		t.Errorf("%d picks and %d requests are left", n, h.Stats().Active)
	}
}

// Requests that no server has made have holes.
func TestRequestsWithHoles(t *testing.T) {
	_, h := front(t, HandlerConfig{}, webBackend(t, name("ok")))
	for _, tt := range []struct {
		r      *http.Request
		status int
	}{
		{&http.Request{Method: "GET", URL: &url.URL{Path: "/"}}, 200},
		{&http.Request{Method: "GET", URL: &url.URL{Path: "/"}, ContentLength: 5}, 200},
		{&http.Request{Method: "GET"}, 400},
		{new(http.Request), 400},
	} {
		rec := httptest.NewRecorder()
		if h.ServeHTTP(rec, tt.r); rec.Code != tt.status {
			t.Errorf("%+v: %d, want %d", tt.r, rec.Code, tt.status)
		}
	}
}

// hijackable is a ResponseWriter of a connection.
type hijackable struct {
	*httptest.ResponseRecorder
	conn net.Conn
}

func (w *hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return w.conn, bufio.NewReadWriter(bufio.NewReader(w.conn), bufio.NewWriter(w.conn)), nil
}

// A tunnel has a status too, and a backend that went away before it answered was
// tried in vain.
func TestRecordOfTunnelsAndRetries(t *testing.T) {
	records := make(chan Record, 1)
	s, _ := front(t, HandlerConfig{Record: func(r Record) { records <- r }}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n123")
		discard(c, r)
	}))
	c := newReader(t, s.Listener.Addr().String())
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: X\r\n\r\n12345")
	if _, err := http.ReadResponse(c.r, nil); err != nil {
		t.Fatal(err)
	}
	c.Conn.(*net.TCPConn).CloseWrite()
	io.Copy(io.Discard, c.r)
	if r := <-records; r.Status != 101 || r.Received != 5 || r.Sent != 3 || r.Backend == "" {
		t.Errorf("tunnel: %+v", r)
	}

	// A client that has left does not get the answer.
	ours, theirs := net.Pipe()
	theirs.Close()
	r := httptest.NewRequest("GET", "/", nil)
	r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"x"}}
	s.Config.Handler.ServeHTTP(&hijackable{httptest.NewRecorder(), ours}, r)
	if r := <-records; r.Status != 101 || r.Reason == "" || r.Sent != 0 {
		t.Errorf("tunnel that was not opened: %+v", r)
	}

	reached := make(chan bool)
	s, h := front(t, HandlerConfig{Record: func(r Record) { records <- r }}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		reached <- true
		discard(c, r)
	}), webBackend(t, name("other")))
	p := h.pool()
	st := p.Status().Backends
	p.Reconfigure(PoolConfig{KillOnDown: true, Backends: []Backend{st[0].Backend, st[1].Backend}})
	go func() {
		<-reached
		p.SetHealth(st[0].Name, errDown)
	}()
	if got := rawRequest(t, s, aGet); got != "other" {
		t.Errorf("got %q, want other", got)
	}
	if r := <-records; r.Retries != 1 || r.Backend != st[1].Name || h.Stats().Retries != 1 {
		t.Errorf("%+v, %+v, want one retry", r, h.Stats())
	}
}

// The addresses that Dial is given are those of the backends.
func TestDialOfAnEmbedder(t *testing.T) {
	var got []string
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		got = append(got, network+" "+address)
		if _, ok := ctx.Deadline(); !ok {
			t.Error("ctx has no deadline, want the connect timeout")
		}
		return nil, errors.New("refused")
	}
	h := newHandler(t, HandlerConfig{Dial: dial, Pool: newPool(t, PoolConfig{Backends: []Backend{{Address: "app.test:80"}, {Address: "unix:/run/app"}}})})
	serve(t, h, 502)
	nothing := func(context.Context, string, string) (net.Conn, error) { return nil, nil }
	serve(t, newHandler(t, HandlerConfig{Dial: nothing, Pool: newPool(t, PoolConfig{Backends: backends(1)})}), 502)
	if want := []string{"tcp app.test:80", "unix /run/app"}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("dials %q, want %q", got, want)
	}
}

// What ModifyResponse leaves of a response is not the beginning of the next one,
// although it comes late.
func TestUnreadResponseIsNotTheNext(t *testing.T) {
	cfg := HandlerConfig{ModifyResponse: func(res *http.Response) error {
		if res.Request.URL.Path == "/ignored" {
			res.Body = http.NoBody
			res.Header.Set("Content-Length", "0")
		}
		return nil
	}}
	s, _ := front(t, cfg, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		const late = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
		if req, err := http.ReadRequest(r); err != nil || req.URL.Path == "/" {
			io.WriteString(c, anOK)
			return
		}
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(late))
		http.ReadRequest(r)
		io.WriteString(c, late)
	}))
	c := newReader(t, s.Listener.Addr().String())
	for _, path := range []string{"/ignored", "/"} {
		want := map[string]string{"/": "ok"}[path]
		if _, got, err := c.ask(t, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"); got != want || err != nil {
			t.Errorf("%s: %q, %v, want %q", path, got, err, want)
		}
	}
}

// TestStatusOfAnErrorHandler: the first that is final is recorded.
func TestStatusOfAnErrorHandler(t *testing.T) {
	r := httptest.NewRecorder()
	x := &handling{exchange: exchange{cfg: newHandlerSettings(HandlerConfig{Pool: newPool(t, PoolConfig{})})}, w: r}
	w := &answerWriter{r, x}
	for _, status := range []int{103, 404, 500} {
		w.WriteHeader(status)
	}
	if x.record.Status != 404 {
		t.Errorf("%d, want 404", x.record.Status)
	}
}
