package lb

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipeNet joins clients, a Handler and its only backend by net.Pipe, for virtual time.
type pipeNet struct {
	h      *Handler
	accept chan net.Conn
	closed chan struct{}
	once   sync.Once
}

// newPipeNet serves h. The backend treats each of its connections with f.
func newPipeNet(t *testing.T, cfg HandlerConfig, f func(net.Conn, *bufio.Reader)) *pipeNet {
	n := &pipeNet{accept: make(chan net.Conn), closed: make(chan struct{})}
	cfg.Pool = newPool(t, PoolConfig{Name: "web", Backends: backends(1)})
	cfg.Dial = func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			f(theirs, bufio.NewReader(theirs))
		}()
		return ours, nil
	}
	n.h = newHandler(t, cfg)
	srv := &http.Server{Handler: n.h, Protocols: protocols(true)}
	go srv.Serve(n)
	t.Cleanup(func() {
		srv.Close()
		n.h.Shutdown(t.Context())
	})
	return n
}

func (n *pipeNet) Accept() (net.Conn, error) {
	select {
	case c := <-n.accept:
		return c, nil
	case <-n.closed:
		return nil, net.ErrClosed
	}
}

func (n *pipeNet) Close() error {
	n.once.Do(func() { close(n.closed) })
	return nil
}

func (n *pipeNet) Addr() net.Addr { return &net.TCPAddr{} }

// client connects one, and sends what it says.
func (n *pipeNet) client(t *testing.T, say string) (net.Conn, *bufio.Reader) {
	ours, theirs := net.Pipe()
	n.accept <- theirs
	t.Cleanup(func() { ours.Close() })
	if _, err := io.WriteString(ours, say); err != nil {
		t.Fatal(err)
	}
	return ours, bufio.NewReader(ours)
}

// settled checks how the backend looks after everything.
func (n *pipeNet) settled(t *testing.T, failures uint64) {
	t.Helper()
	synctest.Wait()
	if st := n.h.pool().Status().Backends[0]; st.Active != 0 || st.Failures != failures {
		t.Errorf("%d active, %d failures; want none and %d", st.Active, st.Failures, failures)
	}
}

// client2 returns a client of HTTP/2.
func (n *pipeNet) client2(t *testing.T) *http.Client {
	tr := &http.Transport{Protocols: protocols(false), DialContext: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		n.accept <- theirs
		return ours, nil
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// protocols are HTTP/2 without TLS and, if both, HTTP/1.
func protocols(both bool) *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(both)
	p.SetUnencryptedHTTP2(true)
	return p
}

// receive reads a response, and how long it took since start.
func receive(t *testing.T, r *bufio.Reader, start time.Time) (status int, body string, took time.Duration, err error) {
	t.Helper()
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		return 0, "", time.Since(start), err
	}
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, string(b), time.Since(start), err
}

// discard is a backend that reads and never answers.
func discard(_ net.Conn, r *bufio.Reader) { io.Copy(io.Discard, r) }

const (
	aGet  = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	anOK  = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	aPut3 = "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n"
)

// Who is silent is to blame: for what a client does no backend is.
func TestSilence(t *testing.T) {
	echo := func(c net.Conn, r *bufio.Reader) {
		if req, err := http.ReadRequest(r); err == nil {
			io.Copy(io.Discard, req.Body)
			io.WriteString(c, anOK)
		}
		io.Copy(io.Discard, r)
	}
	for _, tt := range []struct {
		name      string
		send      string
		backend   func(net.Conn, *bufio.Reader)
		status    int
		after     time.Duration
		failures  uint64
		truncated bool
	}{
		{"backend before the response", aGet, discard, 504, 10 * time.Second, 1, false},
		{"backend after an upload", aPut3 + "abc", discard, 504, 10 * time.Second, 1, false},
		{"backend within the header", aGet, func(c net.Conn, r *bufio.Reader) {
			http.ReadRequest(r)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nX-")
			discard(c, r)
		}, 504, 10 * time.Second, 1, false},
		{"backend within the body", aGet, func(c net.Conn, r *bufio.Reader) {
			http.ReadRequest(r)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
			discard(c, r)
		}, 200, 10 * time.Second, 0, true},
		{"backend does not read", "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", func(c net.Conn, r *bufio.Reader) {
			io.ReadFull(c, make([]byte, 10))
			time.Sleep(20 * time.Second)
		}, 504, 10 * time.Second, 1, false},
		{"client within the request", aPut3 + "ab", echo, 408, 60 * time.Second, 0, false},
		{"client before the body", aPut3, echo, 408, 60 * time.Second, 0, false},
		{"client within a chunk", "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab", echo, 408, 60 * time.Second, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newPipeNet(t, HandlerConfig{Timeout: 10 * time.Second, ClientTimeout: time.Minute}, tt.backend)
				start := time.Now()
				_, r := n.client(t, tt.send)
				status, _, took, err := receive(t, r, start)
				if status != tt.status || took != tt.after || (err != nil) != tt.truncated {
					t.Errorf("%d after %v, %v; want %d after %v", status, took, err, tt.status, tt.after)
				}
				if tt.status != 504 {
					if _, err := r.ReadByte(); err != io.EOF && !tt.truncated {
						t.Errorf("after the response: %v, want the end", err)
					}
				}
				n.settled(t, tt.failures)
				time.Sleep(time.Minute) // no goroutine may be left
			})
		})
	}
}

// A client that sends or takes a little now and then may take as long as it likes.
func TestSlowClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPipeNet(t, HandlerConfig{Timeout: time.Second, ClientTimeout: time.Minute}, func(c net.Conn, r *bufio.Reader) {
			for {
				req, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				b, _ := io.ReadAll(req.Body)
				fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(b), b)
			}
		})
		c, r := n.client(t, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
		for _, letter := range strings.Split("hello", "") {
			time.Sleep(59 * time.Second)
			io.WriteString(c, letter)
		}
		if status, body, _, err := receive(t, r, time.Now()); status != 200 || body != "hello" || err != nil {
			t.Errorf("%d %q, %v", status, body, err)
		}
		// The connection is in order: time that has passed does not count.
		time.Sleep(time.Hour)
		io.WriteString(c, aGet)
		if status, _, _, err := receive(t, r, time.Now()); status != 200 {
			t.Errorf("the next request: %d, %v", status, err)
		}
		n.settled(t, 0)

		// The other way round.
		const long = 200 << 10
		n = newPipeNet(t, HandlerConfig{ClientTimeout: time.Minute}, func(c net.Conn, r *bufio.Reader) {
			http.ReadRequest(r)
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", long)
			io.Copy(c, io.LimitReader(neverEnding{}, long))
			discard(c, r)
		})
		_, r = n.client(t, aGet)
		res, err := http.ReadResponse(r, nil)
		for took := int64(0); err == nil && took < long; took += 40 << 10 {
			time.Sleep(50 * time.Second)
			_, err = io.CopyN(io.Discard, res.Body, 40<<10)
		}
		if err != nil {
			t.Error(err)
		}
		n.settled(t, 0)
	})
}

// Shutdown waits until the last request is recorded.
func TestShutdownWaitsForRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		recorded := false
		record := func(Record) { time.Sleep(time.Hour); recorded = true }
		n := newPipeNet(t, HandlerConfig{Record: record}, func(c net.Conn, r *bufio.Reader) {
			http.ReadRequest(r)
			io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
		})
		n.client(t, aGet)
		synctest.Wait()
		if n.h.Shutdown(t.Context()); !recorded {
			t.Error("Shutdown came first")
		}
	})
}

// A client that takes nothing of the response does not hold a backend for ever.
func TestClientThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var gone time.Duration
		start := time.Now()
		n := newPipeNet(t, HandlerConfig{ClientTimeout: time.Minute}, func(c net.Conn, r *bufio.Reader) {
			http.ReadRequest(r)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
			io.Copy(c, neverEnding{})
			gone = time.Since(start)
		})
		n.client(t, aGet)
		time.Sleep(2 * time.Minute)
		n.settled(t, 0)
		if gone != time.Minute {
			t.Errorf("the backend's connection was closed after %v, want 1m", gone)
		}
	})
}

type neverEnding struct{}

func (neverEnding) Read(p []byte) (int, error) { return len(p), nil }

// A stream of events may last as long as something comes now and then.
func TestEventStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPipeNet(t, HandlerConfig{Timeout: time.Minute}, func(c net.Conn, r *bufio.Reader) {
			http.ReadRequest(r)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			for range 10 {
				time.Sleep(59 * time.Second)
				io.WriteString(c, "1\r\na\r\n")
			}
			io.WriteString(c, "0\r\n\r\n")
			discard(c, r)
		})
		_, r := n.client(t, aGet)
		if _, body, _, err := receive(t, r, time.Now()); body != "aaaaaaaaaa" || err != nil {
			t.Errorf("%q, %v", body, err)
		}
		n.settled(t, 0)
	})
}

// The time that a client has counts while it is awaited. In HTTP/2, where the deadlines of
// net/http end a stream also while nobody waits for the client, it does so too.
func TestClientTimeoutOverHTTP2(t *testing.T) {
	const long = 3 << 20 // more than a stream's window
	for _, tt := range []struct {
		name, method string
		backend      func(net.Conn, *http.Request)
		body         string
	}{
		{"stream of events", "GET", func(c net.Conn, _ *http.Request) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			for range 2 {
				time.Sleep(10 * time.Minute)
				io.WriteString(c, "1\r\na\r\n")
			}
			io.WriteString(c, "0\r\n\r\n")
		}, "aa"},
		{"late answer after early hints", "GET", func(c net.Conn, _ *http.Request) {
			io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
			time.Sleep(10 * time.Minute)
			io.WriteString(c, anOK)
		}, "ok"},
		{"backend that takes its time to read", "PUT", func(c net.Conn, r *http.Request) {
			io.ReadFull(r.Body, make([]byte, 10<<10))
			time.Sleep(10 * time.Minute)
			n, _ := io.Copy(io.Discard, r.Body)
			body := fmt.Sprint(n + 10<<10)
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		}, fmt.Sprint(long)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newPipeNet(t, HandlerConfig{Timeout: time.Hour, ClientTimeout: time.Minute}, func(c net.Conn, r *bufio.Reader) {
					if req, err := http.ReadRequest(r); err == nil {
						tt.backend(c, req)
					}
					discard(c, r)
				})
				req, _ := http.NewRequest(tt.method, "http://x/", io.LimitReader(neverEnding{}, long))
				if tt.method == "GET" {
					req.Body = nil
				}
				res, err := n.client2(t).Do(req)
				if err != nil {
					t.Error(err)
				} else if b, err := io.ReadAll(res.Body); res.ProtoMajor != 2 || res.StatusCode != 200 || string(b) != tt.body || err != nil {
					t.Errorf("%s %s %q, %v; want %q", res.Proto, res.Status, b, err, tt.body)
				}
				time.Sleep(time.Hour) // no goroutine may be left
			})
		})
	}
}

// A backend need not say that it wants the body (RFC 9110 §10.1.1).
func TestBodyIsSentUnasked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPipeNet(t, HandlerConfig{Reuse: ReuseNever}, func(c net.Conn, r *bufio.Reader) {
			if req, err := http.ReadRequest(r); err == nil {
				io.Copy(io.Discard, req.Body)
				io.WriteString(c, anOK)
			}
			discard(c, r)
		})
		start := time.Now()
		c, r := n.client(t, "PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
		if status, _, took, err := receive(t, r, start); status != 100 || took != time.Second {
			t.Errorf("%d after %v, %v; want 100 after 1s", status, took, err)
		}
		io.WriteString(c, "abc")
		if status, body, _, err := receive(t, r, start); status != 200 || body != "ok" {
			t.Errorf("%d %q, %v", status, body, err)
		}
		// HTTP/1.0 knows no expectations.
		start = time.Now()
		_, r = n.client(t, "PUT / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc")
		if status, body, took, err := receive(t, r, start); status != 200 || body != "ok" || took != 0 {
			t.Errorf("HTTP/1.0: %d %q after %v, %v", status, body, took, err)
		}
	})
}

// A body that the backend has answered without is not sent, however long the answer takes.
func TestBodyIsNotSentUnwanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []byte
		n := newPipeNet(t, HandlerConfig{}, func(c net.Conn, r *bufio.Reader) {
			http.ReadRequest(r)
			io.WriteString(c, "HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\n")
			go func() { got, _ = io.ReadAll(r) }()
			time.Sleep(5 * time.Second)
			io.WriteString(c, "0\r\n\r\n")
			time.Sleep(5 * time.Second)
		})
		c, r := n.client(t, "PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
		go io.WriteString(c, "abc")
		if status, _, _, err := receive(t, r, time.Now()); status != 401 || err != nil {
			t.Errorf("%d, %v", status, err)
		}
		time.Sleep(time.Minute)
		n.settled(t, 0)
		if len(got) != 0 {
			t.Errorf("the backend got %q", got)
		}
	})
}

// TestEarlyAnswerInChunks: its client learns at once that it is complete, and the backend is
// free. A client that does not take the end is given up.
func TestEarlyAnswerInChunks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPipeNet(t, HandlerConfig{ClientTimeout: time.Minute}, func(c net.Conn, r *bufio.Reader) {
			http.ReadRequest(r)
			io.WriteString(c, "HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwho?\r\n0\r\n\r\n")
			discard(c, r)
		})
		const request = "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\n\r\nabc"
		start := time.Now()
		_, r := n.client(t, request)
		if status, body, took, err := receive(t, r, start); status != 401 || body != "who?" || took != 0 || err != nil {
			t.Errorf("%d %q after %v, %v", status, body, took, err)
		}
		n.settled(t, 0)
		if active := n.h.Stats().Active; active != 1 {
			t.Errorf("%d requests under way, want one that waits for the client", active)
		}
		time.Sleep(time.Minute)
		_, r = n.client(t, request)
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(res.Body, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		if n.settled(t, 0); n.h.Stats().Active != 0 {
			t.Error("the request goes on")
		}
	})
}

// TestTimeOfTheClientEndsWithItsRequest: a backend may take longer to answer than clients may
// be silent.
func TestTimeOfTheClientEndsWithItsRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPipeNet(t, HandlerConfig{Timeout: time.Hour, ClientTimeout: time.Minute}, func(c net.Conn, r *bufio.Reader) {
			if req, err := http.ReadRequest(r); err == nil {
				io.Copy(io.Discard, req.Body)
				time.Sleep(30 * time.Minute)
				io.WriteString(c, anOK)
			}
			discard(c, r)
		})
		start := time.Now()
		_, r := n.client(t, aPut3+"abc")
		if status, _, took, err := receive(t, r, start); status != 200 || took != 30*time.Minute {
			t.Errorf("%d after %v, %v; want 200 after 30m", status, took, err)
		}
		n.settled(t, 0)
	})
}
