package lb

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// waitForTurnsEnd has each write of the event loops that the test starts wait for the end of its
// turn, or none.
func waitForTurnsEnd(t *testing.T, each bool) {
	was := dueFrom
	t.Cleanup(func() { dueFrom = was })
	if dueFrom = 1; !each {
		dueFrom = 1 << 30
	}
}

// blockLoops has the loops of p do nothing until release is called.
func blockLoops(p *HTTP) (release func()) {
	hold, blocked := make(chan struct{}), new(sync.WaitGroup)
	for _, c := range p.handler.sessions.list() {
		e, ok := c.(*httpEngine)
		if !ok {
			continue
		}
		for _, l := range e.loops {
			blocked.Add(1)
			l.Post(func() {
				blocked.Done()
				<-hold
			})
		}
	}
	blocked.Wait()
	return func() { close(hold) }
}

// What times a backend or a client does not begin or end because a write waits for the end of
// its turn.
func TestTurnsEndIsNotTimed(t *testing.T) {
	for _, each := range []bool{false, true} {
		waits := fmt.Sprint("writes wait ", each, ": ")
		t.Run(waits+"a backend that may ask for the body", func(t *testing.T) {
			waitForTurnsEnd(t, each)
			address, _ := engineAt(t, HTTPConfig{HandlerConfig: HandlerConfig{Timeout: continueWithin / 3}}, webBackend(t, func(w http.ResponseWriter, r *http.Request) {
				time.Sleep(continueWithin / 2) // by then reading would ask
				got, err := io.ReadAll(r.Body)
				fmt.Fprintf(w, "%q %v", got, err)
			}))
			c := newReader(t, address)
			io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
			for {
				res, err := http.ReadResponse(c.r, nil)
				if err == nil && res.StatusCode == 100 {
					io.WriteString(c, "hello")
					continue
				}
				if got := body(t, res, err); got != `"hello" <nil>` {
					t.Errorf("%d %q", res.StatusCode, got)
				}
				break
			}
		})
		t.Run(waits+"a client that has ended its half", func(t *testing.T) {
			waitForTurnsEnd(t, each)
			hold := make(chan struct{})
			address, _ := engineAt(t, HTTPConfig{}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
				_, _ = http.ReadRequest(r)
				io.WriteString(c, "HTTP/1.1 103 Early Hints\r\n\r\n")
				<-hold
			}))
			defer close(hold)
			c := dialTest(t, address)
			io.WriteString(c, aGet)
			_ = c.CloseWrite()
			const want = "HTTP/1.1 103 Early Hints\r\n\r\nH"
			got := make([]byte, len(want))
			_ = c.SetReadDeadline(time.Now().Add(bound))
			if n, err := io.ReadFull(c, got); string(got) != want {
				t.Errorf("the client has got %q, %v, want the first byte of the response, too", got[:n], err)
			}
		})
	}
}

// A response that comes in the very turn in which the rest of its request goes out leaves the
// connection fit for another request.
func TestEarlyAnswerWithinATurn(t *testing.T) {
	for _, each := range []bool{false, true} {
		t.Run(fmt.Sprint("writes wait ", each), func(t *testing.T) {
			waitForTurnsEnd(t, each)
			var conns atomic.Int32
			begun, answer := make(chan struct{}), make(chan struct{})
			address, p := engineAt(t, HTTPConfig{}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
				conns.Add(1)
				for {
					req, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					if req.Method == http.MethodPost {
						_, _ = io.CopyN(io.Discard, req.Body, 5)
						begun <- struct{}{}
						<-answer
						io.WriteString(c, anOK)
						begun <- struct{}{}
					} else {
						io.WriteString(c, anOK)
					}
					_, _ = io.Copy(io.Discard, req.Body)
				}
			}))
			c := newReader(t, address)
			io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nfirst")
			<-begun
			release := blockLoops(p)
			io.WriteString(c, "other") // this event comes first
			answer <- struct{}{}
			<-begun
			release()
			for range 2 {
				res, err := http.ReadResponse(c.r, nil)
				if got := body(t, res, err); got != "ok" {
					t.Errorf("%d %q", res.StatusCode, got)
				}
				io.WriteString(c, aGet)
			}
			if n := conns.Load(); n != 1 {
				t.Errorf("%d connections to the backend, want 1", n)
			}
		})
	}
}
