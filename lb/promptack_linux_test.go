package lb

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
)

// A client without TCP_NODELAY sends its first request only when the end of its handshake
// has been acknowledged. For that the kernel would wait 40 ms, until an answer carries the
// acknowledgement along.
func TestFirstRequestIsNotHeldUp(t *testing.T) {
	const connections = 10
	a := newAuthority(t)
	config := &tls.Config{GetCertificate: a.certificates(a.issue("a", "a.test")).GetCertificate,
		CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP521}}
	handshakes := map[string]*tls.Config{
		"TLS 1.2, resumed": {MaxVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(1)},
		"TLS 1.3":          {MinVersion: tls.VersionTLS13},
		// The server asks for another key (HelloRetryRequest).
		"TLS 1.3, second attempt": {MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.CurveP256, tls.CurveP521}},
	}
	l := lab.New(t)
	balancer, client := l.MustHost("lb", "192.0.2.1/24"), l.MustHost("client", "192.0.2.9/24")
	path := filepath.Join(t.TempDir(), "app") // no TCP, which is counted
	app, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	labtest.Serve(t, app, func(c net.Conn) { io.Copy(c, c) })
	backend := Backend{Address: "unix:" + path}
	for port, serve := range map[string]func(ln net.Listener){
		"8001": func(ln net.Listener) { relayOn(t, tcpWith(TCPConfig{TLS: config}), ln, backend) },
		"8002": func(ln net.Listener) { relayOn(t, tcpWith(TCPConfig{TLS: config}), foreign{ln}, backend) },
		"8003": func(ln net.Listener) {
			secure, err := NewListener(ln, ListenerConfig{TLS: config})
			if err != nil {
				t.Fatal(err)
			}
			s := &http.Server{Handler: name("hello")}
			go s.Serve(secure)
			t.Cleanup(func() { s.Close() })
		},
	} {
		ln, err := balancer.Listen("tcp", "192.0.2.1:"+port)
		if err != nil {
			t.Fatal(err)
		}
		serve(ln)
		ask := func(config *tls.Config) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), bound)
			defer cancel()
			c, err := client.DialContext(ctx, "tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() }) // at the end: closing may delay an acknowledgement, too
			_ = c.SetDeadline(time.Now().Add(bound))
			_ = c.(*net.TCPConn).SetNoDelay(false)
			secure := tls.Client(c, config)
			fmt.Fprint(secure, aGet)
			if _, err := secure.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		for what, config := range handshakes {
			config.ServerName, config.RootCAs = "a.test", a.pool
			ask(config) // has a session from now on
			before, start := labtest.DelayedACKs(t, balancer), time.Now()
			for range connections {
				ask(config)
			}
			if n := labtest.DelayedACKs(t, balancer) - before; n > connections/4 {
				t.Errorf("port %s, %s: %d of %d connections were held up", port, what, n, connections)
			}
			t.Logf("port %s, %s: %v a connection", port, what, time.Since(start)/connections)
		}
	}
}
