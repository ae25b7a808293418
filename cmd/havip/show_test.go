package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/report"
)

// TestStatusCode: 0 if all is well, 1 if something needs a person, with the same last line
// however it is shown.
func TestStatusCode(t *testing.T) {
	f := startFake(t)
	for _, tt := range []struct {
		name   string
		change func(*report.Status)
		code   int
		line   string
	}{
		{"well", func(*report.Status) {}, 0, "ok: 1 of 1 router Active, 1 service with 1 of 1 backend in use\n"},
		{"a fault", func(s *report.Status) { s.Routers[0].Faults = []string{"link down"} }, 1, "problem: VI_1: fault: link down\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f.status = pairStatus()
			tt.change(&f.status)
			o := havip(t.Context(), "status", "--socket", f.socket)
			if o.code != tt.code || o.err != "" || !strings.HasSuffix(o.out, tt.line) || !strings.Contains(o.out, "ROUTER") {
				t.Errorf("%+v, want code %d and a table with the last line %q", o, tt.code, tt.line)
			}
			if o := havip(t.Context(), "status", "--socket", f.socket, "--quiet"); o != (outcome{out: tt.line, code: tt.code}) {
				t.Errorf("quiet: %+v, want only the line", o)
			}
			o = havip(t.Context(), "status", "-o", "json", "--socket", f.socket)
			var s report.Status
			if err := json.Unmarshal([]byte(o.out), &s); err != nil || o.code != tt.code || s.Routers[0].Name != "VI_1" {
				t.Errorf("JSON: %v, code %d, %+v", err, o.code, s)
			}
		})
	}
}

// TestStatusOfNames shows a part, and knows which names there are.
func TestStatusOfNames(t *testing.T) {
	f := startFake(t)
	o := havip(t.Context(), "status", "web", "--socket", f.socket)
	if o.code != 0 || !strings.Contains(o.out, "SERVICE") || strings.Contains(o.out, "ROUTER") {
		t.Errorf("%+v, want the service alone", o)
	}
	o = havip(t.Context(), "status", "wbe", "--socket", f.socket)
	if want := `"wbe": there are VI_1, balancer, web`; o.code != 1 || !strings.Contains(o.err, want) {
		t.Errorf("%+v, want code 1 and %q", o, want)
	}
}

// TestManyBackends: a service of 1,000 backends is one screen, and quick.
func TestManyBackends(t *testing.T) {
	f := startFake(t)
	p := &f.status.Services[0].Pools[0]
	for i := range 1000 {
		b := p.Backends[0]
		b.Name = fmt.Sprintf("10.0.%d.%d:80", i/250, i%250)
		if i%300 == 7 {
			b.State, b.InUse = "down", false
		}
		p.Backends = append(p.Backends, b)
	}
	began := time.Now()
	o := havip(t.Context(), "status", "--socket", f.socket)
	t.Logf("status of 1,000 backends took %v", time.Since(began))
	if n := strings.Count(o.out, "\n"); o.code != 0 || n > 30 || !strings.Contains(o.out, "10.0.2.107:80") || !strings.Contains(o.out, "997 that work: --all shows them") {
		t.Errorf("%d lines:\n%s", n, o.out)
	}
	if o := havip(t.Context(), "status", "--all", "--socket", f.socket); strings.Count(o.out, "\n") < 1000 {
		t.Error("--all does not show all")
	}
}

// TestWatchWithoutTerminal prints again and again, and a daemon that goes away is said.
func TestWatchWithoutTerminal(t *testing.T) {
	f := startFake(t)
	ctx, stop := context.WithCancel(t.Context())
	n := 0
	f.answer["GET status"] = func(w http.ResponseWriter) {
		switch n++; n {
		case 3:
			w.WriteHeader(500)
		case 5:
			stop()
			fallthrough
		default:
			says(200, f.status)(w)
		}
	}
	f.answer["GET events"] = says(200, map[string]any{"events": []report.Event{}, "last": 0})
	o := havip(ctx, "status", "--watch", "200ms", "web", "--socket", f.socket)
	if o.code != 0 || strings.Count(o.out, "SERVICE") < 3 || !strings.Contains(o.out, "! this is how it was at ") || !strings.Contains(o.out, "in use\n! no answer now: this was at ") {
		t.Errorf("%+v", o)
	}
}

func TestExplain(t *testing.T) {
	f := startFake(t)
	f.answer["GET explain/192.168.31.250"] = says(200, report.Explanation{Sentences: []string{"LB-01 has it."}, Next: []string{"nothing"}})
	for _, args := range [][]string{{"explain"}, {"explain", "192.168.31.250"}, {"explain", "192.168.31.250/24"}} {
		o := havip(t.Context(), append(args, "--socket", f.socket)...)
		if want := "LB-01 has it.\n\nlook at next:\n  - nothing\n"; o != (outcome{out: want}) {
			t.Errorf("%q: %+v, want %q", args, o, want)
		}
	}
	f.answer["GET explain/192.0.2.1"] = says(404, map[string]string{"error": "no router has the address 192.0.2.1: there are 192.168.31.250"})
	if o := havip(t.Context(), "explain", "192.0.2.1", "--socket", f.socket); o.code != 1 || !strings.Contains(o.err, "there are 192.168.31.250") {
		t.Errorf("%+v, want the addresses that exist", o)
	}
	f.status.Routers[0].Addresses = append(f.status.Routers[0].Addresses, report.Address{Address: "192.168.31.251/24"})
	if o := havip(t.Context(), "explain", "--socket", f.socket); o.code != exitUsage || !strings.Contains(o.err, "which address? There are 192.168.31.250, 192.168.31.251") {
		t.Errorf("%+v, want the choice", o)
	}
}

func TestReload(t *testing.T) {
	f := startFake(t)
	f.answer["POST reload"] = says(200, report.Change{DryRun: true, Kept: 2, Parts: []report.PartChange{{Kind: "check", Name: "a", Fate: "is new"}}})
	o := havip(t.Context(), "reload", "--dry-run", "--socket", f.socket)
	if want := "+ check a: is new\nwould change 1 part, 2 parts stay as they are; no address moves\n"; o != (outcome{out: want}) || f.requests() != `POST reload {"dry_run":true}` {
		t.Errorf("%+v of %s, want %q", o, f.requests(), want)
	}
	f.answer["POST reload"] = says(400, map[string]string{"error": "/etc/havip/havip.yaml:3:1: vrid: 300: want 1 to 255"})
	if o := havip(t.Context(), "reload", "--socket", f.socket); o.code != 1 || !strings.Contains(o.err, ":3:1: vrid") || o.out != "" {
		t.Errorf("%+v, want the mistake", o)
	}
}

// TestResignWaits for another router, or says that none is there.
func TestResignWaits(t *testing.T) {
	for name, tt := range map[string]struct {
		becomes func(*report.Router)
		want    string
		code    int
	}{
		"a peer takes over": {func(r *report.Router) {
			r.State, r.Held, r.Since = "Backup", false, time.Now()
			r.Peers = []report.Peer{{Address: "192.168.31.241", Priority: 110, LastHeard: r.Since}} // the router has waited for it
		}, "192.168.31.241 (priority 110) is Active; VI_1 has been Backup for ", 0},
		"nobody takes over": {func(*report.Router) {}, "no other router took over: VI_1 is Active as before", 1},
	} {
		t.Run(name, func(t *testing.T) {
			f := startFake(t)
			f.answer["POST routers/VI_1/resign"] = func(w http.ResponseWriter) {
				tt.becomes(&f.status.Routers[0])
				w.WriteHeader(http.StatusNoContent)
			}
			o := havip(t.Context(), "resign", "VI_1", "--wait", "--socket", f.socket)
			if o.code != tt.code || !strings.HasPrefix(o.out, "VI_1 hands 192.168.31.250 over\n") || !strings.Contains(o.out+o.err, tt.want) {
				t.Errorf("%+v, want code %d and %q", o, tt.code, tt.want)
			}
		})
	}
}

// TestEvents are filtered, and limited to the latest.
func TestEvents(t *testing.T) {
	f := startFake(t)
	event := func(id int, kind string, before time.Duration) report.Event {
		return report.Event{ID: uint64(id), Time: time.Now().Add(-before), Level: "info", Kind: kind, Message: fmt.Sprintf("message %d", id)}
	}
	f.answer["GET events"] = says(200, map[string]any{"last": 4, "events": []report.Event{
		event(1, "check", time.Hour), event(2, "transition", 3*time.Minute), event(3, "check", 2*time.Minute), event(4, "daemon", time.Minute),
	}})
	for args, want := range map[string]string{
		"":                         "1 2 3 4",
		"--since 10m":              "2 3 4",
		"--kind check,transition":  "1 2 3",
		"--kind check --limit 1":   "3",
		"--limit 2 -o json":        "3 4",
		"--since 10m --kind split": "",
	} {
		o := havip(t.Context(), slices.Concat([]string{"events", "--socket", f.socket}, strings.Fields(args))...)
		var got []string
		for line := range strings.Lines(o.out) {
			_, after, _ := strings.Cut(line, "message ")
			got = append(got, after[:1])
			if strings.Contains(args, "json") && !json.Valid([]byte(line)) {
				t.Errorf("%q is no JSON", line)
			}
		}
		if o.code != 0 || strings.Join(got, " ") != want {
			t.Errorf("%s: %q and code %d, want %q", args, got, o.code, want)
		}
	}
}

// TestFollow goes on after a restart of the daemon, and says so.
func TestFollow(t *testing.T) {
	f := startFake(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var mu sync.Mutex
	streams := 0
	f.answer["GET events"] = says(200, map[string]any{"last": 4})
	f.answer["GET events/stream"] = func(w http.ResponseWriter) {
		mu.Lock()
		defer mu.Unlock()
		switch streams++; streams {
		case 1:
			fmt.Fprint(w, "retry: 1000\n\n: still here\n\nid: 5-a\nevent: check\ndata: {\"id\":5,\"kind\":\"check\",\"message\":\"five\"}\n\n")
		case 2:
			fmt.Fprint(w, "event: lost\ndata: {}\n\nid: 1-b\nevent: check\ndata: {\"id\":1,\"kind\":\"check\",\"message\":\"one\"}\n\n")
		default:
			stop()
		}
	}
	o := havip(ctx, "events", "--follow", "--socket", f.socket)
	if o.code != 0 || strings.Count(o.out, "\n") != 2 || !strings.Contains(o.out, "five\n") || !strings.HasSuffix(o.out, "one\n") {
		t.Errorf("%+v, want both events", o)
	}
	for _, want := range []string{"any more: waiting for it", "it answers again", "some events between are not kept any more"} {
		if !strings.Contains(o.err, want) {
			t.Errorf("%q is not said in %q", want, o.err)
		}
	}
}

// TestParseSince: what people write for a time.
func TestParseSince(t *testing.T) {
	now := time.Date(2026, 11, 27, 3, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"10m": "2026-11-27 02:50", "2d": "2026-11-25 03:00", "1.5d": "2026-11-25 15:00", "02:30": "2026-11-27 02:30", "03:30:00": "2026-11-26 03:30",
		"2026-11-01": "2026-11-01 00:00", "2026-11-01 07:08": "2026-11-01 07:08", "2026-11-27T02:00:00+01:00": "2026-11-27 01:00",
		"-10m": "", "d": "", "soon": "", "": "",
	} {
		got, err := parseSince(text, now)
		if (err != nil) != (want == "") || err == nil && got.UTC().Format("2006-01-02 15:04") != want {
			t.Errorf("%q: %v, %v, want %s", text, got, err, want)
		}
	}
}

// TestFlagsFirst: flags may stand anywhere before --.
func TestFlagsFirst(t *testing.T) {
	for args, want := range map[string]string{
		"status web -o json":          "status -o json -- web",
		"status web --watch 5s VI_1":  "status --watch=5s -- web VI_1",
		"status --watch web":          "status --watch -- web",
		"status -w=1s web":            "status -w=1s -- web",
		"maintenance on --reason why": "maintenance --reason why -- on",
		"maintenance --reason=why on": "maintenance --reason=why -- on",
		"priority VI_1 -5":            "priority -- VI_1 -5",
		"weight -- web -a 3":          "weight -- web -a 3",
		"status --all web":            "status --all -- web",
		"events -f":                   "events -f",
		"status":                      "status",
		"nonsense -a b":               "nonsense -a b",
		"drain web " + completionFlag: "drain web " + completionFlag,
		"maintenance on --reason":     "maintenance --reason -- on",
	} {
		got := flagsFirst(newApp(), append([]string{"havip"}, strings.Fields(args)...))
		if strings.Join(got[1:], " ") != want {
			t.Errorf("%s: %q, want %q", args, got[1:], want)
		}
	}
}

// TestCompletion: a shell gets the names that exist.
func TestCompletion(t *testing.T) {
	f := startFake(t)
	t.Setenv("HAVIP_SOCKET", f.socket)
	for args, want := range map[string]string{
		"resign": "VI_1", "explain": "192.168.31.250", "drain": "web 192.168.31.242:8080", "drain web": "192.168.31.242:8080",
		"maintenance": "on off", "check pause": "resume now balancer web/192.168.31.242:8080", "status": "VI_1 balancer web",
	} {
		o := havip(t.Context(), append(strings.Fields(args), completionFlag)...)
		words := strings.Fields(o.out)
		flags := slices.IndexFunc(words, func(w string) bool { return !strings.HasPrefix(w, "--") })
		if got := strings.Join(words[flags:], " "); got != want || o.err != "" || !slices.Contains(words[:flags], "--socket") {
			t.Errorf("%s: %q, want flags, and %q", args, words, want)
		}
	}
	t.Setenv("HAVIP_SOCKET", f.socket+"none")
	if o := havip(t.Context(), "resign", completionFlag); o.code != 0 || o.err != "" || !strings.Contains(o.out, "--wait\n") || strings.Contains(o.out, "VI_1") {
		t.Errorf("without a daemon: %+v, want flags only", o)
	}
}

// TestBashCompletion: the shell's part takes names as they are, whatever characters they
// have.
func TestBashCompletion(t *testing.T) {
	lab.Need(t, "bash")
	const script = `havip() { printf '%s\n' --we 'web' 'we$(echo oops)' 'api' "$*"; }
source dist/havip.bash
COMP_WORDS=(havip drain we) COMP_CWORD=2
_havip
printf '%s\n' "${COMPREPLY[@]}"
COMP_WORDS=(havip drain --) COMP_CWORD=2
_havip
printf '%s\n' "${COMPREPLY[@]}"
COMP_WORDS=(havip drain "") COMP_CWORD=2
_havip
printf '%s\n' "${COMPREPLY[@]: -1}"`
	out, err := exec.Command("bash", "-c", script).CombinedOutput()
	if want := "web\nwe$(echo oops)\n--we\ndrain " + completionFlag + "\n"; err != nil || string(out) != want {
		t.Errorf("%v, %q, want %q", err, out, want)
	}
}
