package config

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
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
		{"http: {max_body: 1GiB, access: [allow all]}", "http: {access: [allow all], basic_auth: off, request_headers: {X-A: s3cret}, redirect: {location: /x}}"},
		{"- {name: rest, paths: [/], http: {maintenance: false, retry_statuses: []}}", "- {name: rest, paths: [/], http: {basic_auth: {file: /etc/havip/htpasswd}, sticky: off}}"},
		{"http: {max_body: 1GiB, access: [allow all]}", "http: {max_body: 0, access: [], error_pages: [], request_headers: {}, maintenance: false}"},
		{"- {name: rest, paths: [/], http: {maintenance: false, retry_statuses: []}}", "- {name: rest, paths: [/]}\n      - {name: new, paths: [/n], http: {max_body: 0, access: []}}"},
		{"- {name: rest, paths: [/], http: {maintenance: false, retry_statuses: []}}", "- {name: rest, paths: [/]}\n      - {name: new, paths: [/n], http: {basic_auth: off, max_body: 5}}"},
		{"balance: maglev\n        pool: {max_fails: 5,", "pool: {max_fails: 0,"},
		{"backend_tls: {server_name: api.example.org, ca: /etc/havip/ca.pem}", "backend_tls: off"},
		{"backend_tls: {server_name: api.example.org, ca: /etc/havip/ca.pem}\n        connect_timeout: 1s\n        tries: 2\n        access_log", "access_log"},
		{"panic: 0, kill_on_down", "kill_on_down"},
		{"access_log: false", "access_log: true"},
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

// A file of rules whose bytes have changed is found under the key that names the file, once, and
// a file that is another one under its path alone.
func TestChangesOfFilesOfRules(t *testing.T) {
	const text = `services:
  - name: web
    listen: ":80"
    backends: [192.0.2.7:80]
    routes:
      - {name: api, paths: [/api/], http: {basic_auth: {file: /h/api}}}
    http:
      basic_auth: {file: /h/all}
      sorry: {file: /p/sorry.html}
      error_pages: [{statuses: [502, 504], file: /p/50x.html}]
`
	load := func(text string, changed ...string) *Config {
		t.Helper()
		d := newDecoder("f.yaml")
		d.read = func(path string) ([]byte, error) {
			data := "user:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n"
			if slices.Contains(changed, path) {
				data += "other:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n"
			}
			return []byte(data), nil
		}
		c, err := d.parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	const renewed = `: "the file as it was" -> "the file as it is now"`
	for _, tt := range []struct {
		changed []string
		text    string
		want    []string
	}{
		{nil, text, nil},
		{[]string{"/h/all"}, text, []string{"web http.basic_auth.file" + renewed}},
		{[]string{"/h/api", "/p/sorry.html"}, text, []string{"web http.sorry.file" + renewed, "web routes[api].http.basic_auth.file" + renewed}},
		{[]string{"/p/50x.html"}, text, []string{"web http.error_pages[502, 504].file" + renewed}},
		{[]string{"/h/new"}, strings.Replace(text, "/h/all", "/h/new", 1), []string{`web http.basic_auth.file: "/h/all" -> "/h/new"`}},
	} {
		a, b := load(text), load(tt.text, tt.changed...)
		if got := allChanges(a, b); !slices.Equal(got, tt.want) {
			t.Errorf("%v: %q, want %q", tt.changed, got, tt.want)
		}
		if equal := a.Services[0].Equal(b.Services[0]); equal != (len(tt.want) == 0) {
			t.Errorf("%v: equal is %v", tt.changed, equal)
		}
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
