package daemon

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/lab/labtest"
)

// mayParse is parse of what names files that may be missing.
func mayParse(t *testing.T, text string) *config.Config {
	t.Helper()
	cfg, err := config.Parse("f.yaml", []byte(text))
	if cfg == nil {
		t.Fatal(err)
	}
	return cfg
}

// TestBootWithoutWhatServicesNeed: a service whose port somebody else has, or whose
// certificate is not there, and a check whose authorities are not, keep no other part
// from running. Each begins when it can, and a reload with the same or another
// configuration of the part finds it as it is.
func TestBootWithoutWhatServicesNeed(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, busy, _ := net.SplitHostPort(taken.Addr().String())
	dir := t.TempDir()
	certificate, ca := filepath.Join(dir, "web.pem"), filepath.Join(dir, "ca.pem")
	backend, good, secure, third := echoServer(t, "a"), freePort(t), freePort(t), freePort(t)
	service := func(name, port, rest string) string {
		return fmt.Sprintf(`{name: %s, listen: "127.0.0.1:%s", mode: tcp, backends: ["%s"]%s}`, name, port, backend, rest)
	}
	encrypted := ", tls: {certificates: [" + certificate + "]}"
	authority := `checks: {remote: {type: tls, address: "` + backend + `", interval: 20ms, tls: {ca: ` + ca + "}}}\n"
	checked := `, check: {type: http, path: /, interval: 20ms, tls: {ca: ` + ca + "}}"
	file := func(services ...string) string {
		return authority + "services: [" + strings.Join(services, ", ") + "]"
	}
	text := file(service("good", good, ""), service("busy", busy, ""), service("secure", secure, encrypted), service("checked", third, checked))

	strict, err := New(mayParse(t, text), slog.New(slog.DiscardHandler), nil, true)
	if err == nil {
		strict.pending.abandon()
	}
	lines := strings.Split(fmt.Sprint(err), "\n")
	for i, want := range []string{"check remote: ca: open " + ca, "service busy: ", "service secure: tls: ", "service checked: check: ca: open " + ca} {
		if len(lines) != 4 || !strings.Contains(lines[i], want) || !strings.HasPrefix(lines[i], "f.yaml:") {
			t.Errorf("a strict start says %q, want %q in line %d", lines, want, i)
		}
	}

	log := &labtest.Log{}
	d := startFrom(t, mayParse(t, text), slog.New(slog.NewTextHandler(log, nil)))
	serves := func(port string) bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			return false
		}
		defer c.Close()
		answer, err := say(c, "x")
		return err == nil && answer == "a x"
	}
	if !serves(good) {
		t.Error("the good service does not serve")
	}
	for _, want := range []string{"service=busy err=", "service=secure err="} {
		until(t, want, func() bool {
			return strings.Contains(log.String(), `level=ERROR msg="service does not run" `+want)
		})
	}
	until(t, "the check says what it lacks", func() bool {
		return strings.Contains(log.String(), "check=remote") && strings.Contains(log.String(), ca+": no such file")
	})
	first := d.services[0]
	// The same again, and one more.
	if err := d.Reconfigure(mayParse(t, text)); err != nil {
		t.Error(err)
	}
	// Only what is bad and new is refused.
	if err := d.Reconfigure(mayParse(t, strings.Replace(text, "secure, listen", "other, listen", 1))); err == nil || !strings.Contains(err.Error(), "nothing changed: f.yaml:2:") {
		t.Errorf("another service without its certificate: %v", err)
	}
	taken.Close()
	until(t, "the service has its port", func() bool { return serves(busy) })
	newCertificate(t, certificate, "www.example.org")
	handshakes := func() bool {
		c, err := tls.Dial("tcp", "127.0.0.1:"+secure, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			return false
		}
		defer c.Close()
		answer, err := say(c, "x")
		return err == nil && answer == "a x"
	}
	// The operator does not wait for the next try.
	if err := d.Reconfigure(mayParse(t, text)); err != nil {
		t.Error(err)
	}
	until(t, "the service has its certificate", handshakes)
	if err := os.WriteFile(ca, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	until(t, "the check reads its authorities", func() bool {
		return strings.Contains(fmt.Sprint(d.checks["remote"].monitor.Status().Err), "no certificates in PEM form")
	})
	if d.services[0] != first {
		t.Error("the good service was replaced")
	}
	// What is as it was refuses nothing.
	if err := d.Reconfigure(mayParse(t, strings.Replace(text, "checked, listen", "renamed, listen", 1))); err != nil {
		t.Error(err)
	}
}

// TestServiceBeginsByItself: a service gets its certificate without a reload.
func TestServiceBeginsByItself(t *testing.T) {
	file, port := filepath.Join(t.TempDir(), "web.pem"), freePort(t)
	text := fmt.Sprintf(`services: [{name: web, listen: "127.0.0.1:%s", mode: http, backends: ["127.0.0.1:9"], tls: {certificates: [%s]}}]`, port, file)
	d := startFrom(t, mayParse(t, text), slog.New(slog.DiscardHandler))
	newCertificate(t, file, "www.example.org")
	until(t, "it serves", func() bool {
		c, err := tls.Dial("tcp", "127.0.0.1:"+port, &tls.Config{InsecureSkipVerify: true})
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	first := d.services[0]
	// What it read by itself is what the file says.
	if err := d.Reconfigure(parse(t, strings.Replace(text, "mode: http", "mode: http, tries: 2", 1))); err != nil || d.services[0] != first {
		t.Errorf("reload: %v, the same service: %v", err, d.services[0] == first)
	}
}
