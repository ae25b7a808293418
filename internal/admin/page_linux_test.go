package admin

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/report"
)

var (
	pictures = flag.String("page.pictures", "", "folder for screenshots of the status page")
	axePath  = flag.String("page.axe", "", "axe.min.js of axe-core; default: where .ci/run puts it")
)

// night is a status in which a bit of everything is wrong.
func night(now time.Time) *report.Status {
	before := func(d time.Duration) time.Time { return now.Add(-d) }
	return &report.Status{
		Node: report.Node{Host: "lb-01", Version: "v0.9.0", PID: 4711, Time: now, Started: before(50 * time.Hour), File: "/etc/havip/havip.yaml",
			Loaded: before(2 * time.Hour), LogLevel: "info",
			Changes: []report.RuntimeChange{{Kind: "weight", Name: "web/192.168.31.242:8081", Value: "1", File: "2", Since: before(time.Hour)}}},
		Routers: []report.Router{
			{Name: "VI_1", Interface: "eth0", VRID: 51, Version: 2, State: "Active", Since: before(3*time.Minute + 12*time.Second), Cause: "no advertisement in time",
				CausePeer: "192.168.31.241", Priority: 120, Configured: 120, Interval: report.Seconds(time.Second), Auth: "pass",
				Addresses: []report.Address{{Address: "192.168.31.250/24"}}, Held: true,
				Peers: []report.Peer{{Address: "192.168.31.241", Version: 2, Priority: 110, Interval: report.Seconds(time.Second), LastHeard: before(4 * time.Minute)}}},
			{Name: "VI_2_with_a_long_name_for_the_guests_network", Interface: "eth1", VRID: 52, Version: 3, State: "Initialize", Since: before(40 * time.Second), Cause: "fault",
				Reason: "check balancer is down", Faults: []string{"check balancer is down"}, Priority: 100, Configured: 120, Preempt: true, Interval: report.Seconds(10 * time.Millisecond), Auth: "none",
				Addresses: []report.Address{{Address: "2001:db8:1234:5678:9abc:def0:1234:5678/64"}, {Address: "10.1.2.3/24", Excluded: true}},
				Drops:     []report.Drop{{Reason: "auth", Count: 17, From: "192.168.31.9", Text: "vrrp: advertisement from 192.168.31.9: authentication failed", Last: before(2 * time.Second)}}},
		},
		Checks: []report.Check{
			{Name: "balancer", Target: "tcp 127.0.0.1:8080", State: "down", Since: before(41 * time.Second), Latency: report.Seconds(1300 * time.Microsecond),
				Error: "tcp 127.0.0.1:8080: connect: connection refused", Probes: 12345, Failed: 42, Interval: report.Seconds(time.Second)},
			{Name: "uplink", Target: "icmp 192.0.2.1", State: "up", Since: before(49 * time.Hour), Latency: report.Seconds(400 * time.Microsecond), Probes: 170000, Interval: report.Seconds(time.Second)},
		},
		Services: []report.Service{{Name: "web", Listen: ":8080", Mode: "http", Serving: true, Balance: "round-robin",
			Traffic: report.Traffic{Active: 12, Accepted: 1234567, Failed: 3, Received: 3 << 20, Sent: 5 << 30, Ended: 1234555, Took: report.Seconds(3 * time.Hour),
				Statuses: map[string]uint64{"2xx": 1234000, "5xx": 3}, Latency: report.Quantiles{P50: report.Seconds(4 * time.Millisecond), P99: report.Seconds(90 * time.Millisecond)}},
			Pools: []report.Pool{{Quorum: true, Backends: []report.Backend{
				{Name: "192.168.31.242:8080", Address: "192.168.31.242:8080", State: "up", Since: before(time.Hour), InUse: true, Weight: 1, ConfiguredWeight: 1, Checked: true, Picks: 600000, Active: 6},
				{Name: "192.168.31.242:8081", Address: "192.168.31.242:8081", State: "down", Since: before(90 * time.Second), Weight: 1, ConfiguredWeight: 2, Checked: true, Failures: 3,
					Error: "http 192.168.31.242:8081/: status 503, want 200 to 399"},
				{Name: "192.168.31.242:8082", Address: "192.168.31.242:8082", State: "draining", Draining: true, Weight: 1, ConfiguredWeight: 1, Backup: true, Active: 1},
			}}},
			TLSUntil: []report.Until{{Names: []string{"www.example.org"}, File: "/etc/havip/web.pem", End: now.Add(5 * 24 * time.Hour)}},
		}},
		Problems: []string{"router VI_2_with_a_long_name_for_the_guests_network is in fault: check balancer is down", "backend 192.168.31.242:8081 of web is down"},
	}
}

// nightEvents are some that led there.
func nightEvents(now time.Time) *report.Ring {
	ring := report.NewRing(1000)
	at := now.Add(-9 * time.Minute)
	state := "Initialize"
	for i, to := range []string{"Backup", "Active", "Backup", "Active"} {
		ring.Add(report.Event{Time: at, Level: "info", Kind: report.KindTransition, Message: "state", Router: "VI_1", Cause: []string{"start", "no advertisement in time", "resigned", "no advertisement in time"}[i],
			Attributes: []report.Attribute{{Key: "from", Value: state}, {Key: "to", Value: to}, {Key: "priority", Value: "120"}}})
		state, at = to, at.Add(110*time.Second)
	}
	ring.Add(report.Event{Time: now.Add(-41 * time.Second), Level: "warn", Kind: report.KindCheck, Message: "check is down", Check: "balancer", Cause: "tcp 127.0.0.1:8080: connect: connection refused"})
	ring.Add(report.Event{Time: now.Add(-40 * time.Second), Level: "warn", Kind: report.KindTransition, Message: "state", Router: "VI_2_with_a_long_name_for_the_guests_network",
		Cause: "fault", Attributes: []report.Attribute{{Key: "from", Value: "Backup"}, {Key: "to", Value: "Initialize"}, {Key: "reason", Value: "check balancer is down"}}})
	return ring
}

// crowd gives the service of a status so many backends, of which every hundredth is down.
func crowd(s *report.Status, n int) {
	var list []report.Backend
	for i := range n {
		b := report.Backend{Name: fmt.Sprintf("10.0.%d.%d:8080", i/250, i%250), State: "up", Weight: 1, ConfiguredWeight: 1, Picks: uint64(1000 * i), Since: s.Node.Started, Checked: true}
		if b.Address = b.Name; i%100 == 7 {
			b.State, b.Error = "down", "tcp: connect: connection refused"
		}
		list = append(list, b)
	}
	s.Services[0].Pools[0].Backends = list
}

// findAxe returns the text of axe-core.
func findAxe(t *testing.T) string {
	t.Helper()
	path := *axePath
	if path == "" {
		path = filepath.Join("..", "..", ".ci", "npm", "node_modules", "axe-core", "axe.min.js")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		lab.Lacking(t, "axe-core is not installed: npm install --prefix .ci/npm axe-core")
	}
	return string(text)
}

// looks are the windows that the page is looked at in.
var looks = []struct {
	name          string
	width, height int
	dark          bool
}{
	{"desktop-light", 1280, 900, false}, {"desktop-dark", 1280, 900, true}, {"phone-light", 390, 844, false}, {"phone-dark", 390, 844, true},
}

// TestPageIsAccessible: axe-core finds nothing wrong, nothing sticks out of the window, and
// no script fails.
func TestPageIsAccessible(t *testing.T) {
	axe := findAxe(t)
	now := time.Now()
	url := servePage(t, statusNode{status: night(now), ring: nightEvents(now)})
	b := openBrowser(t)
	for _, look := range looks {
		b.look(look.width, look.height, look.dark)
		b.open(url)
		b.until("the page is drawn", `document.querySelectorAll("#routers article").length == 2`)
		b.run(`document.querySelectorAll("details").forEach(d => d.open = true)`, nil)
		b.picture("page-" + look.name)
		b.call("Runtime.evaluate", map[string]any{"expression": axe}, nil)
		var violations []struct {
			ID, Help string
			Nodes    []struct{ HTML string }
		}
		b.run(`axe.run().then(r => r.violations.map(v => ({id: v.id, help: v.help, nodes: v.nodes.slice(0, 3).map(n => ({html: n.html}))})))`, &violations)
		for _, v := range violations {
			t.Errorf("%s: axe %s: %s: %v", look.name, v.ID, v.Help, v.Nodes)
		}
		var wide int
		if b.run(fmt.Sprintf(`document.documentElement.scrollWidth - %d`, look.width), &wide); wide > 0 {
			t.Errorf("%s: the page is %d pixels wider than the window", look.name, wide)
		}
	}
	for _, trouble := range b.trouble() {
		t.Error(trouble)
	}
}

// TestPageShowsWhatIsWrong: who opens the page finds the causes without a click.
func TestPageShowsWhatIsWrong(t *testing.T) {
	now := time.Now()
	b := openBrowser(t)
	b.open(servePage(t, statusNode{status: night(now), ring: nightEvents(now)}))
	var text string
	b.until("drawn", `document.querySelector("#routers article")`)
	b.run(`document.body.innerText`, &text)
	for _, want := range []string{"2 things need you", "VI_1", "Active", "3m1", "no advertisement in time (192.168.31.241)", "fault: check balancer is down", "connection refused",
		"17 by auth", "status 503, want 200 to 399", "draining", "certificate of www.example.org", "1 (file: 2)", "p99 90 ms", "3 5xx"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
	var rects int
	if b.run(`document.querySelectorAll("article .timeline")[0].querySelectorAll("rect").length`, &rects); rects != 5 {
		t.Errorf("the timeline of VI_1 has %d parts, want 5", rects)
	}
}

// TestPageFollowsEvents: an event changes the page without a reload of it, and what the
// reader has opened stays open.
func TestPageFollowsEvents(t *testing.T) {
	now := time.Now()
	node := &changingNode{}
	node.status.Store(night(now))
	node.ring = nightEvents(now)
	b := openBrowser(t)
	b.open(servePage(t, node))
	b.until("live", `document.getElementById("live").innerText == "live"`)
	b.run(`window.stays = document.querySelector("#routers details"); stays.open = true`, nil)
	next := night(now)
	next.Routers[0].State, next.Routers[0].Cause = "Backup", "resigned"
	node.status.Store(next)
	node.ring.Add(report.Event{Time: time.Now(), Level: "info", Kind: report.KindTransition, Message: "state", Router: "VI_1", Cause: "resigned",
		Attributes: []report.Attribute{{Key: "from", Value: "Active"}, {Key: "to", Value: "Backup"}}})
	b.until("the router is Backup", `document.querySelector("#routers article .badge").innerText == "Backup"`)
	b.until("the event is shown", `document.querySelector("#events li").innerText.includes("Active to Backup: resigned")`)
	var open bool
	if b.run(`stays.isConnected && stays.open`, &open); !open {
		t.Error("an event closes what the reader had opened")
	}
}

// TestPageOfAThousandBackends prints how long the page takes, and looks that it shows those
// that need somebody, and all on request.
func TestPageOfAThousandBackends(t *testing.T) {
	now := time.Now()
	status := night(now)
	crowd(status, 1000)
	node := statusNode{status: status, ring: nightEvents(now)}
	b := openBrowser(t)
	url := servePage(t, node)
	began := time.Now()
	b.open(url)
	b.until("drawn", `document.querySelectorAll("#services tbody tr").length == 10`)
	loaded := time.Since(began)
	began = time.Now()
	b.run(`document.querySelector("button[data-do=fold]").click()`, nil)
	b.until("opened", `document.querySelectorAll("#services tbody tr").length == 1000`)
	opened := time.Since(began)
	var redraw float64 // of the browser's main thread
	b.run(`(async () => {
		let busy = 0;
		new PerformanceObserver(l => l.getEntries().forEach(e => busy += e.duration)).observe({type: "longtask"});
		document.dispatchEvent(new Event("visibilitychange")); // the page asks again
		await new Promise(r => setTimeout(r, 3000));
		return busy;
	})()`, &redraw)
	t.Logf("a thousand backends: loaded and drawn in %v, opened in %v, asked and drawn again in %.0f ms of the browser", loaded.Round(time.Millisecond), opened.Round(time.Millisecond), redraw)
}

// servePage serves the page alone, as to somebody who may steer.
func servePage(t *testing.T, node Node) (url string) {
	t.Helper()
	p := newPage(node)
	p.sample()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		text, policy, err := p.render(accessBody{Steers: true, Login: true, CSRF: "token"})
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", policy)
		_, _ = w.Write(text)
	})
	mux.HandleFunc("GET /api/v1/page", func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(p.state(r.URL.Query()["open"], true))
	})
	mux.HandleFunc("GET /api/v1/events/stream", func(w http.ResponseWriter, r *http.Request) {
		last := uint64(0)
		fmt.Sscan(r.URL.Query().Get("after"), &last)
		w.Header().Set("Content-Type", "text/event-stream")
		for {
			w.(http.Flusher).Flush()
			if node.Events().Wait(r.Context(), last) != nil {
				return
			}
			var list []report.Event
			list, last, _ = node.Events().After(last)
			for _, e := range list {
				text, _ := json.Marshal(e)
				fmt.Fprintf(w, "id: %d\nevent: %s\ndata: %s\n\n", e.ID, e.Kind, text)
			}
		}
	})
	s := httptest.NewServer(mux)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.URL
}

// changingNode is a Node whose status changes.
type changingNode struct {
	Node
	status atomic.Pointer[report.Status]
	ring   *report.Ring
}

func (n *changingNode) Status() *report.Status { return n.status.Load() }
func (n *changingNode) Events() *report.Ring   { return n.ring }
