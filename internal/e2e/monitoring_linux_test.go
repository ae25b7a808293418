package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/scenario"
)

// monitoringLab is examples/monitoring at work: two nodes, their backends, and a third host.
type monitoringLab struct {
	*testing.T
	dir   string // of the example
	nodes [2]*lab.Cmd
	mon   *lab.Host
	apps  []*http.Server
}

// startMonitoring runs the commands of the README but the last on their hosts.
func startMonitoring(t *testing.T) *monitoringLab {
	t.Helper()
	dir, err := filepath.Abs("../../examples/monitoring")
	if err != nil {
		t.Fatal(err)
	}
	l := lab.New(t)
	m := &monitoringLab{T: t, dir: dir}
	lb01, lb02, app := l.MustHost("lb01", "192.168.31.240/24"), l.MustHost("lb02", "192.168.31.241/24"), l.MustHost("app", "192.168.31.242/24")
	m.mon = l.MustHost("mon", "192.168.31.9/24")
	for port := 8080; port <= 8082; port++ {
		ln, err := app.Listen("tcp", fmt.Sprintf("192.168.31.242:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") })}
		go s.Serve(ln)
		t.Cleanup(func() { s.Close() })
		m.apps = append(m.apps, s)
	}
	for i, h := range []*lab.Host{lb01, lb02} {
		args := strings.Fields(m.command(fmt.Sprintf("# havip run -c lb0%d.yaml", i+1)))
		m.nodes[i] = h.Command(havip(t), args[1:]...)
		m.nodes[i].Dir, m.nodes[i].Private = dir, true
		if err := m.nodes[i].Start(); err != nil {
			t.Fatal(err)
		}
		if i == 0 { // without preemption whoever is first stays
			lab.Until(t, 30*time.Second, "LB-01 is Active before LB-02 begins", func() bool { return strings.Contains(m.nodes[0].Output(), "to=Active") })
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("LB-01:\n%s\nLB-02:\n%s", m.nodes[0].Output(), m.nodes[1].Output())
		}
	})
	return m
}

// command returns a line of the README, without its prompt.
func (m *monitoringLab) command(line string) string {
	m.Helper()
	readme, err := os.ReadFile(filepath.Join(m.dir, "README.md"))
	if err != nil {
		m.Fatal(err)
	}
	if !strings.Contains(string(readme), "    "+line+"\n") {
		m.Fatalf("README does not say: %s", line)
	}
	return line[2:]
}

// client asks from the third host.
func (m *monitoringLab) client() *http.Client {
	tr := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		return m.mon.DialContext(ctx, network, address)
	}}
	m.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

// get returns what is at a URL; empty: nothing is.
func get(c *http.Client, url string) string {
	r, err := c.Get(url)
	if err != nil {
		return ""
	}
	defer r.Body.Close()
	b, _ := io.ReadAll(r.Body)
	return string(b)
}

// TestMonitoringExample: the commands of the README in examples/monitoring, with a real
// Prometheus. Each query of the dashboard and of the rules is one that Prometheus takes,
// and has an answer; and when a backend dies, an alert is on its way.
func TestMonitoringExample(t *testing.T) {
	lab.Need(t, "prometheus", "curl")
	t.Parallel()
	m := startMonitoring(t)
	c := m.client()
	curl := strings.Fields(m.command("$ curl http://192.168.31.240:9650/metrics"))
	lab.Eventually(t, 60*time.Second, "LB-01 is Active and serves, by its metrics", func() error {
		cmd := m.mon.Command(curl[0], append([]string{"-s"}, curl[1:]...)...)
		if err := cmd.Run(); err != nil {
			return err
		}
		for _, want := range []string{`havip_router_state{router="VI_1",state="active"} 1`, `havip_service_serving{service="web"} 1`, `havip_pool_backends_in_use{route="",service="web"} 3`} {
			if !strings.Contains(cmd.Output(), want+"\n") {
				return fmt.Errorf("no %s", want)
			}
		}
		return nil
	})
	argv := strings.Fields(m.command("$ prometheus --config.file=prometheus.yml"))
	argv[1] = strings.Replace(argv[1], "prometheus.yml", filepath.Join(m.dir, "prometheus.yml"), 1)
	prometheus := m.mon.Command(argv[0], append(argv[1:], "--storage.tsdb.path="+t.TempDir(), "--web.listen-address=127.0.0.1:9090")...)
	if err := prometheus.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		prometheus.Stop(20 * time.Second)
		if t.Failed() {
			t.Log(prometheus.Output())
		}
	})
	lab.Eventually(t, 90*time.Second, "Prometheus has scraped both twice, and requests between", func() error {
		get(c, "http://"+scenario.VIP.Addr().String()+":8080/") // what is counted goes up
		n, err := m.query(c, `count_over_time(up{job="havip"}[1m]) >= 3 and on (instance) up == 1`)
		if n < 2 {
			return fmt.Errorf("%d nodes, %v", n, err)
		}
		return nil
	})
	m.askAll(c)

	m.apps[0].Close()
	lab.Eventually(t, 60*time.Second, "an alert is on its way", func() error {
		if list := get(c, "http://127.0.0.1:9090/api/v1/alerts"); !strings.Contains(list, "HavipBackendDown") || !strings.Contains(list, "192.168.31.242:8080") {
			return fmt.Errorf("alerts: %s", list)
		}
		return nil
	})
}

// query asks Prometheus, and returns how many series there are.
func (m *monitoringLab) query(c *http.Client, expr string) (series int, err error) {
	var answer struct {
		Status, Error string
		Data          struct{ Result []any }
	}
	text := get(c, "http://127.0.0.1:9090/api/v1/query?query="+url.QueryEscape(expr))
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		return 0, fmt.Errorf("%q: %w", text, err)
	}
	if answer.Status != "success" {
		return 0, fmt.Errorf("%s: %s", expr, answer.Error)
	}
	return len(answer.Data.Result), nil
}

// occasional are queries without an answer while all is well: what they ask for is not
// there, or is zero.
var occasional = regexp.MustCompile(`> 0\b|== 0\b|_dropped_|_certificate_|havip_router_peer_|_connect_seconds_`)

// askAll asks each query of the dashboard.
func (m *monitoringLab) askAll(c *http.Client) {
	m.Helper()
	text, err := os.ReadFile(filepath.Join(m.dir, "dashboard.json"))
	if err != nil {
		m.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		m.Fatal(err)
	}
	variables := strings.NewReplacer("$job", "havip", "$instance", ".*", "$service", ".*", "$__rate_interval", "1m")
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			switch n, err := m.query(c, variables.Replace(target.Expr)); {
			case err != nil:
				m.Errorf("%s: %v", p.Title, err)
			case n == 0 && !occasional.MatchString(target.Expr):
				m.Errorf("%s has nothing to show: %s", p.Title, target.Expr)
			}
		}
	}
}
