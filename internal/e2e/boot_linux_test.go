package e2e

import (
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
)

// TestBootOrder: havip is started before one of its interfaces exists, and while
// somebody has one of its ports. What can run does at once, and the rest follows by
// itself. With --strict-start it ends instead, and names all that is missing.
func TestBootOrder(t *testing.T) {
	t.Parallel()
	exe := havip(t)
	l := lab.New(t)
	h := l.MustHost("lb01", "192.168.31.240/24")
	client := l.MustHost("client", "192.168.31.10/24")
	backend, err := client.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "it answers") })}
	go server.Serve(backend)
	defer server.Close()
	taken, err := h.Listen("tcp", ":8081")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := filepath.Join(t.TempDir(), "havip.yaml")
	text := `checks:
  up: {type: interface, interface: eth1, interval: 200ms, rise: 1, fall: 1}
vrrp:
  - {name: VI_1, interface: eth0, vrid: 51, interval: 100ms, addresses: [192.168.31.250/24]}
  - {name: VI_2, interface: eth1, vrid: 52, interval: 100ms, addresses: [10.0.0.250/24]}
  - {name: VI_3, interface: eth0, vrid: 53, interval: 100ms, addresses: [192.168.31.253/24], track: [{check: up}]}
services:
  - {name: web, listen: ":8080", mode: http, backends: ["192.168.31.10:80"]}
  - {name: busy, listen: ":8081", mode: tcp, backends: ["192.168.31.10:80"]}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out := exitOf(t, h.Command(exe, "run", "-c", file, "--strict-start"))
	lines := strings.Split(strings.TrimSpace(out), "\n")
	for i, want := range [][]string{{"havip.yaml:9:5: service busy: ", "address already in use"}, {"havip.yaml:5:5: VI_2: ", "link eth1 missing"}} {
		if code != 1 || len(lines) != 2 || !strings.HasPrefix(lines[i], "havip run: ") || !strings.Contains(lines[i], want[0]) || !strings.Contains(lines[i], want[1]) {
			t.Errorf("--strict-start: exit code %d:\n%s\nwant 1, and line %d to say %q", code, out, i+1, want)
		}
	}

	cmd := h.Command(exe, "run", "-c", file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	answers := func(address string) bool {
		get := http.Client{Transport: &http.Transport{DialContext: client.DialContext, DisableKeepAlives: true}, Timeout: time.Second}
		r, err := get.Get("http://" + address)
		if err != nil {
			return false
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		return err == nil && string(b) == "it answers"
	}
	lab.Until(t, 30*time.Second, "the service answers at the address of the good router", func() bool { return answers(vip.String() + ":8080") })
	says := func(parts ...string) {
		t.Helper()
		lab.Until(t, 30*time.Second, strings.Join(parts, " "), func() bool {
			for line := range strings.Lines(cmd.Output()) {
				rest := parts
				for len(rest) > 0 && strings.Contains(line, rest[0]) {
					rest = rest[1:]
				}
				if len(rest) == 0 {
					return true
				}
			}
			return false
		})
	}
	says("level=WARN", "router=VI_2", "cause=fault", "link eth1 missing")
	says("router=VI_3", `reason="check up is down"`)
	says("level=ERROR", "service=busy", "address already in use", "retry=")
	second := netip.MustParseAddr("10.0.0.250")
	s, err := l.Segment("second")
	if err == nil {
		err = h.Attach("eth1", s, netip.MustParsePrefix("10.0.0.1/24"))
	}
	if err != nil {
		t.Fatal(err)
	}
	came := time.Now()
	lab.Until(t, 30*time.Second, "the router takes part", func() bool { return h.Holds(second) })
	t.Logf("the address is there %v after its interface", time.Since(came))
	says("level=INFO", "router=VI_2", `cause="fault cleared"`)
	lab.Until(t, 30*time.Second, "the router that tracks the interface takes part", func() bool { return h.Holds(netip.MustParseAddr("192.168.31.253")) })
	taken.Close()
	lab.Until(t, 40*time.Second, "the service has its port", func() bool { return answers("192.168.31.240:8081") })
	says("level=INFO", "service=busy", "serving")
	if t.Failed() || testing.Verbose() {
		t.Log(cmd.Output())
	}
	if err := cmd.Stop(10 * time.Second); err != nil {
		t.Error(err)
	}
}
