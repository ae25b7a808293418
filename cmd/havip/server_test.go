package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/havip/havip/internal/admin"
	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
	"github.com/havip/havip/internal/report"
)

// notedNode notes what it is asked to do.
type notedNode struct {
	ring *report.Ring

	mu   sync.Mutex // guards what follows
	done []string
	fail error // of whatever is asked
}

var _ admin.Node = (*notedNode)(nil)

func (n *notedNode) note(format string, args ...any) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.done = append(n.done, fmt.Sprintf(format, args...))
	return n.fail
}

func (n *notedNode) Status() *report.Status {
	s := pairStatus()
	return &s
}
func (n *notedNode) Events() *report.Ring { return n.ring }
func (n *notedNode) Explain(a netip.Addr) (report.Explanation, error) {
	return report.Explanation{Sentences: []string{a.String() + " is here."}}, n.note("explain %v", a)
}
func (n *notedNode) Resign(router string) error { return n.note("resign %s", router) }
func (n *notedNode) SetPriority(router string, priority int) error {
	return n.note("priority %s %d", router, priority)
}
func (n *notedNode) SetMaintenance(on bool, reason string) (string, error) {
	return "a warning", n.note("maintenance %v %q", on, reason)
}
func (n *notedNode) SetServiceMaintenance(service string, on *bool) error {
	text, _ := json.Marshal(on)
	return n.note("maintenance of %s %s", service, text)
}
func (n *notedNode) SetBackend(service, backend string, c admin.BackendChange) error {
	text := ""
	if c.Drain != nil {
		text += fmt.Sprintf(" drain %v", *c.Drain)
	}
	if c.Weight != nil {
		text += fmt.Sprintf(" weight %d", *c.Weight)
	}
	return n.note("backend %s %s%s", service, backend, text)
}
func (n *notedNode) SteerCheck(name, do string) error { return n.note("check %s %s", name, do) }
func (n *notedNode) Reload(_ context.Context, dryRun bool) (report.Change, error) {
	return report.Change{DryRun: dryRun, Kept: 3}, n.note("reload %v", dryRun)
}
func (n *notedNode) TestAlarm(_ context.Context, name string) error { return n.note("alarm %s", name) }
func (n *notedNode) ReopenLogs() error                              { return n.note("reopen") }
func (n *notedNode) SetLogLevel(level string) error                 { return n.note("log %q", level) }

// serveNode starts a server of the real kind on a socket of the test.
func serveNode(t *testing.T) (*notedNode, string) {
	t.Helper()
	n := &notedNode{ring: report.NewRing(100)}
	socket := filepath.Join(t.TempDir(), "s")
	serveAdmin(t, n, config.Admin{Socket: socket})
	return n, socket
}

// serveAdmin runs a server until the test ends. It returns when it answers on its socket.
func serveAdmin(t *testing.T, n *notedNode, cfg config.Admin) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() { _ = admin.New(admin.Config{Admin: cfg}, n).Run(ctx) })
	t.Cleanup(func() {
		stop()
		serving.Wait()
	})
	for end := time.Now().Add(20 * time.Second); havip(ctx, "status", "--socket", cfg.Socket).code != 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the server does not answer")
		}
	}
}

// TestClientCertificate: who has one of the authority that the server knows steers, and with
// another one, or none, one can only ask.
func TestClientCertificate(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	write := func(name string, parts ...[]byte) {
		t.Helper()
		if err := os.WriteFile(file(name), slices.Concat(parts...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, who := range []string{"ca", "stranger"} {
		ca := labtest.Certificate(nil, func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign })
		cert, key := labtest.PEM(labtest.Certificate(&ca, func(c *x509.Certificate) {
			c.Subject.CommonName, c.ExtKeyUsage = "alice", []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		}))
		authority, _ := labtest.PEM(ca)
		write(who+".pem", authority)
		write(who+"-client.crt", cert)
		write(who+"-client.key", key)
		write(who+"-client.pem", cert, key)
	}
	labtest.WriteCertificate(t, file("server.pem"), "localhost")
	n := &notedNode{ring: report.NewRing(100)}
	listen := netip.MustParseAddrPort(lab.FreeAddress(t))
	serveAdmin(t, n, config.Admin{Socket: file("s"), Listen: listen, TLS: &config.AdminTLS{Certificate: file("server.pem"), Key: file("server.pem"), ClientCA: file("ca.pem")}})
	url := fmt.Sprintf("--url=https://localhost:%d", listen.Port())
	for _, c := range []struct {
		flags string
		code  int
		says  string // of errors; empty: it is done
	}{
		{"--cert ca-client.crt --key ca-client.key", 0, ""},
		{"--cert ca-client.pem", 0, ""},
		{"", 1, "or a client certificate of admin.tls.client_ca"},
		{"--cert stranger-client.pem", 1, "or a client certificate of admin.tls.client_ca"},
		{"--cert ca-client.crt", 2, "client certificate: " + file("ca-client.crt")},
		{"--cert ca-client.crt --key stranger-client.key", 2, "private key does not match"},
		{"--cert none.pem", 2, "no such file"},
		{"--key ca-client.key", 2, "--key belongs to --cert"},
	} {
		args := []string{"resign", "VI_1", url, "--ca", file("server.pem")}
		for _, word := range strings.Fields(c.flags) {
			if !strings.HasPrefix(word, "--") {
				word = file(word)
			}
			args = append(args, word)
		}
		n.done = nil
		o := havip(t.Context(), args...)
		if o.code != c.code || !strings.Contains(o.err, c.says) || (len(n.done) == 1) != (c.code == 0) {
			t.Errorf("%s: %+v, the node is told %q; want code %d and %q", c.flags, o, n.done, c.code, c.says)
		}
	}
	for args, want := range map[string]string{
		"status --cert a.pem": "--cert belongs to --url",
		"status --url http://127.0.0.1:1 --cert " + file("ca-client.pem"): "want https for a client certificate",
	} {
		if o := havip(t.Context(), strings.Fields(args)...); o.code != 2 || !strings.Contains(o.err, want) {
			t.Errorf("%s: %+v, want code 2 and %q", args, o, want)
		}
	}
}

// TestCommandsReachTheNode: what a person types is what the node is told, by the server and
// the client that are used in earnest.
func TestCommandsReachTheNode(t *testing.T) {
	n, socket := serveNode(t)
	for args, want := range map[string]string{
		"resign VI_1":                    "resign VI_1",
		"maintenance on --reason ready":  `maintenance true "ready"`,
		"maintenance off":                `maintenance false ""`,
		"maintenance --service web on":   `maintenance of web true`,
		"maintenance off --service web":  `maintenance of web false`,
		"maintenance --service web file": `maintenance of web null`,
		"priority VI_1 90":               "priority VI_1 90",
		"priority VI_1 file":             "priority VI_1 0",
		"drain web 10.0.0.1:80":          "backend web 10.0.0.1:80 drain true",
		"enable web [2001:db8::1]:80":    "backend web [2001:db8::1]:80 drain false",
		"weight web unix:/run/a 0":       "backend web unix:/run/a weight 0",
		"weight web 10.0.0.1:80 file":    "backend web 10.0.0.1:80 weight -1",
		"weight a%20b http://x/ 3":       "backend a%20b http://x/ weight 3",
		"check pause web/10.0.0.1:80":    "check web/10.0.0.1:80 pause",
		"check now balancer":             "check balancer now",
		"alarm test ops":                 "alarm ops",
		"reload":                         "reload false",
		"reload -n":                      "reload true",
		"log level debug":                `log "debug"`,
		"log level file":                 `log ""`,
		"log reopen":                     `reopen`,
		"explain 2001:db8::1":            "explain 2001:db8::1",
	} {
		t.Run(args, func(t *testing.T) {
			n.done, n.fail = nil, nil
			o := havip(t.Context(), append(strings.Fields(args), "--socket", socket)...)
			if len(n.done) != 1 || n.done[0] != want || o.code != 0 || o.out == "" {
				t.Errorf("the node is told %q, and %+v; want %q", n.done, o, want)
			}
			n.fail = fmt.Errorf("%w: there are a and b", report.ErrUnknown)
			if o := havip(t.Context(), append(strings.Fields(args), "--socket", socket)...); o.code != 1 || !strings.Contains(o.err, "there are a and b") || o.out != "" {
				t.Errorf("refused: %+v, want code 1 and why", o)
			}
		})
	}
}

// TestFollowTheNode: events come as they happen.
func TestFollowTheNode(t *testing.T) {
	n, socket := serveNode(t)
	n.ring.Add(report.Event{Time: time.Now(), Level: "info", Kind: report.KindDaemon, Message: "before"})
	ctx, stop := context.WithCancelCause(t.Context())
	go func() {
		for ctx.Err() == nil {
			n.ring.Add(report.Event{Time: time.Now(), Level: "warn", Kind: report.KindSplit, Router: "VI_1", Message: "a split"})
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}()
	enough := errors.New("enough")
	out := &limitedWriter{lines: 5, full: func() { stop(enough) }}
	app := newApp()
	app.Writer = out
	if err := app.RunContext(ctx, []string{"havip", "events", "--follow", "--socket", socket}); err != nil {
		t.Fatal(err)
	}
	if text := out.text.String(); context.Cause(ctx) != enough || !strings.Contains(text, "daemon      before\n") || !strings.Contains(text, "split       VI_1: a split\n") {
		t.Errorf("%v:\n%s", context.Cause(ctx), text)
	}
}

// limitedWriter calls full after so many lines.
type limitedWriter struct {
	text  strings.Builder
	lines int
	full  func()
}

func (w *limitedWriter) Write(p []byte) (int, error) {
	if w.lines -= strings.Count(string(p), "\n"); w.lines <= 0 {
		w.full()
	}
	return w.text.Write(p)
}
