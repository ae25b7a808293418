package admin

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
	"github.com/havip/havip/internal/report"
)

func TestMain(m *testing.M) { lab.Main(m) }

// fakeNode notes what it is asked to do.
type fakeNode struct {
	ring *report.Ring

	mu     sync.Mutex
	status report.Status
	done   []string
	err    error
	block  chan struct{} // Explain waits for it; nil: does not
}

func newFakeNode() *fakeNode {
	return &fakeNode{ring: report.NewRing(1000), status: report.Status{
		Node:     report.Node{Host: "lb01", PID: 42, Started: time.Now()},
		Routers:  []report.Router{{Name: "VI_1", State: "Backup"}, {Name: "VI_2", State: "Active"}},
		Services: []report.Service{{Name: "web", Serving: true}},
	}}
}

func (n *fakeNode) note(format string, args ...any) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.done = append(n.done, fmt.Sprintf(format, args...))
	return n.err
}

// took returns what was asked for since the last call.
func (n *fakeNode) took() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := strings.Join(n.done, "; ")
	n.done = nil
	return all
}

func (n *fakeNode) fails(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.err = err
}

// blocks has Explain wait until free is called.
func (n *fakeNode) blocks() (free func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.block = make(chan struct{})
	return sync.OnceFunc(func() { close(n.block) })
}

// change edits the status.
func (n *fakeNode) change(edit func(s *report.Status)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	edit(&n.status)
}

func (n *fakeNode) Status() *report.Status {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.status
	return &s
}
func (n *fakeNode) Events() *report.Ring { return n.ring }
func (n *fakeNode) Explain(a netip.Addr) (report.Explanation, error) {
	if a == netip.MustParseAddr("192.0.2.66") {
		panic("explain")
	}
	n.mu.Lock()
	block := n.block
	n.mu.Unlock()
	if block != nil {
		<-block
	}
	return report.Explanation{Address: a.String(), Sentences: []string{"It is not here."}}, n.note("explain %v", a)
}
func (n *fakeNode) Resign(router string) error { return n.note("resign %q", router) }
func (n *fakeNode) SetPriority(router string, p int) error {
	return n.note("priority %q %d", router, p)
}
func (n *fakeNode) SetMaintenance(on bool, reason string) (string, error) {
	return "not lasting", n.note("maintenance %v %q", on, reason)
}
func (n *fakeNode) SetServiceMaintenance(service string, on *bool) error {
	text, _ := json.Marshal(on)
	return n.note("service maintenance %q %s", service, text)
}
func (n *fakeNode) SetBackend(service, backend string, c BackendChange) error {
	text, _ := json.Marshal(c)
	return n.note("backend %q %q %s", service, backend, text)
}
func (n *fakeNode) SteerCheck(name, do string) error { return n.note("check %q %q", name, do) }
func (n *fakeNode) Reload(_ context.Context, dry bool) (report.Change, error) {
	return report.Change{DryRun: dry}, n.note("reload %v", dry)
}
func (n *fakeNode) TestAlarm(_ context.Context, name string) error { return n.note("alarm %q", name) }
func (n *fakeNode) ReopenLogs() error                              { return n.note("reopen") }
func (n *fakeNode) SetLogLevel(level string) error                 { return n.note("log %q", level) }

const testToken = "0123456789abcdef"

// fixture is a running server.
type fixture struct {
	*testing.T
	s      *Server
	node   *fakeNode
	log    *labtest.Log
	socket string // its path
	tcp    string // its address
	stop   func()
}

// start runs a server with a socket and, if edit does not change that, with a listener on
// loopback that has a token.
func start(t *testing.T, edit func(c *config.Admin)) *fixture {
	t.Helper()
	f := &fixture{T: t, node: newFakeNode(), log: new(labtest.Log), tcp: lab.FreeAddress(t)}
	dir, err := os.MkdirTemp("", "havip") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	f.socket = filepath.Join(dir, "havip.sock")
	cfg := config.Admin{Socket: f.socket, Listen: netip.MustParseAddrPort(f.tcp), Token: secretOf(t, testToken)}
	if edit != nil {
		edit(&cfg)
	}
	f.s = New(Config{Admin: cfg, Log: slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug}))}, f.node)
	f.stop = labtest.Run(t, f.s.Run)
	if cfg.Socket != config.Off {
		f.until("the socket is there", func() bool { return f.log.Count("listening\" socket=") > 0 })
	}
	if cfg.Listen.Port() != 0 {
		f.until("TCP is there", func() bool { return f.log.Count("listening\" listen=") > 0 })
	}
	return f
}

// secretOf makes a secret as a file does.
func secretOf(t *testing.T, text string) config.Secret {
	t.Helper()
	c, err := config.Parse("f.yaml", []byte("admin: {listen: \"127.0.0.1:1\", token: "+text+"}\nservices: [{name: web, listen: \":80\", backends: [\"192.0.2.7:80\"]}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	return c.Admin.Token
}

func (f *fixture) until(what string, done func() bool) {
	f.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			f.Fatalf("never: %s\n%s", what, f.log)
		}
	}
}

// client is an HTTP client of the socket, or of TCP.
func (f *fixture) client(socket bool) *http.Client {
	t := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	if socket {
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", f.socket)
		}
	}
	f.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t, Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// response is what came back.
type response struct {
	status int
	header http.Header
	body   string
}

// ask sends a request to TCP, or with @ before the path to the socket. headers are pairs.
func (f *fixture) ask(method, path, body string, headers ...string) response {
	f.Helper()
	path, socket := strings.CutPrefix(path, "@")
	r, err := http.NewRequest(method, "http://"+f.tcp+path, strings.NewReader(body))
	if err != nil {
		f.Fatal(err)
	}
	if method != "GET" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		if r.Header.Set(headers[i], headers[i+1]); headers[i] == "Host" {
			r.Host = headers[i+1]
		}
	}
	return f.do(f.client(socket), r)
}

func (f *fixture) do(c *http.Client, r *http.Request) response {
	f.Helper()
	answer, err := c.Do(r)
	if err != nil {
		f.Fatalf("%s %s: %v\n%s", r.Method, r.URL, err, f.log)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		f.Fatal(err)
	}
	return response{answer.StatusCode, answer.Header, string(text)}
}

// want fails unless a response has a status and a text in it.
func (f *fixture) want(what string, r response, status int, text string) {
	f.Helper()
	if r.status != status || !strings.Contains(r.body, text) {
		f.Errorf("%s: %d %s, want %d with %q", what, r.status, bytes.TrimSpace([]byte(r.body)), status, text)
	}
}

var bearer = []string{"Authorization", "Bearer " + testToken}

// TestRoutes: what each route asks the node to do, and what it answers, on the socket.
func TestRoutes(t *testing.T) {
	f := start(t, nil)
	for _, c := range []struct {
		request, body string
		status        int
		done, answer  string
	}{
		{"GET /api/v1/status", "", 200, "", `"host":"lb01"`},
		{"HEAD /api/v1/status", "", 200, "", ""},
		{"GET /api/v1/events", "", 200, "", `{"events":[],"last":0,"lost":false}`},
		{"GET /api/v1/explain/192.168.31.250", "", 200, "explain 192.168.31.250", `"It is not here."`},
		{"GET /api/v1/explain/fe80::1", "", 200, "explain fe80::1", ""},
		{"GET /api/v1/explain/VI_1", "", 400, "", `want an address such as 192.168.31.250`},
		{"GET /api/v1/access", "", 200, "", `"steers":true`},
		{"POST /api/v1/routers/VI_1/resign", "", 204, `resign "VI_1"`, ""},
		{"POST /api/v1/routers/VI_1/resign", "{}", 204, `resign "VI_1"`, ""},
		{"PUT /api/v1/routers/VI_1/priority", `{"priority": 90}`, 204, `priority "VI_1" 90`, ""},
		{"PUT /api/v1/routers/VI_1/priority", `{"priority": 0}`, 400, "", "priority: 0: want 1 to 254"},
		{"PUT /api/v1/routers/VI_1/priority", `{"priority": 255}`, 400, "", "want 1 to 254"},
		{"DELETE /api/v1/routers/VI_1/priority", "", 204, `priority "VI_1" 0`, ""},
		{"PUT /api/v1/maintenance", `{"on": true, "reason": "kernel"}`, 200, `maintenance true "kernel"`, `{"warning":"not lasting"}`},
		{"PUT /api/v1/maintenance", `{"on": false}`, 200, `maintenance false ""`, ""},
		{"PUT /api/v1/maintenance", `{"reason": "x"}`, 400, "", `key on is missing: want a JSON object such as {\"on\": true, \"reason\": \"...\"}`},
		{"PUT /api/v1/services/web/maintenance", `{"on": true}`, 204, `service maintenance "web" true`, ""},
		{"PUT /api/v1/services/web/maintenance", `{"on": false}`, 204, `service maintenance "web" false`, ""},
		{"PUT /api/v1/services/web/maintenance", `{}`, 400, "", "key on is missing"},
		{"DELETE /api/v1/services/web/maintenance", "", 204, `service maintenance "web" null`, ""},
		{"PUT /api/v1/services/web/backends/192.168.31.242:8080", `{"drain": true}`, 204, `backend "web" "192.168.31.242:8080" {"Reset":false,"Drain":true,"Weight":null}`, ""},
		{"PUT /api/v1/services/web/backends/app1/192.168.31.242:8080", `{"weight": 3, "drain": false}`, 204, `backend "web" "app1/192.168.31.242:8080" {"Reset":false,"Drain":false,"Weight":3}`, ""},
		{"PUT /api/v1/services/web/backends/app1%2F192.168.31.242:8080", `{"weight": 0}`, 204, `backend "web" "app1/192.168.31.242:8080" {"Reset":false,"Drain":null,"Weight":0}`, ""},
		{"PUT /api/v1/services/web/backends/a", `{"weight": -1}`, 204, `backend "web" "a" {"Reset":false,"Drain":null,"Weight":-1}`, ""},
		{"PUT /api/v1/services/web/backends/a", `{"weight": -2}`, 400, "", "weight: -2: want 0 to 65535, or -1 for the file's"},
		{"PUT /api/v1/services/web/backends/a", `{"weight": 65536}`, 400, "", "weight: 65536: want 0 to 65535"},
		{"PUT /api/v1/services/web/backends/a", `{}`, 400, "", "want drain, weight or both"},
		{"DELETE /api/v1/services/web/backends/a", "", 204, `backend "web" "a" {"Reset":true,"Drain":null,"Weight":null}`, ""},
		{"POST /api/v1/checks/balancer/pause", "", 204, `check "balancer" "pause"`, ""},
		{"POST /api/v1/checks/web/192.168.31.242:8080/now", "", 204, `check "web/192.168.31.242:8080" "now"`, ""},
		{"POST /api/v1/checks/web%2F192.168.31.242:8080/resume", "", 204, `check "web/192.168.31.242:8080" "resume"`, ""},
		{"POST /api/v1/alarms/ops/test", "", 204, `alarm "ops"`, ""},
		{"POST /api/v1/checks/balancer/stop", "", 404, "", "want pause, resume or now"},
		{"POST /api/v1/checks/balancer/resum", "", 404, "", "did you mean resume?"},
		{"POST /api/v1/reload", "", 200, "reload false", `{"dry_run":false,"parts":[]`},
		{"POST /api/v1/reload", `{"dry_run": true}`, 200, "reload true", `"dry_run":true`},
		{"PUT /api/v1/log", `{"level": "debug"}`, 204, `log "debug"`, ""},
		{"PUT /api/v1/log", `{"level": "warning"}`, 400, "", "did you mean warn?"},
		{"DELETE /api/v1/log", "", 204, `log ""`, ""},
		{"GET /healthz", "", 200, "", `{"ok":true}`},
		{"GET /readyz", "", 200, "", `{"ready":true,"reasons":[]}`},
		{"GET /api/v1/openapi.json", "", 200, "", `"openapi"`},
		{"GET /", "", 200, "", "<!doctype html>"},
		{"GET /debug/pprof/cmdline", "", 404, "", "set admin.pprof: true"},
	} {
		t.Run(c.request+" "+c.body, func(t *testing.T) {
			f.T = t
			method, path, _ := strings.Cut(c.request, " ")
			got := f.ask(method, "@"+path, c.body)
			f.want(c.request, got, c.status, c.answer)
			if done := f.node.took(); done != c.done {
				t.Errorf("the node was asked to %s, want %s", done, c.done)
			}
			if c.status >= 400 && !json.Valid([]byte(got.body)) {
				t.Errorf("an error that is not JSON: %s", got.body)
			}
		})
	}
}

// TestErrorsOfTheNode become the statuses that they stand for, and are logged with who asked.
func TestErrorsOfTheNode(t *testing.T) {
	f := start(t, nil)
	for _, c := range []struct {
		err    error
		status int
	}{
		{fmt.Errorf("no router VI_9: %w", report.ErrUnknown), 404},
		{fmt.Errorf("VI_1 is not Active: %w", report.ErrState), 409},
		{fmt.Errorf("priority of an owner: %w", report.ErrInvalid), 400},
		{io.ErrUnexpectedEOF, 500},
	} {
		f.node.fails(c.err)
		f.want(c.err.Error(), f.ask("POST", "@/api/v1/routers/VI_1/resign", ""), c.status, c.err.Error())
	}
	f.node.fails(nil)
	f.ask("POST", "@/api/v1/routers/VI_1/resign", "")
	// The log comes behind the answers.
	lab.Eventually(t, 20*time.Second, "the log has them all", func() error {
		not := f.log.Lines("msg=\"not steered\"", "what=resign", "router=VI_1", fmt.Sprintf(`by="user %d, process %d`, os.Geteuid(), os.Getpid()))
		if done := f.log.Lines("msg=steered", "what=resign", "router=VI_1", "by="); len(not) != 4 || len(done) != 1 {
			return fmt.Errorf("%d and %d lines, want 4 and 1\n%s", len(not), len(done), f.log)
		}
		return nil
	})
}

// TestPanicEndsOneRequest: it is logged, and all else goes on.
func TestPanicEndsOneRequest(t *testing.T) {
	f := start(t, nil)
	f.want("panic", f.ask("GET", "@/api/v1/explain/192.0.2.66", ""), 500, "a fault of havip: its log has more")
	f.want("afterwards", f.ask("GET", "@/healthz", ""), 200, "true")
	f.until("it is logged", func() bool { return len(f.log.Lines("a request panicked", "stack=")) == 1 })
}
