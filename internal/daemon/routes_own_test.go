package daemon

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab/labtest"
)

// keptClient asks a service on one connection, which a reload must not end.
type keptClient struct {
	net.Conn
	in *bufio.Reader
}

func newKeptClient(t *testing.T, port string) *keptClient {
	t.Helper()
	c, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &keptClient{c, bufio.NewReader(c)}
}

// ask returns the status and the content of an answer.
func (c *keptClient) ask(t *testing.T, path string) string {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
	res, err := http.ReadResponse(c.in, nil)
	if err != nil {
		t.Errorf("%s: %v", path, err)
		return err.Error()
	}
	body, _ := io.ReadAll(res.Body)
	return fmt.Sprint(res.StatusCode, " ", string(body))
}

// TestAccessLogOffInRoute: the requests of a route without log have no line, neither in the file
// nor in havip's own log, until a reload says otherwise. They count all the time.
func TestAccessLogOffInRoute(t *testing.T) {
	file, port := filepath.Join(t.TempDir(), "web.log"), freePort(t)
	config := func(log bool) string {
		return fmt.Sprintf(`services: [{name: web, listen: "127.0.0.1:%s", backends: ["%s"], access_log: {log: true, file: %s},
  routes: [{name: health, paths: [/health], access_log: %t, http: {answer: {status: 204}}}]}]`, port, "127.0.0.1:9", file, log)
	}
	var own labtest.Log
	d := startLogging(t, config(false), slog.New(slog.NewTextHandler(&own, nil)))
	until(t, "the service is there", func() bool { return d.View().Services[0].Serving() })
	c := newKeptClient(t, port)
	ask := func(path, want string) {
		t.Helper()
		if got := c.ask(t, path); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q, want %s", path, got, want)
		}
	}
	both := func(want string) {
		t.Helper()
		until(t, want+" is in both logs", func() bool { return strings.Contains(logged(file), want) && strings.Contains(own.String(), want) })
	}
	ask("/health/1", "204")
	ask("/2", "502")
	both("/2")
	mustReload(t, d, config(true))
	ask("/health/3", "204")
	both("/health/3")
	mustReload(t, d, config(false))
	ask("/health/4", "204")
	ask("/5", "502")
	both("/5")
	for name, log := range map[string]string{"the file": logged(file), "havip's log": own.String()} {
		if strings.Contains(log, "/health/1") || strings.Contains(log, "/health/4") {
			t.Errorf("%s has requests of the route without log:\n%s", name, log)
		}
	}
	until(t, "all are counted", func() bool { return d.View().Services[0].Tally().Statuses[2] == 3 })
	if got := d.View().Services[0].Stats().Accepted; got != 5 {
		t.Errorf("%d requests, want 5", got)
	}
}

// secureServer answers with its name, by TLS with the certificate of a file.
func secureServer(t *testing.T, name, file string) (address string) {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(file, file)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, name) }))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// TestRoutesOwnTLSAndBalance: a route with backends of its own reaches them by TLS or without,
// whatever the service does, and chooses among them by a balance and a pool of its own. A reload
// of each loses no request, and what it does not concern keeps its pool and its connections.
func TestRoutesOwnTLSAndBalance(t *testing.T) {
	file, port := filepath.Join(t.TempDir(), "api.pem"), freePort(t)
	newCertificate(t, file, "api.example.org")
	backends := []any{webServer(t, "above"), secureServer(t, "api", file), secureServer(t, "api", file), webServer(t, "plain")}
	verified := ", backend_tls: {server_name: api.example.org, ca: " + file + "}"
	text := func(above, api, plain string) string {
		return fmt.Sprintf(`services: [{name: web, listen: "127.0.0.1:`+port+`", backends: ["%s"]`+above+`, routes: [
  {name: api, paths: [/api/], backends: ["%s", "%s"]`+api+`}, {name: plain, paths: [/plain/], backends: ["%s"]`+plain+`}]}]`, backends...)
	}
	d := startDaemon(t, text("", verified, ""))
	until(t, "the service is there", func() bool { return d.View().Services[0].Serving() })
	c := newKeptClient(t, port)
	ask := func(path, want string) {
		t.Helper()
		if got := c.ask(t, path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	ask("/api/1", "200 api")
	ask("/plain/1", "200 plain  http")
	ask("/", "200 above  http")
	connects := func(route string) (n []uint64) {
		for _, b := range d.services[0].upstreams[route].pool.Status().Backends {
			n = append(n, b.Connects)
		}
		return n
	}
	pools := func() [3]any {
		u := d.services[0].upstreams
		return [3]any{u[""].pool, u["api"].pool, u["plain"].pool}
	}
	before := pools()

	var load sync.WaitGroup
	var over atomic.Bool
	var asked atomic.Int64
	for _, path := range []string{"/api/", "/plain/"} {
		client := newKeptClient(t, port)
		load.Go(func() {
			for !over.Load() && !t.Failed() {
				if got := client.ask(t, path); !strings.HasPrefix(got, "200 ") {
					t.Errorf("%s: %q", path, got)
				}
				asked.Add(1)
			}
		})
	}
	more := func() {
		was := asked.Load()
		until(t, "requests", func() bool { return asked.Load() >= was+10 || t.Failed() })
	}
	for range 3 {
		for _, step := range [][3]string{
			{"", verified + ", balance: source-hash, pool: {slow_start: 0s, max_fails: 0}", ", pool: {queue: 5}"},
			{", backend_tls: {insecure: true}, balance: least-conn", ", balance: maglev, pool: {max_fails: 0}", ", backend_tls: off, connect_timeout: 3s, tries: 1"}, // above has no TLS
			{"", ", backend_tls: {insecure: true}", ""},
			{"", verified, ", balance: random"},
		} {
			mustReload(t, d, text(step[0], step[1], step[2]))
			more()
		}
	}
	over.Store(true)
	load.Wait()
	if after := pools(); after != before {
		t.Errorf("pools %v, before %v", after, before)
	}

	// With source-hash one client has one backend; and the route that is not concerned keeps
	// the connection that it has.
	mustReload(t, d, text("", verified, ""))
	ask("/plain/2", "200 plain  http")
	plain := connects("plain")
	mustReload(t, d, text("", verified+", balance: source-hash, pool: {kill_on_down: true}", ""))
	chosen := func() (n int) {
		status := d.services[0].upstreams["api"].pool.Status().Backends
		before := []uint64{status[0].Picks, status[1].Picks}
		for range 6 {
			ask("/api/", "200 api")
		}
		for i, b := range d.services[0].upstreams["api"].pool.Status().Backends {
			if b.Picks > before[i] {
				n++
			}
		}
		return n
	}
	if n := chosen(); n != 1 {
		t.Errorf("source-hash of the route has chosen %d backends for a client, want 1", n)
	}
	ask("/plain/3", "200 plain  http")
	if cfg := d.services[0].upstreams["api"].cfg.pool; !cfg.KillOnDown || d.services[0].upstreams["plain"].cfg.pool.KillOnDown {
		t.Errorf("pools %+v, want kill_on_down of the route api alone", cfg)
	}
	if is := connects("plain"); is[0] != plain[0] {
		t.Errorf("%d connections to the backend of a route that is not concerned, before %d", is[0], plain[0])
	}
	secure := connects("api")
	mustReload(t, d, text("", verified+", balance: source-hash, pool: {kill_on_down: true}", ", balance: least-conn"))
	ask("/api/2", "200 api")
	if is := connects("api"); is[0] != secure[0] || is[1] != secure[1] {
		t.Errorf("%d connections by TLS to backends of a route that is not concerned, before %d", is, secure)
	}
	mustReload(t, d, text("", verified+", balance: source-hash, pool: {kill_on_down: true}", ""))
	// Another certificate under the same name is that of the route alone.
	newCertificate(t, file, "api.example.org")
	mustReload(t, d, text("", verified+", balance: source-hash, pool: {kill_on_down: true}", ""))
	if got := c.ask(t, "/api/"); !strings.HasPrefix(got, "502 ") {
		t.Errorf("backends whose certificate is not signed by the new file answer: %q", got)
	}
	ask("/plain/4", "200 plain  http")
	if is := connects("plain"); is[0] != plain[0] {
		t.Errorf("%d connections to the backend of a route that is not concerned, before %d", is[0], plain[0])
	}
}
