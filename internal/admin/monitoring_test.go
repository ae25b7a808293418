package admin

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/havip/havip/internal/lab"
)

// monitoring is the folder of the example.
const monitoring = "../../examples/monitoring"

// TestPromtoolTakesRules: the rules are valid, and each alert fires when its test says so.
func TestPromtoolTakesRules(t *testing.T) {
	lab.Need(t, "promtool")
	for _, args := range [][]string{
		{"check", "config", "prometheus.yml"}, {"check", "rules", "alerts.yml"}, {"test", "rules", "alerts_test.yml"},
	} {
		cmd := exec.Command("promtool", args...)
		cmd.Dir = monitoring
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// TestAlertsAreTested: each alert has a test in which it fires.
func TestAlertsAreTested(t *testing.T) {
	rules, tests := read(t, "alerts.yml"), read(t, "alerts_test.yml")
	names := regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(rules, -1)
	if len(names) < 15 {
		t.Errorf("%d alerts", len(names))
	}
	for _, m := range names {
		if !regexp.MustCompile(`alertname: ` + m[1] + `\n\s+exp_alerts:\n`).MatchString(tests) {
			t.Errorf("no test in which %s fires", m[1])
		}
	}
}

// read returns a file of the example.
func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(monitoring, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// query is an expression of PromQL, with the templates that use the labels of its result.
type query struct{ where, expr, text string }

// dashboard is what a test looks at of dashboard.json.
type dashboard struct {
	SchemaVersion int
	Panels        []struct {
		ID      int
		Title   string
		Type    string
		GridPos struct{ X, Y, W, H int }
		Targets []struct{ Expr, LegendFormat string }
	}
	Templating struct {
		List []struct{ Name, Definition string }
	}
	Annotations struct {
		List []struct{ Expr, TitleFormat string }
	}
}

func readDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	if err := json.Unmarshal([]byte(read(t, "dashboard.json")), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// queries are those of the rules and of the dashboard.
func queries(t *testing.T) (all []query) {
	t.Helper()
	for _, rule := range strings.Split(read(t, "alerts.yml"), "- alert: ")[1:] {
		name, rest, _ := strings.Cut(rule, "\n")
		_, expr, _ := strings.Cut(rest, "expr: ")
		expr, text, _ := strings.Cut(expr, "labels: ")
		all = append(all, query{name, expr, text})
	}
	d := readDashboard(t)
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			all = append(all, query{"panel " + p.Title, target.Expr, target.LegendFormat})
		}
	}
	for _, v := range d.Templating.List {
		all = append(all, query{"variable " + v.Name, v.Definition, ""})
	}
	for _, a := range d.Annotations.List {
		all = append(all, query{"annotation", a.Expr, a.TitleFormat})
	}
	return all
}

var (
	metricWord = regexp.MustCompile(`\b(havip|process|go)_\w+`)
	selector   = regexp.MustCompile(`\b((?:havip|process|go)_\w+)\{([^}]*)\}`)
	matcher    = regexp.MustCompile(`(\w+)(?:=~|!~|!=|=)`)
	grouping   = regexp.MustCompile(`\b(?:by|on|without|ignoring) \(([^)]*)\)`)
	valuesOf   = regexp.MustCompile(`^label_values\(.*, (\w+)\)$`)
	legend     = regexp.MustCompile(`\{\{ ?(?:\$labels\.)?(\w+)(?: \|[^}]*)? ?\}\}`)
)

// TestQueriesAskForWhatThereIs: each metric and each label that the rules and the dashboard
// name is in the exposition.
func TestQueriesAskForWhatThereIs(t *testing.T) {
	labels := map[string][]string{} // by the name of a series
	for line := range strings.Lines(scrape(newMetrics(newShown(fullStatus(3))))) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		name := strings.FieldsFunc(line, func(r rune) bool { return r == '{' || r == ' ' })[0]
		known := append(labels[name], "job", "instance") // which Prometheus adds
		for _, m := range regexp.MustCompile(`(\w+)="`).FindAllStringSubmatch(line, -1) {
			known = append(known, m[1])
		}
		labels[name] = known
	}
	all := queries(t)
	if len(all) < 80 {
		t.Errorf("%d queries", len(all))
	}
	for _, q := range all {
		var known []string
		for _, name := range metricWord.FindAllString(q.expr, -1) {
			if labels[name] == nil {
				t.Errorf("%s: there is no %s", q.where, name)
			}
			known = append(known, labels[name]...)
		}
		if strings.HasPrefix(q.expr, "up{") || strings.Contains(q.expr, "(up{") {
			known = append(known, "job", "instance")
		}
		for _, s := range selector.FindAllStringSubmatch(q.expr, -1) {
			for _, m := range matcher.FindAllStringSubmatch(s[2], -1) {
				if !slices.Contains(labels[s[1]], m[1]) {
					t.Errorf("%s: %s has no label %s", q.where, s[1], m[1])
				}
			}
		}
		var asked []string
		for _, g := range grouping.FindAllStringSubmatch(q.expr, -1) {
			asked = append(asked, strings.Split(g[1], ", ")...)
		}
		if m := valuesOf.FindStringSubmatch(q.expr); m != nil {
			asked = append(asked, m[1])
		}
		for _, m := range legend.FindAllStringSubmatch(q.text, -1) {
			asked = append(asked, m[1])
		}
		for _, label := range asked {
			if !slices.Contains(known, label) {
				t.Errorf("%s: no metric of %s has the label %s", q.where, strings.TrimSpace(q.expr), label)
			}
		}
	}
}

// TestDashboard: panels have room, and names and numbers of their own.
func TestDashboard(t *testing.T) {
	d := readDashboard(t)
	if d.SchemaVersion < 38 || len(d.Panels) < 30 {
		t.Errorf("schema %d, %d panels", d.SchemaVersion, len(d.Panels))
	}
	seen, taken := map[int]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if seen[p.ID] || p.Title == "" || p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %d %q is not whole, or there twice", p.ID, p.Title)
		}
		seen[p.ID] = true
		if p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("%s is wider than the page", p.Title)
		}
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other := taken[at]; other != "" {
					t.Fatalf("%s lies on %s", p.Title, other)
				}
				taken[at] = p.Title
			}
		}
	}
}
