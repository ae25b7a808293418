package lb

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab/labtest"
	"github.com/havip/havip/internal/proxyproto"
)

// greeted is a backend that wants a PROXY header. It answers with what the header of the
// connection says, and with the number of the connection.
type greeted struct {
	Backend
	conns, open atomic.Int32
}

// greetedListener brings connections whose header has been read.
type greetedListener struct {
	net.Listener
	b *greeted
}

type greetedConn struct {
	net.Conn
	b    *greeted
	says string
	once sync.Once
}

func (l greetedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		b, err := labtest.ReadProxyHeader(c)
		h, n, perr := proxyproto.Parse(b)
		if err != nil || perr != nil || n != len(b) {
			c.Close()
			continue
		}
		l.b.open.Add(1)
		version := 1
		if b[0] == '\r' {
			version = 2
		}
		says := fmt.Sprintf("v%d %v>%v", version, h.Source, h.Destination)
		return &greetedConn{Conn: c, b: l.b, says: fmt.Sprintf("%s #%d", says, l.b.conns.Add(1))}, nil
	}
}

func (c *greetedConn) Close() error {
	c.once.Do(func() { c.b.open.Add(-1) })
	return c.Conn.Close()
}

// greetedBackend is such a backend. how has words: tls, h2, unix.
func greetedBackend(t *testing.T, how string) *greeted {
	t.Helper()
	return greetedBackendFor(t, how, func() {})
}

// greetedBackendFor is one that does something before it answers.
func greetedBackendFor(t *testing.T, how string, before func()) *greeted {
	t.Helper()
	b := new(greeted)
	type key struct{}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		before()
		_, _ = io.WriteString(w, r.Context().Value(key{}).(string))
	}))
	s.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if secure, ok := c.(*tls.Conn); ok {
			c = secure.NetConn()
		}
		return context.WithValue(ctx, key{}, c.(*greetedConn).says)
	}
	if strings.Contains(how, "unix") {
		s.Listener.Close()
		ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
		if err != nil {
			t.Fatal(err)
		}
		s.Listener = ln
	}
	s.Listener = greetedListener{s.Listener, b}
	if strings.Contains(how, "h2") {
		s.EnableHTTP2, s.Config.Protocols = true, new(http.Protocols)
		s.Config.Protocols.SetUnencryptedHTTP2(true)
		s.Config.Protocols.SetHTTP2(true)
	}
	if strings.Contains(how, "tls") {
		s.StartTLS()
		b.TLS = &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "example.com"}
		b.TLS.RootCAs.AddCert(s.Certificate())
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	if b.Address = s.Listener.Addr().String(); strings.Contains(how, "unix") {
		b.Address = "unix:" + b.Address
	}
	return b
}

// greetedClient is a client with one connection.
type greetedClient struct {
	http.Client
	s     *httptest.Server
	local string      // its address
	ended chan Record // of its requests: then what is kept is kept
}

// greetedClients serves the configuration, and returns how to make clients of one connection
// each, by a protocol.
func greetedClients(t *testing.T, cfg HandlerConfig, tlsFront, http2 bool) func() *greetedClient {
	t.Helper()
	ended := make(chan Record, 100)
	cfg.Record = func(r Record) { ended <- r }
	s, _ := shell{HandlerConfig: cfg, tls: tlsFront, tracked: true}.serve(t)
	return func() *greetedClient {
		transport := &http.Transport{Protocols: new(http.Protocols), MaxConnsPerHost: 1}
		transport.Protocols.SetHTTP1(!http2)
		transport.Protocols.SetHTTP2(http2)
		if tlsFront {
			transport.TLSClientConfig = s.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
		}
		t.Cleanup(transport.CloseIdleConnections)
		return &greetedClient{Client: http.Client{Transport: transport, Timeout: bound}, s: s, ended: ended}
	}
}

// ask returns what the backend answers.
func (c *greetedClient) ask(t *testing.T, method string) string {
	t.Helper()
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		GotConn: func(i httptrace.GotConnInfo) { c.local = i.Conn.LocalAddr().String() }})
	req, err := http.NewRequestWithContext(ctx, method, c.s.URL, strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Do(req)
	got := body(t, res, err)
	if res.StatusCode != 200 {
		t.Errorf("%s: %d %s", method, res.StatusCode, got)
	}
	select {
	case <-c.ended:
	case <-time.After(bound):
		t.Error("no record")
	}
	return got
}

// wants is the answer that the client should get on a connection.
func (c *greetedClient) wants(version ProxyVersion, number int) string {
	return fmt.Sprintf("%v %s>%s #%d", version, c.local, c.s.Listener.Addr(), number)
}

// greetedFronts are how clients come.
var greetedFronts = []struct {
	name       string
	tls, http2 bool
}{{"HTTP/1.1", false, false}, {"TLS, HTTP/1.1", true, false}, {"HTTP/2", true, true}}

// A backend learns from the header whose connection it is, in front of TLS, by whatever
// protocol. The connection is kept for its client, nobody else ever gets it, and it ends with
// the client's.
func TestSendProxy(t *testing.T) {
	for _, from := range greetedFronts {
		for _, to := range []string{"plain", "tls", "unix", "h2", "h2 tls"} {
			for _, version := range []ProxyVersion{ProxyV1, ProxyV2} {
				t.Run(fmt.Sprintf("%s to %s, %v", from.name, to, version), func(t *testing.T) {
					b := greetedBackend(t, to)
					cfg := HandlerConfig{Reuse: ReuseAlways, Pool: newPool(t, PoolConfig{Backends: []Backend{b.Backend}})}
					cfg.SendProxy = version
					if strings.Contains(to, "h2") {
						cfg.BackendProtocol = BackendHTTP2
					}
					client := greetedClients(t, cfg, from.tls, from.http2)
					ann, bob := client(), client()
					for i := range 3 {
						method := []string{"GET", "POST", "PUT"}[i]
						if got := ann.ask(t, method); got != ann.wants(version, 1) {
							t.Errorf("ann gets %q, want %q", got, ann.wants(version, 1))
						}
						if got := bob.ask(t, method); got != bob.wants(version, 2) {
							t.Errorf("bob gets %q, want %q", got, bob.wants(version, 2))
						}
					}
					ann.CloseIdleConnections()
					waitFor(t, "the connection to end with ann's", func() bool { return b.open.Load() == 1 })
					if got := bob.ask(t, "GET"); got != bob.wants(version, 2) {
						t.Errorf("later, bob gets %q, want %q", got, bob.wants(version, 2))
					}
					eve := client()
					if got := eve.ask(t, "GET"); got != eve.wants(version, 3) {
						t.Errorf("eve gets %q, want %q", got, eve.wants(version, 3))
					}
				})
			}
		}
	}
}

// A connection that belongs to a client does not bind the client's requests to its backend.
func TestSendProxyGoesOnBalancing(t *testing.T) {
	for _, from := range greetedFronts {
		t.Run(from.name, func(t *testing.T) {
			var bs []*greeted
			cfg := PoolConfig{}
			for range maxOwned + 4 {
				bs = append(bs, greetedBackend(t, "plain"))
				cfg.Backends = append(cfg.Backends, bs[len(bs)-1].Backend)
			}
			h := HandlerConfig{Pool: newPool(t, cfg)}
			h.SendProxy = ProxyV2
			ann := greetedClients(t, h, from.tls, from.http2)()
			for i, b := range bs {
				if got := ann.ask(t, "GET"); got != ann.wants(ProxyV2, 1) || b.conns.Load() != 1 {
					t.Fatalf("request %d: %q, and its backend has %d connections; want each backend in its turn: %q", i, got, b.conns.Load(), ann.wants(ProxyV2, 1))
				}
			}
			waitFor(t, "the connections that are kept to be few", func() bool {
				open := int32(0)
				for _, b := range bs {
					open += b.open.Load()
				}
				return open == maxOwned
			})
			if bs[0].open.Load() != 0 || bs[len(bs)-1].open.Load() != 1 {
				t.Error("the latest connection has made room, and not the first one")
			}
		})
	}
}

// Of the connections that belong to a client, each leads to a backend of its own.
func TestSendProxyToSeveralBackends(t *testing.T) {
	for _, from := range greetedFronts {
		t.Run(from.name, func(t *testing.T) {
			bs := [3]*greeted{}
			var asked [len(bs)]atomic.Int32
			var backends []Backend
			for i := range bs {
				bs[i] = greetedBackendFor(t, "plain", func() { asked[i].Add(1) })
				backends = append(backends, bs[i].Backend)
			}
			cfg := HandlerConfig{Reuse: ReuseAlways, Pool: newPool(t, PoolConfig{Backends: backends})}
			cfg.SendProxy = ProxyV1
			client := greetedClients(t, cfg, from.tls, from.http2)
			for n, c := range []*greetedClient{client(), client()} {
				for range 3 * len(bs) {
					if got := c.ask(t, "GET"); got != c.wants(ProxyV1, n+1) {
						t.Errorf("%q, want the client's own connection: %q", got, c.wants(ProxyV1, n+1))
					}
				}
			}
			for i, b := range bs {
				if asked[i].Load() != 6 || b.conns.Load() != 2 {
					t.Errorf("backend %d gets %d requests on %d connections, want 6 on 2", i, asked[i].Load(), b.conns.Load())
				}
			}
		})
	}
}

// Streams of one client of HTTP/2 have connections of their own at the same time.
func TestSendProxyOfManyStreams(t *testing.T) {
	const n = 2 * maxOwned
	var arrived sync.WaitGroup
	arrived.Add(n)
	headers := make(chan string, 2*n)
	var open atomic.Int32
	b := rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		open.Add(1)
		defer open.Add(-1)
		line, _ := r.ReadString('\n')
		headers <- strings.TrimSpace(line)
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if req.URL.Path == "/together" {
				arrived.Done()
				arrived.Wait()
			}
			_, _ = io.WriteString(c, anOK)
		}
	})
	cfg := HandlerConfig{Pool: newPool(t, PoolConfig{Backends: []Backend{b}})}
	cfg.SendProxy = ProxyV1
	ann := greetedClients(t, cfg, true, true)()
	ann.ask(t, "GET") // the connection is there from now on
	var asking sync.WaitGroup
	for range n {
		asking.Go(func() {
			res, err := ann.Get(ann.s.URL + "/together")
			if err != nil || res.StatusCode != 200 {
				t.Errorf("%+v, %v", res, err)
				return
			}
			res.Body.Close()
		})
	}
	asking.Wait()
	first := <-headers
	for range n - 1 {
		if next := <-headers; next != first {
			t.Errorf("%q beside %q", next, first)
		}
	}
	waitFor(t, "few connections to be kept", func() bool { return open.Load() <= maxOwned })
	ann.CloseIdleConnections()
	waitFor(t, "all connections to end with the client's", func() bool { return open.Load() == 0 })
}
