package lb

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
)

// The last response of a connection and the connection's end leave in one packet, with TLS also
// the end of what that brings: a packet costs more than all that a loop does for a request.
func TestLastResponseAndTheEndAreOnePacket(t *testing.T) {
	l := lab.New(t)
	balancer, client := l.MustHost("lb", "192.0.2.1/24"), l.MustHost("client", "192.0.2.9/24")
	path := filepath.Join(t.TempDir(), "app")
	app, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	body := strings.Repeat("b", 500)
	labtest.Serve(t, app, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 4096))
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	})
	a := newAuthority(t)
	secure := &tls.Config{GetCertificate: a.certificates(a.issue("a", "a.test")).GetCertificate}
	wire, err := client.Capture("eth0", lab.Protocol(6))
	if err != nil {
		t.Fatal(err)
	}
	for port, cfg := range map[uint16]*tls.Config{8001: nil, 8002: secure} {
		ln, err := balancer.Listen("tcp", fmt.Sprint("192.0.2.1:", port))
		if err != nil {
			t.Fatal(err)
		}
		p, err := NewHTTP(HTTPConfig{HandlerConfig: HandlerConfig{Pool: newPool(t, PoolConfig{Backends: []Backend{{Address: "unix:" + path}}})}, TLS: cfg})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			_ = p.Serve(ctx, ln)
			close(ended)
		}()
		t.Cleanup(func() {
			stop()
			<-ended
		})
		c, err := client.DialContext(ctx, "tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(bound))
		if cfg != nil {
			c = tls.Client(c, &tls.Config{ServerName: "a.test", RootCAs: a.pool})
		}
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
		if got, err := io.ReadAll(c); err != nil || !strings.HasSuffix(string(got), body) {
			t.Fatalf("port %d: %v, %.80q", port, err, got)
		}
		var end []byte
		waitFor(t, "the end to be captured", func() bool {
			end = endOf(wire.Packets(), port)
			return end != nil
		})
		if len(end) < len(body) {
			t.Errorf("port %d: the end came with %d bytes, want it to come with the response", port, len(end))
		}
	}
}

// endOf returns what the packet holds by which the server at a port ends a connection; nil:
// there is none.
func endOf(frames []lab.Frame, port uint16) []byte {
	const fin = 1
	for _, f := range frames {
		_, _, _, p, ok := f.IP()
		if !ok || len(p) < 20 || binary.BigEndian.Uint16(p) != port || p[13]&fin == 0 {
			continue
		}
		return p[int(p[12]>>4)*4:]
	}
	return nil
}
