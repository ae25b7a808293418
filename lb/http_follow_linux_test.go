package lb

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// serving serves by srv behind a Listener.
func serving(t *testing.T, srv *http.Server) (address string) {
	t.Helper()
	s := httptest.NewUnstartedServer(nil)
	srv.ErrorLog = s.Config.ErrorLog
	s.Config = srv
	ln, err := NewListener(s.Listener, ListenerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	s.Listener = ln
	TrackConns(srv)
	s.Start()
	t.Cleanup(s.Close)
	return ln.Addr().String()
}

// held is a backend that keeps its answers until it is told, one for each connection, which
// it says. hungUp counts the connections that were closed on it instead.
func held(t *testing.T, answer string) (b Backend, got <-chan string, release chan<- bool, hungUp *atomic.Int32) {
	t.Helper()
	requests, releases := make(chan string), make(chan bool)
	hungUp = new(atomic.Int32)
	b = rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		content, _ := io.ReadAll(req.Body)
		requests <- req.Method + " " + string(content)
		left := make(chan error, 1)
		go func() { _, err := r.Peek(1); left <- err }()
		select {
		case <-left:
			hungUp.Add(1)
		case <-releases:
			io.WriteString(c, strings.Replace(answer, "\r\n", "\r\nConnection: close\r\n", 1))
		}
	})
	return b, requests, releases, hungUp
}

// TestHalfClosedClientIsAnswered: a client may close its half of the connection when its
// request is out. The first byte of the response comes at once, which shows that the end
// was seen, and the rest when the backend answers.
func TestHalfClosedClientIsAnswered(t *testing.T) {
	const answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nDate: x\r\n\r\nok"
	for _, tt := range []struct{ name, request, backend, want string }{
		{"GET", aGet, "GET ", answer},
		{"POST", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", "POST abc", answer},
		{"chunks", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "POST abc",
			strings.Replace(answer, "Date: x\r\n", "Date: x\r\nConnection: close\r\n", 1)},
		{"HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", "GET ", strings.Replace(strings.Replace(answer, "1.1", "1.0", 1), "Date: x\r\n", "Connection: close\r\nDate: x\r\n", 1)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, got, release, _ := held(t, answer)
			address, h := listening(t, HandlerConfig{}, b)
			c := dialTest(t, address)
			io.WriteString(c, tt.request)
			c.CloseWrite()
			if request := <-got; request != tt.backend {
				t.Fatalf("the backend got %q, want %q", request, tt.backend)
			}
			first := make([]byte, 1)
			if _, err := io.ReadFull(c, first); err != nil {
				t.Fatal(err)
			}
			release <- true
			if *onEngine { // see TestEarlyAnswersAreComplete, and RFC 9112 §6.1
				tt.want = strings.Replace(tt.want, "HTTP/1.0", "HTTP/1.1", 1)
				if tt.name == "chunks" {
					tt.want = answer
				}
			}
			rest, err := io.ReadAll(c)
			if all := string(first) + string(rest); err != nil || normalized(all) != normalized(tt.want) {
				t.Errorf("%q, %v; want %q", all, err, tt.want)
			}
			waitFor(t, "the end of the request", func() bool { return h.Stats().Active == 0 })
			if st := h.Stats(); st.Failed != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// TestPipelineOfHalfClosedClient: all requests that came before the end are answered, and
// each response is whole.
func TestPipelineOfHalfClosedClient(t *testing.T) {
	address, _ := listening(t, HandlerConfig{}, webBackend(t, name("ok")))
	for range 30 {
		c := newReader(t, address)
		io.WriteString(c, aGet+aGet+aGet)
		_ = closeWrite(c.Conn)
		for range 3 {
			res, err := http.ReadResponse(c.r, nil)
			if got := body(t, res, err); got != "ok" {
				t.Fatalf("%q, %v", got, err)
			}
		}
		if rest := everything(t, c); rest != "" {
			t.Fatalf("after the responses: %q", rest)
		}
	}
}

// TestStreamToHalfClosedClient: what the client has asked for comes to its end.
func TestStreamToHalfClosedClient(t *testing.T) {
	b, next := stepwise(t, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", "AB", "CD")
	address, _ := listening(t, HandlerConfig{}, b)
	c := newReader(t, address)
	io.WriteString(c, aGet)
	next <- true
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = closeWrite(c.Conn)
	next <- true
	next <- true
	if got := body(t, res, nil); got != "ABCD" {
		t.Errorf("%q", got)
	}
}

// TestClientThatHasLeftEndsItsRequest: a client that closes its connection, and not half of
// it, gives its backend back, however it does that, also after a response.
func TestClientThatHasLeftEndsItsRequest(t *testing.T) {
	for _, tt := range []struct {
		name, request string
		linger        int
	}{
		{"in order", aGet, -1},
		{"by a reset", aGet, 0},
		{"with a body", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", -1},
		{"after 100 (Continue)", "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc", -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, got, release, hungUp := held(t, anOK)
			address, h := listening(t, HandlerConfig{}, b)
			r := newReader(t, address)
			go func() { <-got; release <- true }()
			if _, _, err := r.ask(t, aGet); err != nil {
				t.Fatal(err)
			}
			io.WriteString(r, tt.request)
			<-got
			if strings.Contains(tt.request, "Expect") {
				http.ReadResponse(r.r, nil) // what is not read would become a reset
			}
			c := r.Conn.(*net.TCPConn)
			_ = c.SetLinger(tt.linger)
			c.Close()
			waitFor(t, "the backend's request to end", func() bool { return hungUp.Load() == 1 && h.Stats().Active == 0 })
			if st := h.pool().Status().Backends[0]; st.Failures != 0 || st.Active != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// TestClientThatHasLeftGivesUpItsPlace: nobody waits in the pool's queue for a client that
// has closed its connection. One that has closed half of it waits on.
func TestClientThatHasLeftGivesUpItsPlace(t *testing.T) {
	b, got, release, _ := held(t, anOK)
	b.MaxConns = 1
	address, h := listening(t, HandlerConfig{}, b)
	if err := h.pool().Reconfigure(PoolConfig{Backends: []Backend{b}, Queue: 10, QueueTimeout: time.Hour}); err != nil {
		t.Fatal(err)
	}
	first := newReader(t, address)
	io.WriteString(first, aGet)
	<-got
	half := newReader(t, address)
	io.WriteString(half, aGet)
	_ = closeWrite(half.Conn)
	gone := dialTest(t, address)
	io.WriteString(gone, aGet)
	waitFor(t, "two requests to wait", func() bool { return h.pool().queue.waiting.Load() == 2 })
	gone.Close()
	waitFor(t, "one of them to leave", func() bool { return h.pool().queue.waiting.Load() == 1 })
	release <- true
	<-got
	release <- true
	if _, got, err := half.ask(t, ""); err != nil || got != "ok" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestHalfARequest: a client that ends in the middle of its request has none. It may have ended
// its half of the connection alone: it is told, and no backend is to blame.
func TestHalfARequest(t *testing.T) {
	for _, buffering := range []Buffering{BufferingOff, BufferingOn} {
		address, h := listening(t, HandlerConfig{Rules: Rules{Buffering: buffering, BufferFolder: t.TempDir()}}, rawBackend(t, discard))
		for range 50 { // what ends the request, and what looks for the client's end, are at it together
			c := newReader(t, address)
			io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
			waitFor(t, "the request to begin", func() bool { return h.Stats().Active == 1 })
			_ = closeWrite(c.Conn)
			if status, _ := c.status(t); status != http.StatusBadRequest {
				t.Fatalf("buffering %v: status %d", buffering, status)
			}
			waitFor(t, "the request to end", func() bool { return h.Stats().Active == 0 })
			c.Close()
		}
		if st, b := h.Stats(), h.pool().Status().Backends[0]; st.Failed != 0 || st.Refused != 50 || b.Failures != 0 {
			t.Errorf("buffering %v: %+v, %+v", buffering, st, b)
		}
	}
}

// TestDialKnowsTheRequest: a Dial gets what a middleware has put into the context, in place
// of what the server has put there, and that context ends when the client has left.
func TestDialKnowsTheRequest(t *testing.T) {
	type key struct{}
	dialing := make(chan any)
	h := newHandler(t, HandlerConfig{Pool: newPool(t, PoolConfig{Backends: backends(1, 1)}), // the second is not asked
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			dialing <- ctx.Value(key{})
			<-ctx.Done()
			return nil, ctx.Err()
		}})
	address := serving(t, &http.Server{
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, key{}, "connection")
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), key{}, "request")))
		}),
	})
	c := dialTest(t, address)
	io.WriteString(c, aGet)
	if got := <-dialing; got != "request" {
		t.Errorf("%v", got)
	}
	c.Close()
	waitFor(t, "the request to end", func() bool { return h.Stats().Active == 0 })
}

// TestMiddlewareEndsARequest: the client is still there, but its request is over. The next
// request of the connection is not.
func TestMiddlewareEndsARequest(t *testing.T) {
	b, got, release, hungUp := held(t, anOK)
	h := newHandler(t, HandlerConfig{Pool: newPool(t, PoolConfig{Backends: []Backend{b}})})
	end := make(chan bool)
	c := newReader(t, serving(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		if r.URL.Path == "/end" {
			go func() { <-end; cancel() }()
			defer func() { recover(); io.WriteString(w, "ended") }()
		}
		h.ServeHTTP(w, r.WithContext(ctx))
	})}))
	io.WriteString(c, "GET /end HTTP/1.1\r\nHost: x\r\n\r\n")
	<-got
	end <- true
	if _, got, err := c.ask(t, ""); err != nil || got != "ended" {
		t.Errorf("%q, %v", got, err)
	}
	waitFor(t, "the backend's request to end", func() bool { return hungUp.Load() == 1 })
	io.WriteString(c, aGet)
	<-got
	release <- true
	if _, got, err := c.ask(t, ""); err != nil || got != "ok" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestMiddlewareEndsAnUpload: nobody waits for what the client still has to send.
func TestMiddlewareEndsAnUpload(t *testing.T) {
	begun := make(chan bool)
	h := newHandler(t, HandlerConfig{Pool: newPool(t, PoolConfig{Backends: []Backend{rawBackend(t, func(_ net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		r.Discard(len("abc"))
		time.Sleep(20 * time.Millisecond) // the proxy reads on
		begun <- true
		r.WriteTo(io.Discard)
		begun <- false
	})}})})
	end := make(chan bool)
	c := dialTest(t, serving(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		go func() { <-end; cancel() }()
		h.ServeHTTP(w, r.WithContext(ctx))
	})}))
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
	<-begun
	end <- true
	select {
	case <-begun:
	case <-time.After(bound):
		t.Error("the backend is kept")
	}
	if got, _ := io.ReadAll(c); len(got) > 0 {
		t.Errorf("the client is told %q, as if it was to blame", got)
	}
}

// TestRequestsOfAConnectionAtTheSameTime: a middleware may begin one while another is still
// under way. The end of one is not that of the other.
func TestRequestsOfAConnectionAtTheSameTime(t *testing.T) {
	b, got, release, hungUp := held(t, anOK)
	h := newHandler(t, HandlerConfig{Pool: newPool(t, PoolConfig{Backends: []Backend{b}})})
	end := make(chan bool)
	c := newReader(t, serving(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		go func() {
			defer func() { recover() }()
			h.ServeHTTP(httptest.NewRecorder(), r.Clone(ctx))
		}()
		go func() { <-end; cancel() }()
		h.ServeHTTP(w, r)
	})}))
	io.WriteString(c, aGet)
	<-got
	<-got
	end <- true
	waitFor(t, "one request to end", func() bool { return hungUp.Load() == 1 && h.Stats().Active == 1 })
	release <- true
	if _, got, err := c.ask(t, ""); err != nil || got != "ok" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestTimeOfAMiddlewareIsOver: a client that has closed its half is told so too, if the
// middleware gives it a time.
func TestTimeOfAMiddlewareIsOver(t *testing.T) {
	b, got, _, hungUp := held(t, anOK)
	h := newHandler(t, HandlerConfig{Pool: newPool(t, PoolConfig{Backends: []Backend{b}})})
	c := dialTest(t, serving(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), 2*soundAfter)
		defer cancel()
		h.ServeHTTP(w, r.WithContext(ctx))
	})}))
	io.WriteString(c, aGet)
	c.CloseWrite()
	<-got
	waitFor(t, "the backend's request to end", func() bool { return hungUp.Load() == 1 })
}

// TestRequestsOfAConnectionShareAContext: those that follow one another.
func TestRequestsOfAConnectionShareAContext(t *testing.T) {
	conn := &clientConn{conn: new(proxiedConn)}
	request := func() context.Context {
		x := &handling{conn: conn, in: httptest.NewRequest("GET", "/", nil)}
		x.followClient()
		defer x.unfollowClient()
		return x.ctx
	}
	if first, second := request(), request(); first != second {
		t.Error("each request has one of its own")
	}
}
