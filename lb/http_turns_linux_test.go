package lb

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// In the event loops, too, a connection on which somebody has logged in by NTLM is that
// client's: nobody else gets it, however many requests without credentials follow.
func TestEngineAuthenticatedConnectionIsItsClients(t *testing.T) {
	for _, reuse := range []Reuse{ReuseSafe, ReuseNever, ReuseAlways} {
		t.Run(reuse.String(), func(t *testing.T) {
			var open atomic.Int32
			address, _ := engineAt(t, HTTPConfig{HandlerConfig: HandlerConfig{Reuse: reuse}}, loginBackend(t, &open))
			ann := newReader(t, address)
			as := logIn(t, ann)
			for i := range 6 {
				if _, got, err := ann.ask(t, []string{aGet, aPost}[i%2]); got != as {
					t.Fatalf("ann is %q, %v, want %q", got, err, as)
				}
				// On each loop, for it may be another one's.
				for range 8 {
					bob := newReader(t, address)
					if res, got, err := bob.ask(t, aGet); err != nil || res.StatusCode != 401 {
						t.Fatalf("bob is %q, %v", got, err)
					}
					bob.Close()
				}
			}
			before := open.Load()
			ann.Close()
			waitFor(t, "the connection to end with ann's", func() bool { return open.Load() < before })
		})
	}
}

// What comes on the connection of a client that has logged in, and belongs to no request, is
// the end of that connection, and of nothing else.
func TestEngineAuthenticatedConnectionIsSpoilt(t *testing.T) {
	var conns atomic.Int32
	spoilt := make(chan struct{})
	address, p := engineAt(t, HTTPConfig{}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		first := conns.Add(1) == 1
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			io.WriteString(c, anOK)
			if first {
				<-spoilt
				io.WriteString(c, anOK)
			}
		}
	}))
	ann := newReader(t, address)
	if _, got, err := ann.ask(t, login); got != "ok" {
		t.Fatal(got, err)
	}
	close(spoilt)
	waitFor(t, "the connection to be given up", func() bool {
		idle := false
		eachConn(t, p, func(c *httpConn) { idle = c.bound == nil || c.bound.fd < 0 })
		return idle
	})
	if _, got, err := ann.ask(t, aPost); got != "ok" {
		t.Errorf("the next request gets %q, %v", got, err)
	}
}

// A backend may ask for the body and answer at once, and then hang up. What has come of its
// answer is not lost, nor does the body get in between.
func TestEngineContinueWithTheAnswer(t *testing.T) {
	answer := "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nanswer"
	for name, tt := range map[string]struct {
		unasked int // bytes of the body that the client sends unasked
		stays   bool
	}{
		"and hangs up":              {0, false},
		"before much of the body":   {1 << 20, true},
		"and hangs up, with a body": {1 << 20, false},
	} {
		t.Run(name, func(t *testing.T) {
			end := make(chan struct{})
			defer close(end)
			address, _ := engineAt(t, HTTPConfig{}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
				_, _ = http.ReadRequest(r)
				time.Sleep(50 * time.Millisecond) // the body is there
				io.WriteString(c, answer)
				_ = closeWrite(c)
				if tt.stays {
					<-end
				}
				_, _ = io.Copy(io.Discard, c)
			}))
			c := newReader(t, address)
			io.WriteString(c, "PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n1000000\r\n")
			go io.WriteString(c.Conn, strings.Repeat("HTTP/1.1 204 Mine\r\n\r\n", tt.unasked/20))
			for {
				res, err := http.ReadResponse(c.r, nil)
				if err == nil && res.StatusCode == 100 {
					continue
				}
				if err != nil || res.StatusCode != 200 {
					t.Fatalf("%+v, %v", res, err)
				}
				if got, err := io.ReadAll(res.Body); string(got) != "answer" {
					t.Errorf("%q, %v", got, err)
				}
				break
			}
		})
	}
}

// A request whose body waits to be asked for is repeated, and the next backend takes its time.
// The body waits for that backend's connection, and comes behind the head.
func TestEngineContinueOfAFailedAttempt(t *testing.T) {
	held, hold := make(chan struct{}), make(chan struct{})
	hangsUp := rawBackend(t, func(_ net.Conn, r *bufio.Reader) { _, _ = http.ReadRequest(r) })
	slow := webBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			close(held)
			<-hold
		}
		got, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %q %v", r.Method, got, err)
	})
	slow.MaxConns = 1
	pool := newPool(t, PoolConfig{Backends: []Backend{slow, hangsUp}, Queue: 10})
	address, _ := engineAt(t, HTTPConfig{HandlerConfig: HandlerConfig{Pool: pool}})
	go func() { _, _ = io.Copy(io.Discard, newReader(t, address)) }()
	holder := newReader(t, address)
	io.WriteString(holder, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n")
	<-held
	c := newReader(t, address)
	io.WriteString(c, "PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello")
	time.Sleep(continueWithin + 200*time.Millisecond)
	close(hold)
	for {
		res, err := http.ReadResponse(c.r, nil)
		if err == nil && res.StatusCode == 100 {
			continue
		}
		if got := body(t, res, err); got != `PUT "hello" <nil>` {
			t.Errorf("%d %q", res.StatusCode, got)
		}
		break
	}
}

// While the client does not take what there is of a response, the backend is not late.
func TestEngineSlowClientIsNotTheBackendsFault(t *testing.T) {
	const size = 16 << 20
	content := strings.Repeat("x", size) // making it takes its time
	for name, header := range map[string]string{"length": fmt.Sprint("Content-Length: ", size), "until the end": "X: y"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address, _ := engineAt(t, HTTPConfig{HandlerConfig: HandlerConfig{Timeout: 2 * time.Second}}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
				_, _ = http.ReadRequest(r)
				io.WriteString(c, "HTTP/1.1 200 OK\r\n"+header+"\r\n\r\n")
				io.WriteString(c, content)
			}))
			c := newReader(t, address)
			io.WriteString(c, aGet)
			res, err := http.ReadResponse(c.r, nil)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
			if got, err := io.Copy(io.Discard, res.Body); got != size || err != nil {
				t.Errorf("%d bytes, %v", got, err)
			}
		})
	}
}

// A response that has been read to its end has left the backend, though the client takes
// nothing of it yet.
func TestEngineBackendIsFreeBeforeTheClient(t *testing.T) {
	asked, goOn := make(chan struct{}), make(chan struct{})
	address, p := engineAt(t, HTTPConfig{HandlerConfig: HandlerConfig{Timeout: 2 * time.Second}}, webBackend(t, func(w http.ResponseWriter, _ *http.Request) {
		close(asked)
		<-goOn
		io.WriteString(w, "ok")
	}))
	c := newReader(t, address)
	io.WriteString(c, aGet)
	<-asked
	eachConn(t, p, func(c *httpConn) { c.writable = false }) // as if the client had taken nothing before
	close(goOn)
	waitFor(t, "the backend to be free", func() bool { return p.handler.pool().Status().Backends[0].Active == 0 })
	if n := p.Stats().Active; n != 1 {
		t.Errorf("%d requests are active, want the one whose client is slow", n)
	}
	time.Sleep(3 * time.Second) // longer than a backend may be silent
	eachConn(t, p, func(c *httpConn) {
		c.writable = true
		c.l.later(c)
	})
	if _, got, err := c.ask(t, ""); got != "ok" {
		t.Errorf("%q, %v", got, err)
	}
	if _, got, err := c.ask(t, "GET /gone HTTP/1.0\r\nHost: x y\r\n\r\n"); !strings.HasPrefix(got, "400") {
		t.Errorf("the next answer is %q, %v: want the connection to go on", got, err)
	}
}

// A client that stops in the middle of its body is given up, also if the last thing that it has
// done is to take what there was of the response.
func TestEngineBodyIsAwaitedBehindAResponse(t *testing.T) {
	asked, goOn := make(chan struct{}), make(chan struct{})
	address, p := engineAt(t, HTTPConfig{HandlerConfig: HandlerConfig{ClientTimeout: 2 * time.Second}}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		_, _ = http.ReadRequest(r)
		close(asked)
		<-goOn
		io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
		_, _ = io.Copy(io.Discard, r)
	}))
	c := newReader(t, address)
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
	<-asked
	eachConn(t, p, func(c *httpConn) { c.writable = false }) // as if the client had taken nothing before
	close(goOn)
	waitFor(t, "the response to wait for the client", func() (full bool) {
		eachConn(t, p, func(c *httpConn) { full = full || c.full() })
		return full
	})
	eachConn(t, p, func(c *httpConn) {
		c.writable = true
		c.l.later(c)
	})
	if _, err := http.ReadResponse(c.r, nil); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the request to be given up", func() bool { return p.Stats().Active == 0 })
}

// A backend that stops taking a body, however little of it comes at a time, is given up.
func TestEngineBackendThatTakesNothing(t *testing.T) {
	end := make(chan struct{})
	defer close(end)
	address, p := engineAt(t, HTTPConfig{HandlerConfig: HandlerConfig{Timeout: 500 * time.Millisecond}}, rawBackend(t, func(net.Conn, *bufio.Reader) { <-end }))
	for i := range 6 {
		c := dialTest(t, address)
		io.WriteString(c, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
		go func() {
			for piece := strings.Repeat("x", 1000*(i+3)); ; time.Sleep(time.Millisecond) {
				if _, err := io.WriteString(c, piece); err != nil {
					return
				}
			}
		}()
	}
	waitFor(t, "requests", func() bool { return p.Stats().Accepted == 6 })
	waitFor(t, "the requests to be given up", func() bool { return p.Stats().Active == 0 })
}

// Who waits to be asked for the body, and gets an answer instead, need not send it. So nothing
// that follows on the connection is a request for certain.
func TestEngineAnswerInPlaceOfABody(t *testing.T) {
	address, _ := engineAt(t, HTTPConfig{HandlerConfig: HandlerConfig{MaxBody: 10}}, webBackend(t, name("ok")))
	for request, status := range map[string]int{
		"OPTIONS / HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\nContent-Length: 5\r\n": 200,
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n":                      413,
		"POST / HTTP/1.1\r\nHost: x y\r\nContent-Length: 5\r\n":                     400,
	} {
		res, _, err := newReader(t, address).ask(t, request+"Expect: 100-continue\r\n\r\n")
		if err != nil || res.StatusCode != status || !res.Close {
			t.Errorf("%q: %+v, %v", request, res, err)
		}
	}
}

// A connection that shakes hands while the plane cuts what is left does not outlive the cut.
func TestEngineHandshakeBehindTheCut(t *testing.T) {
	address, client, p := secureEngine(t, HTTPConfig{HeaderTimeout: time.Hour}, webBackend(t, name("ok")))
	for _, l := range httpLoopsOf(t, p) {
		l.within(t, func() { l.cut(nil) })
	}
	c := dialSecure(t, address, client)
	if status, content, err := c.get(aGet); err == nil {
		t.Errorf("%d %q, want the end of the connection", status, content)
	}
	waitFor(t, "no connection", func() bool { return p.gate.counters.active.Load() == 0 })
}

// A client that takes an informational response while another backend is tried gets the answer
// behind it, though no event tells of the room any more.
func TestEngineRoomThatCameMeanwhile(t *testing.T) {
	hinted, goOn := make(chan struct{}), make(chan struct{})
	address, p := engineAt(t, HTTPConfig{}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		_, _ = http.ReadRequest(r)
		hinted <- struct{}{}
		<-goOn
		io.WriteString(c, "HTTP/1.1 103 Early Hints\r\n\r\n")
		<-goOn
	}))
	c := newReader(t, address)
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
	<-hinted
	eachConn(t, p, func(c *httpConn) { c.writable = false }) // as if the client had taken nothing before
	goOn <- struct{}{}
	waitFor(t, "the hints to wait for the client", func() (full bool) {
		eachConn(t, p, func(c *httpConn) { full = full || c.full() })
		return full
	})
	eachConn(t, p, func(c *httpConn) {
		c.writable = true // and nobody looks
		c.cut(true)
	})
	for _, want := range []int{http.StatusEarlyHints, http.StatusBadGateway} {
		if res, _, err := c.ask(t, ""); err != nil || res.StatusCode != want {
			t.Errorf("%v, %v, want %d", res, err, want)
		}
	}
	close(goOn)
	waitFor(t, "the request to be over", func() bool { return p.Stats().Active == 0 })
}

// The timer that has the first byte of a response go ahead does not end a client that is slow to
// take an informational one: that one has ClientTimeout.
func TestEngineSlowClientOfHints(t *testing.T) {
	hinted, goOn := make(chan struct{}), make(chan struct{})
	address, p := engineAt(t, HTTPConfig{}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		_, _ = http.ReadRequest(r)
		hinted <- struct{}{}
		<-goOn
		io.WriteString(c, "HTTP/1.1 103 Early Hints\r\n\r\n")
		<-goOn
		io.WriteString(c, anOK)
	}))
	c := newReader(t, address)
	io.WriteString(c, aGet)
	<-hinted
	eachConn(t, p, func(c *httpConn) {
		c.writable = false
		c.armTimer(200 * time.Millisecond)
	})
	goOn <- struct{}{}
	time.Sleep(500 * time.Millisecond)
	eachConn(t, p, func(c *httpConn) {
		c.writable = true
		c.l.later(c)
	})
	close(goOn)
	for _, want := range []int{http.StatusEarlyHints, http.StatusOK} {
		if res, _, err := c.ask(t, ""); err != nil || res.StatusCode != want {
			t.Errorf("%v, %v, want %d", res, err, want)
		}
	}
}
