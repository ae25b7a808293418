package daemon

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/lb"
)

// echoServer answers each line with its name and the line.
func echoServer(t *testing.T, name string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for in := bufio.NewScanner(c); in.Scan(); {
					fmt.Fprintf(c, "%s %s\n", name, in.Text())
				}
			}()
		}
	}()
	return ln.Addr().String()
}

// say sends a line and returns the answer.
func say(c net.Conn, line string) (string, error) {
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := fmt.Fprintln(c, line); err != nil {
		return "", err
	}
	answer, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(answer), err
}

func mustReload(t *testing.T, d *Daemon, text string) {
	t.Helper()
	if err := d.Reload(parse(t, text)); err != nil {
		t.Fatal(err)
	}
}

// TestPoolIsCarriedOver: counters, ejections, drains and connections survive
// whatever changes about a service but its backends.
func TestPoolIsCarriedOver(t *testing.T) {
	alive, spare, dead := echoServer(t, "a"), echoServer(t, "s"), "127.0.0.1:"+freePort(t)
	port, port2 := freePort(t), freePort(t)
	service := func(name, port, rest string) string {
		return fmt.Sprintf(`services: [{name: %s, listen: "127.0.0.1:%s", backends: ["%s", "%s", "%s"], %s}]`, name, port, alive, dead, spare, rest)
	}
	const pool = "pool: {fail_timeout: 1h}"
	d := startDaemon(t, service("db", port, "mode: tcp, "+pool))
	var conns []net.Conn
	for range 3 {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := say(c, "x"); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	first := d.services[0].upstreams[""].pool
	if !first.SetDrain(spare, true) {
		t.Fatal("no backend to drain")
	}
	before := first.Status()
	if b := before.Backends[1]; !b.Ejected || b.Failures != 1 || before.Backends[0].Active == 0 {
		t.Fatalf("%+v", before)
	}
	for _, tc := range []struct{ name, text string }{
		{"another balance", service("db", port, "mode: tcp, balance: least-conn, "+pool)},
		{"another name", service("db2", port, "mode: tcp, balance: maglev, "+pool)},
		{"another setting of the pool", service("db2", port, "mode: tcp, pool: {fail_timeout: 2h, slow_start: 1s, queue: 5}")},
		{"another timeout", service("db2", port, "mode: tcp, idle_timeout: 2h, tries: 2, pool: {fail_timeout: 2h}")},
		{"another mode", service("db2", port, "mode: http, pool: {fail_timeout: 2h}")},
		{"another address", service("db2", port2, "mode: http, pool: {fail_timeout: 2h}")},
		{"another network", service("db2", port2, "mode: udp, pool: {fail_timeout: 2h}")},
		{"and all the way back", service("db2", port, "mode: tcp, pool: {fail_timeout: 2h}")},
		{"and forth again at once", service("db2", port2, "mode: http, pool: {fail_timeout: 2h}")},
		{"and back again", service("db2", port, "mode: tcp, pool: {fail_timeout: 2h}")},
	} {
		if strings.Contains(tc.text, "mode: udp") && runtime.GOOS != "linux" {
			continue // See lb.UDP.
		}
		mustReload(t, d, tc.text)
		cfg := d.services[0].cfg
		after := d.services[0].upstreams[""].pool.Status()
		if after.Name != cfg.Name {
			t.Errorf("%s: the pool is called %s", tc.name, after.Name)
		}
		for i, b := range after.Backends {
			was := before.Backends[i]
			if b.Active != was.Active || b.Picks != was.Picks || b.Failures != was.Failures || b.Ejected != was.Ejected || b.Draining != was.Draining {
				t.Errorf("%s: %+v, was %+v", tc.name, b, was)
			}
		}
	}
	for _, c := range conns {
		if got, err := say(c, "y"); err != nil || !strings.HasSuffix(got, " y") {
			t.Errorf("an established connection: %q, %v", got, err)
		}
	}
}

// TestRoutesComeAndGo: each route has a pool that lives as long as its name
// stays, and connections to one that is gone are cut when the pool says so.
func TestRoutesComeAndGo(t *testing.T) {
	a, b := echoServer(t, "a"), echoServer(t, "b")
	port := freePort(t)
	service := func(rest string) string {
		return fmt.Sprintf(`services: [{name: mail, listen: "127.0.0.1:%s", mode: tcp, %s}]`, port, rest)
	}
	route := func(name, backend string) string {
		return fmt.Sprintf(`{name: %s, server_names: [%s.example.org], backends: ["%s"]}`, name, name, backend)
	}
	d := startDaemon(t, service("routes: ["+route("a", a)+"]"))
	pool := d.services[0].upstreams["a"].pool
	mustReload(t, d, service("routes: ["+route("b", b)+", "+route("a", a)+`], backends: ["`+b+`"]`))
	if n := len(d.services[0].upstreams); n != 3 || d.services[0].upstreams["a"].pool != pool {
		t.Errorf("%d pools, want 3, and route a's to stay", n)
	}
	c, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// What is no TLS goes to the service's own backends.
	if got, err := say(c, "x"); err != nil || got != "b x" {
		t.Fatalf("%q, %v", got, err)
	}
	mustReload(t, d, service("pool: {drain_timeout: 10ms}, routes: ["+route("a", a)+`], backends: ["`+b+`"]`))
	if len(d.services[0].upstreams) != 2 || len(pool.Status().Backends) != 1 {
		t.Errorf("%d pools, want 2", len(d.services[0].upstreams))
	}
	if got, err := say(c, "y"); err != nil || got != "b y" {
		t.Errorf("a connection of backends that stay: %q, %v", got, err)
	}
	mustReload(t, d, service("pool: {drain_timeout: 10ms}, routes: ["+route("a", a)+"]"))
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.ReadAll(c); err != nil && os.IsTimeout(err) {
		t.Error("a connection of backends that are gone was not cut")
	}
}

// webServer answers with its name and some of what it was asked.
func webServer(t *testing.T, name string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			<-r.Context().Done()
			return
		}
		fmt.Fprintf(w, "%s %s %s", name, r.Header.Get("X-Lb"), r.Header.Get("X-Forwarded-Proto"))
	}))
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s.Listener.Addr().String()
}

// TestHTTPReload: settings of requests and of connections change one by one,
// a connection that is kept stays, and what was replaced is forgotten.
func TestHTTPReload(t *testing.T) {
	web, port := webServer(t, "a"), freePort(t)
	service := func(rest string) string {
		return fmt.Sprintf(`services: [{name: web, listen: "127.0.0.1:%s", backends: ["%s"], %s}]`, port, web, rest)
	}
	d := startDaemon(t, service("tries: 3"))
	p := d.services[0].plane.(*httpPlane)
	kept, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	in := bufio.NewReader(kept)
	ask := func(want string) {
		t.Helper()
		kept.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprint(kept, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		if got := string(body); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	ask("a  http")
	sizes := func() (fronts, handlings int) {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.fronts), len(p.earlier)
	}
	for i := range 20 {
		mustReload(t, d, service(fmt.Sprintf("pool: {max_fails: %d}", i+2)))
	}
	if p.handling.cfg.service.Pool.MaxFails != 1 {
		t.Error("the handler was replaced although only the pool has changed")
	}
	for i := range 20 {
		mustReload(t, d, service(fmt.Sprintf(`http: {request_headers: {X-LB: "%d"}}, idle_timeout: %dm`, i, i+2)))
		ask(fmt.Sprintf("a %d http", i))
	}
	until(t, "the fronts without connections are forgotten", func() bool { f, _ := sizes(); return f == 2 })
	if _, h := sizes(); h != 0 {
		t.Errorf("%d handlers are kept", h)
	}

	// A request that is under way keeps its handler.
	held, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(held, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n")
	until(t, "the request is under way", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.handling.requests == 1
	})
	mustReload(t, d, service(`http: {request_headers: {X-LB: new}}`))
	if _, h := sizes(); h != 1 {
		t.Errorf("%d handlers are kept, want 1", h)
	}
	held.Close()
	until(t, "the handler is forgotten", func() bool { _, h := sizes(); return h == 0 })
	ask("a new http")
	kept.Close()
	until(t, "only the front in use is left", func() bool { f, _ := sizes(); return f == 1 })
}

// TestHTTPLimits: limits of an http service are kept, and can be changed.
func TestHTTPLimits(t *testing.T) {
	web, port := webServer(t, "a"), freePort(t)
	service := func(rest string) string {
		return fmt.Sprintf(`services: [{name: web, listen: "127.0.0.1:%s", backends: ["%s"], %s}]`, port, web, rest)
	}
	d := startDaemon(t, service("limits: {per_client: 1}"))
	open := func() (net.Conn, error) {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		_, err = http.ReadResponse(bufio.NewReader(c), nil)
		return c, err
	}
	if _, err := open(); err != nil {
		t.Fatal(err)
	}
	if _, err := open(); err == nil {
		t.Error("a second connection was served")
	}
	mustReload(t, d, service("limits: {per_client: 2}"))
	for range 2 {
		if _, err := open(); err != nil {
			t.Error(err)
		}
	}
	if _, err := open(); err == nil {
		t.Error("a third connection was served")
	}
}

// newCertificate writes a certificate and its key for name into a file, and
// returns its serial number.
func newCertificate(t *testing.T, file, name string) *big.Int {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial := new(big.Int).SetInt64(time.Now().UnixNano())
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	data = append(data, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})...)
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return serial
}

// TestCertificatesAreReloaded: the same text with another certificate in the
// file changes what new connections get, and no connection is cut; the same
// certificate changes nothing, and a bad one neither.
func TestCertificatesAreReloaded(t *testing.T) {
	for _, mode := range []string{"tcp", "http"} {
		t.Run(mode, func(t *testing.T) {
			file, port := filepath.Join(t.TempDir(), "web.pem"), freePort(t)
			serial := newCertificate(t, file, "www.example.org")
			backend := echoServer(t, "a")
			if mode == "http" {
				backend = webServer(t, "a")
			}
			text := fmt.Sprintf(`services: [{name: web, listen: "127.0.0.1:%s", mode: %s, backends: ["%s"], tls: {certificates: [%s]}}]`,
				port, mode, backend, file)
			d := startDaemon(t, text)
			client := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}, ClientSessionCache: tls.NewLRUClientSessionCache(1), ServerName: "www.example.org"}
			if mode == "tcp" {
				client.NextProtos = nil
			}
			dial := func() *tls.Conn {
				t.Helper()
				c, err := tls.Dial("tcp", "127.0.0.1:"+port, client)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { c.Close() })
				return c
			}
			talk := func(c *tls.Conn) {
				t.Helper()
				line, want := "hello", "a hello"
				if mode == "http" {
					line, want = "GET / HTTP/1.1\r\nHost: x\r\n\r", "HTTP/1.1 200 OK"
				}
				if got, err := say(c, line); err != nil || got != want {
					t.Fatalf("%q, %v", got, err)
				}
			}
			serves := func(c *tls.Conn, want *big.Int) {
				t.Helper()
				if got := c.ConnectionState().PeerCertificates[0].SerialNumber; got.Cmp(want) != 0 {
					t.Errorf("certificate %v, want %v", got, want)
				}
			}
			kept := dial()
			serves(kept, serial)
			talk(kept)
			plane := d.services[0].tls.front
			mustReload(t, d, text)
			if d.services[0].tls.front != plane {
				t.Error("the same certificate: something changed")
			}
			mustReload(t, d, strings.Replace(text, "mode:", "tries: 2, mode:", 1))
			if d.services[0].tls.front != plane {
				t.Error("another setting: clients have to forget their sessions")
			}
			renewed := newCertificate(t, file, "www.example.org")
			mustReload(t, d, text)
			client.ClientSessionCache = nil
			serves(dial(), renewed)
			if mode == "tcp" {
				talk(kept)
			}

			if err := os.WriteFile(file, []byte("nonsense"), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := config.Parse("f.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), "f.yaml:1:") {
				t.Errorf("a bad certificate: %v", err)
			}
			serves(dial(), renewed)
			newCertificate(t, file, "www.example.org")
			// What is bad only when it is used, after it was checked, changes nothing either.
			cfg := parse(t, text)
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			s := d.services[0]
			if err := d.Reload(cfg); err == nil || !strings.Contains(err.Error(), "nothing changed: f.yaml:1:") || d.services[0] != s {
				t.Errorf("a certificate that has gone: %v", err)
			}
			newCertificate(t, file, "www.example.org")
		})
	}
}

// TestClientCertificates: who has to show a certificate, has to; TLS may come
// and go with a reload.
func TestClientCertificates(t *testing.T) {
	dir, port := t.TempDir(), freePort(t)
	file, other := filepath.Join(dir, "web.pem"), filepath.Join(dir, "other.pem")
	newCertificate(t, file, "www.example.org")
	newCertificate(t, other, "other.example.org")
	web := webServer(t, "a")
	service := func(rest string) string {
		return fmt.Sprintf(`services: [{name: web, listen: "127.0.0.1:%s", backends: ["%s"]%s}]`, port, web, rest)
	}
	get := func(scheme string, certificates ...tls.Certificate) (string, error) {
		tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: certificates}, ForceAttemptHTTP2: true}
		defer tr.CloseIdleConnections()
		res, err := (&http.Client{Transport: tr, Timeout: 20 * time.Second}).Get(scheme + "://127.0.0.1:" + port + "/")
		if err != nil {
			return "", err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		return fmt.Sprintf("%d %s %s", res.ProtoMajor, body, res.Status), err
	}
	load := func(file string) tls.Certificate {
		t.Helper()
		c, err := tls.LoadX509KeyPair(file, file)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	d := startDaemon(t, service(""))
	if got, err := get("http"); err != nil || got != "1 a  http 200 OK" {
		t.Errorf("plain: %q, %v", got, err)
	}
	const secure = "2 a  https 200 OK"
	mustReload(t, d, service(", tls: {certificates: ["+file+"]}"))
	if got, err := get("https"); err != nil || got != secure {
		t.Errorf("without certificates of clients: %q, %v", got, err)
	}
	mustReload(t, d, service(", tls: {certificates: ["+file+"], client_ca: "+file+"}"))
	if got, err := get("https"); err == nil {
		t.Errorf("a client without certificate got %q", got)
	}
	if got, err := get("https", load(other)); err == nil {
		t.Errorf("a client with a stranger's certificate got %q", got)
	}
	if got, err := get("https", load(file)); err != nil || got != secure {
		t.Errorf("a client with a certificate: %q, %v", got, err)
	}
	mustReload(t, d, service(", tls: {certificates: ["+file+"], client_ca: "+file+", client_auth: optional}"))
	if got, err := get("https"); err != nil || got != secure {
		t.Errorf("a client that need not have one: %q, %v", got, err)
	}
	mustReload(t, d, service(""))
	if got, err := get("http"); err != nil || got != "1 a  http 200 OK" {
		t.Errorf("plain again: %q, %v", got, err)
	}
}

// TestBackendTLS: backends are verified, and get our certificate.
func TestBackendTLS(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "all.pem")
	newCertificate(t, file, "app.example.org")
	pair, err := tls.LoadX509KeyPair(file, file)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(pair.Leaf)
	app := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") }))
	app.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
	app.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	app.StartTLS()
	defer app.Close()
	for _, mode := range []string{"http", "tcp"} {
		for rest, want := range map[string]string{
			"server_name: app.example.org, ca: FILE, certificate: FILE":   "200",
			"insecure: true, certificate: FILE":                           "200",
			"server_name: other.example.org, ca: FILE, certificate: FILE": "",
			"server_name: app.example.org, certificate: FILE":             "",
			"server_name: app.example.org, ca: FILE":                      "",
		} {
			port := freePort(t)
			startDaemon(t, fmt.Sprintf(`services: [{name: web, listen: "127.0.0.1:%s", mode: %s, backends: ["%s"], backend_tls: {%s}}]`,
				port, mode, app.Listener.Addr(), strings.ReplaceAll(rest, "FILE", file)))
			got := ""
			if res, err := http.Get("http://127.0.0.1:" + port); err == nil {
				res.Body.Close()
				if got = res.Status[:3]; got == "502" {
					got = ""
				}
			}
			if got != want {
				t.Errorf("%s: %s: status %q, want %q", mode, rest, got, want)
			}
		}
	}
}

// TestAccessLog: what ended is logged with the service's name, also when no
// backend was involved, and what is lost is counted.
func TestAccessLog(t *testing.T) {
	backend, port := echoServer(t, "a"), freePort(t)
	text := fmt.Sprintf(`services: [{name: db, listen: "127.0.0.1:%s", mode: tcp, backends: ["%s"], access_log: true, proxy_protocol: {accept: [127.0.0.1]}}]`, port, backend)
	var out lockedBuffer
	d, err := New(parse(t, text), slog.New(slog.NewTextHandler(&out, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	<-d.started
	for _, header := range []string{"PROXY TCP4 192.0.2.7 192.0.2.8 1234 80\r\nx", "nonsense"} {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = say(c, header)
		c.Close()
	}
	for _, want := range []string{"service=db client=192.0.2.7:1234 backend=" + backend, "service=db client=127.0.0.1:"} {
		until(t, want+" is logged", func() bool { return strings.Contains(out.String(), want) })
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}

	// Nobody reads: what does not fit in is lost.
	access := lb.NewConnLog(2)
	record := recorder(access, "web")
	for range 5 {
		record(lb.Record{})
	}
	past, cancel := context.WithCancel(t.Context())
	cancel()
	var lost lockedBuffer
	if err := runAccessLog(past, access, slog.New(slog.NewTextHandler(&lost, nil))); err != nil {
		t.Error(err)
	}
	if s := lost.String(); strings.Count(s, "service=web") != 2 || !strings.Contains(s, "records=3") {
		t.Errorf("it said:\n%s", s)
	}
}
