package daemon

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/report"
)

var updatePlans = flag.Bool("daemon.plans", false, "write the golden plans anew")

const plannedText = `log: {level: info}
checks: {web: {type: tcp, address: "127.0.0.1:80"}}
vrrp:
  - {name: VI_1, interface: eth0, vrid: 51, version: 2, priority: 120, auth: {type: pass, secret: d0cker}, addresses: [192.0.2.10/24, 192.0.2.11/24], track: [{check: web}]}
  - {name: VI_2, interface: eth0, vrid: 52, priority: 100, addresses: [192.0.2.20/24]}
groups: [{name: G, routers: [VI_1]}]
services:
  - {name: web, listen: ":80", backends: [{name: a, address: "192.0.2.1:80"}, {name: b, address: "192.0.2.2:80"}], check: {type: tcp}}
  - {name: dns, listen: ":53", mode: udp, backends: ["192.0.2.3:53"]}
`

// planOf is what a reload with an edited file would do, VI_1 being Active.
func planOf(before, next *config.Config) report.Change {
	p := planner{before: before, next: next, change: report.Change{Parts: []report.PartChange{}, DryRun: true}}
	for i, plan := range routerPlans(before) {
		p.routers = append(p.routers, plannedRouter{runningRouter{plan.cfg, plan.group, true}, i == 0})
	}
	for _, s := range before.Services {
		p.services = append(p.services, plannedService{s, true})
	}
	p.compare()
	return p.change
}

// Each edit of a file has its fate, and its cost, in the words that are in testdata/plans.txt.
func TestPlans(t *testing.T) {
	before := parse(t, plannedText)
	var out strings.Builder
	for _, edit := range [][]string{
		{},
		{"level: info", "level: debug, format: json"},
		{"priority: 120", "priority: 90"},
		{"priority: 100", "priority: 130"},
		{"vrid: 51", "vrid: 61"},
		{"vrid: 52", "vrid: 62"},
		{"interface: eth0, vrid: 52", "interface: eth1, vrid: 52"},
		{"secret: d0cker", "secret: d0cked"},
		{"version: 2, ", "", "auth: {type: pass, secret: d0cker}, ", ""},
		{", 192.0.2.11/24", ""},
		{"version: 2", "version: 2, interval: 2s"},
		{"addresses: [192.0.2.20/24]", "addresses: [192.0.2.20/24], peers: [192.0.2.99]"},
		{"  - {name: VI_2, interface: eth0, vrid: 52, priority: 100, addresses: [192.0.2.20/24]}\n", ""},
		{"name: VI_1", "name: VI_3", "[VI_1]", "[VI_3]"},
		{"[VI_1]", "[VI_1, VI_2]"},
		{`"127.0.0.1:80"`, `"127.0.0.1:80", fall: 5`},
		{`, {name: b, address: "192.0.2.2:80"}]`, "], pool: {drain_timeout: 1m}"},
		{`{name: b, address: "192.0.2.2:80"}`, `{name: b, address: "192.0.2.2:80", weight: 3}, "192.0.2.4:80"`},
		{"check: {type: tcp}", "check: {type: http, path: /secret}"},
		{`listen: ":80"`, `listen: ":8080"`},
		{"name: web, listen", "name: shop, listen"},
		{`listen: ":80"`, `listen: ":80", mode: tcp`},
		{"  - {name: dns, listen: \":53\", mode: udp, backends: [\"192.0.2.3:53\"]}\n", ""},
		{"log:", "admin: {listen: \"127.0.0.1:9650\"}\nlog:"},
	} {
		text := strings.NewReplacer(edit...).Replace(plannedText)
		if len(edit) > 0 && text == plannedText {
			t.Fatalf("%q is not in the file", edit)
		}
		fmt.Fprintf(&out, "== %s\n%s\n", strings.ReplaceAll(strings.Join(edit, " => "), "\n", ""),
			report.RenderChange(planOf(before, parse(t, text)), report.Layout{Width: 150}))
	}
	const golden = "testdata/plans.txt"
	if *updatePlans {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("not as in %s; -daemon.plans writes it anew:\n%s", golden, out.String())
	}
	for line := range strings.Lines(out.String()) {
		if !strings.HasPrefix(line, "==") && (strings.Contains(line, "d0ck") || strings.Contains(line, "/secret")) {
			t.Errorf("shows a secret: %s", line)
		}
	}
}

// What a plan says is what the reload does: the same parts go on, and the same run-time
// changes are dropped.
func TestPlanIsWhatHappens(t *testing.T) {
	port := freePort(t)
	text := shopText(t, port, "")
	d := startDaemon(t, text)
	for _, err := range []error{
		d.SetBackend("shop", "a", BackendChange{Drain: new(true), Weight: new(9)}),
		d.SteerCheck("alone", PauseCheck), d.SteerCheck("shop/b", PauseCheck),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		name string
		edit []string
		fate string
		gone string
	}{
		{"the same", nil, "", ""},
		{"another weight", []string{"weight: 4", "weight: 3"}, "service shop changes in place", "weight shop/mail/a"},
		{"another check", []string{"check: {type: tcp, interval: 1h", "check: {type: tcp, interval: 59m"}, "service shop changes in place", "check shop/b"},
		{"another mode", []string{"mode: tcp", "mode: http", "    routes:", "", "      - {name: mail", "#", "      - {name: web", "#"}, "service shop starts anew", "drain shop/mail/a"},
		{"no check", []string{"alone:", "other:"}, "check other is new, check alone ends", "check alone"},
	} {
		cfg := parse(t, strings.NewReplacer(tc.edit...).Replace(text))
		text = strings.NewReplacer(tc.edit...).Replace(text)
		before, plan := said(d), d.Plan(cfg)
		if said(d) != before {
			t.Errorf("%s: the plan has changed something", tc.name)
		}
		var parts, gone []string
		for _, p := range plan.Parts {
			parts = append(parts, p.Kind+" "+p.Name+" "+p.Fate)
		}
		for _, c := range plan.Dropped {
			gone = append(gone, c.Kind+" "+c.Name)
		}
		if strings.Join(parts, ", ") != tc.fate || strings.Join(gone, ", ") != tc.gone {
			t.Errorf("%s: %q, drops %q; want %q, %q", tc.name, parts, gone, tc.fate, tc.gone)
		}
		if err := d.Reconfigure(cfg); err != nil {
			t.Fatal(err)
		}
		for _, c := range plan.Dropped {
			if strings.Contains(said(d), c.Kind+" "+c.Name+"=") {
				t.Errorf("%s: %s %s is still there", tc.name, c.Kind, c.Name)
			}
		}
		if n, m := len(strings.Split(before, ", ")), len(d.Changes()); before != "" && n-len(plan.Dropped) != m {
			t.Errorf("%s: %d run-time changes less, want %d: %s", tc.name, n-m, len(plan.Dropped), said(d))
		}
		if plan := d.Plan(cfg); len(plan.Parts) != 0 || plan.Kept == 0 {
			t.Errorf("%s: done, and there is still to do: %+v", tc.name, plan)
		}
	}
}
