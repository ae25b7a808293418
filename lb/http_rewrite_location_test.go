package lb

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// relocations are URLs of backends, with rules, and what clients get. They ask www.example.org.
var relocations = []struct {
	claim     string
	rules     []LocationRewrite
	url, want string
}{
	{"a path gets the prefix that the route has taken away", []LocationRewrite{{Prefix: "/", To: "/app/"}}, "/login?a=b#c", "/app/login?a=b#c"},
	{"the backend's own host is none of the client's business", []LocationRewrite{{Prefix: "http://internal:8080/", To: "/app/"}}, "http://internal:8080/login", "/app/login"},
	{"another URL stays", []LocationRewrite{{Prefix: "http://internal:8080/", To: "/app/"}}, "https://sso.example.org/", "https://sso.example.org/"},
	{"the first rule that matches counts, and only that", []LocationRewrite{{Prefix: "/app/", To: "/app/"}, {Prefix: "/", To: "/app/"}, {Regexp: ".*", To: "/no"}}, "/app/x", "/app/x"},
	{"the second rule, where the first does not match", []LocationRewrite{{Prefix: "/app/", To: "/app/"}, {Prefix: "/", To: "/app/"}}, "/x", "/app/x"},
	{"with variables", []LocationRewrite{{Prefix: "http://${header_X-Backend}/", To: "${scheme}://${host}/${route}/"}}, "http://internal/a", "SCHEME://www.example.org/ROUTE/a"},
	{"a variable that is empty is no prefix", []LocationRewrite{{Prefix: "${header_X-None}", To: "/all/"}}, "/a", "/a"},
	{"an expression, for the whole URL", []LocationRewrite{{Regexp: `^http://[^/]*/user/(\w+)/(.*)$`, To: "https://$1.example.org/${2}?from=$1"}}, "http://internal:8080/user/ann/x", "https://ann.example.org/x?from=ann"},
	{"a group that has matched nothing", []LocationRewrite{{Regexp: "^/(a)?b", To: "/$1/c"}}, "/b", "/c"},
	{"the host that the backend's URL has anyway, without its port", []LocationRewrite{{Regexp: `^(http://[^:]+):\d+(/.+)$`, To: "$1$2"}}, "http://other.example.org:8080/a", "http://other.example.org/a"},
	{"another scheme alone", []LocationRewrite{{Prefix: "http://", To: "https://"}}, "http://www.example.org/a", "https://www.example.org/a"},
	{"a dollar sign", []LocationRewrite{{Prefix: "/", To: "/$$/"}}, "/a", "/$/a"},

	{"a path does not lead to another host", []LocationRewrite{{Prefix: "http://internal:8080/", To: "/"}}, "http://internal:8080//evil.test/", "/evil.test/"},
	{"nor with a backslash", []LocationRewrite{{Prefix: "http://internal:8080/", To: "/"}}, `http://internal:8080/\evil.test/`, "/evil.test/"},
	{"nor by a group", []LocationRewrite{{Regexp: "^http://internal:8080(.*)$", To: "$1"}}, "http://internal:8080//evil.test/", "/evil.test/"},
	{"nor by a variable", []LocationRewrite{{Prefix: "/", To: "/${header_X-Evil}/"}}, "/a", "/evil.test/a"},
	{"a variable at the beginning makes no host of a path", []LocationRewrite{{Prefix: "/", To: "${header_X-Url}"}}, "/a", "/a"},
	{"nor do two, of which the first is empty", []LocationRewrite{{Prefix: "/", To: "${header_X-None}${header_X-Url}"}}, "/a", "/a"},
	{"nor a group, of a path", []LocationRewrite{{Regexp: "^/to/(.*)$", To: "$1"}}, "/to/https://evil.test/", "/to/https://evil.test/"},
	{"a scheme of the client is http or https", []LocationRewrite{{Prefix: "/", To: "${header_X-Scheme}://www.example.org/"}}, "/a", "/a"},
	{"a prefix is not the beginning of a longer host", []LocationRewrite{{Prefix: "http://internal", To: "https://www.example.org"}}, "http://internal.evil.test/", "http://internal.evil.test/"},
	{"nor for a path to take its place", []LocationRewrite{{Prefix: "http://internal", To: "/app"}}, "http://internal.other.test/", "http://internal.other.test/"},
	{"nor is it for another port", []LocationRewrite{{Prefix: "http://internal", To: "https://www.example.org"}}, "http://internal:8080/", "http://internal:8080/"},
	{"but for the host without a path", []LocationRewrite{{Prefix: "http://internal", To: "https://www.example.org"}}, "http://internal", "https://www.example.org"},
	{"what follows a host does not continue it", []LocationRewrite{{Prefix: "/", To: "https://www.example.org"}}, "/.evil.test/", "/.evil.test/"},
	{"a group does not end the host", []LocationRewrite{{Regexp: "^/to/(.*)$", To: "https://$1.example.org/"}}, "/to/evil.test/", "/to/evil.test/"},
	{"nor makes a user of it", []LocationRewrite{{Regexp: "^/to/(.*)$", To: "https://www.example.org$1/"}}, "/to/@evil.test", "/to/@evil.test"},
	{"nor leaves it out, for the path to take its place", []LocationRewrite{{Regexp: "^/to/(.*)$", To: "https://$1/"}}, "/to/", "/to/"},
	{"a tab, which browsers leave out, does not hide a slash", []LocationRewrite{{Prefix: "http://internal:8080/", To: "/"}}, "http://internal:8080/\t/evil.test/", "http://internal:8080/\t/evil.test/"},
	{"spaces at the ends are no part of a value", []LocationRewrite{{Regexp: "^/(a )b$", To: "/$1"}}, "/a b", "/a"},
}

// namedRoute is a route whose name is its path.
func namedRoute(path string, r Rules) Route {
	route := routeOn(path, r)
	route.Name = strings.Trim(path, "/")
	return route
}

// relocatingBackend sends clients to where they ask to be sent.
func relocatingBackend(t *testing.T) Backend {
	return webBackend(t, func(w http.ResponseWriter, r *http.Request) {
		for _, name := range []string{"Location", "Refresh"} {
			for _, value := range r.Header.Values("X-" + name) {
				w.Header().Add(name, value)
			}
		}
		w.WriteHeader(http.StatusCreated) // a status of no redirect, which clients of tests would look into
	})
}

// relocated asks for a path, and has the backend send a client to a URL.
func relocated(path, url string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: www.example.org\r\nX-Location: " + url + "\r\nX-Refresh: 5; url=" + url + "\r\n" +
		"X-Backend: internal\r\nX-Evil: /evil.test\r\nX-Url: https://evil.test/\r\nX-Scheme: javascript\r\n\r\n"
}

// TestLocationsAreRewritten: Location and Refresh lead to where rules say, and never elsewhere
// by what a client says.
func TestLocationsAreRewritten(t *testing.T) {
	var routes []Route
	for i, tt := range relocations {
		routes = append(routes, namedRoute(fmt.Sprintf("/%d/", i), Rules{RewriteLocation: tt.rules}))
	}
	for _, front := range trapFronts() {
		s := front.serve(t, HandlerConfig{Routes: routes}, relocatingBackend(t))
		scheme, _, _ := strings.Cut(s.url, "://")
		for i, tt := range relocations {
			want := strings.NewReplacer("SCHEME", scheme, "ROUTE", routes[i].Name).Replace(tt.want)
			got := s.askRaw(t, relocated(routes[i].Paths[0], tt.url), "Location", "Refresh")
			if got != fmt.Sprintf("201\nLocation: %s\nRefresh: 5; url=%s\n", want, want) {
				t.Errorf("%s, %s: %q, want %s", front.name, tt.claim, got, want)
			}
		}
	}
}

// TestOtherLocationsStay: rules of a service count for routes without any of their own, and for
// nothing but URLs of backends.
func TestOtherLocationsStay(t *testing.T) {
	app := []LocationRewrite{{Prefix: "/", To: "/app/"}}
	plain := namedRoute("/plain", Rules{})
	plain.Own = []string{"RewriteLocation"}
	set := namedRoute("/set", Rules{})
	set.ResponseHeaders = map[string]string{"Location": "/set"}
	cfg := HandlerConfig{Rules: Rules{RewriteLocation: app}, Routes: []Route{plain, set,
		namedRoute("/none", Rules{RewriteLocation: []LocationRewrite{}}), namedRoute("/rest", Rules{}),
		namedRoute("/moved", Rules{Redirect: Redirect{Location: "/new"}})}}
	for _, front := range trapFronts() {
		s := front.serve(t, cfg, relocatingBackend(t))
		for _, tt := range []struct{ claim, path, refresh, want string }{
			{"of the service", "/", "", "/app/a"},
			{"of the service, in a route", "/rest", "", "/app/a"},
			{"a route that has none, by Own", "/plain", "", "/a"},
			{"a route that has none, by an empty list", "/none", "", "/a"},
			{"a redirect of ours", "/moved", "", "/new"},
			{"a header of ours", "/set", "", "/set"},
			{"a Refresh in quotes", "/", `0;URL="/a";x=/b`, `0;URL="/app/a";x=/b`},
			{"a Refresh in single quotes, of which one is missing", "/", `0;Url='/a`, `0;Url='/app/a`},
			{"a Refresh without a URL", "/", "5", "5"},
			{"a Refresh with a URL that is empty", "/", "5; url=", "5; url="},
		} {
			request, field := relocated(tt.path, "/a"), "Location"
			if tt.refresh != "" {
				request, field = strings.Replace(request, "X-Refresh: 5; url=/a", "X-Refresh: "+tt.refresh, 1), "Refresh"
			}
			if got := s.askRaw(t, request, field); !strings.Contains(got, "\n"+field+": "+tt.want+"\n") {
				t.Errorf("%s, %s: %q, want %s", front.name, tt.claim, got, tt.want)
			}
		}
	}
}

// TestLocationRewriteErrors: what is wrong with rules is said of where it stands, and what to do.
func TestLocationRewriteErrors(t *testing.T) {
	for _, tt := range []struct {
		rule LocationRewrite
		want string // empty: it is valid
	}{
		{LocationRewrite{}, "RewriteLocation[0].Prefix: none, and no Regexp: want one of both, such as /"},
		{LocationRewrite{Prefix: "/", Regexp: "/", To: "/"}, `Prefix: "/": does nothing beside Regexp`},
		{LocationRewrite{Prefix: "/"}, "To: none: want a path or a URL, such as /app/"},
		{LocationRewrite{Prefix: "/", To: "app/"}, `To: "app/": want what begins with / or https://`},
		{LocationRewrite{Prefix: "/", To: "javascript:"}, "To: "},
		{LocationRewrite{Prefix: "/", To: "https:///"}, "To: "},
		{LocationRewrite{Prefix: "/", To: `/\x`}, "To: "},
		{LocationRewrite{Prefix: "/", To: "/a\nX: b"}, "To: \"/a\\nX: b\": want no spaces around it, and no control characters"},
		{LocationRewrite{Prefix: "/\r", To: "/"}, "Prefix: \"/\\r\": never what a URL begins with"},
		{LocationRewrite{Prefix: "/", To: "/$1"}, "To: ${1}: want a Regexp that has such a group, or $$"},
		{LocationRewrite{Regexp: "^/(a)", To: "/$2"}, "To: ${2}: want a Regexp that has such a group"},
		{LocationRewrite{Regexp: "^/(", To: "/$2"}, "Regexp: \"^/(\": want a regular expression"},
		{LocationRewrite{Prefix: "http://$1/", To: "/"}, "Prefix: "},
		{LocationRewrite{Prefix: "/", To: "/$request_uri"}, `To: "$request_uri": a variable of nginx: want ${uri}`},
		{LocationRewrite{Prefix: "/", To: "/${nothing}"}, `To: "${nothing}": no such variable here`},
		{LocationRewrite{Prefix: "http://${backend}/", To: "${scheme}://${http_host}/"}, ""},
		{LocationRewrite{Prefix: "http://", To: "https://"}, ""},
		{LocationRewrite{Regexp: "^(a)(b)$", To: "//${2}.example.org/$1"}, ""},
	} {
		err := HandlerConfig{Pool: newPool(t, PoolConfig{}), Rules: Rules{RewriteLocation: []LocationRewrite{tt.rule}}}.Validate()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.rule, err, tt.want)
		}
	}
}
