package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
)

func exchangeLine(c net.Conn, line string) (string, error) {
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := fmt.Fprintln(c, line); err != nil {
		return "", err
	}
	answer, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(answer), err
}

func mustListen(t *testing.T, h *lab.Host, address string) net.Listener {
	t.Helper()
	ln, err := h.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// dialTLS shakes hands with lb01 as a client that asks for a name.
func dialTLS(ctx context.Context, from *lab.Host, address, name string) (*tls.Conn, error) {
	raw, err := from.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := tls.Client(raw, &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err := c.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, err
	}
	return c, nil
}

// TestServiceTLS: TLS ends at the balancer; SIGHUP alone renews the certificate,
// and a connection that is open stays. One that cannot be used is named with its
// place, by validate, run and reload, and changes nothing.
func TestServiceTLS(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	h := l.MustHost("lb01", "192.168.31.240/24")
	app := l.MustHost("app", "192.168.31.242/24")
	client := l.MustHost("client", "192.168.31.10/24")
	labtest.Serve(t, mustListen(t, app, ":7000"), labtest.EchoLines("app"))
	pemFile := filepath.Join(t.TempDir(), "web.pem")
	first := labtest.WriteCertificate(t, pemFile, "www.example.org")
	config := fmt.Sprintf(`services:
  - name: db
    listen: ":7443"
    mode: tcp
    backends: ["192.168.31.242:7000"]
    tls:
      certificates:
        - %s
`, pemFile)
	r := startReloader(t, h, config)
	const address = "192.168.31.240:7443"
	var kept *tls.Conn
	lab.Eventually(t, 30*time.Second, "the service answers", func() (err error) {
		kept, err = dialTLS(t.Context(), client, address, "www.example.org")
		return err
	})
	defer kept.Close()
	talk := func() {
		t.Helper()
		if got, err := exchangeLine(kept, "hello"); err != nil || got != "app hello" {
			t.Fatalf("the open connection: %q, %v", got, err)
		}
	}
	shows := func(want *x509.Certificate) {
		t.Helper()
		c, err := dialTLS(t.Context(), client, address, "www.example.org")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if got := c.ConnectionState().PeerCertificates[0]; !got.Equal(want) {
			t.Errorf("certificate %v, want %v", got.SerialNumber, want.SerialNumber)
		}
	}
	talk()
	shows(first)
	second := labtest.WriteCertificate(t, pemFile, "www.example.org")
	shows(first)
	r.must(config)
	shows(second)
	talk()

	if err := os.WriteFile(pemFile, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	const place = "havip.yaml:8:11: services[0].tls.certificates[0]"
	if line := r.reload(config); !strings.Contains(line, "nothing changed") || !strings.Contains(line, place) {
		t.Errorf("reload said %s", line)
	}
	shows(second)
	talk()
	code, out := exitOf(t, h.Command(havip(t), "validate", "-c", r.file))
	complains(t, out, code, 2, []string{place})
	code, out = exitOf(t, h.Command(havip(t), "validate", "--host", "-c", r.file))
	complains(t, out, code, 1, []string{place})
}

// TestServiceUDP: datagrams reach the backend and their answers the client, from
// the address that was asked; a reload keeps the session.
func TestServiceUDP(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	h := l.MustHost("lb01", "192.168.31.240/24", "192.168.31.250/24")
	app := l.MustHost("app", "192.168.31.242/24")
	client := l.MustHost("client", "192.168.31.10/24")
	for _, port := range []string{"53", "54"} {
		pc, err := app.ListenPacket("udp", "192.168.31.242:"+port)
		if err != nil {
			t.Fatal(err)
		}
		// The sender's address distinguishes sessions.
		labtest.ServePackets(t, pc, func(b []byte, from net.Addr) [][]byte {
			return [][]byte{fmt.Appendf(nil, "%s %s %s", port, b, from)}
		})
	}
	config := func(rest string) string {
		// TCP on the same port is another matter.
		return fmt.Sprintf(`services:
  - {name: dns, listen: ":53", mode: udp, %s}
  - {name: dns-tcp, listen: ":53", mode: tcp, backends: ["192.168.31.242:53"]}
`, rest)
	}
	r := startReloader(t, h, config(`backends: ["192.168.31.242:53"]`))
	c, err := client.DialContext(t.Context(), "udp", "192.168.31.250:53")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ask := func(what string) (string, error) {
		c.SetDeadline(time.Now().Add(time.Second))
		if _, err := io.WriteString(c, what); err != nil {
			return "", err
		}
		b := make([]byte, 1500)
		// The socket is connected: it takes answers of the address that it asked.
		n, err := c.Read(b)
		return string(b[:n]), err
	}
	var session string
	lab.Eventually(t, 30*time.Second, "an answer comes", func() error {
		got, err := ask("q")
		if err == nil && !strings.HasPrefix(got, "53 q 192.168.31.240:") {
			err = fmt.Errorf("got %q", got)
		}
		session = strings.TrimPrefix(got, "53 q ")
		return err
	})
	r.must(config(`balance: source-hash, idle_timeout: 5m, pool: {max_fails: 5}, backends: ["192.168.31.242:53"]`))
	if got, err := ask("again"); err != nil || got != "53 again "+session {
		t.Errorf("the session after a reload: %q, %v, want it from %s", got, err, session)
	}
	r.must(config(`backends: ["192.168.31.242:54"], access_log: true, udp: {responses: 1}`))
	d, err := client.DialContext(t.Context(), "udp", "192.168.31.250:53")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	c = d
	if got, err := ask("new"); err != nil || !strings.HasPrefix(got, "54 new ") {
		t.Errorf("a new session: %q, %v", got, err)
	}
	lab.Until(t, 30*time.Second, "the session is logged", func() bool {
		return strings.Contains(r.cmd.Output(), "msg=connection service=dns client=192.168.31.10:")
	})
}

// TestServiceProxyProtocol: one balancer tells the other who the client is, who
// believes it of nobody else.
func TestServiceProxyProtocol(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	outer := l.MustHost("lb01", "192.168.31.240/24")
	inner := l.MustHost("lb02", "192.168.31.241/24")
	app := l.MustHost("app", "192.168.31.242/24")
	client := l.MustHost("client", "192.168.31.10/24")
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, r.Header.Get("X-Forwarded-For"), r.Header.Get("X-Asked"))
	})}
	go srv.Serve(mustListen(t, app, ":8080"))
	t.Cleanup(func() { srv.Close() })
	startReloader(t, inner, `services:
  - name: web
    listen: ":8080"
    backends: ["192.168.31.242:8080"]
    proxy_protocol: {accept: [192.168.31.240]}
    http:
      request_headers: {X-Asked: "${local}"}
      response_headers: {X-Backend: "${backend}", Content-Type: ""}
`)
	service := `services: [{name: web, listen: ":8080", mode: tcp, backends: ["192.168.31.241:8080"], proxy_protocol: {send: VERSION}}]`
	r := startReloader(t, outer, strings.Replace(service, "VERSION", "v1", 1))
	ask := func(address, preface string) (string, error) {
		c, err := client.DialContext(t.Context(), "tcp", address)
		if err != nil {
			return "", err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprint(c, preface+"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return "", err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		return strings.TrimSpace(fmt.Sprint(res.StatusCode, " ", res.Header.Get("X-Backend"), " ", string(body))), err
	}
	const want = "200 192.168.31.242:8080 192.168.31.10 192.168.31.240"
	lab.Eventually(t, 30*time.Second, "version 1", func() error {
		got, err := ask("192.168.31.240:8080", "")
		if err == nil && got != want {
			err = fmt.Errorf("got %q, want %q", got, want)
		}
		return err
	})
	r.must(strings.Replace(service, "VERSION", "v2", 1))
	if got, err := ask("192.168.31.240:8080", ""); err != nil || got != want {
		t.Errorf("version 2: %q, %v, want %q", got, err, want)
	}
	if got, err := ask("192.168.31.241:8080", ""); err != nil || got != "200 192.168.31.242:8080 192.168.31.10 192.168.31.241" {
		t.Errorf("without a header: %q, %v", got, err)
	}
	if got, err := ask("192.168.31.241:8080", "PROXY TCP4 10.9.8.7 10.9.8.6 1 2\r\n"); err != nil || !strings.HasPrefix(got, "400 ") {
		t.Errorf("a header from somebody else: %q, %v", got, err)
	}
}

// TestServiceNames: without decrypting it, TLS goes to the backends of the name
// that the client asks for; what has no route is refused.
func TestServiceNames(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	h := l.MustHost("lb01", "192.168.31.240/24")
	app := l.MustHost("app", "192.168.31.242/24")
	client := l.MustHost("client", "192.168.31.10/24")
	dir := t.TempDir()
	for port, name := range map[string]string{"7001": "mail", "7002": "shop"} {
		file := filepath.Join(dir, name)
		labtest.WriteCertificate(t, file, name+".example.org")
		pair, err := tls.LoadX509KeyPair(file, file)
		if err != nil {
			t.Fatal(err)
		}
		labtest.Serve(t, tls.NewListener(mustListen(t, app, ":"+port), &tls.Config{Certificates: []tls.Certificate{pair}}), labtest.EchoLines(name))
	}
	config := `services:
  - name: front
    listen: ":443"
    mode: tcp
    routes:
      - {name: mail, server_names: [mail.example.org], backends: ["192.168.31.242:7001"], check: {type: tls, tls: {insecure: true}}}
      - {name: shop, server_names: ["*.example.org"], backends: ["192.168.31.242:7002"]}
`
	r := startReloader(t, h, config)
	ask := func(name string) (string, error) {
		c, err := dialTLS(t.Context(), client, "192.168.31.240:443", name)
		if err != nil {
			return "", err
		}
		defer c.Close()
		answer, err := exchangeLine(c, "hello")
		return c.ConnectionState().PeerCertificates[0].DNSNames[0] + " " + answer, err
	}
	lab.Eventually(t, 30*time.Second, "the service answers", func() error {
		_, err := ask("mail.example.org")
		return err
	})
	for name, want := range map[string]string{
		"mail.example.org": "mail.example.org mail hello",
		"SHOP.example.org": "shop.example.org shop hello",
		"example.org":      "",
		"a.b.example.org":  "",
		"":                 "",
	} {
		if got, err := ask(name); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v, want %q", name, got, err, want)
		}
	}
	r.must(config + `    backends: ["192.168.31.242:7001"]` + "\n")
	if got, err := ask("example.org"); err != nil || got != "mail.example.org mail hello" {
		t.Errorf("with backends for all other names: %q, %v", got, err)
	}
}
