package daemon

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/havip/havip/internal/report"
)

// shopText is a file with a service that has backends of its own and of routes.
func shopText(t *testing.T, port, more string) string {
	t.Helper()
	return fmt.Sprintf(`checks: {alone: {type: tcp, address: "127.0.0.1:9", interval: 1h, timeout: 1s}, spare: {type: tcp, interval: 1h, timeout: 1s%s}}
services:
  - name: shop
    listen: "127.0.0.1:%s"
    mode: tcp
    backends: [{name: a, address: "127.0.0.1:1"}, {name: b, address: "127.0.0.1:2", drain: true}, {name: c, address: "127.0.0.1:3", weight: 0}, "localhost:4"]
    check: {type: tcp, interval: 1h, timeout: 1s}
    routes:
      - {name: mail, server_names: [mail.test], backends: [{name: a, address: "127.0.0.1:1", weight: 4}], check: spare}
      - {name: web, server_names: [web.test], backends: [{name: w, address: "127.0.0.1:2"}]}
`, more, port)
}

// inUse lists what each pool of a daemon gives connections to, with weights.
func inUse(d *Daemon) string {
	var pools []string
	for _, s := range d.View().Services {
		for _, p := range s.Pools {
			var all []string
			for _, b := range p.Status().Backends {
				if b.Draining {
					continue
				}
				all = append(all, fmt.Sprint(b.Origin, "*", b.Weight))
			}
			pools = append(pools, p.Route+": "+strings.Join(slices.Compact(all), " "))
		}
	}
	return strings.Join(pools, "; ")
}

// said lists the run-time changes of a daemon.
func said(d *Daemon) string {
	var all []string
	for _, c := range d.Changes() {
		all = append(all, fmt.Sprintf("%s %s=%s(%s)", c.Kind, c.Name, c.Value, c.File))
		if c.Since.IsZero() {
			all = append(all, "since when?")
		}
	}
	return strings.Join(all, ", ")
}

// Backends change by command as is said, are called by any of their names, and go back to
// what the file says.
func TestSetBackend(t *testing.T) {
	port := freePort(t)
	d := startDaemon(t, shopText(t, port, ""))
	const asFile = ": a*1 localhost:4*1; mail: a*4; web: w*1"
	until(t, "the name is resolved", func() bool { return len(d.View().Services[0].Pools[0].named("127.0.0.1:4")) == 1 })
	drain, use := BackendChange{Drain: new(true)}, BackendChange{Drain: new(false)}
	weigh := func(n int) BackendChange { return BackendChange{Weight: new(n)} }
	back := BackendChange{AsFile: true}
	for _, tc := range []struct {
		service, backend string
		change           BackendChange
		uses, changes    string
	}{
		{"shop", "a", drain, ": localhost:4*1; mail: ; web: w*1", "drain shop/a=true(false), drain shop/mail/a=true(false)"},
		{"shop/mail", "a", use, ": localhost:4*1; mail: a*4; web: w*1", "drain shop/a=true(false)"},
		{"shop/mail", "a", weigh(7), ": localhost:4*1; mail: a*7; web: w*1", "drain shop/a=true(false), weight shop/mail/a=7(4)"},
		{"shop", "127.0.0.1:1", back, asFile, ""},
		{"shop", "b", use, ": a*1 b*1 localhost:4*1; mail: a*4; web: w*1", "drain shop/b=false(true)"},
		{"shop", "127.0.0.1:2", drain, ": a*1 localhost:4*1; mail: a*4; web: ", "drain shop/web/w=true(false)"},
		{"shop", "w", use, asFile, ""},
		{"shop", "c", use, ": a*1 c*1 localhost:4*1; mail: a*4; web: w*1", "weight shop/c=1(0)"},
		{"shop", "c", weigh(0), asFile, ""},
		{"shop", "c", weigh(5), ": a*1 c*5 localhost:4*1; mail: a*4; web: w*1", "weight shop/c=5(0)"},
		{"shop", "c", weigh(-1), asFile, ""},
		{"shop", "a", weigh(0), ": localhost:4*1; mail: ; web: w*1", "weight shop/a=0(1), weight shop/mail/a=0(4)"},
		{"shop", "a", use, asFile, ""},
		{"shop/mail", "a", BackendChange{Drain: new(true), Weight: new(9)}, ": a*1 localhost:4*1; mail: ; web: w*1", "drain shop/mail/a=true(false), weight shop/mail/a=9(4)"},
		{"shop/mail", "a", weigh(-1), ": a*1 localhost:4*1; mail: ; web: w*1", "drain shop/mail/a=true(false)"}, // the weight alone
		{"shop/mail", "a", back, asFile, ""},
		{"shop", "localhost:4", drain, ": a*1; mail: a*4; web: w*1", "drain shop/localhost:4=true(false)"},
		{"shop", "localhost:4/127.0.0.1:4", use, ": a*1 localhost:4*1; mail: a*4; web: w*1",
			"drain shop/localhost:4=true(false), drain shop/localhost:4/127.0.0.1:4=false(false)"},
		{"shop", "localhost:4", drain, ": a*1; mail: a*4; web: w*1", "drain shop/localhost:4=true(false)"},
		{"shop", "localhost:4", weigh(0), ": a*1; mail: a*4; web: w*1", "drain shop/localhost:4=true(false), weight shop/localhost:4=0(1)"},
		{"shop", "localhost:4/127.0.0.1:4", use, ": a*1 localhost:4*1; mail: a*4; web: w*1",
			"drain shop/localhost:4=true(false), weight shop/localhost:4=0(1), drain shop/localhost:4/127.0.0.1:4=false(false), weight shop/localhost:4/127.0.0.1:4=1(1)"},
		{"shop", "localhost:4", back, asFile, ""},
		{"shop", "127.0.0.1:4", weigh(3), "", "weight shop/localhost:4/127.0.0.1:4=3(1)"},
		{"shop", "127.0.0.1:4", back, asFile, ""},
	} {
		what := fmt.Sprintf("%s %s %+v", tc.service, tc.backend, tc.change)
		if err := d.SetBackend(tc.service, tc.backend, tc.change); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if got := inUse(d); got != tc.uses && tc.uses != "" {
			t.Errorf("%s: in use %q, want %q", what, got, tc.uses)
		}
		if got := said(d); got != tc.changes {
			t.Errorf("%s: said %q, want %q", what, got, tc.changes)
		}
	}
	for _, tc := range []struct{ service, backend, want string }{
		{"shop", "x", `no backend of service shop is called "x": there are a, b, c, localhost:4, w`},
		{"shop/mail", "b", `no backend of service shop/mail is called "b": there is only a`},
		{"shop/news", "a", `no route is called "shop/news": there are shop, shop/mail, shop/web`},
		{"market", "a", `no service is called "market": there is only shop`},
	} {
		if err := d.SetBackend(tc.service, tc.backend, drain); !errors.Is(err, report.ErrUnknown) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s %s: %v, want %s", tc.service, tc.backend, err, tc.want)
		}
	}
}

// A reload keeps what was said, but for what it says itself.
func TestReloadKeepsCommands(t *testing.T) {
	port := freePort(t)
	text := shopText(t, port, "")
	d := startDaemon(t, text)
	for _, err := range []error{
		d.SetBackend("shop", "a", BackendChange{Drain: new(true), Weight: new(9)}),
		d.SteerCheck("alone", PauseCheck), d.SteerCheck("shop/b", PauseCheck), d.SteerCheck("spare", PauseCheck),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	all := "check alone=paused(), drain shop/a=true(false), weight shop/a=9(1), check shop/b=paused(), " +
		"drain shop/mail/a=true(false), weight shop/mail/a=9(4), check shop/mail/a=paused()"
	for _, tc := range []struct {
		name string
		edit []string
		want string
	}{
		{"the same", nil, all},
		{"another balance", []string{"mode: tcp", "mode: tcp\n    balance: random"}, all},
		{"another name of the service", []string{"name: shop", "name: store"}, strings.ReplaceAll(all, "shop", "store")},
		{"and back", nil, all},
		{"another weight of one", []string{"weight: 4", "weight: 3"}, strings.Replace(all, "weight shop/mail/a=9(4), ", "", 1)},
		{"and back again", nil, strings.Replace(all, "weight shop/mail/a=9(4), ", "", 1)},
		{"another check", []string{"spare: {type: tcp, interval: 1h", "spare: {type: tcp, interval: 59m"},
			"check alone=paused(), drain shop/a=true(false), weight shop/a=9(1), check shop/b=paused(), drain shop/mail/a=true(false)"},
		{"no such backend", []string{`{name: a, address: "127.0.0.1:1"}, `, "", `{name: b, address: "127.0.0.1:2", drain: true}, `, "", "alone:", "other:"},
			"drain shop/mail/a=true(false)"},
		{"what is gone is forgotten", nil, "drain shop/mail/a=true(false)"},
	} {
		if err := d.Reconfigure(parse(t, strings.NewReplacer(tc.edit...).Replace(text))); err != nil {
			t.Fatal(err)
		}
		if got := said(d); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

// A check that is paused is not probed, by nobody that takes its place either, and keeps
// what it has found.
func TestSteerCheck(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var mu sync.Mutex
	probes := 0
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			probes++
			mu.Unlock()
			c.Close()
		}
	}()
	count := func() int { mu.Lock(); defer mu.Unlock(); return probes }
	port := freePort(t)
	text := fmt.Sprintf(`services: [{name: web, listen: "127.0.0.1:%s", backends: [{name: a, address: %q}], check: {type: tcp, interval: 1h, timeout: 1s, start_spread: 10ms}}]`, port, ln.Addr())
	d := startDaemon(t, text)
	until(t, "the first probe", func() bool { return count() == 1 })
	monitor := func() MonitorView { return d.View().Services[0].Pools[0].Monitors()[0] }
	until(t, "up", func() bool { return monitor().Status().State.String() == "up" })
	if err := d.SteerCheck("web/a", ProbeNow); err != nil {
		t.Fatal(err)
	}
	until(t, "another probe", func() bool { return count() == 2 })
	if err := d.SteerCheck("web/a", PauseCheck); err != nil || !monitor().Status().Paused {
		t.Fatal(err, monitor().Status())
	}
	if err := d.SteerCheck("web/a", ProbeNow); !errors.Is(err, report.ErrState) || !strings.Contains(err.Error(), "resume it first") {
		t.Errorf("a probe of what is paused: %v", err)
	}
	before := monitor()
	if err := d.Reconfigure(parse(t, strings.Replace(text, "name: web", "name: web2", 1))); err != nil {
		t.Fatal(err)
	}
	if now := monitor(); now.monitor == before.monitor || !now.Status().Paused || now.Status().State.String() != "up" {
		t.Errorf("another monitor: %v; %+v", now.monitor != before.monitor, now.Status())
	}
	if err := d.SteerCheck("web2/a", ResumeCheck); err != nil || monitor().Status().Paused {
		t.Fatal(err, monitor().Status())
	}
	until(t, "probed again", func() bool { return count() == 3 })
	if got := said(d); got != "" {
		t.Errorf("left over: %s", got)
	}
}

// Commands take effect while a reload is under way, for however long.
func TestCommandsTakeNoLock(t *testing.T) {
	d := startDaemon(t, shopText(t, freePort(t), ""))
	d.KeepState(t.TempDir())
	d.mu.Lock()
	defer d.mu.Unlock()
	for what, do := range map[string]func() error{
		"drain":       func() error { return d.SetBackend("shop", "a", BackendChange{Drain: new(true), Cut: true}) },
		"pause":       func() error { return d.SteerCheck("alone", PauseCheck) },
		"pause probe": func() error { return d.SteerCheck("shop/b", PauseCheck) },
		"maintenance": func() error {
			_, err := d.SetMaintenance(true, "")
			_, end := d.SetMaintenance(false, "")
			return errors.Join(err, end)
		},
		"another folder": func() error { d.KeepState(""); return nil },
		"no router":      func() error { return errors.Join(d.Resign("x"), d.SetPriority("x", 5)) },
	} {
		inTime(t, what, func() {
			if err := do(); err != nil && what != "no router" {
				t.Errorf("%s: %v", what, err)
			}
		})
	}
	if got := said(d); !strings.Contains(got, "drain shop/a=true") || !strings.Contains(got, "check alone=paused") || !strings.Contains(got, "check shop/b=paused") {
		t.Errorf("said: %s", got)
	}
}

// Reloads and commands at the same time: no command waits for a reload to end, none is lost,
// and nothing is undone.
func TestCommandsDuringReloads(t *testing.T) {
	port := freePort(t)
	text := shopText(t, port, "")
	d := startDaemon(t, text)
	stop := make(chan struct{})
	var reloads sync.WaitGroup
	for n := range 2 {
		reloads.Go(func() {
			for i := n; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				edit := [][]string{
					{"mode: tcp", "mode: tcp\n    balance: random"},
					{`{name: w, address: "127.0.0.1:2"}`, fmt.Sprintf(`{name: w, address: "127.0.0.1:2", weight: %d}`, 1+i%3)},
					{"name: shop", "name: shop\n    access_log: true"},
				}[i%3]
				if err := d.Reconfigure(parse(t, strings.NewReplacer(edit...).Replace(text))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 200 {
		drain, weight, do := rand.IntN(2) == 0, 2+rand.IntN(5), []string{PauseCheck, ResumeCheck}[rand.IntN(2)]
		for _, err := range []error{
			d.SetBackend("shop", "a", BackendChange{Drain: &drain}), d.SetBackend("shop/mail", "a", BackendChange{Weight: &weight}),
			d.SteerCheck("alone", do), d.SteerCheck("shop/c", do),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		got, paused := said(d), do == PauseCheck
		for want, there := range map[string]bool{
			"drain shop/a=true": drain, "drain shop/mail/a=true": drain, fmt.Sprintf("weight shop/mail/a=%d", weight): weight != 4,
			"check alone=paused": paused, "check shop/c=paused": paused,
		} {
			if strings.Contains(got, want) != there {
				t.Fatalf("%s: %v, want %v: %s", want, !there, there, got)
			}
		}
		for _, m := range d.View().Services[0].Pools[0].Monitors() {
			if m.Backend == "c" && m.Status().Paused != paused {
				t.Fatalf("c is paused: %v, want %v", !paused, paused)
			}
		}
	}
	close(stop)
	reloads.Wait()
}

// TestRouteWithoutBackends: who steers a backend of a route that has none hears whose they are.
func TestRouteWithoutBackends(t *testing.T) {
	d := startDaemon(t, fmt.Sprintf(`services: [{name: web, listen: "127.0.0.1:%s", backends: ["127.0.0.1:9"], routes: [{name: old, paths: [/old/]}]}]`, freePort(t)))
	err := d.SetBackend("web/old", "127.0.0.1:9", BackendChange{Drain: new(true)})
	if !errors.Is(err, report.ErrInvalid) || !strings.Contains(err.Error(), "no backends of its own, and those of web serve it: want web") {
		t.Error(err)
	}
}
