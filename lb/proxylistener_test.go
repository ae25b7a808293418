package lb

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestListenerForHTTP(t *testing.T) {
	ln, err := Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := NewListener(ln, ListenerConfig{AcceptProxy: loopback, Limits: Limits{Connections: 1}})
	if err != nil {
		t.Fatal(err)
	}
	records := make(chan Record, 8)
	h := newHandler(t, HandlerConfig{Record: func(r Record) { records <- r }, Pool: newPool(t, PoolConfig{Name: "web", Backends: []Backend{
		webBackend(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Header.Get("X-Real-Ip")) })}})})
	srv := &http.Server{Handler: h}
	go srv.Serve(wrapped)
	t.Cleanup(func() { srv.Close() })
	const get = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	c := dialTest(t, ln.Addr().String())
	io.WriteString(c, "PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\n"+get)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if got := body(t, res, err); got != "192.0.2.1" {
		t.Errorf("the client is %q", got)
	}
	if r := <-records; r.Client.String() != "192.0.2.1:1000" || r.Status != 200 || r.Sent != 9 || r.Service != "web" || r.Backend == "" {
		t.Errorf("record %+v", r)
	}
	if st := h.Stats(); st.Accepted != 1 || st.Sent != 9 || st.Active != 0 {
		t.Errorf("stats %+v", st)
	}
	// The second waits until the first has gone.
	second := dialTest(t, ln.Addr().String())
	io.WriteString(second, "PROXY UNKNOWN\r\n"+get)
	c.Close()
	res, err = http.ReadResponse(bufio.NewReader(second), nil)
	if got := body(t, res, err); got != "127.0.0.1" {
		t.Errorf("the client is %q", got)
	}
	second.Close()
	bad := dialTest(t, ln.Addr().String())
	io.WriteString(bad, get)
	if got, _ := ends(t, bad); got != "" {
		t.Errorf("without a header: %q", got)
	}
	waitFor(t, "all to have ended", func() bool { return wrapped.Stats().Active == 0 })
	if st := wrapped.Stats(); st.Refused != 1 || st.Accepted != 3 || st.Paused == 0 {
		t.Errorf("%+v, want 1 of 3 refused, and one that waited", st)
	}
	_, err = NewListener(ln, ListenerConfig{AcceptProxy: make([]netip.Prefix, 1), Limits: Limits{Rate: -1}, TLS: new(tls.Config)})
	for _, want := range []string{"lb: Listener: ", "TLS: no certificate: want", "Limits.Rate: -1: want", "AcceptProxy[0]: invalid Prefix: want"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if _, err = NewListener(nil, ListenerConfig{}); err == nil || !strings.Contains(err.Error(), "ln nil: want a listener") {
		t.Errorf("%v without a listener", err)
	}
}

// The header comes ahead of the handshake, in one segment with the ClientHello or not.
func TestListenerReadsProxyHeaderBeforeTLS(t *testing.T) {
	a := newAuthority(t)
	server := &tls.Config{GetCertificate: a.certificates(a.issue("a", "a.test")).GetCertificate}
	wrapped, err := NewListener(listenTest(t), ListenerConfig{AcceptProxy: loopback, TLS: server})
	if err != nil {
		t.Fatal(err)
	}
	h := newHandler(t, HandlerConfig{Pool: newPool(t, PoolConfig{Backends: []Backend{
		webBackend(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Header.Get("X-Real-Ip")) })}})})
	srv := &http.Server{Handler: h}
	go srv.Serve(wrapped)
	t.Cleanup(func() { srv.Close() })
	const header = "PROXY TCP4 192.0.2.1 192.0.2.2 1000 443\r\n"
	ask := func(c net.Conn) (string, error) {
		secure := tls.Client(c, &tls.Config{ServerName: "a.test", RootCAs: a.pool})
		io.WriteString(secure, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(secure), nil)
		if err != nil {
			return "", err
		}
		return body(t, res, err), nil
	}
	apart := dialTest(t, wrapped.Addr().String())
	io.WriteString(apart, header)
	for what, c := range map[string]net.Conn{"by itself": apart, "in one segment": &prefaced{Conn: dialTest(t, wrapped.Addr().String()), greeting: []byte(header)}} {
		if got, err := ask(c); got != "192.0.2.1" || err != nil {
			t.Errorf("the header %s: the client is %q, %v", what, got, err)
		}
	}
	if got, err := ask(dialTest(t, wrapped.Addr().String())); err == nil {
		t.Errorf("without a header: %q", got)
	}
}

// A server that is shut down while all slots are taken must get its Accept back.
func TestListenerCloseEndsAccept(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := NewListener(ln, ListenerConfig{Limits: Limits{Connections: 1}})
	if err != nil {
		t.Fatal(err)
	}
	dialTest(t, ln.Addr().String())
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	done := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		done <- err
	}()
	l.Close()
	select {
	case err := <-done:
		if !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	case <-time.After(bound):
		t.Error("Accept waits for ever")
	}
}

// A link-local peer's address has a zone; the prefix of its network has none.
func TestTrustedPrefixes(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("192.0.2.0/24")}
	for a, want := range map[string]bool{"fe80::1%2": true, "fe80::1": true, "192.0.2.1": true, "192.0.3.1": false, "2001:db8::1": false} {
		if got := containsAddr(trusted, netip.MustParseAddr(a)); got != want {
			t.Errorf("%s: %v, want %v", a, got, want)
		}
	}
}

// A plane, too, may have a listener that reads PROXY headers. Who sends none holds up
// nobody else.
func TestListenerForTCP(t *testing.T) {
	ln, err := Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := NewListener(ln, ListenerConfig{AcceptProxy: loopback})
	if err != nil {
		t.Fatal(err)
	}
	tc := tcpWith(TCPConfig{SendProxy: 1, Limits: Limits{PerClient: 1}})
	stop := relayOn(t, tc, wrapped, proxyReader(t))
	silent := dialTest(t, ln.Addr().String())
	waitFor(t, "the silent one to be accepted", func() bool { return tc.Stats().Active == 1 })
	c := dialTest(t, ln.Addr().String())
	io.WriteString(c, "PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\nhello")
	got := make([]byte, len("192.0.2.1:1000 to 192.0.2.2:hello"))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "192.0.2.1:1000 to 192.0.2.2:hello" {
		t.Errorf("got %q, %v", got, err)
	}
	if st := tc.Stats(); st.Active != 2 {
		t.Errorf("%+v: it had to wait until the silent one was given up", st)
	}
	second := dialTest(t, ln.Addr().String())
	io.WriteString(second, "PROXY TCP4 192.0.2.1 192.0.2.2 1001 80\r\nhello")
	if got, _ := ends(t, second); got != "" {
		t.Errorf("the second of a client that may have one gets %q", got)
	}
	silent.Close()
	c.Close()
	stop()
	if st := tc.Stats(); st.Active != 0 || st.Refused != 1 || st.Accepted != 3 {
		t.Errorf("%+v", st)
	}
}
