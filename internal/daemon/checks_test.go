package daemon

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/havip/havip/healthcheck"
	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/lab/labtest"
	"github.com/havip/havip/internal/quietlog"
)

// checkOf returns the check of these keys.
func checkOf(t *testing.T, keys string) config.Check {
	t.Helper()
	cfg, err := config.Parse("f.yaml", []byte("vrrp: [{name: a, interface: eth0, vrid: 51, notify: [/bin/true]}]\nchecks: {c: {"+keys+"}}"))
	if err != nil {
		t.Fatal(err)
	}
	return cfg.Checks[0]
}

// TestEveryCheckType: what config accepts becomes a monitor, and a check of backends
// probes them.
func TestEveryCheckType(t *testing.T) {
	var defaults strings.Builder
	if err := config.WriteDefaults(&defaults); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Parse("defaults.yaml", []byte(defaults.String()))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cfg.Checks {
		if _, err := newMonitor(c, c.Name, "", "", healthcheck.Unknown, nil); err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
	}
	for _, typ := range []string{"tcp", "http", "grpc", "icmp", "udp", "smtp", "tls", "dns, query: x"} {
		cfg, err := config.Parse("f.yaml", fmt.Appendf(nil,
			"services: [{name: w, listen: ':80', backends: ['[2001:db8::1]:80'], check: {type: %s}}]", typ))
		if err != nil {
			t.Fatal(err)
		}
		checker := cfg.Services[0].Check.New(cfg.Services[0].Pool.Backends[0].Address, nil)
		if s := fmt.Sprintf("%+v", checker); !strings.Contains(s, "2001:db8::1") {
			t.Errorf("%s: does not probe the backend: %s", typ, s)
		}
	}
}

func TestBackendOverTLS(t *testing.T) {
	cfg := parse(t, `services: [{name: w, listen: ":80", backends: ["192.0.2.7:8443"], check: {type: http, path: /ready, tls: {insecure: true, alpn: [h2]}}}]`)
	checker, err := newRenewing(*cfg.Services[0].Check, "192.0.2.7:8443", nil)
	if err != nil {
		t.Fatal(err)
	}
	h := checker.(*healthcheck.HTTP)
	if h.URL != "https://192.0.2.7:8443/ready" || !h.TLS.InsecureSkipVerify || h.TLS.NextProtos[0] != "h2" {
		t.Errorf("%+v", h)
	}
}

// TestTLSFiles: what is wrong with a file is found out before anything runs.
func TestTLSFiles(t *testing.T) {
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage.pem")
	if err := os.WriteFile(garbage, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		c    config.TLS
		want string
	}{
		{config.TLS{CA: dir + "/missing"}, "no such file"},
		{config.TLS{CA: garbage}, "no certificates"},
		{config.TLS{Certificate: dir + "/missing", Key: garbage}, "no such file"},
		{config.TLS{Certificate: garbage, Key: garbage}, "certificate "},
	} {
		if _, err := clientTLS(&tc.c); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: %v, want %q", tc.c, err, tc.want)
		}
	}
	if c, err := clientTLS(nil); c != (*tls.Config)(nil) || err != nil {
		t.Errorf("without TLS: %v, %v", c, err)
	}
}

// authority makes an authority's certificate in PEM form, and one that it has
// issued to 127.0.0.1.
func authority(name string) (ca []byte, server tls.Certificate) {
	own := labtest.Certificate(nil, nil, name)
	ca, _ = labtest.PEM(own)
	return ca, labtest.Certificate(&own, nil, "127.0.0.1")
}

// TestRenewedAuthority: the authorities are those in the file now, and while
// that makes no sense those before. Without any the check fails.
func TestRenewedAuthority(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.pem")
	put := func(content []byte) {
		t.Helper()
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	firstCA, first := authority("first")
	secondCA, second := authority("another name, for another size")
	var cert atomic.Pointer[tls.Certificate]
	cert.Store(&first)
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert.Load(), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	labtest.Serve(t, ln, func(c net.Conn) { c.(*tls.Conn).Handshake() })
	log := &labtest.Log{}
	c := checkOf(t, `type: tls, address: "`+ln.Addr().String()+`", tls: {ca: `+file+`}`)
	checker, err := newRenewing(c, "", slog.New(quietlog.Unblocked(slog.NewTextHandler(log, nil))))
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		what string
		do   func()
		good bool
		logs int // lines so far
	}{
		{"no file yet", func() {}, false, 0},
		{"no certificate in it yet", func() { put(nil) }, false, 0},
		{"the first authority", func() { put(firstCA) }, true, 0},
		{"a server of another one", func() { cert.Store(&second) }, false, 0},
		{"the file is renewed", func() { put(secondCA) }, true, 0},
		{"the file is empty", func() { put(nil) }, true, 1},
		{"it still is", func() {}, true, 1},
		{"the file is gone", func() { os.Remove(file) }, true, 2},
		{"it still is", func() {}, true, 2},
		{"both authorities", func() { put(append(firstCA, secondCA...)) }, true, 2},
		{"the first server is back", func() { cert.Store(&first) }, true, 2},
	} {
		step.do()
		if err := checker.Check(t.Context()); (err == nil) != step.good {
			t.Errorf("%s: %v", step.what, err)
		}
		if n := strings.Count(log.String(), "\n"); n != step.logs {
			t.Errorf("%s: %d lines of the log, want %d: %s", step.what, n, step.logs, log.String())
		}
	}
	c.Checker = &healthcheck.TLS{Address: "nowhere"}
	if checker, err = newRenewing(c, "", nil); err != nil {
		t.Fatal(err)
	}
	if checker.(*renewing).Validate() == nil {
		t.Error("a bad address is accepted")
	}
}

// TestRenewedClientCertificate: a check shows the certificate that is in the file now.
func TestRenewedClientCertificate(t *testing.T) {
	file := filepath.Join(t.TempDir(), "client.pem")
	put := func(c tls.Certificate, lines int) {
		t.Helper()
		key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		both := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})
		both = append(both, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
		both = append(both, strings.Repeat("\n", lines)...) // as clocks of file systems are coarse
		if err := os.WriteFile(file, both, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, server := authority("server")
	_, first := authority("first")
	_, second := authority("second")
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAnyClientCert})
	if err != nil {
		t.Fatal(err)
	}
	shown := make(chan []byte, 9)
	labtest.Serve(t, ln, func(c net.Conn) {
		if c := c.(*tls.Conn); c.Handshake() == nil {
			shown <- c.ConnectionState().PeerCertificates[0].Raw
		}
	})
	put(first, 0)
	checker, err := newRenewing(checkOf(t, `type: tls, address: "`+ln.Addr().String()+`", tls: {insecure: true, certificate: `+file+`}`), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []tls.Certificate{first, second} {
		put(want, 100*i)
		if err := checker.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := <-shown; !bytes.Equal(got, want.Certificate[0]) {
			t.Error("another certificate is shown")
		}
	}
}

// TestFollow: when it is cancelled, a call under way has ended, and no other
// comes.
func TestFollow(t *testing.T) {
	healthy := make(chan bool, 1)
	healthy <- true
	m, err := healthcheck.NewMonitor(healthcheck.Config{Rise: 1, Fall: 1, Interval: 10 * time.Millisecond,
		Checker: healthcheck.CheckerFunc(func(context.Context) error {
			up := <-healthy
			if healthy <- !up; !up {
				return errors.New("down")
			}
			return nil
		})})
	if err != nil {
		t.Fatal(err)
	}
	run := startTask(m.Run, func(err error) { t.Error(err) })
	defer run.stop()
	for range 50 {
		var calls, under atomic.Int32
		cancel := followMonitor(m, func(s healthcheck.Status) {
			under.Add(1)
			defer under.Add(-1)
			if s.State == healthcheck.Unknown {
				t.Error("an unknown state is told")
			}
			calls.Add(1)
			time.Sleep(time.Millisecond)
		})
		until(t, "it is called", func() bool { return calls.Load() > 1 })
		cancel()
		if under.Load() != 0 {
			t.Fatal("a call is under way")
		}
		before := calls.Load()
		changes := m.Status().Changes
		until(t, "the state changes", func() bool { return m.Status().Changes > changes+1 })
		if calls.Load() != before {
			t.Fatal("called after the end")
		}
	}
}

func TestInitialState(t *testing.T) {
	for _, tc := range []struct {
		initial     string
		known, want healthcheck.State
	}{
		{"unknown", healthcheck.Unknown, healthcheck.Unknown},
		{"up", healthcheck.Unknown, healthcheck.Up},
		{"down", healthcheck.Unknown, healthcheck.Down},
		{"down", healthcheck.Up, healthcheck.Up},
		{"unknown", healthcheck.Down, healthcheck.Down},
	} {
		c := checkOf(t, "type: exec, command: [/bin/true], initial: "+tc.initial)
		m, err := newMonitor(c, "c", "", "", tc.known, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Status().State; got != tc.want {
			t.Errorf("initial %s, known %v: begins %v, want %v", tc.initial, tc.known, got, tc.want)
		}
	}
}
