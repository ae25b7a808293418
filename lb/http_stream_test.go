package lb

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab/labtest"
)

// stepwise is a backend that sends each piece of a response when it is told to.
func stepwise(t *testing.T, pieces ...string) (b Backend, next chan<- bool) {
	steps := make(chan bool)
	b = rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		for _, piece := range pieces {
			<-steps
			io.WriteString(c, piece)
		}
		<-steps
	})
	t.Cleanup(func() { close(steps) })
	return b, steps
}

// TestPiecesAreNotHeldBack: the client has the header, and each piece of the body, before
// the backend sends what comes next.
func TestPiecesAreNotHeldBack(t *testing.T) {
	same := func(*http.Response) error { return nil }
	upper := func(res *http.Response) error { res.Body = &upperBody{res.Body}; return nil }
	plain := []string{"AB", "CD"}
	const chunks = "Transfer-Encoding: chunked"
	for _, tt := range []struct {
		name, request, frame string
		modify               func(*http.Response) error
		pieces               []string
	}{
		{"length", aGet, "Content-Length: 4", nil, plain},
		{"length, HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", "Content-Length: 4", nil, plain},
		{"length, response looked at", aGet, "Content-Length: 4", same, plain},
		{"length, other body", aGet, "Content-Length: 4", upper, plain},
		{"end of connection", aGet, "X: y", nil, plain},
		{"chunks", aGet, chunks, nil, []string{"2\r\nAB\r\n", "2\r\nCD\r\n"}},
		{"chunks, response looked at", aGet, chunks, same, []string{"2\r\nAB\r\n", "2\r\nCD\r\n"}},
		{"pieces of a chunk", aGet, chunks, nil, []string{"4\r\nAB", "CD"}},
		{"pieces of chunks", aGet, chunks, nil, []string{"1\r\nA\r\n00003;x=y\r\nB", "CD\r\n"}},
		{"pieces of a chunk, response looked at", aGet, chunks, same, []string{"4\r\nAB", "CD"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, next := stepwise(t, append([]string{"HTTP/1.1 200 OK\r\n" + tt.frame + "\r\n\r\n"}, tt.pieces...)...)
			s, _ := front(t, HandlerConfig{ModifyResponse: tt.modify}, b)
			c := newReader(t, s.Listener.Addr().String())
			io.WriteString(c, tt.request)
			next <- true
			res, err := http.ReadResponse(c.r, nil)
			if err != nil {
				t.Fatal("the header is held back:", err)
			}
			for _, want := range []string{"AB", "CD"} {
				next <- true
				got := make([]byte, 2)
				if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != want {
					t.Fatalf("%q, %v; want %q", got, err, want)
				}
			}
		})
	}
}

// upperBody is a body that a function has put in the place of the backend's.
type upperBody struct{ io.ReadCloser }

func (u *upperBody) Read(p []byte) (int, error) {
	n, err := u.ReadCloser.Read(p)
	copy(p, bytes.ToUpper(p[:n]))
	return n, err
}

// pairBody is a body that waits for a second byte while the first is here.
type pairBody struct{ io.ReadCloser }

func (b *pairBody) Read(p []byte) (int, error) { return io.ReadFull(b.ReadCloser, p[:2]) }

// TestHeaderDoesNotWaitForAModifiedBody: bytes of the backend's body say nothing about what
// the body of a ModifyResponse waits for.
func TestHeaderDoesNotWaitForAModifiedBody(t *testing.T) {
	b, next := stepwise(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nA", "B")
	s, _ := front(t, HandlerConfig{ModifyResponse: func(res *http.Response) error { res.Body = &pairBody{res.Body}; return nil }}, b)
	c := newReader(t, s.Listener.Addr().String())
	io.WriteString(c, aGet)
	next <- true
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal("the header is held back:", err)
	}
	next <- true
	got := make([]byte, 2)
	if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != "AB" {
		t.Errorf("%q, %v", got, err)
	}

	// It may wait for something else.
	pr, pw := io.Pipe()
	s, _ = front(t, HandlerConfig{ModifyResponse: func(res *http.Response) error { res.Body = pr; return nil }}, webBackend(t, name("AB")))
	c = newReader(t, s.Listener.Addr().String())
	io.WriteString(c, aGet)
	if res, err = http.ReadResponse(c.r, nil); err != nil {
		t.Fatal("the header is held back:", err)
	}
	go func() { io.WriteString(pw, "CD"); pw.Close() }()
	if got := body(t, res, nil); got != "CD" {
		t.Errorf("%q", got)
	}
}

// TestPiecesAreNotHeldBackFromHTTP2: the same by HTTP/2.
func TestPiecesAreNotHeldBackFromHTTP2(t *testing.T) {
	b, next := stepwise(t, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", "AB", "CD")
	s, _ := front2(t, HandlerConfig{}, b)
	go func() { next <- true }()
	res, err := s.Client().Get(s.URL)
	if err != nil {
		t.Fatal("the header is held back:", err)
	}
	defer res.Body.Close()
	for _, want := range []string{"AB", "CD"} {
		next <- true
		got := make([]byte, 2)
		if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != want {
			t.Fatalf("%q, %v; want %q", got, err, want)
		}
	}
}

// TestTruncatedResponseReachesTheClient: what came before the backend broke off is the
// client's, also by HTTP/2, and then the client is told that there should be more.
func TestTruncatedResponseReachesTheClient(t *testing.T) {
	for _, tt := range []struct{ frame, sent, half string }{
		{"Content-Length: 100", "", ""},
		{"Content-Length: 100", "half", "half"},
		{"Transfer-Encoding: chunked", "4\r\nhalf\r\n", "half"},
	} {
		half := tt.half
		b := rawBackend(t, func(c net.Conn, r *bufio.Reader) {
			http.ReadRequest(r)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nDate: x\r\n"+tt.frame+"\r\n\r\n"+tt.sent)
		})
		s, h := front(t, HandlerConfig{}, b)
		c := newReader(t, s.Listener.Addr().String())
		io.WriteString(c, aGet)
		want := "HTTP/1.1 200 OK\r\n" + tt.frame + "\r\nDate: x\r\n\r\n" + tt.sent
		if got := everything(t, c); normalized(got) != normalized(want) {
			t.Errorf("%q, want %q", got, want)
		}
		if n := h.pool().Status().Backends[0].Failures; n != 1 {
			t.Errorf("%d failures, want 1", n)
		}

		s, _ = front2(t, HandlerConfig{}, b)
		res, err := s.Client().Get(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(res.Body); string(got) != half || err == nil {
			t.Errorf("HTTP/2: %q, %v; want %q and an error", got, err, half)
		}
		res.Body.Close()
	}
}

// countingListener keeps what its connections write, write by write.
type countingListener struct {
	net.Listener
	mu     sync.Mutex
	writes []string
}

func (l *countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return &countingConn{c, l}, err
}

type countingConn struct {
	net.Conn
	l *countingListener
}

func (c *countingConn) Write(p []byte) (int, error) {
	c.l.mu.Lock()
	c.l.writes = append(c.l.writes, string(p))
	c.l.mu.Unlock()
	return c.Conn.Write(p)
}

// TestSmallResponseIsOneWrite: a response that comes in one piece goes out in one.
func TestSmallResponseIsOneWrite(t *testing.T) {
	for _, tt := range []struct{ method, response string }{
		{"GET", anOK},
		{"GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
		{"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"},
		{"HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"},
		{"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n"},
		{"GET", "HTTP/1.1 204 No Content\r\n\r\n"},
		{"GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"},
	} {
		for _, modify := range []func(*http.Response) error{nil, func(*http.Response) error { return nil }} {
			h := newHandler(t, HandlerConfig{ModifyResponse: modify, Pool: newPool(t, PoolConfig{Backends: []Backend{{
				Address: labtest.Record(t, labtest.Answers(tt.response)).Address}}})})
			s := httptest.NewUnstartedServer(h)
			l := &countingListener{Listener: s.Listener}
			s.Listener = l
			s.Start()
			c := newReader(t, s.Listener.Addr().String())
			for range 2 {
				if _, _, err := c.ask(t, tt.method+" / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
					t.Fatal(err)
				}
			}
			s.Close()
			if len(l.writes) != 2 {
				t.Errorf("%s %q: %d writes, want 2: %q", tt.method, tt.response, len(l.writes), l.writes)
			}
		}
	}
}

// TestLargerResponsesAreFewWrites: what does not fit into a buffer with the header follows it
// at once, if it has come. Nothing is flushed in between.
func TestLargerResponsesAreFewWrites(t *testing.T) {
	content := strings.Repeat("x", 30000)
	for _, tt := range []struct {
		response string
		most     int
	}{
		{"HTTP/1.1 200 OK\r\nContent-Length: 6000\r\n\r\n" + content[:6000], 2},
		// What has come of a chunk goes out together as well, and then its frame.
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7530\r\n" + content + "\r\n0\r\n\r\n", 3},
	} {
		h := newHandler(t, HandlerConfig{Pool: newPool(t, PoolConfig{Backends: []Backend{{Address: labtest.Record(t, labtest.Answers(tt.response)).Address}}})})
		s := httptest.NewUnstartedServer(h)
		l := &countingListener{Listener: s.Listener}
		s.Listener = l
		s.Start()
		defer s.Close()
		c := newReader(t, s.Listener.Addr().String())
		const tries = 20 // a response may come in pieces
		few := false
		for range tries {
			l.mu.Lock()
			l.writes = nil
			l.mu.Unlock()
			if _, got, err := c.ask(t, aGet); err != nil || !strings.HasSuffix(tt.response, got) && got != content {
				t.Fatal(len(got), err)
			}
			l.mu.Lock()
			few = few || len(l.writes) <= tt.most
			l.mu.Unlock()
		}
		if !few {
			t.Errorf("%.60q: none of %d responses took no more than %d writes", tt.response, tries, tt.most)
		}
	}
}

// TestHeaderEndsAnEjection: the header of a stream, or of an upgrade, shows that a backend
// works again. The end of the stream may be days away.
func TestHeaderEndsAnEjection(t *testing.T) {
	for name, response := range map[string]string{
		"stream":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n",
		"download":  "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\na",
		"WebSocket": "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\na",
	} {
		t.Run(name, func(t *testing.T) {
			broken := make(chan bool)
			bad := rawBackend(t, func(c net.Conn, r *bufio.Reader) {
				http.ReadRequest(r)
				io.WriteString(c, response)
				<-broken
			})
			const soon = 50 * time.Millisecond
			var log story
			p := newPool(t, PoolConfig{Name: "web", FailTimeout: soon, Backends: []Backend{bad}, Logger: log.logger(slog.LevelInfo)})
			h := newHandler(t, HandlerConfig{Pool: p})
			s := httptest.NewServer(h)
			defer s.Close()
			breakOff := sync.OnceFunc(func() { close(broken) })
			defer breakOff()
			k, err := p.Pick(nil)
			if err != nil {
				t.Fatal(err)
			}
			k.Done(Failure)
			time.Sleep(2 * soon) // the ejection is over, and a success counts
			c := newReader(t, s.Listener.Addr().String())
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			if _, err := http.ReadResponse(c.r, nil); err != nil {
				t.Fatal(err)
			}
			waitFor(t, "the backend to be readmitted", func() bool { return strings.Contains(log.String(), "backend readmitted") })
			if name == "WebSocket" {
				return
			}
			// What comes later counts as before.
			breakOff()
			waitFor(t, "the failure to count", func() bool { st := p.Status().Backends[0]; return st.Failures == 2 && st.Active == 0 })
			if strings.Count(log.String(), "backend ejected") != 2 {
				t.Errorf("the log says\n%s", log.String())
			}
		})
	}
}

// TestStreamWhoseClientEndsIt: whether it leaves, or breaks its request off, the backend is
// not to blame.
func TestStreamWhoseClientEndsIt(t *testing.T) {
	for name, end := range map[string]func(*reader){
		"leaves": func(c *reader) { reset(c.Conn) }, // in order, half of it might go on
		"breaks": func(c *reader) { io.WriteString(c, "zz\r\n") },
	} {
		s, h := front(t, HandlerConfig{}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
			http.ReadRequest(r)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
			discard(c, r)
		}))
		c := newReader(t, s.Listener.Addr().String())
		request := aGet
		if name == "breaks" {
			request = "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
		}
		io.WriteString(c, request)
		res, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.ReadFull(res.Body, make([]byte, 4))
		end(c)
		waitFor(t, "the end", func() bool { return h.Stats().Active == 0 })
		if n := h.pool().Status().Backends[0].Failures; n != 0 {
			t.Errorf("%s: %d failures, want none", name, n)
		}
	}
}

// TestNothingOwedIsNothingFlushed: a flush would begin a response that has not been decided on.
func TestNothingOwedIsNothingFlushed(t *testing.T) {
	rec := httptest.NewRecorder()
	x := &handling{rc: http.NewResponseController(rec)}
	if err := x.flush(); err != nil || rec.Flushed {
		t.Errorf("flushed %v, %v", rec.Flushed, err)
	}
}

// normalized is a response with the lines of its header in any order.
func normalized(response string) string {
	head, body, _ := strings.Cut(response, "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	slices.Sort(lines[1:])
	return strings.Join(lines, "\r\n") + "\r\n\r\n" + body
}

// TestClientThatTakesNothingIsNoFailure: of the backend.
func TestClientThatTakesNothingIsNoFailure(t *testing.T) {
	rec := httptest.NewRecorder()
	x := &handling{ctx: t.Context(), in: httptest.NewRequest("GET", "/", nil), w: rec, rc: http.NewResponseController(rec), body: newTestBody(nil)}
	recovered(func() { x.breakOff(errClient{io.ErrClosedPipe}) })
	if x.result == Failure || x.record.Reason != io.ErrClosedPipe.Error() {
		t.Errorf("%v, %q", x.result, x.record.Reason)
	}
}

// halfRecordConn sends one record together with a half of the next one, waits, and sends the
// rest.
type halfRecordConn struct {
	net.Conn
	next  chan bool // nil: each record goes out at once
	over  <-chan struct{}
	first []byte
}

func (c *halfRecordConn) Write(b []byte) (int, error) {
	if c.next == nil {
		return c.Conn.Write(b)
	}
	if c.first == nil {
		c.first = bytes.Clone(b)
		return len(b), nil
	}
	half := len(b) / 2
	c.Conn.Write(append(c.first, b[:half]...))
	select {
	case <-c.next:
	case <-c.over:
	}
	c.Conn.Write(b[half:])
	return len(b), nil
}

// TestHalfARecordHoldsNothingBack: what a record of the backend's TLS has brought does not
// wait for the rest of the next one.
func TestHalfARecordHoldsNothingBack(t *testing.T) {
	a := newAuthority(t)
	certificate := a.certificates(a.issue("b", "app.test")).GetCertificate
	long := "CD" + strings.Repeat("y", 8000) // half of it is more than TLS reads ahead
	const header = "HTTP/1.1 200 OK\r\nX: \r\nTransfer-Encoding: chunked\r\n\r\n1f44\r\nAB"
	for name, pieces := range map[string][]string{
		"length": {"Content-Length: 8004\r\n\r\nAB", long},
		"chunks": {"Transfer-Encoding: chunked\r\n\r\n2\r\nAB\r\n", "1f42\r\n" + long + "\r\n0\r\n\r\n"},
		// The first record fills the buffer of the reader, which might have more.
		"chunk": {strings.Replace(header[len("HTTP/1.1 200 OK\r\n"):], "X: ", "X: "+strings.Repeat("x", 4096-len(header)), 1), long + "\r\n0\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			next := make(chan bool)
			b := rawBackend(t, func(raw net.Conn, _ *bufio.Reader) {
				half := &halfRecordConn{Conn: raw, over: t.Context().Done()}
				c := tls.Server(half, &tls.Config{GetCertificate: certificate, DynamicRecordSizingDisabled: true})
				http.ReadRequest(bufio.NewReader(c))
				half.next = next
				io.WriteString(c, "HTTP/1.1 200 OK\r\n"+pieces[0])
				io.WriteString(c, pieces[1])
			})
			b.TLS = &tls.Config{RootCAs: a.pool, ServerName: "app.test"}
			s, _ := front(t, HandlerConfig{}, b)
			c := newReader(t, s.Listener.Addr().String())
			io.WriteString(c, aGet)
			res, err := http.ReadResponse(c.r, nil)
			if err != nil {
				t.Fatal("the header is held back:", err)
			}
			for i, want := range []string{"AB", "CD"} {
				if i == 1 {
					next <- true
				}
				got := make([]byte, 2)
				if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != want {
					t.Fatalf("%q, %v; want %q", got, err, want)
				}
			}
		})
	}
}
