package config

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
)

var updateChanges = flag.Bool("config.changes", false, "write the differences anew")

// allChanges are those of all parts of two files with the same parts.
func allChanges(a, b *Config) (all []string) {
	add := func(part string, list []Difference) {
		for _, d := range list {
			all = append(all, fmt.Sprintf("%s %s: %q -> %q", part, d.Key, d.From, d.To))
		}
	}
	add("log", a.Log.Changes(b.Log))
	add("admin", a.Admin.Changes(b.Admin))
	for i := range a.Alarms {
		add(a.Alarms[i].Name, a.Alarms[i].Changes(b.Alarms[i]))
	}
	for i := range a.Checks {
		add(a.Checks[i].Name, a.Checks[i].Changes(&b.Checks[i]))
	}
	for i := range a.VRRP {
		add(a.VRRP[i].Name, a.VRRP[i].Changes(b.VRRP[i]))
	}
	for i := range a.Groups {
		add(a.Groups[i].Name, a.Groups[i].Changes(b.Groups[i]))
	}
	for i := range a.Services {
		add(a.Services[i].Name, a.Services[i].Changes(b.Services[i]))
	}
	return all
}

// Every edit is found under its key, with what the file says before and after, and nothing
// of a secret. What only moves is no change, and to look changes nothing.
func TestChanges(t *testing.T) {
	data, err := os.ReadFile("testdata/everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	load := func(text string) *Config {
		t.Helper()
		c, err := pretend("other.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	a, untouched := load(string(data)), load(string(data))
	if got := allChanges(a, load("# moved\n\n"+string(data))); got != nil {
		t.Errorf("moved: %q", got)
	}
	var out strings.Builder
	more := [][2]string{
		{"{responses: 1, max_sessions: 1000}", "{responses: 1}"},
		{"lease: 5s", "lease: auto"},
		{"peers: [192.168.31.241]", "peers: [192.168.31.241, 192.168.31.242]"},
		{"  hostnames: [lb01.example.org]\n", ""},
		{"mode: udp", "mode: udp\n    idle_timeout: 7s"},
	}
	for _, edit := range append(edits, more...) {
		text := strings.Replace(string(data), edit[0], edit[1], 1)
		if text == string(data) {
			continue // of what TestEqual has alone
		}
		got := allChanges(a, load(text))
		if len(got) == 0 {
			t.Errorf("%q became %q, and nothing has changed", edit[0], edit[1])
		}
		fmt.Fprintf(&out, "%s => %s\n", edit[0], edit[1])
		for _, line := range got {
			fmt.Fprintf(&out, "    %s\n", line)
			for _, secret := range []string{"d0cker", "d0cked", "fedcb", "t0ken", "t1ken", "s3cret", "s4cret", "/xy"} {
				if _, values, _ := strings.Cut(line, ": "); strings.Contains(values, secret) {
					t.Errorf("%s shows what may be secret", line)
				}
			}
		}
	}
	if !reflect.DeepEqual(a, untouched) {
		t.Error("to look has changed the configuration")
	}
	const golden = "testdata/changes.txt"
	if *updateChanges {
		if err := os.WriteFile(golden, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("not as in %s; -config.changes writes it anew:\n%s", golden, out.String())
	}
}

// No row of the tables is left out: a change of any key is seen.
func TestEveryRowCanBeCompared(t *testing.T) {
	rows := 0
	walk("", "", new(Config).keys(), func(title string, keys []key) {
		for _, k := range keys {
			v := k.value
			rows++
			if len(v.to) == 0 && v.keys == nil && v.items == nil && v.rowsOf == nil && title+k.name != "checks" {
				t.Errorf("%s: %s cannot be compared", title, k.name)
			}
		}
	})
	if rows < 100 {
		t.Errorf("only %d rows: this test has lost sight of them", rows)
	}
}
