package lb

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
)

// OpenSSL's client agrees with our TLS, for each version and by name.
func TestOpenSSLClient(t *testing.T) {
	lab.Need(t, "openssl")
	l := lab.New(t)
	host := l.MustHost("lb", "192.0.2.40/24")
	ln, err := host.Listen("tcp", "192.0.2.40:9000")
	if err != nil {
		t.Fatal(err)
	}
	labtest.Serve(t, ln, func(c net.Conn) { c.Write([]byte("hello from the backend\n")) })
	a := newAuthority(t)
	f := a.issue("lb", "lb.test")
	ca := a.writeCA()
	node{Mode: "tcp", Listen: "192.0.2.40:8443", Cert: f.Cert, Key: f.Key, Pool: PoolConfig{Backends: []Backend{{Address: "192.0.2.40:9000"}}}}.start(t, host)
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		out, err := output(host, "openssl", "s_client", "-connect", "192.0.2.40:8443", "-servername", "lb.test", "-verify_hostname", "lb.test",
			"-CAfile", ca, "-verify_return_error", "-quiet", version)
		if err != nil || !strings.Contains(out, "hello from the backend") {
			t.Errorf("%s: %v\n%s", version, err, out)
		}
	}
}

// A backend that does not even refuse is given up after ConnectTimeout.
func TestConnectTimeout(t *testing.T) {
	l := lab.New(t)
	balancer, client := l.MustHost("lb", "192.0.2.40/24"), l.MustHost("client", "192.0.2.9/24")
	hole, app := l.MustHost("hole", "192.0.2.41/24"), l.MustHost("app", "192.0.2.42/24")
	ln, err := app.Listen("tcp", "192.0.2.42:80")
	if err != nil {
		t.Fatal(err)
	}
	labtest.Serve(t, ln, func(c net.Conn) { c.Write([]byte("app")) })
	// The neighbour stays known: otherwise the kernel would say that it is gone.
	link, err := hole.Netlink().LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := output(balancer, "ip", "neigh", "replace", "192.0.2.41", "lladdr", link.Attrs().HardwareAddr.String(), "nud", "permanent", "dev", "eth0"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := hole.Isolate(); err != nil {
		t.Fatal(err)
	}
	n := node{Mode: "tcp", Listen: "192.0.2.40:8080", ConnectTimeout: 300 * time.Millisecond,
		Pool: PoolConfig{Backends: []Backend{{Address: "192.0.2.41:80"}, {Address: "192.0.2.42:80"}}}}
	n.start(t, balancer)
	for range 3 {
		c, err := client.DialContext(t.Context(), "tcp", "192.0.2.40:8080")
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(bound))
		b := make([]byte, 3)
		start := time.Now()
		if _, err := c.Read(b); err != nil || string(b) != "app" {
			t.Errorf("got %q, %v after %v", b, err, time.Since(start))
		}
		c.Close()
	}
}
