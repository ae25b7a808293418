package daemon

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/lab/labtest"
)

// newCertificate writes a certificate and its key for name into a file, and
// returns its serial number.
func newCertificate(t *testing.T, file, name string) *big.Int {
	t.Helper()
	return labtest.WriteCertificate(t, file, name).SerialNumber
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
			if err := d.Reconfigure(cfg); err == nil || !strings.Contains(err.Error(), "nothing changed: f.yaml:1:") || d.services[0] != s {
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
