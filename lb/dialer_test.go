package lb

import (
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/havip/havip/internal/lab/labtest"
)

// tlsTalker is a talker with TLS.
func tlsTalker(t *testing.T, a *authority, name string) Backend {
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: a.certificates(a.issue(name, "app.test")).GetCertificate})
	if err != nil {
		t.Fatal(err)
	}
	labtest.Serve(t, ln, func(c net.Conn) {
		io.WriteString(c, name)
		io.Copy(c, c)
		io.WriteString(c, ".")
	})
	return Backend{Address: ln.Addr().String(), TLS: &tls.Config{RootCAs: a.pool, ServerName: "app.test"}}
}

// One pool may hold backends with TLS and without, also for the event loops.
func TestTLSOfOneBackend(t *testing.T) {
	a := newAuthority(t)
	addr, _ := relay(t, tcpWith(TCPConfig{}), talker(t, "a"), tlsTalker(t, a, "b"))
	for _, want := range []string{"ahello.", "bhello.", "ahello.", "bhello."} {
		c := dialTest(t, addr)
		io.WriteString(c, "hello")
		c.CloseWrite()
		if got, err := io.ReadAll(c); string(got) != want || err != nil {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
}

// Who waits in the queue may get a backend with TLS that came in the meantime.
func TestTLSOfABackendThatComesLate(t *testing.T) {
	plain := talker(t, "a")
	plain.MaxConns = 1
	tc := tcpWith(TCPConfig{Pool: newPool(t, PoolConfig{Backends: []Backend{plain}, Queue: 1, QueueTimeout: bound})})
	addr, _ := relay(t, tc)
	first := dialTest(t, addr)
	if _, err := io.ReadFull(first, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	second := dialTest(t, addr)
	io.WriteString(second, "hello")
	second.CloseWrite()
	waitFor(t, "the second to queue", func() bool { return tc.Pool.Status().Queued == 1 })
	if err := tc.Pool.Update([]Backend{plain, tlsTalker(t, newAuthority(t), "b")}); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(second); string(got) != "bhello." || err != nil {
		t.Errorf("got %q, %v, want bhello.", got, err)
	}
	first.Close()
	waitFor(t, "the end", func() bool {
		st := tc.Pool.Status().Backends
		return st[0].Active == 0 && st[1].Active == 0 && tc.Stats().Active == 0
	})
}

// A kept connection serves no request that would have made another one.
func TestTLSOfABackendChanges(t *testing.T) {
	a := newAuthority(t)
	b := Backend{Address: "127.0.0.1:" + tlsBackend(t, a, "app.test"), TLS: &tls.Config{RootCAs: a.pool, ServerName: "app.test"}}
	s, h := front(t, HandlerConfig{BackendTLS: new(tls.Config)}, b)
	other := b
	other.TLS = &tls.Config{RootCAs: a.pool, ServerName: "other.test"}
	for i, tt := range []struct {
		backend  Backend
		want     string
		connects uint64
	}{{b, "app.test for x", 1}, {b, "app.test for x", 1}, {other, "502 Bad Gateway\n", 1}, {b, "app.test for x", 1}} {
		if err := h.pool().Update([]Backend{tt.backend}); err != nil {
			t.Fatal(err)
		}
		if got := rawRequest(t, s, aGet); got != tt.want {
			t.Errorf("case %d: got %q, want %q", i, got, tt.want)
		}
		if n := h.pool().Status().Backends[0].Connects; n != tt.connects && !*onEngine { // there each loop has its own
			t.Errorf("case %d: %d connections, want %d", i, n, tt.connects)
		}
	}
	unix := Backend{Address: "unix:/run/app", TLS: new(tls.Config)}
	if err := unix.Validate(); err == nil || !strings.Contains(err.Error(), "TLS: backend unix:/run/app: ") {
		t.Errorf("TLS over a Unix socket: %v", err)
	}
}
