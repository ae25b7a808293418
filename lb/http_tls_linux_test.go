package lb

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/havip/havip/internal/lab/labtest"
)

// httpLoopsOf waits for the event loops of a plane.
func httpLoopsOf(t *testing.T, p *HTTP) (loops []*httpLoop) {
	t.Helper()
	waitFor(t, "the event loops", func() bool {
		for _, c := range p.handler.sessions.list() {
			if e, ok := c.(*httpEngine); ok {
				loops = e.loops
			}
		}
		return loops != nil
	})
	return loops
}

// eachConn calls f, in their loops, with the connections of clients.
func eachConn(t *testing.T, p *HTTP, f func(*httpConn)) {
	t.Helper()
	for _, l := range httpLoopsOf(t, p) {
		l.within(t, func() {
			for _, s := range l.socks {
				if s == nil {
					continue
				}
				if c, ok := s.owner.(*httpConn); ok {
					f(c)
				}
			}
		})
	}
}

// within runs f in a loop, and waits for it.
func (l *httpLoop) within(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	if !l.Post(func() { f(); close(done) }) {
		t.Fatal("the loop has ended")
	}
	<-done
}

// secureEngine serves backends by a plane with TLS, whose connections are in event loops. It
// returns its address, and what a client needs.
func secureEngine(t *testing.T, cfg HTTPConfig, bs ...Backend) (address string, client *tls.Config, p *HTTP) {
	t.Helper()
	a := newAuthority(t)
	cfg.TLS = &tls.Config{GetCertificate: a.certificates(a.issue("a", "a.test")).GetCertificate}
	address, p = engineAt(t, cfg, bs...)
	return address, &tls.Config{ServerName: "a.test", RootCAs: a.pool}, p
}

// secureBackend is a backend with TLS.
func secureBackend(t *testing.T, f http.HandlerFunc) Backend {
	t.Helper()
	s := httptest.NewUnstartedServer(f)
	s.StartTLS()
	t.Cleanup(s.Close)
	roots := s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	return Backend{Address: s.Listener.Addr().String(), TLS: &tls.Config{ServerName: "example.com", RootCAs: roots}}
}

// rawSecureBackend is a backend with TLS that treats each connection with f.
func rawSecureBackend(t *testing.T, change func(*tls.Config), f func(*net.TCPConn, *tls.Conn, *bufio.Reader)) Backend {
	t.Helper()
	a := newAuthority(t)
	cfg := &tls.Config{GetCertificate: a.certificates(a.issue("b", "b.test")).GetCertificate}
	if change != nil {
		change(cfg)
	}
	return Backend{TLS: &tls.Config{ServerName: "b.test", RootCAs: a.pool}, Address: labtest.Listen(t, func(c net.Conn) {
		s := tls.Server(c, cfg)
		f(c.(*net.TCPConn), s, bufio.NewReader(s))
	})}
}

// Requests and responses of any size pass, and connections are kept, on both sides: in the
// loops, with TLS of each version.
func TestEngineTLS(t *testing.T) {
	echo := func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("From", r.RemoteAddr)
		_, _ = io.Copy(w, r.Body)
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, where := range []string{"client", "backend", "both"} {
			t.Run(tls.VersionName(version)+", "+where, func(t *testing.T) {
				b := webBackend(t, echo)
				if where != "client" {
					b = secureBackend(t, echo)
					b.TLS.MinVersion, b.TLS.MaxVersion = version, version
				}
				var address, scheme string
				var p *HTTP
				client := new(tls.Config)
				if where == "backend" {
					scheme = "http"
					address, p = engineAt(t, HTTPConfig{}, b)
				} else {
					scheme = "https"
					address, client, p = secureEngine(t, HTTPConfig{}, b)
				}
				client.MinVersion, client.MaxVersion = version, version
				tr := &http.Transport{TLSClientConfig: client}
				defer tr.CloseIdleConnections()
				from := ""
				for _, size := range []int{0, 1, 100, 16 << 10, 1 << 20} {
					content := strings.Repeat("0123456789abcdef", size/16+1)[:size]
					req, _ := http.NewRequest("PUT", scheme+"://"+address+"/", strings.NewReader(content))
					res, err := (&http.Client{Transport: tr}).Do(req)
					if err != nil {
						t.Fatal(err)
					}
					got, err := io.ReadAll(res.Body)
					if err != nil || string(got) != content {
						t.Errorf("%d of %d bytes came back, %v", len(got), size, err)
					}
					if f := res.Header.Get("From"); from != "" && from != f {
						t.Errorf("another connection to the backend: %s and %s", from, f)
					} else {
						from = f
					}
				}
				conns := 0
				eachConn(t, p, func(c *httpConn) {
					if conns++; c.requests != 5 || c.secure() != (where != "backend") {
						t.Errorf("%d requests, TLS %v", c.requests, c.secure())
					}
				})
				if conns != 1 {
					t.Errorf("%d connections of clients are in the loops, want 1", conns)
				}
			})
		}
	}
}

// tlsClient is a connection of a test to a plane with TLS.
type tlsClient struct {
	*tls.Conn
	socket *net.TCPConn
	r      *bufio.Reader
}

func dialSecure(t *testing.T, address string, cfg *tls.Config) *tlsClient {
	t.Helper()
	socket := dialTest(t, address)
	c := tls.Client(socket, cfg)
	return &tlsClient{c, socket, bufio.NewReader(c)}
}

// get sends what one says, and returns the status and content of the response.
func (c *tlsClient) get(say string) (int, string, error) {
	if _, err := io.WriteString(c, say); err != nil {
		return 0, "", err
	}
	return c.response()
}

func (c *tlsClient) response() (int, string, error) {
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return 0, "", err
	}
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, string(b), err
}

// A client that has ended its half by TLS, or by the socket alone, gets its response, and the
// end of TLS behind it.
func TestEngineTLSHalfClosed(t *testing.T) {
	release := make(chan struct{}, 1)
	address, cfg, _ := secureEngine(t, HTTPConfig{}, webBackend(t, func(w http.ResponseWriter, _ *http.Request) {
		<-release
		io.WriteString(w, "answer")
	}))
	for name, end := range map[string]func(*tlsClient){
		"close_notify":         func(c *tlsClient) { c.CloseWrite() },
		"close_notify and FIN": func(c *tlsClient) { c.CloseWrite(); c.socket.CloseWrite() },
		"FIN":                  func(c *tlsClient) { c.socket.CloseWrite() },
	} {
		c := dialSecure(t, address, cfg)
		io.WriteString(c, aGet)
		end(c)
		release <- struct{}{}
		if status, content, err := c.response(); status != 200 || content != "answer" || err != nil {
			t.Errorf("%s: the client gets %d, %q, %v", name, status, content, err)
		}
		if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("%s: then it gets %d bytes, %v", name, n, err)
		}
	}
}

// The end of a response without a length is that of TLS: what the socket's end alone cuts off
// does not look complete to the client, with and without TLS of its own, and not in the record.
func TestTLSTornResponse(t *testing.T) {
	for _, secure := range []bool{false, true} {
		for _, minor := range []int{0, 1} {
			for _, orderly := range []bool{true, false} {
				t.Run(fmt.Sprintf("TLS %v, HTTP/1.%d, in order %v", secure, minor, orderly), func(t *testing.T) {
					b := rawSecureBackend(t, nil, func(socket *net.TCPConn, c *tls.Conn, r *bufio.Reader) {
						if _, err := http.ReadRequest(r); err != nil {
							return
						}
						io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\nsome of it")
						if orderly {
							c.CloseWrite()
						}
						socket.CloseWrite()
						io.Copy(io.Discard, socket)
					})
					records := make(chan Record, 1)
					hc := HandlerConfig{Record: func(r Record) { records <- r }}
					var c net.Conn
					if secure {
						address, cfg, _ := secureEngine(t, HTTPConfig{HandlerConfig: hc}, b)
						c = dialSecure(t, address, cfg)
					} else {
						s, _ := front(t, hc, b)
						c = dialTest(t, s.Listener.Addr().String())
					}
					fmt.Fprintf(c, "GET / HTTP/1.%d\r\nHost: a.test\r\n\r\n", minor)
					res, err := http.ReadResponse(bufio.NewReader(c), nil)
					if err != nil && orderly {
						t.Fatal(err)
					}
					var got []byte
					if err == nil {
						got, err = io.ReadAll(res.Body)
					}
					if err == nil != orderly || orderly && string(got) != "some of it" {
						t.Errorf("the client gets %q, %v", got, err)
					}
					if r := <-records; (r.Reason == "") != orderly {
						t.Errorf("%+v", r)
					}
				})
			}
		}
	}
}

// A request whose body is cut off never looks complete to the backend, by whichever end.
func TestEngineTLSTornRequest(t *testing.T) {
	for name, end := range map[string]func(*tlsClient){
		"close_notify": func(c *tlsClient) { c.CloseWrite() },
		"FIN":          func(c *tlsClient) { c.socket.CloseWrite() },
		"reset":        func(c *tlsClient) { reset(c.socket) },
		"garbage":      func(c *tlsClient) { c.socket.Write(bytes.Repeat([]byte("garbage"), 100)) },
	} {
		begun, got := make(chan struct{}), make(chan error, 1)
		address, cfg, _ := secureEngine(t, HTTPConfig{}, webBackend(t, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.ReadFull(r.Body, make([]byte, 5))
			close(begun)
			_, err := io.ReadAll(r.Body)
			got <- err
		}))
		c := dialSecure(t, address, cfg)
		io.WriteString(c, "PUT / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
		<-begun
		end(c)
		if err := <-got; err == nil {
			t.Errorf("%s: the backend reads a whole body", name)
		}
		c.socket.Close()
	}
}

// A failure of TLS between requests ends the connection, and an alert says so; requests before
// it are answered.
func TestEngineTLSGarbage(t *testing.T) {
	address, cfg, p := secureEngine(t, HTTPConfig{}, webBackend(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "answer") }))
	c := dialSecure(t, address, cfg)
	if status, content, err := c.get(aGet); status != 200 || content != "answer" || err != nil {
		t.Fatalf("%d, %q, %v", status, content, err)
	}
	io.WriteString(c.socket, aGet)
	var alert *net.OpError
	if _, err := c.Read(make([]byte, 1)); !errors.As(err, &alert) || alert.Op != "remote error" {
		t.Errorf("the client gets %v, want an alert", err)
	}
	waitFor(t, "the connection to end", func() bool { return p.gate.counters.active.Load() == 0 })
}
