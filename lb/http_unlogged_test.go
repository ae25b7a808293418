package lb

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// logTargets returns an access log, and what tells the targets of its lines.
func logTargets(t *testing.T, cfg AccessLogConfig) (l *AccessLog, targets func() []string) {
	t.Helper()
	out := new(bytes.Buffer)
	cfg.Writer = out
	l = openAccessLog(t, cfg)
	return l, func() (all []string) {
		if err := l.Close(); err != nil { // no line is written any more
			t.Error(err)
		}
		for line := range strings.Lines(out.String()) {
			all = append(all, strings.Fields(line)[6])
		}
		return all
	}
}

// TestUnlogged: no log has a request of a route that says so, whatever comes of it. Others have
// their lines, and all of them count.
func TestUnlogged(t *testing.T) {
	quiet := func(name string, rules Rules, bs ...Backend) Route {
		rules.Unlogged = true
		r := Route{Name: name, Paths: []string{"/quiet/" + name}, HandlerConfig: HandlerConfig{Rules: rules}}
		if len(bs) > 0 {
			r.Pool = newPool(t, PoolConfig{Backends: bs})
		}
		return r
	}
	for _, f := range trapFronts() {
		t.Run(f.name, func(t *testing.T) {
			var lines bytes.Buffer
			l, targets := logTargets(t, AccessLogConfig{})
			toLog, flush := LogRecords(slog.New(slog.NewTextHandler(&lines, nil)))
			records := make(chan Record, 1)
			s := f.serve(t, HandlerConfig{
				Record: func(r Record) { l.Record(r); toLog(r); records <- r.Clone() },
				Routes: []Route{
					quiet("passed", Rules{}),
					quiet("answered", Rules{Answer: Answer{Status: 200}}),
					quiet("denied", Rules{Access: []AccessRule{{Deny: true}}}),
					quiet("maintenance", Rules{Maintenance: true}),
					quiet("failed", Rules{}, closedBackend(t)),
					{Name: "loud", Paths: []string{"/loud"}, HandlerConfig: HandlerConfig{Rules: Rules{Answer: Answer{Status: 200}}}},
				},
			}, webBackend(t, name("a")))
			for _, c := range []struct {
				target, status string
				unlogged       bool
			}{
				{"/quiet/passed", "200", true}, {"/quiet/answered", "200", true}, {"/quiet/denied", "403", true},
				{"/quiet/maintenance", "503", true}, {"/quiet/failed", "502", true},
				{"/loud", "200", false}, {"/", "200", false}, {"/../x", "400", false},
			} {
				status, _, _ := strings.Cut(s.askRaw(t, get("x "+c.target)), "\n")
				if r := nextRecord(t, records); status != c.status || r.HTTP == nil || r.HTTP.Target != c.target || r.HTTP.Unlogged != c.unlogged {
					t.Errorf("%s: status %s, and a record %+v; want status %s, unlogged %t", c.target, status, r.HTTP, c.status, c.unlogged)
				}
			}
			if got, want := fmt.Sprint(targets()), "[/loud / /../x]"; got != want {
				t.Errorf("lines of %s, want %s", got, want)
			}
			flush()
			if got := lines.String(); strings.Contains(got, "quiet") || strings.Count(got, "connection") != 3 {
				t.Errorf("the log has\n%s", got)
			}
			if got := s.h.Stats(); got.Accepted != 8 || got.Refused != 3 || got.Failed != 1 {
				t.Errorf("%+v: want all 8 requests counted, of which 3 are refused and 1 failed", got)
			}
		})
	}
}

// TestUnloggedInherits: of a Handler without log a route has its lines only if it says so.
func TestUnloggedInherits(t *testing.T) {
	b := webBackend(t, name("a"))
	for _, f := range trapFronts() {
		t.Run(f.name, func(t *testing.T) {
			l, targets := logTargets(t, AccessLogConfig{})
			var ended atomic.Int64
			s := f.serve(t, HandlerConfig{Rules: Rules{Unlogged: true}, Record: func(r Record) { l.Record(r); ended.Add(1) }, Routes: []Route{
				{Name: "same", Paths: []string{"/same"}}, {Name: "own", Paths: []string{"/own"}, Own: []string{"Unlogged"}},
			}}, b)
			for _, target := range []string{"/", "/same", "/own"} {
				s.askRaw(t, get("x "+target))
			}
			waitFor(t, "records", func() bool { return ended.Load() == 3 })
			if got := fmt.Sprint(targets()); got != "[/own]" {
				t.Errorf("lines of %s, want [/own]", got)
			}
		})
	}
}

// TestReloadOfUnloggedUnderLoad: a request has its line exactly if its answer is that of the rules
// with log, while these come and go.
func TestReloadOfUnloggedUnderLoad(t *testing.T) {
	for _, s := range reloadSites(t, webBackend(t, name("a"))) {
		t.Run(s.name, func(t *testing.T) {
			l, targets := logTargets(t, AccessLogConfig{Buffer: 64 << 20})
			var ended atomic.Int64
			rules := func(unlogged bool) HandlerConfig {
				return HandlerConfig{ResponseHeaders: map[string]string{"X-Unlogged": fmt.Sprint(unlogged)}, Rules: Rules{Unlogged: unlogged},
					Record: func(r Record) { l.Record(r); ended.Add(1) }}
			}
			if err := s.reconfigure(rules(true)); err != nil {
				t.Fatal(err)
			}
			var mu sync.Mutex
			want := make(map[string]bool) // by target: there is a line
			var load sync.WaitGroup
			var over atomic.Bool
			var asked atomic.Int64
			for c := range 4 {
				site := s.site()
				load.Go(func() {
					for i := 0; !over.Load() || i == 0; i++ {
						target := fmt.Sprintf("/%d-%d", c, i)
						got := site.askRaw(t, get("x "+target), "X-Unlogged")
						mu.Lock()
						want[target] = strings.Contains(got, "X-Unlogged: false")
						mu.Unlock()
						asked.Add(1)
						if !strings.HasPrefix(got, "200\n") {
							t.Errorf("%s: %q", target, got)
							return
						}
					}
				})
			}
			for i := range 20 {
				before := asked.Load()
				waitFor(t, "requests", func() bool { return asked.Load() >= before+4 || t.Failed() })
				if err := s.reconfigure(rules(i%2 == 1)); err != nil {
					t.Error(err)
				}
			}
			over.Store(true)
			load.Wait()
			waitFor(t, "records", func() bool { return ended.Load() == asked.Load() })
			lines := 0
			for _, target := range targets() {
				if lines++; !want[target] {
					t.Errorf("%s has a line, and an answer of the rules without log", target)
				}
			}
			for _, has := range want {
				if has {
					lines--
				}
			}
			if lines != 0 || l.Lost() != 0 {
				t.Errorf("%d lines too many, %d lost", lines, l.Lost())
			}
		})
	}
}
