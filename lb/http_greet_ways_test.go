package lb

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// headersOfConns is a backend that keeps the PROXY header of each connection, and has f treat
// the rest.
func headersOfConns(t *testing.T, f func(net.Conn, *bufio.Reader)) (Backend, <-chan string) {
	t.Helper()
	headers := make(chan string, 100)
	return rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		headers <- strings.TrimSpace(line)
		f(c, r)
	}), headers
}

// answersOnce answers one request, and hangs up when the next one has come.
func answersOnce(c net.Conn, r *bufio.Reader) {
	for i := range 2 {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, req.Body)
		if i == 0 {
			_, _ = io.WriteString(c, anOK)
		}
	}
}

// Each attempt has a header: the first one on a connection, another backend's, and that in the
// place of a kept connection that has ended.
func TestSendProxyInEachAttempt(t *testing.T) {
	refuses, first := headersOfConns(t, func(c net.Conn, r *bufio.Reader) {
		_, _ = http.ReadRequest(r)
		reset(c)
	})
	good, second := headersOfConns(t, answersOnce)
	cfg := HandlerConfig{Pool: newPool(t, PoolConfig{Backends: []Backend{refuses, good}, MaxFails: -1})}
	cfg.SendProxy = ProxyV1
	s, _ := shell{HandlerConfig: cfg, tracked: true}.serve(t)
	c := newReader(t, s.Listener.Addr().String())
	for range 2 { // the second time, the kept connection of the good one ends
		if _, got, err := c.ask(t, aGet); err != nil || got != "ok" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	own, at := c.LocalAddr().(*net.TCPAddr), s.Listener.Addr().(*net.TCPAddr)
	want := fmt.Sprintf("PROXY TCP4 127.0.0.1 127.0.0.1 %d %d", own.Port, at.Port)
	for i, headers := range []<-chan string{first, second, second} {
		if got := <-headers; got != want {
			t.Errorf("header %d is %q, want %q", i, got, want)
		}
	}
}

// What is not known is said to be so: a client of a unix socket has no address. Where nobody
// knows clients, a connection is for one request.
func TestSendProxyOfUnknownClients(t *testing.T) {
	for _, tt := range []struct {
		version ProxyVersion
		tracked bool
		want    string
	}{
		{ProxyV1, true, "v1 invalid AddrPort>invalid AddrPort #1 #1"},
		{ProxyV2, true, "v2 invalid AddrPort>invalid AddrPort #1 #1"},
		{ProxyV1, false, "v1 invalid AddrPort>invalid AddrPort #1 #2"},
	} {
		b := greetedBackend(t, "plain")
		cfg := HandlerConfig{Pool: newPool(t, PoolConfig{Backends: []Backend{b.Backend}})}
		cfg.SendProxy = tt.version
		srv := &http.Server{Handler: newHandler(t, cfg)}
		if tt.tracked {
			TrackConns(srv)
		}
		path := filepath.Join(t.TempDir(), "s")
		ln, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		go srv.Serve(ln)
		t.Cleanup(func() { srv.Close() })
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		c := &reader{conn, bufio.NewReader(conn)}
		_, first, _ := c.ask(t, aGet)
		_, second, _ := c.ask(t, aGet)
		if got := first + second[strings.LastIndexByte(second, ' '):]; got != tt.want {
			t.Errorf("%v, tracked %v: %q, want %q", tt.version, tt.tracked, got, tt.want)
		}
		c.Close()
		waitFor(t, "the connections to end", func() bool { return b.open.Load() == 0 })
	}
}

// The header is about the connection: after an accepted header about whom that names, by IPv6
// as it comes, whoever may be named in the request.
func TestSendProxyNamesWhomAHeaderNames(t *testing.T) {
	eachListener(t, func(t *testing.T, wrap func(net.Listener) net.Listener) {
		b := greetedBackend(t, "plain")
		cfg := HTTPConfig{AcceptProxy: loopback, ShutdownTimeout: -1}
		cfg.SendProxy, cfg.TrustedProxies = ProxyV2, loopback
		p, ln := newHTTP(t, cfg, b.Backend), listenTest(t)
		serveHTTP(t, p, wrap(ln))
		for i, tt := range []struct{ says, want string }{
			{"PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\n", "192.0.2.1:1000>192.0.2.2:80"},
			{"PROXY TCP6 2001:db8::1 2001:db8::2 1000 80\r\n", "[2001:db8::1]:1000>[2001:db8::2]:80"},
			{"PROXY UNKNOWN\r\n", "127.0.0.1:%d>" + ln.Addr().String()},
		} {
			c := newReader(t, ln.Addr().String())
			if strings.Contains(tt.want, "%d") {
				tt.want = fmt.Sprintf(tt.want, c.LocalAddr().(*net.TCPAddr).Port)
			}
			_, got, err := c.ask(t, tt.says+"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.77\r\nX-Real-IP: 192.0.2.77\r\n\r\n")
			if want := fmt.Sprintf("v2 %s #%d", tt.want, i+1); got != want {
				t.Errorf("%q: %q, %v, want %q", tt.says, got, err, want)
			}
			c.Close()
		}
	})
}

// By IPv6 the header is about IPv6.
func TestSendProxyByIPv6(t *testing.T) {
	ln, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	b := greetedBackend(t, "plain")
	cfg := HTTPConfig{ShutdownTimeout: -1}
	cfg.SendProxy = ProxyV1
	serveHTTP(t, newHTTP(t, cfg, b.Backend), ln)
	c := newReader(t, ln.Addr().String())
	if _, got, err := c.ask(t, aGet); got != fmt.Sprintf("v1 %s>%s #1", c.LocalAddr(), ln.Addr()) {
		t.Errorf("%q, %v", got, err)
	}
}

// A middleware may say of each request who the client is: a connection is used for requests of
// one only.
func TestSendProxyAfterMiddleware(t *testing.T) {
	onlyNetHTTP(t, "a middleware")
	b := greetedBackend(t, "plain")
	cfg := HandlerConfig{Pool: newPool(t, PoolConfig{Backends: []Backend{b.Backend}})}
	cfg.SendProxy = ProxyV1
	h := newHandler(t, cfg)
	address := tracking(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.RemoteAddr = r.Header.Get("Real")
		h.ServeHTTP(w, r)
	}), true)
	c := newReader(t, address)
	for _, tt := range [][2]string{{"192.0.2.1:1", "#1"}, {"192.0.2.2:1", "#2"}, {"192.0.2.1:1", "#1"}} {
		_, got, err := c.ask(t, "GET / HTTP/1.1\r\nHost: x\r\nReal: "+tt[0]+"\r\n\r\n")
		if want := fmt.Sprintf("v1 %s>%s %s", tt[0], address, tt[1]); got != want {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
}

// A change of the setting has no effect on what came before, and none of that is used after.
func TestSendProxyIsReconfigured(t *testing.T) {
	var conns atomic.Int32
	b := rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		number, header := conns.Add(1), "none"
		if first, _ := r.Peek(5); string(first) == "PROXY" {
			line, _ := r.ReadString('\n')
			header, _, _ = strings.Cut(line[6:], " ")
		}
		for {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			answer := fmt.Sprint(header, " ", number)
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(answer), answer)
		}
	})
	eachListener(t, func(t *testing.T, wrap func(net.Listener) net.Listener) {
		conns.Store(0)
		cfg := HTTPConfig{ShutdownTimeout: -1}
		p, ln := newHTTP(t, cfg, b), listenTest(t)
		cfg.Pool = p.handler.pool()
		serveHTTP(t, p, wrap(ln))
		c := newReader(t, ln.Addr().String())
		for i, tt := range []struct {
			version ProxyVersion
			want    string
		}{{ProxyNone, "none 1"}, {ProxyNone, "none 1"}, {ProxyV1, "TCP4 2"}, {ProxyV1, "TCP4 2"}, {ProxyNone, "none 1"}, {ProxyV1, "TCP4 2"}} {
			cfg.SendProxy = tt.version
			if err := p.Reconfigure(cfg); err != nil {
				t.Fatal(err)
			}
			if _, got, err := c.ask(t, aGet); got != tt.want {
				t.Errorf("request %d: %q, %v, want %q", i, got, err, tt.want)
			}
		}
	})
}

// Who has logged in on a connection with a header stays on that, and others of the client's
// are used for nobody else either.
func TestSendProxyAndLogin(t *testing.T) {
	var open atomic.Int32
	inner := loginBackend(t, &open)
	b, headers := headersOfConns(t, func(c net.Conn, r *bufio.Reader) {
		back, err := net.Dial("tcp", inner.Address)
		if err != nil {
			return
		}
		go func() { _, _ = io.Copy(back, r); back.Close() }()
		_, _ = io.Copy(c, back)
	})
	cfg := HandlerConfig{Reuse: ReuseAlways, Pool: newPool(t, PoolConfig{Backends: []Backend{b}})}
	cfg.SendProxy = ProxyV1
	s, _ := shell{HandlerConfig: cfg, tracked: true}.serve(t)
	ann, bob := newReader(t, s.Listener.Addr().String()), newReader(t, s.Listener.Addr().String())
	as := logIn(t, ann)
	for range 3 {
		if _, got, err := ann.ask(t, aGet); got != as {
			t.Errorf("ann is %q, %v, want %q", got, err, as)
		}
		if _, got, err := bob.ask(t, aPublic); !strings.HasPrefix(got, "nobody ") {
			t.Errorf("bob is %q, %v", got, err)
		}
	}
	ann.Close()
	bob.Close()
	waitFor(t, "the connections to end with the clients'", func() bool { return open.Load() == 0 })
	seen := make(map[string]int)
	for range len(headers) {
		seen[<-headers]++
	}
	if len(seen) != 2 {
		t.Errorf("headers %v, want those of two clients", seen)
	}
}
