package config

import (
	"fmt"
	"strings"
	"testing"
)

// TestIdleRules: keys of requests that do nothing beside others are named, with what they lack,
// and no key is that does something in a route.
func TestIdleRules(t *testing.T) {
	const page = "error_pages: [{statuses: [502], file: /p/50x.html}]"
	const backends = `backends: ["192.0.2.8:80"]`
	for name, tt := range map[string]struct {
		service, http string // keys
		routes        string // items
		want          string // warnings, without their positions
	}{
		"nothing is given":                           {},
		"an answer and a rewrite by a redirect":      {http: "redirect: {location: /x}, answer: {status: 200}, rewrite: {add_prefix: /y}", want: "backends: does nothing beside redirect: no request comes to them; http.answer: does nothing beside redirect, which comes first; http.rewrite: does nothing beside redirect, which comes first"},
		"https is for some requests":                 {http: "redirect: {location: https}, answer: {status: 200}", want: "backends: does nothing beside answer: no request comes to them"},
		"https, and backends":                        {http: "redirect: {location: https}"},
		"a rewrite by an answer":                     {http: "answer: {status: 200}, rewrite: {add_prefix: /y}", routes: "{name: r, paths: [/r]}", want: "http.rewrite: does nothing beside answer: no request comes to a backend"},
		"a redirect, and all routes have backends":   {http: "redirect: {location: /x}", routes: "{name: r, paths: [/r], " + backends + "}", want: "backends: does nothing beside redirect: no request comes to them"},
		"backends of a route that redirects":         {routes: "{name: r, paths: [/r], http: {redirect: {location: /x}, answer: {status: 200}}, " + backends + "}", want: "routes[0].http.answer: does nothing beside redirect, which comes first; routes[0].backends: does nothing beside redirect: no request comes to them"},
		"a check of a route without backends":        {routes: "{name: r, paths: [/r], check: {type: tcp}}", want: "routes[0].check: does nothing without backends: those of the service have its check"},
		"no log in a route, and none of the service": {routes: "{name: r, paths: [/r], access_log: false}", want: "routes[0].access_log: does nothing without access_log of the service"},
		"no log in a route, and one of the service":  {service: "access_log: true", routes: "{name: r, paths: [/r], access_log: false}"},

		"locations of what is answered here":                {http: "answer: {status: 200}, rewrite_location: [{prefix: /, to: /a/}]", want: "backends: does nothing beside answer: no request comes to them; http.rewrite_location: does nothing where all requests are answered here: no backend sends clients anywhere"},
		"locations of a service, and a route with backends": {http: "answer: {status: 200}, rewrite_location: [{prefix: /, to: /a/}]", routes: "{name: r, paths: [/r], " + backends + "}", want: "backends: does nothing beside answer: no request comes to them"},
		"locations of a route that redirects":               {routes: "{name: r, paths: [/r], http: {redirect: {location: /x}, rewrite_location: [{prefix: /, to: /a/}]}}", want: "routes[0].http.rewrite_location: does nothing where all requests are answered here: no backend sends clients anywhere"},

		"a key without key-hash":                          {http: `hash_key: "${uri}"`, want: "http.hash_key: does nothing without balance: key-hash"},
		"a key of a route without key-hash":               {routes: `{name: r, paths: [/r], http: {hash_key: "${uri}"}}`, want: "routes[0].http.hash_key: does nothing without balance: key-hash"},
		"a key with key-hash":                             {service: "balance: key-hash", http: `hash_key: "${uri}"`},
		"memory without buffering":                        {http: "buffering: off, buffer_memory: 16KiB, buffer_total: 2GiB", want: "http.buffer_memory: does nothing with buffering: off; http.buffer_total: does nothing with buffering: off"},
		"memory with buffering of a route":                {http: "buffering: off, buffer_memory: 16KiB", routes: "{name: r, paths: [/r], http: {buffering: on}}"},
		"memory of a route without buffering":             {routes: "{name: r, paths: [/r], http: {buffering: off, buffer_memory: 16KiB}}", want: "routes[0].http.buffer_memory: does nothing with buffering: off"},
		"memory of a route, buffering is off":             {http: "buffering: off", routes: "{name: r, paths: [/r], http: {buffer_memory: 16KiB}}", want: "routes[0].http.buffer_memory: does nothing with buffering: off"},
		"memory with buffering by default":                {http: "buffer_memory: 16KiB", routes: "{name: r, paths: [/r], http: {buffer_memory: 8KiB}}"},
		"no error pages":                                  {http: "intercept_errors: true", want: "http.intercept_errors: does nothing without error_pages"},
		"error pages":                                     {http: "intercept_errors: true, " + page},
		"error pages of a route":                          {http: "intercept_errors: true", routes: "{name: r, paths: [/r], http: {" + page + "}}"},
		"error pages of the service, and none of a route": {http: page, routes: "{name: r, paths: [/r], http: {error_pages: [], intercept_errors: true}}", want: "routes[0].http.intercept_errors: does nothing without error_pages"},
		"error pages of the service":                      {http: page, routes: "{name: r, paths: [/r], http: {intercept_errors: true}}"},
		"a burst without a rate":                          {http: "request_burst: 5", want: "http.request_burst: does nothing without request_rate"},
		"a burst, the rate is the service's":              {http: "request_rate: 5", routes: "{name: r, paths: [/r], http: {request_burst: 7}}"},
		"repeating, with one try":                         {service: "tries: 1", http: "retry_statuses: [502], retry_non_idempotent: true", want: "http.retry_statuses: does nothing with tries: 1; http.retry_non_idempotent: does nothing with tries: 1"},
		"a target longer than the header":                 {http: "max_header: 4KiB, max_uri: 5000", want: "http.max_uri: does nothing above max_header"},
	} {
		text := "services: [{name: web, listen: ':80', backends: ['192.0.2.7:80'], " + tt.service
		if tt.routes != "" {
			text += ", routes: [" + tt.routes + "]"
		}
		text = strings.ReplaceAll(text+", http: {"+tt.http+"}}]", "], ,", "],")
		c, err := pretend("f.yaml", []byte(text))
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, text)
			continue
		}
		var got []string
		for _, w := range c.Warnings {
			got = append(got, strings.TrimPrefix(w.Path, "services[0].")+": "+w.Text)
		}
		if got := strings.Join(got, "; "); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// TestLogOfTwoFormats: a file that gets lines of two formats is warned of, whether these are
// given or those of the modes.
func TestLogOfTwoFormats(t *testing.T) {
	const combined, json = "combined", "json"
	for _, tt := range []struct {
		modes, formats [2]string
		want           string
	}{
		{modes: [2]string{"http", "http"}},
		{modes: [2]string{"tcp", "udp"}},
		{modes: [2]string{"http", "tcp"}, formats: [2]string{json, ""}},
		{modes: [2]string{"http", "http"}, formats: [2]string{"", combined}},
		{modes: [2]string{"http", "tcp"}, want: "gets lines as json, and as combined from services[0]: give each format a file"},
		{modes: [2]string{"http", "http"}, formats: [2]string{json, ""}, want: "gets lines as combined, and as json from services[0]: give each format a file"},
	} {
		text := "services:\n"
		for i, mode := range tt.modes {
			log := "file: /l/x.log"
			if tt.formats[i] != "" {
				log += ", format: " + tt.formats[i]
			}
			text += fmt.Sprintf("  - {name: s%d, listen: ':%d', mode: %s, backends: ['192.0.2.7:80'], access_log: {%s}}\n", i, 80+i, mode, log)
		}
		c, err := pretend("f.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if len(c.Warnings) > 0 {
			got = strings.TrimPrefix(c.Warnings[0].Text, "/l/x.log: ")
		}
		if got != tt.want || len(c.Warnings) > 1 {
			t.Errorf("%v %v: %q, want %q", tt.modes, tt.formats, c.Warnings, tt.want)
		}
	}
}

// TestServicesWithoutBackends: a service whose rules answer all requests needs no backends, and
// keys of backends are named then. See bad.txt for those that need some.
func TestServicesWithoutBackends(t *testing.T) {
	for keys, want := range map[string]string{
		"http: {redirect: {location: https}}":                                                                             "",
		"http: {redirect: {location: /x}, trusted_proxies: [192.0.2.0/24]}":                                               "",
		"http: {answer: {status: 200}}":                                                                                   "",
		"http: {maintenance: true}":                                                                                       "",
		"http: {redirect: {location: https}, answer: {status: 200}}, tls: {}":                                             "",
		"http: {maintenance: true}, routes: [{name: r, paths: [/r]}]":                                                     "",
		"http: {answer: {status: 200}}, check: {type: tcp}, balance: source-hash":                                         "check: does nothing without backends; balance: does nothing without backends",
		"http: {answer: {status: 200}}, backend_tls: {}, pool: {max_fails: 5}":                                            "backend_tls: does nothing without backends; pool: does nothing without backends",
		"http: {answer: {status: 200}}, check: {type: tcp}, routes: [{name: r, paths: [/r], backends: ['192.0.2.8:80']}]": "",
	} {
		keys = strings.Replace(keys, "tls: {}", "tls: {certificates: [/p/web.pem]}", strings.Count(keys, ", tls"))
		c, err := pretend("f.yaml", []byte("services: [{name: web, listen: ':80', "+keys+"}]"))
		if err != nil {
			t.Errorf("%s: %v", keys, err)
			continue
		}
		var got []string
		for _, w := range c.Warnings {
			got = append(got, strings.TrimPrefix(w.Path, "services[0].")+": "+w.Text)
		}
		if got := strings.Join(got, "; "); got != want {
			t.Errorf("%s: %q, want %q", keys, got, want)
		}
	}
}
