package lb

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// nginxLocations writes routes as nginx's servers and locations: for a request each answers with
// its name. A server that has no location for all paths would answer 404.
func nginxLocations(routes []string) string {
	var hosts []string
	locations := make(map[string]string)
	for _, w := range routes {
		host, path, _ := strings.Cut(w, " ")
		if locations[host] == "" {
			hosts = append(hosts, host)
		}
		if mark, re, ok := strings.Cut(path, " "); ok {
			path = fmt.Sprintf("%s %q", mark, re)
		}
		locations[host] += fmt.Sprintf("location %s { return 200 %q; }\n", path, strings.ReplaceAll(w, "$", "${dollar}"))
	}
	config := "geo $dollar { default \"$\"; }\n"
	for _, host := range hosts {
		listen, name := "LISTEN", host
		if host == "*" {
			listen, name = "LISTEN default_server", "_"
		}
		config += fmt.Sprintf("server { listen %s; server_name %s; server_name_in_redirect off; default_type text/plain;\n%s}\n", listen, name, locations[host])
	}
	return config
}

// TestPrecedenceBesideNginx: nginx finds the same locations as all fronts find routes.
func TestPrecedenceBesideNginx(t *testing.T) {
	for _, c := range precedence {
		t.Run(c.name, func(t *testing.T) {
			address := besideNginx(t, nginxLocations(c.routes))
			var routes []Route
			for _, r := range testRoutes(nil, c.routes...) {
				r.Answer = Answer{Status: 200, Content: r.Name}
				routes = append(routes, r)
			}
			fronts := trapFronts()
			sites := make([]*trapSite, len(fronts))
			for i, front := range fronts {
				sites[i] = front.serve(t, HandlerConfig{Routes: routes})
			}
			for _, w := range c.wants {
				want := "200\n" + w[1]
				if w[1] == "400" {
					want = "400"
				}
				if got := askRaw(t, address, get(w[0])); !strings.HasPrefix(got, want) {
					t.Errorf("nginx, %s: %q, want %q", w[0], got, want)
				}
				for i, s := range sites {
					if got := s.askRaw(t, get(w[0])); !strings.HasPrefix(got, want) {
						t.Errorf("%s, %s: %q, want %q", fronts[i].name, w[0], got, want)
					}
				}
			}
		})
	}
}

// TestRulesBesideNginx: redirects, fixed answers, access and rewritten paths are what nginx
// makes of the equivalent configuration. Where that is not so, differs says what nginx does and
// why it is not done here.
func TestRulesBesideNginx(t *testing.T) {
	backend := webBackend(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.RequestURI) })
	address := besideNginx(t, `default_type text/plain; server_name _;
		location = /moved { return 301 https://$host$request_uri; }
		location /found { return 302 http://other.example.org/x?from=$arg_a; }
		location /kept { return 308 /new$request_uri; }
		location ~ ^/old/([^/]*)/(.*)$ { return 303 /new/$2/$1; }
		location = /teapot { return 418 "short and stout, $request_method"; }
		location = /empty { return 204; }
		location = /closed { return 444; }
		location /denied { deny 127.0.0.0/8; proxy_pass http://backends; }
		location /allowed { allow 127.0.0.1; deny all; proxy_pass http://backends; }
		location /strip/ { proxy_pass http://backends/; }
		location /add/ { proxy_pass http://backends/v1/add/; }
		location /re/ { rewrite ^/re/([^/]*)/(.*)$ /$2/x/$1 break; proxy_pass http://backends; }
		location /files { proxy_pass http://backends/data/; }
		location /two/ { rewrite ^/two/(\w+)/(\w+)$ /$1_$2 break; proxy_pass http://backends; }
		location ~ ^/one/(\w+)$ { return 302 http://a/$1x; }
		location /order/denied { deny all; return 301 https://a/; }
		location /order/login { auth_basic x; auth_basic_user_file /dev/null; return 200 "in"; }
		location /order/moved { auth_basic x; auth_basic_user_file /dev/null; return 301 https://a/; }
		location /args/ { rewrite ^/args/(.*)$ /a?p=$1 break; proxy_pass http://backends; }
		location / { proxy_pass http://backends; }`, backend)
	route := func(path string, r Rules) Route {
		return Route{Name: path, Paths: []string{path}, HandlerConfig: HandlerConfig{Rules: r}}
	}
	rules := func(lines ...string) (list []AccessRule) {
		for _, l := range lines {
			var r AccessRule
			if err := r.UnmarshalText([]byte(l)); err != nil {
				t.Fatal(err)
			}
			list = append(list, r)
		}
		return list
	}
	nobody := &BasicAuth{Users: users(t, "a:"+hashes["sha"])}
	routes := []Route{
		route("/order/denied", Rules{Access: rules("deny all"), Redirect: Redirect{Status: 301, Location: "https://a/"}}),
		route("/order/login", Rules{Auth: nobody, Answer: Answer{Status: 200, Content: "in"}}),
		route("/order/moved", Rules{Auth: nobody, Redirect: Redirect{Status: 301, Location: "https://a/"}}),
		route("= /moved", Rules{Redirect: Redirect{Status: 301, Location: "https://${host}${uri}"}}),
		route("/found", Rules{Redirect: Redirect{Location: "http://other.example.org/x?from=${arg_a}"}}),
		route("/kept", Rules{Redirect: Redirect{Status: 308, Location: "/new${uri}"}}),
		route("~ ^/old/([^/]*)/(.*)$", Rules{Redirect: Redirect{Status: 303, Location: "/new/${2}/${1}"}}),
		route("= /teapot", Rules{Answer: Answer{Status: 418, Content: "short and stout, ${method}"}}),
		route("= /empty", Rules{Answer: Answer{Status: 204}}),
		route("= /closed", Rules{Answer: Answer{Status: 444}}),
		route("/denied", Rules{Access: rules("deny 127.0.0.0/8")}),
		route("/allowed", Rules{Access: rules("allow 127.0.0.1", "deny all")}),
		route("/strip/", Rules{Rewrite: Rewrite{StripPrefix: "/strip"}}),
		route("/add/", Rules{Rewrite: Rewrite{AddPrefix: "/v1"}}),
		route("/re/", Rules{Rewrite: Rewrite{Regexp: "^/re/([^/]*)/(.*)$", Replacement: "/$2/x/$1"}}),
		route("/files", Rules{Rewrite: Rewrite{StripPrefix: "/files", AddPrefix: "/data/"}}),
		route("/two/", Rules{Rewrite: Rewrite{Regexp: `^/two/(\w+)/(\w+)$`, Replacement: "/$1_$2"}}),
		route(`~ ^/one/(\w+)$`, Rules{Redirect: Redirect{Location: "http://a/$1x"}}),
		route("/args/", Rules{Rewrite: Rewrite{Regexp: "^/args/(.*)$", Replacement: "/a?p=$1"}}),
	}
	fronts := trapFronts()
	sites := make([]*trapSite, len(fronts))
	for i, front := range fronts {
		sites[i] = front.serve(t, HandlerConfig{Routes: routes}, backend)
	}
	// What nginx answers by itself has a body of its own: of these only the status and
	// Location are compared.
	bare := func(answer string) string {
		lines := strings.SplitN(answer, "\n", 3)
		if status := lines[0]; len(lines) == 3 && (status[0] == '3' || status[0] == '4' && status != "418") {
			return strings.Join(lines[:2], "\n")
		}
		return answer
	}
	for _, c := range []struct{ path, want, differs string }{
		// nginx has return before allow, deny and auth_basic, so that these are for nothing beside
		// it. Here who may have no answer gets none; only a redirect comes before a password is asked
		// for, since it may lead to where that is encrypted.
		{"/order/denied", "403\nLocation: -", "301\nLocation: https://a/"},
		{"/order/login", "401\nLocation: -", "200\nLocation: -\nin"},
		{"/order/moved", "301\nLocation: https://a/", ""},
		// nginx does not know Max-Forwards, and no TRACE (RFC 9110 §7.6.2 wants it known).
		{"OPTIONS /denied/x", "403\nLocation: -", ""},
		{"OPTIONS /other/x", "200\nLocation: -\n", "200\nLocation: -\n/other/x"},
		{"TRACE /denied/x", "403\nLocation: -", "405\nLocation: -"},
		{"/moved", "301\nLocation: https://x/moved", ""},
		{"/moved?a=%41", "301\nLocation: https://x/moved?a=%41", ""},
		{"/found/?a=1&b=2", "302\nLocation: http://other.example.org/x?from=1", ""},
		{"/found/?b=2", "302\nLocation: http://other.example.org/x?from=", ""},
		// nginx makes a Location absolute that is a path: absolute_redirect. A path is what
		// RFC 9110 §10.2.2 allows, and right behind whatever has ended TLS before us.
		{"/kept/%61?c", "308\nLocation: /new/kept/%61?c", "308\nLocation: http://x/new/kept/%61?c"},
		// What groups have matched is decoded; nginx sends it so, which lets %0d%0a end a
		// field. Here it is encoded again.
		{"/old/a%20b/c", "303\nLocation: /new/c/a%20b", "303\nLocation: http://x/new/c/a b"},
		{"/old/a%0d%0aX:%20y/c", "303\nLocation: /new/c/a%0D%0AX:%20y", "*"},
		{"/teapot", "418\nLocation: -\nshort and stout, GET", ""},
		{"/empty", "204\nLocation: -\n", ""},
		{"/closed", "no answer", ""},
		{"/denied/x", "403\nLocation: -", ""},
		{"/allowed/x", "200\nLocation: -\n/allowed/x", ""},
		{"/strip/a/b?c=d", "200\nLocation: -\n/a/b?c=d", ""},
		{"/strip/", "200\nLocation: -\n/", ""},
		{"/strip/a%20b", "200\nLocation: -\n/a%20b", ""},
		{"/strip/x/../y", "200\nLocation: -\n/y", ""},
		{"/strip/%2e%2e/z", "200\nLocation: -\n/strip/%2e%2e/z", ""}, // is no /strip/
		{"/strip/../..", "400\nLocation: -", ""},
		{"/strip/a%3fb%23c%25", "200\nLocation: -\n/a%3Fb%23c%25", ""},
		{"/add/a", "200\nLocation: -\n/v1/add/a", ""},
		{"/re/1/2/3?q", "200\nLocation: -\n/2/3/x/1?q", ""},
		{"/re/1", "200\nLocation: -\n/re/1", ""},
		{"/two/a/b", "200\nLocation: -\n/a_b", ""},
		{"/one/a", "302\nLocation: http://a/ax", ""},
		{"/files/a", "200\nLocation: -\n/data//a", ""},
		// Here the way out of a folder that nginx's alias and proxy_pass are known for.
		{"/files../secret", "400\nLocation: -", "200\nLocation: -\n/data/../secret"},
		{"/files.", "400\nLocation: -", "200\nLocation: -\n/data/."},
		{"/files..a", "200\nLocation: -\n/data/..a", ""},
		{"/args/v", "200\nLocation: -\n/a?p=v", ""},
		{"/args/v?w=1", "200\nLocation: -\n/a?p=v&w=1", ""},
		// nginx leaves & in what a group has matched: it would be another argument.
		{"/args/v%26admin=1", "200\nLocation: -\n/a?p=v%26admin%3D1", "*"},
		{"/other%2f/x", "200\nLocation: -\n/other%2f/x", ""},
	} {
		want := c.want
		if c.differs != "" {
			want = c.differs
		}
		request := get("x " + c.path)
		if method, path, ok := strings.Cut(c.path, " "); ok {
			request = method + " " + path + " HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\n\r\n"
		}
		_, port, _ := strings.Cut(address, ":")
		got := strings.ReplaceAll(askRaw(t, address, request, "Location"), ":"+port, "")
		if want != "*" && bare(got) != want {
			t.Errorf("nginx, %s: %q, want %q", c.path, got, want)
		}
		for i, s := range sites {
			if got := s.askRaw(t, request, "Location"); bare(got) != c.want {
				t.Errorf("%s, %s: %q, want %q", fronts[i].name, c.path, got, c.want)
			}
		}
	}
}
