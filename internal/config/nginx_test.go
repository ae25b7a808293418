package config

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/havip/havip/lb"
)

// keyPaths are the ways to all keys, from the top level and from a service.
func keyPaths() map[string]bool {
	known := make(map[string]bool)
	for _, from := range [][]key{new(Config).keys(), new(Service).keys()} {
		walk("", "", from, func(title string, keys []key) {
			place, _, _ := strings.Cut(title, " ")
			for _, k := range keys {
				known[join(place, k.name)] = true
			}
		})
	}
	known["routes[].http"] = true // whose keys are those of http
	return known
}

// TestNginxHintsNameKeys: each key that stands for a directive of nginx exists, and a directive
// has one hint.
func TestNginxHintsNameKeys(t *testing.T) {
	known := keyPaths()
	quoted := regexp.MustCompile("`[^`]*`")
	for name, hint := range nginxKeys {
		named := quoted.FindAllString(hint, -1)
		for _, key := range named {
			if !known[strings.Trim(key, "`")] {
				t.Errorf("%s: %s is no key", name, key)
			}
		}
		if len(named) == 0 {
			t.Errorf("%s: %q names no key", name, hint)
		}
		if nginxNeedless[name] != "" || nginxJobs[name] != "" {
			t.Errorf("%s: has two hints", name)
		}
	}
	for name := range nginxNeedless {
		if nginxJobs[name] != "" {
			t.Errorf("%s: has two hints", name)
		}
	}
	for _, k := range slices.Concat(new(Service).keys(), httpKeys(new(lb.HTTPConfig)), new(ServiceRoute).value().keys) {
		if nginxNeedless[k.name] != "" || nginxJob(k.name) != "" {
			t.Errorf("%s: %s, and is a key", k.name, nginxHint(k.name))
		}
	}
}

// TestNginxDirectivesHaveHints: no directive of nginx is an unknown key like any other.
func TestNginxDirectivesHaveHints(t *testing.T) {
	data, err := os.ReadFile("testdata/nginx_directives.txt")
	if err != nil {
		t.Fatal(err)
	}
	directives := strings.Fields(regexp.MustCompile(`(?m)^#.*$`).ReplaceAllString(string(data), ""))
	for _, name := range directives {
		if nginxHint(name) == "" {
			t.Errorf("%s: no hint", name)
		}
	}
	if len(directives) < 400 {
		t.Errorf("%d directives: the list is cut", len(directives))
	}
}

// TestNginxHintsAndOwnKeys: a key that stands in the wrong place is not taken for nginx's where
// nobody thinks of nginx.
func TestNginxHintsAndOwnKeys(t *testing.T) {
	d := &decoder{}
	for _, tt := range []struct{ name, path, want string }{
		{"server", "alarms[0]", "unknown key here: it belongs to "},
		{"server", "services[0].check", "unknown key here: it belongs to "},
		{"server", "services[0]", "unknown key: in the place of this directive of nginx want an item of `services`"},
		{"http", "", "the list `services`: the keys of requests are below `http`"},
		{"worker_processes", "admin", "leave this directive of nginx out"},
		{"location /api/", "services[0].http", "in the place of this directive of nginx want an item of `routes`"},
		{"if ($host = x)", "services[0]", "in the place of this directive of nginx want a route"},
		{"ifx", "services[0]", "unknown key: "},
	} {
		if got := d.unknownKey(tt.name, tt.path, nil); !strings.Contains(got, tt.want) {
			t.Errorf("%s at %q: %q, want %q", tt.name, tt.path, got, tt.want)
		}
	}
}
