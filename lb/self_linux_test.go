package lb

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
)

// A backend on this host is down, and its port is the one that the kernel gives to whoever
// connects: the connection is one to itself. That is a refusal. The client does not get its
// own bytes back, and the backend can start.
func TestSelfConnectIsARefusal(t *testing.T) {
	l := lab.New(t)
	h, client := l.MustHost("lb", "192.0.2.40/24", "2001:db8::40/64"), l.MustHost("client", "192.0.2.9/24")
	f := newAuthority(t).issue("lb", "lb.test")
	var all []node
	for _, n := range []node{{Mode: "tcp"}, {Mode: "tcp", Cert: f.Cert, Key: f.Key}, {Mode: "http"}} {
		for _, host := range []string{"127.0.0.1", "192.0.2.40", "[2001:db8::40]", "[::ffff:127.0.0.1]", "0.0.0.0", "localhost"} {
			n.Listen = fmt.Sprintf("192.0.2.40:%d", 8000+len(all))
			n.Pool.Backends = []Backend{{Address: host + ":40000"}}
			all = append(all, n)
		}
	}
	first := all[0]
	first.Others = all[1:]
	first.start(t, h)
	if err := h.Sysctl("net.ipv4.ip_local_port_range", "40000 40000"); err != nil {
		t.Fatal(err)
	}
	ask := func(n node) string {
		ctx, cancel := context.WithTimeout(t.Context(), bound)
		defer cancel()
		var c net.Conn
		waitFor(t, n.Listen, func() (ok bool) {
			var err error
			c, err = client.DialContext(ctx, "tcp", n.Listen)
			return err == nil
		})
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(bound))
		if n.Cert != "" {
			c = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
		}
		_, _ = io.WriteString(c, "GET / HTTP/1.0\r\n\r\n")
		b := make([]byte, 12)
		read, _ := io.ReadFull(c, b)
		return string(b[:read])
	}
	want := func(when, tcp, http string) {
		t.Helper()
		for _, n := range all {
			want := map[string]string{"tcp": tcp, "http": http}[n.Mode]
			if got := ask(n); got != want {
				t.Errorf("%s: mode %s, TLS %v, to %s: got %q, want %q", when, n.Mode, n.Cert != "", n.Pool.Backends[0].Address, got, want)
			}
		}
	}
	want("the backend is down", "", "HTTP/1.1 502") // RFC 9110 §2.5: whatever the client speaks

	ln, err := h.Listen("tcp", "[::]:40000")
	if err != nil {
		t.Fatalf("the backend cannot start: %v", err)
	}
	labtest.Serve(t, ln, func(c net.Conn) {
		b := make([]byte, 4096)
		for n := 0; !strings.HasSuffix(string(b[:n]), "\r\n\r\n"); {
			m, err := c.Read(b[n:])
			if n += m; err != nil {
				return
			}
		}
		io.WriteString(c, "HTTP/1.0 204 No Content\r\n\r\n")
	})
	if err := h.Sysctl("net.ipv4.ip_local_port_range", "40000 41000"); err != nil { // else who connects has no port
		t.Fatal(err)
	}
	want("the backend is up", "HTTP/1.0 204", "HTTP/1.1 204")
}
