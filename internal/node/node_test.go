package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/havip/havip/healthcheck"
	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/daemon"
	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
	"github.com/havip/havip/internal/report"
	"github.com/havip/havip/lb"
)

func TestMain(m *testing.M) {
	daemon.Main() // the tests' program is its own guard, too
	lab.Main(m)
}

// bound is for what has to happen sooner or later.
const bound = 30 * time.Second

// testNode is a Node whose file a test may change.
type testNode struct {
	*Node
	signals chan os.Signal
	logged  *labtest.Log

	mu   sync.Mutex
	file string
}

// write makes the next reload read something else.
func (n *testNode) write(file string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.file = file
}

func (n *testNode) load(context.Context) (*config.Config, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	file := n.file
	if !strings.Contains(file, "admin:") {
		file = "admin: {socket: off, state: off}\n" + file
	}
	return config.Parse("test.yaml", []byte(file))
}

// startNode runs a Node until the test ends. within calls New where the sockets belong.
func startNode(t testing.TB, file string, within func(func() error) error) *testNode {
	t.Helper()
	n := &testNode{signals: make(chan os.Signal, 1), logged: &labtest.Log{}, file: file}
	cfg, err := n.load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	log, err := daemon.NewLog(n.logged, cfg.Log)
	if err == nil {
		err = within(func() (err error) {
			n.Node, err = New(Config{Configuration: cfg, Load: n.load, File: "test.yaml", Log: log, Version: "v1"})
			return err
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx, n.signals) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(n.logged.String())
		}
	})
	return n
}

func here(f func() error) error { return f() }

// has waits until the node had an event with all of these.
func (n *testNode) has(t *testing.T, kind string, parts ...string) {
	t.Helper()
	lab.Until(t, bound, fmt.Sprint(kind, " event with ", parts), func() bool {
		events, _, _ := n.Events().After(0)
		for _, e := range events {
			text := fmt.Sprintf("%+v", e)
			found := e.Kind == kind
			for _, part := range parts {
				found = found && strings.Contains(text, part)
			}
			if found {
				return true
			}
		}
		return false
	})
}

// TestStatusOfServices: what a service, its backends, its checks and its certificate are
// is in the status.
func TestStatusOfServices(t *testing.T) {
	pem := filepath.Join(t.TempDir(), "web.pem")
	leaf := labtest.WriteCertificate(t, pem, "www.example.org")
	alive := labtest.Listen(t, func(c net.Conn) { c.Close() })
	dead, listen, taken := lab.FreeAddress(t), lab.FreeAddress(t), labtest.Listen(t, func(c net.Conn) { c.Close() })
	n := startNode(t, fmt.Sprintf(`
checks:
  local: {type: tcp, address: %q, interval: 50ms, fall: 1, rise: 1}
  port: {type: tcp, interval: 50ms}
services:
  - name: web
    listen: %q
    mode: tcp
    balance: least-conn
    tls: {certificates: [{certificate: %s, key: %s}]}
    backends: [{address: %q, weight: 3}, {address: %q}]
    check: {type: tcp, interval: 50ms, fall: 1, rise: 1}
  - {name: late, listen: %q, mode: tcp, backends: [%q], check: port}
`, dead, listen, pem, pem, alive, dead, taken, alive), here)
	var s *report.Status
	lab.Until(t, bound, "everything is found out", func() bool {
		s = n.Status()
		return len(s.Services) == 2 && s.Services[1].Problem != "" && s.Services[0].Serving && len(s.Checks) == 1 && s.Checks[0].State == "down" &&
			len(s.Services[0].Pools[0].Backends) == 2 && s.Services[0].Pools[0].Backends[1].State == "down" && s.Services[0].Pools[0].Backends[0].CheckLatency > 0
	})
	check := s.Checks[0]
	if check.Name != "local" || !strings.Contains(check.Target, dead) || !strings.Contains(check.Error, "refused") || check.Probes == 0 || check.Failed == 0 {
		t.Errorf("the check is %+v", check)
	}
	web := s.Services[0]
	if web.Name != "web" || web.Listen != listen || web.Mode != "tcp" || web.Balance != "least-conn" || web.Problem != "" {
		t.Errorf("the service is %+v", web)
	}
	if u := web.TLSUntil; len(u) != 1 || !u[0].End.Equal(leaf.NotAfter) || u[0].File != pem || strings.Join(u[0].Names, " ") != "www.example.org" {
		t.Errorf("the certificates are %+v, want the end %v", u, leaf.NotAfter)
	}
	up, down := web.Pools[0].Backends[0], web.Pools[0].Backends[1]
	if up.Address != alive || up.State != "up" || up.Weight != 3 || up.ConfiguredWeight != 3 || !up.InUse || !up.Checked || up.Probed.IsZero() || up.Error != "" {
		t.Errorf("the backend that is up is %+v", up)
	}
	if down.Address != dead || down.InUse || !strings.Contains(down.Error, "refused") || down.Since.IsZero() {
		t.Errorf("the backend that is down is %+v", down)
	}
	if late := s.Services[1]; late.Serving || late.Pools[0].Check != "port" || web.Pools[0].Check != "" || !strings.Contains(late.Problem, syscall.EADDRINUSE.Error()) {
		t.Errorf("the service without a port is %+v", late)
	}
	node := s.Node
	if node.PID != os.Getpid() || node.Version != "v1" || node.File != "test.yaml" || node.LogLevel != "info" || node.Loaded.IsZero() || node.Started.IsZero() {
		t.Errorf("the node is %+v", node)
	}
	n.has(t, report.KindCheck, "check is down", "Check:local")
	n.has(t, report.KindBackend, "backend is down", "Service:web", "Backend:"+dead)
	n.has(t, report.KindService, "service does not run", "Service:late")
}

// TestEmptyStatus: a list of nothing is a list, for those who read JSON.
func TestEmptyStatus(t *testing.T) {
	n := startNode(t, smallFile(t), here)
	text, err := json.Marshal(n.Status())
	if err != nil || strings.Contains(string(text), "null") {
		t.Errorf("the status is %s, %v", text, err)
	}
}

// TestReloads: a signal has the file read again, and the status says what came of it.
func TestReloads(t *testing.T) {
	small := smallFile(t)
	n := startNode(t, small, here)
	outcome := func(what string, want func(report.Node) bool) {
		t.Helper()
		n.signals <- syscall.SIGHUP
		lab.Until(t, bound, what, func() bool { return want(n.Status().Node) })
	}
	began := n.Status().Node.Started
	n.write(small + "log: {level: whisper}")
	outcome("the error is there", func(s report.Node) bool {
		return strings.Contains(s.ReloadError, "whisper") && s.ReloadFailed.After(began) && s.LogLevel == "info"
	})
	n.has(t, report.KindReload, "Message:reload ", "whisper")
	n.write(small + "log: {level: error}\nchecks: {unused: {type: tcp, address: \"127.0.0.1:1\"}}")
	outcome("the error is gone", func(s report.Node) bool {
		return s.ReloadError == "" && s.ReloadFailed.IsZero() && s.LogLevel == "error" && s.Loaded.After(began)
	})
	n.has(t, report.KindReload, "Message:reloaded") // although the log's level is error
	if len(n.Status().Node.Warnings) == 0 {
		t.Error("the warning of a check that nobody uses is not in the status")
	}
	for _, dryRun := range []bool{true, false} {
		if c, err := n.Reload(t.Context(), dryRun); err != nil || !strings.Contains(strings.Join(c.Warnings, "\n"), "unused") {
			t.Errorf("dry run %v: %v, and the warnings %q: want that of the check", dryRun, err, c.Warnings)
		}
	}
}

// TestFailedReloads: the status has the warnings of the file in force, and the log the level
// of that file, whatever of a reload has failed.
func TestFailedReloads(t *testing.T) {
	taken := labtest.Listen(t, func(c net.Conn) { c.Close() }) // 127.0.0.1
	_, port, _ := net.SplitHostPort(taken)
	other := lab.FreeAddress(t)
	file := func(listen, more string) string {
		return fmt.Sprintf("services: [{name: web, listen: %q, mode: tcp, backends: [%q]}]\n%s", listen, other, more)
	}
	const unused = "checks: {unused: {type: tcp, address: \"127.0.0.1:1\"}}\nlog: {level: error}"
	for _, tc := range []struct {
		what, before, after string
		level               string
		warnings            int
	}{
		{"nothing changes: the port is a stranger's", lab.FreeAddress(t), taken, "info", 0},
		{"all but the service changes: its port was to become free", "127.0.0.2:" + port, taken, "error", 1},
	} {
		n := startNode(t, file(tc.before, ""), here)
		lab.Until(t, bound, "it serves", func() bool { s := n.Status(); return len(s.Services) == 1 && s.Services[0].Serving })
		n.write(file(tc.after, unused))
		if _, err := n.Reload(t.Context(), false); err == nil {
			t.Errorf("%s: no error", tc.what)
		}
		if s := n.Status().Node; s.ReloadError == "" || s.LogLevel != tc.level || len(s.Warnings) != tc.warnings {
			t.Errorf("%s: level %s, warnings %q, error %q", tc.what, s.LogLevel, s.Warnings, s.ReloadError)
		}
	}
}

// TestUnknownAddress: what is asked about an address that is in no router's list says
// which there are.
func TestUnknownAddress(t *testing.T) {
	n := startNode(t, smallFile(t), here)
	if _, err := n.Explain(vip); !errors.Is(err, report.ErrUnknown) {
		t.Errorf("got %v, want %v", err, report.ErrUnknown)
	}
}

// smallFile has a service and nothing else.
func smallFile(t testing.TB) string {
	return fmt.Sprintf("services: [{name: web, listen: %q, mode: tcp, backends: [%q]}]\n", lab.FreeAddress(t), lab.FreeAddress(t))
}

var vip = netip.MustParseAddr("192.168.31.250")

// TestStatusOfBackend: a weight of 0, which a library has as a negative one, is 0 for
// people; a check that is paused says so; and a state that has never changed is as old as
// the check.
func TestStatusOfBackend(t *testing.T) {
	for name, tt := range map[string]struct{ library, configured, want, wantConfigured int }{
		"by a command": {-1, 3, 0, 3},
		"in the file":  {-1, -1, 0, 0},
		"a share":      {2, 1, 2, 1},
	} {
		got := backendStatus(lb.BackendStatus{BackendSnapshot: lb.BackendSnapshot{Backend: lb.Backend{Weight: tt.library}, ConfiguredWeight: tt.configured}}, healthcheck.Status{}, false)
		if got.Weight != tt.want || got.ConfiguredWeight != tt.wantConfigured {
			t.Errorf("%s: weight %d (%d), want %d (%d)", name, got.Weight, got.ConfiguredWeight, tt.want, tt.wantConfigured)
		}
	}
	since := time.Now().Add(-time.Hour)
	got := backendStatus(lb.BackendStatus{}, healthcheck.Status{Since: since, Paused: true}, true)
	if !got.CheckPaused || !got.Since.Equal(since) {
		t.Errorf("%+v, want that the check is paused, and the state as old as its", got)
	}
}
