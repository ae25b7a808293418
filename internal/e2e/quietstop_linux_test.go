package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
)

// TestQuietStop: a daemon that is told to end, in whatever state it is, or to read its
// file again, has no warning and no error to report of that, and ends well.
func TestQuietStop(t *testing.T) {
	t.Parallel()
	bin := havip(t)
	for name, do := range map[string]func(*quietNode){
		"while it starts":       func(*quietNode) {},
		"before it is active":   func(n *quietNode) { n.says("msg=running") },
		"active":                func(n *quietNode) { n.active() },
		"with connections":      func(n *quietNode) { n.active(); n.connect() },
		"after a reload":        func(n *quietNode) { n.active(); n.connect(); n.reload() },
		"told twice":            func(n *quietNode) { n.active(); n.connect(); n.signal(syscall.SIGTERM) },
		"told with its group":   func(n *quietNode) { n.active(); n.signalGroup(); n.signalGroup() },
		"while it reloads":      func(n *quietNode) { n.active(); n.signal(syscall.SIGHUP) },
		"while backends answer": func(n *quietNode) { n.active(); n.request() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newQuietNode(t, bin)
			do(n)
			n.stop()
		})
	}
}

// quietNode is a daemon with all that one may have, and clients of it.
type quietNode struct {
	*reloader
	client *lab.Host
	conns  []net.Conn
}

const quietConfig = `
log: {level: debug}
checks:
  app: {type: tcp, address: "192.0.2.3:7000", interval: 100ms, timeout: 30s, long_timeout: true, fall: 3}
  true: {type: exec, command: [/bin/true], interval: 1s, timeout: 30s, long_timeout: true}
  page: {type: http, url: "http://192.0.2.3:8000/", interval: 100ms, timeout: 30s, long_timeout: true, fall: 3}
vrrp:
  - name: VI_1
    interface: eth0
    vrid: 51
    interval: 100ms
    addresses: [192.0.2.10/24]
    track: [{check: app}, {check: "true", weight: -5}, {check: page}]
    notify: [[/bin/true]]
services:
  - {name: line, listen: "192.0.2.1:7000", mode: tcp, shutdown_timeout: 1s, backends: ["192.0.2.3:7000"], check: {type: tcp, interval: 100ms, timeout: 30s, long_timeout: true, fall: 3}}
  - {name: datagram, listen: "192.0.2.1:7001", mode: udp, backends: ["192.0.2.3:7001"]}
  - {name: web, listen: "192.0.2.1:8000", mode: http, shutdown_timeout: 1s, backends: ["192.0.2.3:8000"], check: {type: http, path: /, interval: 100ms, timeout: 30s, long_timeout: true, fall: 3}}
  - {name: secure, listen: "192.0.2.1:8443", mode: http, shutdown_timeout: 1s, tls: {certificates: [{certificate: %[1]s, key: %[1]s}]}, backends: ["192.0.2.3:8000"]}
`

func newQuietNode(t *testing.T, bin string) *quietNode {
	t.Helper()
	l := lab.New(t)
	h := l.MustHost("lb01", "192.0.2.1/24")
	n := &quietNode{client: l.MustHost("client", "192.0.2.2/24")}
	app := l.MustHost("app", "192.0.2.3/24")
	labtest.Serve(t, mustListen(t, app, ":7000"), labtest.EchoLines("app"))
	u, err := app.ListenPacket("udp", ":7001")
	if err != nil {
		t.Fatal(err)
	}
	labtest.ServePackets(t, u, labtest.Echo)
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			time.Sleep(200 * time.Millisecond)
		}
		_, _ = io.WriteString(w, "page")
	})}
	go web.Serve(mustListen(t, app, ":8000"))
	t.Cleanup(func() { web.Close() })

	dir := t.TempDir()
	labtest.WriteCertificate(t, filepath.Join(dir, "web.pem"), "www.example.org")
	n.reloader = startProgram(t, bin, h, fmt.Sprintf(quietConfig, filepath.Join(dir, "web.pem")))
	return n
}

func (n *quietNode) says(word string) {
	n.t.Helper()
	lab.Until(n.t, 30*time.Second, "the log says "+word, func() bool { return strings.Contains(n.cmd.Output(), word) })
}

func (n *quietNode) signal(s syscall.Signal) {
	n.t.Helper()
	if err := n.cmd.Signal(s); err != nil {
		n.t.Fatal(err)
	}
}

// signalGroup is what a terminal does on Ctrl-C.
func (n *quietNode) signalGroup() {
	n.t.Helper()
	if err := syscall.Kill(-n.cmd.Pid(), syscall.SIGINT); err != nil && err != syscall.ESRCH { // it may have ended by the first one
		n.t.Fatal(err)
	}
}

func (n *quietNode) active() {
	n.t.Helper()
	lab.Until(n.t, 30*time.Second, "the address is there", func() bool { return n.host.Holds(netip.MustParseAddr("192.0.2.10")) })
}

// connect opens connections of all kinds, which stay open.
func (n *quietNode) connect() {
	n.t.Helper()
	for _, network := range []string{"tcp 192.0.2.1:7000", "udp 192.0.2.1:7001", "tcp 192.0.2.1:8000", "tls 192.0.2.1:8443"} {
		kind, address, _ := strings.Cut(network, " ")
		c, err := net.Conn(nil), error(nil)
		if kind == "tls" {
			c, err = dialTLS(n.t.Context(), n.client, address, "www.example.org")
		} else {
			c, err = n.client.DialContext(n.t.Context(), kind, address)
		}
		if err != nil {
			n.t.Fatal(err)
		}
		n.t.Cleanup(func() { c.Close() })
		line := "x"
		if strings.Contains(address, ":8") {
			line = "GET / HTTP/1.1\r\nHost: www.example.org\r\n\r\n"
		}
		if got, err := exchangeLine(c, line); err != nil && kind != "udp" {
			n.t.Errorf("%s: %q, %v", network, got, err)
		}
		n.conns = append(n.conns, c)
	}
}

// request has requests under way.
func (n *quietNode) request() {
	n.t.Helper()
	for _, address := range []string{"192.0.2.1:8000", "192.0.2.1:8443"} {
		c, err := n.client.DialContext(n.t.Context(), "tcp", address)
		if strings.HasSuffix(address, "443") {
			c, err = dialTLS(n.t.Context(), n.client, address, "www.example.org")
		}
		if err != nil {
			n.t.Fatal(err)
		}
		n.t.Cleanup(func() { c.Close() })
		if _, err := io.WriteString(c, "GET /slow HTTP/1.1\r\nHost: www.example.org\r\n\r\n"); err != nil {
			n.t.Fatal(err)
		}
	}
}

// reload goes on with another file, and with the one before.
func (n *quietNode) reload() {
	n.t.Helper()
	before, err := os.ReadFile(n.file)
	if err != nil {
		n.t.Fatal(err)
	}
	after := strings.NewReplacer("fall: 3}", "fall: 4}", "vrid: 51", "vrid: 51\n    priority: 120", "mode: udp", "mode: udp, balance: random").Replace(string(before))
	for i, text := range []string{after, string(before), after} {
		n.write(text)
		n.signal(syscall.SIGHUP)
		lab.Until(n.t, 30*time.Second, "it has reloaded", func() bool { return strings.Count(n.cmd.Output(), "msg=reloaded") == i+1 })
	}
}

// stop ends the daemon and looks at what it had to say.
func (n *quietNode) stop() {
	n.t.Helper()
	err := n.cmd.Stop(30 * time.Second)
	out := n.cmd.Output()
	if err != nil {
		n.t.Errorf("it ends with %v", err)
	}
	for line := range strings.Lines(out) {
		if !strings.HasPrefix(line, "time=") || strings.Contains(line, "level=ERROR") || strings.Contains(line, "level=WARN") {
			n.t.Errorf("it says %s", line)
		}
	}
	if n.t.Failed() {
		n.t.Log(out)
	}
}
