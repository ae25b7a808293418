package admin

import (
	"fmt"
	"maps"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/report"
)

// shownNode is a Node of which only the status and the events are asked.
type shownNode struct {
	Node
	status *report.Status
	events *report.Ring
}

func (n *shownNode) Status() *report.Status { return n.status }
func (n *shownNode) Events() *report.Ring   { return n.events }

// fullStatus has a value in everything that is exposed. backends is how many the pool has.
func fullStatus(backends int) *report.Status {
	at := time.Unix(1_700_000_000, 250_000_000)
	s := &report.Status{
		Node: report.Node{Version: "1.2.3", Loaded: at, Maintenance: &report.Maintenance{Since: at}, Changes: make([]report.RuntimeChange, 2)},
		Routers: []report.Router{{
			Name: "VI_1", Group: "G1", Interface: "eth0", VRID: 51, Version: 2, State: "Active", Since: at, Priority: 120, Configured: 110,
			Interval: report.Seconds(time.Second), Auth: "pass", Addresses: []report.Address{{Address: "192.0.2.1/24"}, {Address: "192.0.2.2/32", Excluded: true}},
			Held: true, Reinstated: 1, Removed: 2, Lost: 3, Conflicts: 4, Rival: &report.Peer{Address: "192.0.2.3"},
			Peers: []report.Peer{{Address: "192.0.2.3", Priority: 100, LastHeard: at}, {Address: "192.0.2.4", LastHeard: at}},
			Drops: []report.Drop{{Reason: "auth", Count: 5}, {Reason: "checksum", Count: 6}}, Sent: 7, Received: 8, SendErrors: 9, Mismatched: 10, Splits: 11,
			Transitions: 12, Causes: map[string]uint64{"start": 1, "no advertisement in time": 11},
		}, {Name: "VI_2", IPv6: true, VRID: 52, Version: 3, State: "Initialize", Faults: []string{"link eth1 down"}, NotRunning: "no interface", Auth: "none"}},
		Alarms: []report.Receiver{{Name: "ops", Delivered: 51, Failed: 52, Waiting: 53, FailingSince: at}},
		Checks: []report.Check{
			{Name: "balancer", State: "up", Since: at, Checked: at, Latency: report.Seconds(3 * time.Millisecond), Probes: 13, Failed: 14, Changes: 15},
			{Name: `a "b\`, State: "unknown", Paused: true},
		},
	}
	pool := report.Pool{Quorum: true, Queued: 16, Waits: 17, Overflow: 18, Unresolved: []string{"x"}}
	for i := range backends {
		pool.Backends = append(pool.Backends, report.Backend{
			Name: fmt.Sprintf("192.0.2.%d:%d", i%250, 8000+i), State: []string{"up", "down", "ejected"}[i%3], InUse: i%3 == 0, Weight: 2, Checked: i%2 == 0,
			CheckLatency: report.Seconds(time.Millisecond), Active: 19, Picks: 20, Failures: 21, Ejects: 22, Received: 23, Sent: 24, Connects: 25,
			ConnectTime: report.Seconds(26 * time.Second),
		})
	}
	web := report.Service{
		Name: "web", Listen: ":8080", Mode: "http", Balance: "round-robin", Serving: true, Unlogged: 54, Maintenance: true, Pools: []report.Pool{pool},
		Traffic: report.Traffic{
			Active: 27, Accepted: 28, Refused: 29, Failed: 30, Retries: 31, Received: 32, Sent: 33,
			Statuses: map[string]uint64{"1xx": 0, "2xx": 34, "3xx": 0, "4xx": 35, "5xx": 36}, Durations: testDurations(),
			Routes: map[string]map[string]uint64{"": {"2xx": 56, "none": 0}, "api": {"2xx": 57, "none": 58}},
		},
		TLSUntil: []report.Until{{File: "/etc/havip/a.pem", End: at}, {File: "/etc/havip/b.pem", End: at}, {File: "/etc/havip/a.pem", End: at}},
	}
	s.Services = []report.Service{web}
	return s
}

// testDurations has as many buckets as the daemon's.
func testDurations() report.Histogram {
	h := report.Histogram{Sum: 80 * time.Second}
	for d := 500 * time.Microsecond; len(h.Bounds) < 16; d *= 2 {
		h.Bounds = append(h.Bounds, d)
		h.Counts = append(h.Counts, uint64(len(h.Counts)))
	}
	h.Counts = append(h.Counts, 5)
	return h
}

// newShown returns a node that shows a status.
func newShown(s *report.Status) *shownNode {
	n := &shownNode{status: s, events: report.NewRing(10)}
	n.events.Add(report.Event{Kind: report.KindSplit})
	n.events.Add(report.Event{Kind: report.KindSplit})
	return n
}

// scrape returns an exposition of a node.
func scrape(m *metrics) string {
	s, release := m.fill()
	defer release()
	return string(s.text)
}

// parseMetrics reads an exposition as Prometheus does, which takes no sample twice.
func parseMetrics(t testing.TB, text string) map[string]*dto.MetricFamily {
	t.Helper()
	p := expfmt.NewTextParser(model.LegacyValidation)
	families, err := p.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	return families
}

// TestMetrics: what the status says is in a line of the exposition.
func TestMetrics(t *testing.T) {
	text := scrape(newMetrics(newShown(fullStatus(3))))
	lines := strings.Split(text, "\n")
	for _, want := range []string{
		`havip_router_state{router="VI_1",state="active"} 1`,
		`havip_router_state{router="VI_1",state="backup"} 0`,
		`havip_router_state{router="VI_2",state="initialize"} 1`,
		`havip_router_state_start_timestamp_seconds{router="VI_1"} 1.70000000025e+09`,
		`havip_router_info{auth="pass",family="ipv4",group="G1",interface="eth0",router="VI_1",version="2",vrid="51"} 1`,
		`havip_router_fault{router="VI_2"} 1`, `havip_router_fault{router="VI_1"} 0`,
		`havip_router_running{router="VI_2"} 0`, `havip_router_running{router="VI_1"} 1`,
		`havip_router_priority{router="VI_1"} 120`, `havip_router_configured_priority{router="VI_1"} 110`,
		`havip_router_advertisement_interval_seconds{router="VI_1"} 1`,
		`havip_router_transitions_total{cause="no advertisement in time",router="VI_1"} 11`,
		`havip_router_advertisements_sent_total{router="VI_1"} 7`, `havip_router_advertisements_received_total{router="VI_1"} 8`,
		`havip_router_advertisement_send_errors_total{router="VI_1"} 9`, `havip_router_advertisements_mismatched_total{router="VI_1"} 10`,
		`havip_router_advertisements_dropped_total{reason="checksum",router="VI_1"} 6`,
		`havip_router_split{router="VI_1"} 1`, `havip_router_splits_total{router="VI_1"} 11`, `havip_router_peers{router="VI_1"} 2`,
		`havip_router_peer_last_heard_timestamp_seconds{peer="192.0.2.3",router="VI_1"} 1.70000000025e+09`,
		`havip_router_peer_priority{peer="192.0.2.4",router="VI_1"} 0`,
		`havip_address_held{address="192.0.2.1",router="VI_1"} 1`, `havip_address_held{address="192.0.2.2",router="VI_1"} 1`,
		`havip_router_addresses_problem{router="VI_1"} 0`, `havip_router_addresses_reinstated_total{router="VI_1"} 1`,
		`havip_router_addresses_removed_total{router="VI_1"} 2`, `havip_router_addresses_lost_total{router="VI_1"} 3`,
		`havip_router_address_conflicts_total{router="VI_1"} 4`,
		`havip_alarm_delivered_total{receiver="ops"} 51`, `havip_alarm_failures_total{receiver="ops"} 52`, `havip_alarm_waiting{receiver="ops"} 53`,
		`havip_alarm_failing_start_timestamp_seconds{receiver="ops"} 1.70000000025e+09`,
		`havip_check_up{check="balancer"} 1`, `havip_check_up{check="a \"b\\"} 0`, `havip_check_paused{check="a \"b\\"} 1`,
		`havip_check_probe_duration_seconds{check="balancer"} 0.003`, `havip_check_last_probe_timestamp_seconds{check="balancer"} 1.70000000025e+09`,
		`havip_check_probes_total{check="balancer"} 13`, `havip_check_probe_failures_total{check="balancer"} 14`, `havip_check_changes_total{check="balancer"} 15`,
		`havip_service_serving{service="web"} 1`, `havip_service_active{service="web"} 27`, `havip_service_accepted_total{service="web"} 28`,
		`havip_service_refused_total{service="web"} 29`, `havip_service_failed_total{service="web"} 30`, `havip_service_retries_total{service="web"} 31`,
		`havip_service_unlogged_total{service="web"} 54`, `havip_service_maintenance{service="web"} 1`,
		`havip_service_received_bytes_total{service="web"} 32`, `havip_service_sent_bytes_total{service="web"} 33`,
		`havip_service_info{balance="round-robin",listen=":8080",mode="http",service="web"} 1`,
		`havip_service_responses_total{class="2xx",service="web"} 34`, `havip_service_responses_total{class="1xx",service="web"} 0`,
		`havip_route_requests_total{class="2xx",route="",service="web"} 56`, `havip_route_requests_total{class="none",route="api",service="web"} 58`,
		`havip_service_duration_seconds_bucket{service="web",le="0.0005"} 0`, `havip_service_duration_seconds_bucket{service="web",le="0.002"} 3`,
		`havip_service_duration_seconds_bucket{service="web",le="+Inf"} 125`, `havip_service_duration_seconds_sum{service="web"} 80`,
		`havip_service_duration_seconds_count{service="web"} 125`,
		`havip_certificate_not_after_timestamp_seconds{file="/etc/havip/b.pem",service="web"} 1.70000000025e+09`,
		`havip_pool_backends{route="",service="web"} 3`, `havip_pool_backends_in_use{route="",service="web"} 1`, `havip_pool_backends_unresolved{route="",service="web"} 1`,
		`havip_pool_quorum{route="",service="web"} 1`, `havip_pool_panic{route="",service="web"} 0`, `havip_pool_queue_length{route="",service="web"} 16`,
		`havip_pool_queue_waits_total{route="",service="web"} 17`, `havip_pool_queue_overflows_total{route="",service="web"} 18`,
		`havip_backend_up{backend="192.0.2.1:8001",route="",service="web"} 0`, `havip_backend_up{backend="192.0.2.2:8002",route="",service="web"} 1`,
		`havip_backend_in_use{backend="192.0.2.0:8000",route="",service="web"} 1`, `havip_backend_weight{backend="192.0.2.0:8000",route="",service="web"} 2`,
		`havip_backend_active{backend="192.0.2.0:8000",route="",service="web"} 19`, `havip_backend_picks_total{backend="192.0.2.0:8000",route="",service="web"} 20`,
		`havip_backend_failures_total{backend="192.0.2.0:8000",route="",service="web"} 21`, `havip_backend_ejections_total{backend="192.0.2.0:8000",route="",service="web"} 22`,
		`havip_backend_received_bytes_total{backend="192.0.2.0:8000",route="",service="web"} 23`, `havip_backend_sent_bytes_total{backend="192.0.2.0:8000",route="",service="web"} 24`,
		`havip_backend_connections_total{backend="192.0.2.0:8000",route="",service="web"} 25`, `havip_backend_connect_seconds_total{backend="192.0.2.0:8000",route="",service="web"} 26`,
		`havip_backend_check_duration_seconds{backend="192.0.2.0:8000",route="",service="web"} 0.001`,
		`havip_config_last_reload_successful 1`, `havip_config_last_reload_success_timestamp_seconds 1.70000000025e+09`,
		`havip_config_runtime_changes 2`, `havip_config_warnings 0`, `havip_maintenance 1`, `havip_maintenance_start_timestamp_seconds 1.70000000025e+09`,
		`havip_events_total{kind="split"} 2`, `havip_events_total{kind="reload"} 0`,
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("no line %s", want)
		}
	}
	for _, mustNot := range []string{
		`havip_router_state_start_timestamp_seconds{router="VI_2"}`, `havip_check_probe_duration_seconds{check="a `,
		`havip_backend_check_duration_seconds{backend="192.0.2.1:8001"`,
	} {
		if strings.Contains(text, mustNot) {
			t.Errorf("%s has a value that is not known", mustNot)
		}
	}
	for _, of := range []string{"go_goroutines", "go_gc_duration_seconds_count", "process_cpu_seconds_total", `havip_build_info{goversion="go`} {
		if !strings.Contains(text, "\n"+of) {
			t.Errorf("no %s", of)
		}
	}
}

// TestMetricsKeepTheRules: what a registry would have checked, and the conventions of names.
func TestMetricsKeepTheRules(t *testing.T) {
	text := scrape(newMetrics(newShown(fullStatus(5))))
	families := parseMetrics(t, text)
	var names []string
	for line := range strings.Lines(text) {
		if name, ok := strings.CutPrefix(line, "# TYPE "); ok {
			names = append(names, strings.Fields(name)[0])
		}
	}
	if len(families) != len(names) {
		t.Errorf("%d families have %d heads: %q", len(families), len(names), names)
	}
	for name, f := range families {
		if !strings.HasPrefix(name, "havip_") {
			continue
		}
		if help := f.GetHelp(); len(help) < 20 || !strings.HasSuffix(help, ".") || strings.Contains(strings.TrimSuffix(help, "."), "..") || help[0] < 'A' || help[0] > 'Z' {
			t.Errorf("%s: %q is no sentence", name, help)
		}
		if counter := f.GetType() == dto.MetricType_COUNTER; counter != strings.HasSuffix(name, "_total") {
			t.Errorf("%s is a %v", name, f.GetType())
		}
		seen := map[string]bool{}
		for _, m := range f.Metric {
			var labels []string
			for _, l := range m.Label {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			if key := strings.Join(labels, ","); seen[key] || !slices.IsSorted(labels) {
				t.Errorf("%s{%s}: twice, or not in order", name, key)
			} else {
				seen[key] = true
			}
		}
	}
}

// TestPromtoolTakesMetrics: Prometheus' own tool finds nothing to complain about.
func TestPromtoolTakesMetrics(t *testing.T) {
	lab.Need(t, "promtool")
	text := scrape(newMetrics(newShown(fullStatus(3))))
	cmd := exec.Command("promtool", "check", "metrics")
	// The collectors of Go's runtime are not ours.
	cmd.Stdin = strings.NewReader(onlyOurs(text))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v: %s", err, out)
	}
}

// onlyOurs is the part of an exposition that is havip's.
func onlyOurs(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if name := strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE "); strings.HasPrefix(name, "havip_") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// TestServedMetrics: whatever a scraper would like best, it gets the text format in one
// piece, and not compressed.
func TestServedMetrics(t *testing.T) {
	f := start(t, nil)
	for _, accept := range []string{"", "application/openmetrics-text", "application/vnd.google.protobuf", "nonsense"} {
		got := f.ask("GET", "/metrics", "", "Accept", accept, "Accept-Encoding", "gzip")
		f.want(accept, got, http.StatusOK, "havip_maintenance 0")
		if kind, size := got.header.Get("Content-Type"), got.header.Get("Content-Length"); !strings.HasPrefix(kind, "text/plain; version=0.0.4") ||
			size != fmt.Sprint(len(got.body)) || got.header.Get("Content-Encoding") != "" || len(parseMetrics(t, got.body)) == 0 {
			t.Errorf("%q gets %v", accept, got.header)
		}
	}
}

// TestMetricsOfNothing: a node without any part has an exposition all the same.
func TestMetricsOfNothing(t *testing.T) {
	text := scrape(newMetrics(newShown(&report.Status{})))
	if f := parseMetrics(t, text); f["havip_maintenance"] == nil || f["havip_router_state"] != nil {
		t.Error(slices.Sorted(maps.Keys(f)))
	}
}

// TestScrapesSideBySide: memory that is used again belongs to one scrape at a time.
func TestScrapesSideBySide(t *testing.T) {
	small, large := fullStatus(3), fullStatus(100)
	n := newShown(small)
	want := map[string]bool{}
	for _, s := range []*report.Status{small, large} {
		text := scrape(newMetrics(newShown(s)))
		want[onlyOurs(text)] = true
	}
	m := newMetrics(&alternating{shownNode: n, statuses: [2]*report.Status{small, large}})
	var scrapers sync.WaitGroup
	for range 4 {
		scrapers.Go(func() {
			for range 50 {
				if text := scrape(m); !want[onlyOurs(text)] {
					t.Error("a scrape has something of another scrape")
				}
			}
		})
	}
	scrapers.Wait()
}

// alternating shows two statuses in turn.
type alternating struct {
	*shownNode
	statuses [2]*report.Status
	mu       sync.Mutex
	n        int
}

func (a *alternating) Status() *report.Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.n++
	return a.statuses[a.n%2]
}
