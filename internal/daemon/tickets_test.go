package daemon

import (
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/lab/labtest"
	"github.com/havip/havip/lb"
)

// resumes makes one request on a new connection, as a client with a cache of sessions, and
// reports whether it has resumed one.
func resumes(t *testing.T, port string, client *tls.Config) bool {
	t.Helper()
	c, err := tls.Dial("tcp", "127.0.0.1:"+port, client)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if got, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 200 OK") {
		t.Fatalf("%q, %v", got, err)
	}
	return c.ConnectionState().DidResume
}

// TestSessionsOfBothNodes: with the same keys, in files or of a secret, a client resumes on
// one node what it began on the other, also when keys were rotated by a reload.
func TestSessionsOfBothNodes(t *testing.T) {
	for _, mode := range []string{"tcp", "http"} {
		t.Run(mode, func(t *testing.T) {
			dir, ports := t.TempDir(), []string{freePort(t), freePort(t)}
			newCertificate(t, filepath.Join(dir, "web.pem"), "www.example.org")
			old, fresh := filepath.Join(dir, "old.key"), filepath.Join(dir, "new.key")
			if err := errors.Join(os.WriteFile(old, slices.Repeat([]byte{1}, 80), 0o600), os.WriteFile(fresh, slices.Repeat([]byte{2}, 48), 0o600)); err != nil {
				t.Fatal(err)
			}
			backend := webServer(t, "a")
			service := func(node int, tickets string) string {
				return fmt.Sprintf(`services: [{name: web, listen: "127.0.0.1:%s", mode: %s, backends: ["%s"], tls: {certificates: [%s/web.pem]%s}}]`,
					ports[node], mode, backend, dir, tickets)
			}
			daemons := []*Daemon{startDaemon(t, service(0, "")), startDaemon(t, service(1, ""))}
			client := func() *tls.Config {
				return &tls.Config{InsecureSkipVerify: true, ServerName: "www.example.org", ClientSessionCache: tls.NewLRUClientSessionCache(1)}
			}
			for _, step := range []struct {
				name          string
				first, second string
				want          bool
			}{
				{"random keys", "", "", false},
				{"the same file", ", session_ticket_keys: [" + old + "]", ", session_ticket_keys: [" + old + "]", true},
				{"the second has rotated", ", session_ticket_keys: [" + old + "]", ", session_ticket_keys: [" + fresh + ", " + old + "]", true},
				{"another secret", ", session_ticket_secret: 0123456789abcdef0123456789abcdef", ", session_ticket_secret: 1123456789abcdef0123456789abcdef", false},
				{"a secret", ", session_ticket_secret: 0123456789abcdef0123456789abcdef", ", session_ticket_secret: 0123456789abcdef0123456789abcdef", true},
				{"random keys again", "", "", false},
			} {
				mustReload(t, daemons[0], service(0, step.first))
				mustReload(t, daemons[1], service(1, step.second))
				c := client()
				if got := []bool{resumes(t, ports[0], c), resumes(t, ports[1], c), resumes(t, ports[1], c)}; !slices.Equal(got, []bool{false, step.want, true}) {
					t.Errorf("%s: resumed %v, want %v on the second", step.name, got, step.want)
				}
			}
		})
	}
}

// TestSessionsOutliveReload: a renewed certificate makes no client forget its session,
// though the keys of tickets are random. What a client must show is judged anew.
func TestSessionsOutliveReload(t *testing.T) {
	dir, port := t.TempDir(), freePort(t)
	file, ca := filepath.Join(dir, "web.pem"), filepath.Join(dir, "ca.pem")
	newCertificate(t, file, "www.example.org")
	newCertificate(t, ca, "ca.example.org")
	text := fmt.Sprintf(`services: [{name: web, listen: "127.0.0.1:%s", backends: ["%s"], tls: {certificates: [%s]}}]`, port, webServer(t, "a"), file)
	d := startDaemon(t, text)
	client := &tls.Config{InsecureSkipVerify: true, ServerName: "www.example.org", ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	if resumes(t, port, client) {
		t.Error("resumed at first")
	}
	before := d.services[0].tls.front
	newCertificate(t, file, "www.example.org")
	mustReload(t, d, text)
	if d.services[0].tls.front == before || !resumes(t, port, client) {
		t.Error("after the certificate was renewed: not resumed")
	}
	mustReload(t, d, strings.Replace(text, "]}}]", "], client_ca: "+ca+"}}]", 1))
	if c, err := tls.Dial("tcp", "127.0.0.1:"+port, client); err == nil {
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err == nil || c.ConnectionState().DidResume {
			t.Errorf("without the certificate that is required now: resumed %v, %v", c.ConnectionState().DidResume, err)
		}
	}
}

// TestStapleWatch: the log says once why a certificate has no OCSP response, and when it has
// one again.
func TestStapleWatch(t *testing.T) {
	dir := t.TempDir()
	ca := labtest.Certificate(nil, nil, "authority")
	pair := labtest.Certificate(&ca, nil, "www.example.org")
	cert, key := labtest.PEM(pair)
	file := lb.CertificateFile{Cert: filepath.Join(dir, "web.pem"), Key: filepath.Join(dir, "web.pem"), Staple: filepath.Join(dir, "web.der")}
	if err := os.WriteFile(file.Cert, slices.Concat(cert, key), 0o600); err != nil {
		t.Fatal(err)
	}
	certs, err := lb.NewCertificates(file)
	if err != nil {
		t.Fatal(err)
	}
	respond := func(valid time.Duration) {
		t.Helper()
		der, err := ocsp.CreateResponse(ca.Leaf, ca.Leaf, ocsp.Response{SerialNumber: pair.Leaf.SerialNumber,
			ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(valid)}, ca.PrivateKey.(crypto.Signer))
		if err := errors.Join(err, os.WriteFile(file.Staple, der, 0o644), certs.Reload()); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	w := &certificateWatch{log: slog.New(recordFunc(func(r slog.Record) {
		line := fmt.Sprint(r.Level, " ", r.Message)
		r.Attrs(func(a slog.Attr) bool {
			if a.Key == "err" {
				_, reason, _ := strings.Cut(a.Value.String(), "web.der: ")
				line += ": " + strings.Fields(reason)[0]
			}
			return true
		})
		got = append(got, line)
	}))}
	services := []ServiceView{{Config: config.Service{Name: "web"}, service: &service{tls: encryption{front: &tls.Config{}, certificates: certs}}}}
	look := func(after time.Duration) { w.look(services, time.Now().Add(after)) }
	look(0)
	look(time.Second)
	respond(10 * time.Minute)
	look(0)
	look(5 * time.Minute)
	look(11 * time.Minute)
	look(12 * time.Minute)
	respond(20 * time.Minute)
	look(12 * time.Minute)
	want := []string{"WARN certificate has no OCSP response: no", "INFO certificate has its OCSP response again",
		"WARN certificate has no OCSP response: expired", "INFO certificate has its OCSP response again"}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
