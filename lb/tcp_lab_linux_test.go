package lb

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
)

// A Backup listens on the virtual address before it owns it.
func TestListenOnAnAddressOfAnotherHost(t *testing.T) {
	l := lab.New(t)
	h := l.MustHost("lb", "192.0.2.1/24", "2001:db8::1/64")
	client := l.MustHost("client", "192.0.2.9/24", "2001:db8::9/64")
	for _, vip := range []string{"192.0.2.250", "2001:db8::250"} {
		address := net.JoinHostPort(vip, "8080")
		var ln net.Listener
		err := h.Do(func() (err error) {
			ln, err = Listen(t.Context(), "tcp", address)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		labtest.Serve(t, ln, func(net.Conn) {})
		prefix := "/32"
		if strings.Contains(vip, ":") {
			prefix = "/128"
		}
		if out, err := output(h, "ip", "addr", "add", vip+prefix, "dev", "eth0", "nodad"); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		ctx, cancel := context.WithTimeout(t.Context(), bound)
		c, err := client.DialContext(ctx, "tcp", address)
		cancel()
		if err != nil {
			t.Errorf("the address is here, but: %v", err)
			continue
		}
		c.Close()
	}
}

// A trusted peer on the link has a zone in its address, and a prefix has none: the PROXY
// header of such a peer counts in mode tcp, in each way, and behind NewListener.
func TestLinkLocalPeerIsTrusted(t *testing.T) {
	l := lab.New(t)
	balancer, proxy := l.MustHost("lb", "2001:db8::1/64"), l.MustHost("proxy", "2001:db8::9/64")
	trusted := []netip.Prefix{netip.MustParsePrefix("fe80::/10")}
	for what, wrap := range map[string]func(net.Listener, *TCPConfig) (net.Listener, error){
		"event loops": func(ln net.Listener, cfg *TCPConfig) (net.Listener, error) { cfg.AcceptProxy = trusted; return ln, nil },
		"goroutines": func(ln net.Listener, cfg *TCPConfig) (net.Listener, error) {
			cfg.AcceptProxy = trusted
			return foreign{ln}, nil
		},
		"NewListener": func(ln net.Listener, _ *TCPConfig) (net.Listener, error) {
			return NewListener(ln, ListenerConfig{AcceptProxy: trusted})
		},
	} {
		ln, err := balancer.Listen("tcp6", "[::]:0")
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(ln.Addr().String())
		cfg := TCPConfig{SendProxy: 1}
		wrapped, err := wrap(ln, &cfg)
		if err != nil {
			t.Fatal(err)
		}
		stop := relayOn(t, tcpWith(cfg), wrapped, proxyReader(t))
		ctx, cancel := context.WithTimeout(t.Context(), bound)
		c, err := proxy.DialContext(ctx, "tcp6", net.JoinHostPort(linkLocalOf(t, balancer), port))
		cancel()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		_ = c.SetDeadline(time.Now().Add(bound))
		io.WriteString(c, "PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\nhello")
		want := "192.0.2.1:1000 to 192.0.2.2:hello"
		got := make([]byte, len(want))
		if n, err := io.ReadFull(c, got); string(got) != want {
			t.Errorf("%s: got %q, %v", what, got[:n], err)
		}
		c.Close()
		stop()
	}
}

func output(h *lab.Host, name string, args ...string) (string, error) {
	c := h.Command(name, args...)
	err := c.Run()
	return c.Output(), err
}

// nginx and HAProxy understand our headers, and we theirs.
func TestProxyProtocolWithPeers(t *testing.T) {
	lab.Need(t, "nginx", "haproxy")
	l := lab.New(t)
	app, balancer := l.MustHost("app", "192.0.2.42/24"), l.MustHost("lb", "192.0.2.40/24")
	edge, client := l.MustHost("edge", "192.0.2.30/24"), l.MustHost("client", "192.0.2.9/24")
	dir := t.TempDir()
	startNginx(t, app, nginxConf(t, dir, nginxHTTP(dir, `
	server { listen 192.0.2.42:80; listen 192.0.2.42:81 proxy_protocol;
		location / { return 200 "$proxy_protocol_addr"; } }`)), "192.0.2.42:80")
	haproxy := writeFile(t, t.TempDir(), "haproxy.cfg", `
defaults
  mode tcp
  timeout connect 5s
  timeout client 1m
  timeout server 1m
listen v1
  bind 192.0.2.30:8081
  server lb 192.0.2.40:8080 send-proxy
listen v2
  bind 192.0.2.30:8082
  server lb 192.0.2.40:8080 send-proxy-v2
listen accept
  bind 192.0.2.30:8083 accept-proxy
  server app 192.0.2.42:81 send-proxy
`)
	startPeer(t, edge, edge.Command("haproxy", "-db", "-f", haproxy), "192.0.2.30:8081", "192.0.2.30:8082")
	for _, mode := range []string{"tcp", "http", "net/http"} {
		for version := 1; version <= 2; version++ {
			for to, address := range map[string]string{"nginx": "192.0.2.42:81", "haproxy": "192.0.2.30:8083"} {
				n := node{Mode: mode, Listen: "192.0.2.40:8080", SendProxy: version, AcceptProxy: []string{"192.0.2.30/32"},
					Pool: PoolConfig{Backends: []Backend{{Address: address}}}}
				c := n.start(t, balancer)
				for path, via := range map[string]string{"direct": "192.0.2.40:8080", "haproxy v1": "192.0.2.30:8081", "haproxy v2": "192.0.2.30:8082"} {
					if got := askedFrom(t, client, via, nil); got != "192.0.2.9" {
						t.Errorf("client, %s, havip in mode %s, version %d to %s: the client is %q", path, mode, version, to, got)
					}
				}
				if err := c.Stop(bound); err != nil {
					t.Errorf("%v\n%s", err, c.Output())
				}
			}
		}
	}
}

// askedFrom returns what a web server answers to a host, by TLS if there is a configuration.
func askedFrom(t *testing.T, h *lab.Host, address string, cfg *tls.Config) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	c, err := h.DialContext(ctx, "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(bound))
	if cfg != nil {
		c = tls.Client(c, cfg)
	}
	io.WriteString(c, "GET / HTTP/1.0\r\n\r\n")
	b, _ := io.ReadAll(c)
	_, body, _ := strings.Cut(string(b), "\r\n\r\n")
	return body
}

// Where there is TLS too, all agree that the header goes ahead of the handshake: nginx and
// HAProxy as backends and as proxies before us, and havip towards itself.
func TestProxyProtocolAroundTLSWithPeers(t *testing.T) {
	lab.Need(t, "nginx", "haproxy")
	l := lab.New(t)
	app, balancer := l.MustHost("app", "192.0.2.42/24"), l.MustHost("lb", "192.0.2.40/24")
	edge, client := l.MustHost("edge", "192.0.2.30/24"), l.MustHost("client", "192.0.2.9/24")
	a := newAuthority(t)
	f := a.issue("x", "x.test")
	cert, key := labtest.PEM(labtest.Certificate(&a.ca, nil, "x.test"))
	both := writeFile(t, a.dir, "both.pem", string(cert)+string(key))
	startNginx(t, app, nginxConf(t, t.TempDir(), nginxHTTP(t.TempDir(), fmt.Sprintf(`
	ssl_certificate %s; ssl_certificate_key %s;
	server { listen 192.0.2.42:80; listen 192.0.2.42:81 proxy_protocol; listen 192.0.2.42:82 ssl proxy_protocol;
		location / { return 200 "$proxy_protocol_addr"; } }`, f.Cert, f.Key))), "192.0.2.42:80")
	startNginx(t, edge, nginxConf(t, t.TempDir(), `stream {
	proxy_protocol on; proxy_ssl on;
	server { listen 192.0.2.30:8091; proxy_pass 192.0.2.40:8443; }
	server { listen 192.0.2.30:8092; proxy_pass 192.0.2.40:8444; }
}`), "192.0.2.30:8091")
	startPeer(t, edge, edge.Command("haproxy", "-db", "-f", writeFile(t, t.TempDir(), "haproxy.cfg", fmt.Sprintf(`
defaults
  mode tcp
  timeout connect 5s
  timeout client 1m
  timeout server 1m
listen out1
  bind 192.0.2.30:8081
  server lb 192.0.2.40:8443 send-proxy ssl verify none
listen out2
  bind 192.0.2.30:8082
  server lb 192.0.2.40:8444 send-proxy-v2 ssl verify none
listen in
  bind 192.0.2.30:8083 accept-proxy ssl crt %s
  server app 192.0.2.42:81 send-proxy
`, both))), "192.0.2.30:8081")
	backends := map[string]string{"nginx": "192.0.2.42:82", "haproxy": "192.0.2.30:8083", "havip": "192.0.2.40:8445"}
	for version := 1; version <= 2; version++ {
		for to, address := range backends {
			n := node{Mode: "tcp", Listen: "192.0.2.40:8443", Cert: f.Cert, Key: f.Key, AcceptProxy: []string{"192.0.2.30/32"},
				SendProxy: version, BackendTLS: true, Pool: PoolConfig{Backends: []Backend{{Address: address}}}}
			hidden, inner := n, n
			hidden.Listen, hidden.Foreign = "192.0.2.40:8444", true
			inner.Listen, inner.AcceptProxy, inner.BackendTLS = "192.0.2.40:8445", []string{"192.0.2.40/32"}, false
			inner.Pool.Backends = []Backend{{Address: "192.0.2.42:81"}}
			n.Others = []node{hidden, inner}
			c := n.start(t, balancer)
			for _, other := range n.Others {
				waitFor(t, other.Listen, func() bool {
					c, err := balancer.DialContext(t.Context(), "tcp", other.Listen)
					if err == nil {
						c.Close()
					}
					return err == nil
				})
			}
			cfg := &tls.Config{ServerName: "x.test", RootCAs: a.pool}
			for from, via := range map[string]string{"direct": "192.0.2.40:8443", "direct, in goroutines": "192.0.2.40:8444"} {
				if got := askedFrom(t, client, via, cfg); got != "192.0.2.9" {
					t.Errorf("%s, havip, version %d to %s: the client is %q", from, version, to, got)
				}
			}
			for from, via := range map[string]string{"nginx": "192.0.2.30:8091", "nginx, in goroutines": "192.0.2.30:8092",
				"haproxy": "192.0.2.30:8081", "haproxy, in goroutines": "192.0.2.30:8082"} {
				if got := askedFrom(t, client, via, nil); got != "192.0.2.9" {
					t.Errorf("%s, havip, version %d to %s: the client is %q", from, version, to, got)
				}
			}
			if err := c.Stop(bound); err != nil {
				t.Errorf("%v\n%s", err, c.Output())
			}
		}
	}
}
