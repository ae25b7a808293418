package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/havip/havip/internal/report"
)

// fakeHavip answers on a socket as a havip does, and notes what it was asked.
type fakeHavip struct {
	socket string
	answer map[string]func(http.ResponseWriter) // by method and path; others are an empty success

	mu     sync.Mutex // guards what follows
	status report.Status
	asked  []string // method, path and body of what is no GET
}

func startFake(t *testing.T) *fakeHavip {
	t.Helper()
	f := &fakeHavip{socket: filepath.Join(t.TempDir(), "s"), answer: map[string]func(http.ResponseWriter){}, status: pairStatus()}
	l, err := net.Listen("unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: f}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	return f
}

func (f *fakeHavip) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := r.Method + " " + strings.TrimPrefix(r.URL.EscapedPath(), "/api/v1/")
	if r.Method != http.MethodGet {
		body, _ := io.ReadAll(r.Body)
		f.asked = append(f.asked, strings.TrimSpace(key+" "+string(body)))
	}
	if answer := f.answer[key]; answer != nil {
		answer(w)
		return
	}
	if key == "GET status" {
		f.status.Node.Time = time.Now()
		_ = json.NewEncoder(w).Encode(f.status)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// says makes an answer of a status and a value.
func says(code int, value any) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(value)
	}
}

func (f *fakeHavip) requests() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.asked, "\n")
}

// pairStatus is that of a node on which all is well.
func pairStatus() report.Status {
	now := time.Now()
	backend := report.Backend{Name: "192.168.31.242:8080", State: "up", InUse: true, Weight: 1, ConfiguredWeight: 1, Active: 7, Checked: true, Probed: now.Add(time.Hour), CheckLatency: report.Seconds(2 * time.Millisecond)}
	return report.Status{
		Node: report.Node{Host: "LB-01", Version: "v0.9.0", PID: 1, Time: now, Started: now},
		Routers: []report.Router{{Name: "VI_1", VRID: 51, State: "Active", Since: now, Priority: 120, Configured: 120, Interval: report.Seconds(time.Second),
			Addresses: []report.Address{{Address: "192.168.31.250/24"}}, Held: true, Tracks: []report.Track{{Check: "balancer"}}}},
		Checks:   []report.Check{{Name: "balancer", State: "up", Latency: report.Seconds(time.Millisecond), Checked: now.Add(time.Hour)}},
		Services: []report.Service{{Name: "web", Listen: ":8080", Mode: "http", Serving: true, Pools: []report.Pool{{Check: "http", Quorum: true, Backends: []report.Backend{backend}}}}},
	}
}

// outcome is what a command has printed, and how it has ended.
type outcome struct {
	out, err string
	code     int
}

// parsing is held while a command line is parsed: the library has one --help flag for all
// command lines of a process, and writes to it.
var parsing sync.Mutex

// havip runs the command line, as main does.
func havip(ctx context.Context, args ...string) (o outcome) {
	var out, errs strings.Builder
	parsing.Lock()
	parsed := sync.OnceFunc(parsing.Unlock)
	defer parsed()
	app := newApp()
	app.Writer, app.ErrWriter = &out, &errs
	for _, c := range app.Commands {
		action := c.Action
		c.Action = func(c *cli.Context) error {
			parsed()
			return action(c)
		}
	}
	err := app.RunContext(ctx, flagsFirst(app, append([]string{"havip"}, args...)))
	if err != nil {
		o.code = exitCode(err)
	}
	if err != nil && err != errSaid {
		fmt.Fprintln(&errs, err)
	}
	o.out, o.err = out.String(), errs.String()
	return o
}

// TestControlCommands: each sends one request, and says what was done and how it ends.
func TestControlCommands(t *testing.T) {
	const backend = "192.168.31.242:8080"
	for _, tt := range []struct {
		args    string
		request string
		says    string
	}{
		{"resign VI_1", "POST routers/VI_1/resign", "VI_1 hands 192.168.31.250 over"},
		{"maintenance on --reason updates", `PUT maintenance {"on":true,"reason":"updates"}`, "gives its addresses away and stays away, after restarts too, until 'havip maintenance off'"},
		{"maintenance off", `PUT maintenance {"on":false}`, "every router takes part in the election again"},
		{"maintenance on --service web", `PUT services/web/maintenance {"on":true}`, "web answers all requests with 503, until 'havip maintenance --service web file', a restart"},
		{"maintenance --service web off", `PUT services/web/maintenance {"on":false}`, "web passes requests on, until"},
		{"maintenance --service web file", "DELETE services/web/maintenance", "web has the maintenance of the file again"},
		{"priority VI_1 90", `PUT routers/VI_1/priority {"priority":90}`, "VI_1 has priority 90, until 'havip priority VI_1 file', a restart, or a reload"},
		{"priority VI_1 file", "DELETE routers/VI_1/priority", "VI_1 has the priority of the file again"},
		{"drain web " + backend, `PUT services/web/backends/192.168.31.242:8080 {"drain":true}`, "gets no new connections (7 go on), until 'havip enable web " + backend + "'"},
		{"disable web " + backend, `PUT services/web/backends/192.168.31.242:8080 {"cut":true,"drain":true}`, "those that it had are cut"},
		{"enable web " + backend, `PUT services/web/backends/192.168.31.242:8080 {"drain":false}`, backend + " of web gets connections again"},
		{"weight web " + backend + " 3", `PUT services/web/backends/192.168.31.242:8080 {"weight":3}`, "has weight 3, until 'havip weight web " + backend + " file'"},
		{"weight web " + backend + " file", `PUT services/web/backends/192.168.31.242:8080 {"weight":-1}`, "has the weight of the file again"},
		{"weight web unix:/run/app.sock 0", `PUT services/web/backends/unix:%2Frun%2Fapp.sock {"weight":0}`, "has weight 0"},
		{"check pause balancer", "POST checks/balancer/pause", "balancer is paused, and stays as it is until 'havip check resume balancer'"},
		{"check resume balancer", "POST checks/balancer/resume", "balancer probes again"},
		{"check now balancer", "POST checks/balancer/now", "balancer is up: the latest probe took 1ms"},
		{"check now web/" + backend, "POST checks/web%2F192.168.31.242:8080/now", "web/" + backend + " is up: the latest probe took 2ms"},
		{"check now http", "POST checks/http/now", "web/" + backend + " is up: the latest probe took 2ms"},
		{"check now gone", "POST checks/gone/now", "gone probes now: 'havip status' has the result"},
		{"alarm test ops", "POST alarms/ops/test", "ops has taken the trial"},
		{"log level debug", `PUT log {"level":"debug"}`, "the log has level debug, until 'havip log level file'"},
		{"log reopen", "POST log/reopen", "the files of access logs are opened anew"},
		{"log level file", "DELETE log", "the log has the level of the file again"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			f := startFake(t)
			f.status.Node.Maintenance = &report.Maintenance{Lasting: true} // of which nothing else speaks
			o := havip(t.Context(), append(strings.Fields(tt.args), "--socket", f.socket)...)
			if o.code != 0 || o.err != "" || !strings.Contains(o.out, tt.says) || strings.Count(o.out, "\n") != 1 {
				t.Errorf("%+v, want one line with %q", o, tt.says)
			}
			if got := f.requests(); got != tt.request {
				t.Errorf("request %q, want %q", got, tt.request)
			}
		})
	}
}

// TestRefusals: what the daemon says against it is an error, with its words; a warning of
// it is none.
func TestRefusals(t *testing.T) {
	f := startFake(t)
	f.answer["POST routers/VI_1/resign"] = says(409, map[string]string{"error": "router VI_1 is Backup: only an Active one can resign"})
	o := havip(t.Context(), "resign", "VI_1", "--socket", f.socket)
	if want := "havip resign: router VI_1 is Backup: only an Active one can resign\n"; o.code != 1 || o.err != want || o.out != "" {
		t.Errorf("%+v, want code 1 and %q", o, want)
	}
	f.status.Node.Maintenance = &report.Maintenance{}
	f.answer["PUT maintenance"] = says(200, map[string]string{"warning": "a restart ends it: /var/lib/havip: read-only file system"})
	o = havip(t.Context(), "maintenance", "on", "--socket", f.socket)
	if o.code != 0 || !strings.HasPrefix(o.err, "warning: a restart ends it: ") || strings.Contains(o.out, "restarts") {
		t.Errorf("%+v, want a warning, and no promise about restarts", o)
	}
	f.answer["GET status"] = func(w http.ResponseWriter) { w.WriteHeader(500) }
	o = havip(t.Context(), "status", "--socket", f.socket)
	if o.code != 1 || !strings.Contains(o.err, "500 Internal Server Error: is it a havip?") {
		t.Errorf("%+v, want the status of HTTP", o)
	}
}

// TestWrongUsage: nothing is asked, the code is 2, and the way out is said.
func TestWrongUsage(t *testing.T) {
	for args, want := range map[string]string{
		"status -o yaml":                          `--output "yaml": want text or json`,
		"status --watch 1ms":                      "want at least 200ms",
		"status --watch -o json":                  "--watch is for people",
		"status --bogus":                          "flag provided but not defined: -bogus: see 'havip status --help'",
		"status --socket off":                     "the socket is off",
		"status --token-file /t":                  "--token-file belongs to --url",
		"status --url ftp://x":                    "want one such as https://lb-01:9650",
		"events extra":                            `unexpected argument "extra": usage: havip events`,
		"events --since yesterday":                "want a span such as 10m or 2d",
		"events --kind nonsense":                  `--kind "nonsense": want transition`,
		"events --limit 0":                        "--limit 0: want 1 or more",
		"explain a b":                             `unexpected argument "b"`,
		"explain lb-01":                           `"lb-01": want an address such as 192.168.31.250`,
		"resign":                                  "one word is missing: usage: havip resign ROUTER",
		"maintenance":                             "usage: havip maintenance on|off",
		"maintenance maybe":                       `"maybe": want on or off`,
		"maintenance off --reason why":            "--reason belongs to on",
		"maintenance file":                        "file belongs to --service",
		"maintenance --service web maybe":         `"maybe": want on or off, or the word file`,
		"maintenance --service= on":               "--service is empty",
		"maintenance --service web on --reason x": "without --service",
		"priority VI_1":                           "usage: havip priority ROUTER N|file",
		"priority VI_1 255":                       `"255": want 1 to 254, or the word file`,
		"priority VI_1 -5":                        `"-5": want 1 to 254`,
		"drain web":                               "usage: havip drain SERVICE BACKEND",
		"weight web a 65536":                      `"65536": want 0 to 65535`,
		"weight web a":                            "usage: havip weight",
		"check stop balancer":                     `"stop": want pause, resume, now`,
		"check pause":                             "usage: havip check",
		"alarm ops test":                          `"ops": want test`,
		"alarm test":                              "usage: havip alarm test NAME",
		"reload now":                              `unexpected argument "now"`,
		"log debug info":                          `"debug": want level`,
		"log level loud":                          `level "loud": want debug, info, warn, error, or file`,
	} {
		t.Run(args, func(t *testing.T) {
			o := havip(t.Context(), strings.Fields(args)...)
			if o.code != exitUsage || !strings.Contains(o.err, want) || o.out != "" {
				t.Errorf("%+v, want code 2 and %q", o, want)
			}
		})
	}
}

// TestNoDaemon: every command that asks says where it has asked, and fails.
func TestNoDaemon(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.sock")
	stale := filepath.Join(t.TempDir(), "stale.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	for _, args := range []string{"status", "status --watch", "events", "explain", "resign VI_1", "maintenance on", "priority VI_1 9", "drain a b", "weight a b 1",
		"check now a", "reload", "log level info"} {
		for socket, want := range map[string]string{missing: "there is no socket " + missing + ": is it running?", stale: "no havip answers on " + stale + ": connection refused"} {
			t.Setenv("HAVIP_SOCKET", socket)
			o := havip(t.Context(), strings.Fields(args)...)
			if o.code != exitFailed || !strings.Contains(o.err, want) || o.out != "" {
				t.Errorf("%s: %+v, want code 1 and %q", args, o, want)
			}
		}
	}
	if o := havip(t.Context(), "status", "--quiet"); o.code != 1 || !strings.HasPrefix(o.out, "problem: no havip answers") || o.err != "" {
		t.Errorf("quiet: %+v, want the problem where monitoring reads", o)
	}
}

// TestCheckNowWaits: what is printed is of a probe that began after the command, not of one
// before it or under way.
func TestCheckNowWaits(t *testing.T) {
	f := startFake(t)
	now := time.Now()
	asked := 0
	f.answer["GET status"] = func(w http.ResponseWriter) {
		asked++
		f.status.Node.Time = now
		b := &f.status.Services[0].Pools[0].Backends[0]
		b.Error, b.CheckLatency = "connection refused", report.Seconds(2*time.Second)
		switch asked {
		case 1:
			b.Probed = now.Add(-time.Second)
		case 2:
			b.Probed = now.Add(time.Second) // it began a second before the command
		default:
			b.Error, b.Probed = "", now.Add(3*time.Second)
		}
		_ = json.NewEncoder(w).Encode(f.status)
	}
	o := havip(t.Context(), "check", "now", "web/192.168.31.242:8080", "--socket", f.socket)
	if want := "web/192.168.31.242:8080 is up: the latest probe took 2.0s\n"; o.out != want || o.code != 0 {
		t.Errorf("%+v, want %q", o, want)
	}
}
