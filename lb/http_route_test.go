package lb

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/lb/internal/h1"
)

// testRoutes returns routes, each of which is named as it is written: "host path", the host *
// for all.
func testRoutes(pool *Pool, written ...string) (routes []Route) {
	for _, w := range written {
		host, path, _ := strings.Cut(w, " ")
		r := Route{Name: w, HandlerConfig: HandlerConfig{Pool: pool}}
		if host != "*" {
			r.Hosts = []string{host}
		}
		if path != "" {
			r.Paths = []string{path}
		}
		routes = append(routes, r)
	}
	return routes
}

// routeOf returns the name of the route that a request has; "none", or a status.
func routeOf(t testing.TB, s *handlerSettings, head string) string {
	t.Helper()
	x := new(exchange)
	var req h1.Request
	if n, err := req.Parse([]byte(head), h1.Limits{}); n != len(head) || err != nil {
		t.Fatalf("%q: %v", head, err)
	}
	from := newRequestOrigin(netip.MustParseAddrPort("192.0.2.1:1000"), netip.MustParseAddrPort("192.0.2.250:80"), nil)
	x.open(s, new(counters), &from, &req, time.Now())
	defer x.close(time.Now())
	if status := x.refusal(); status != 0 {
		return fmt.Sprint(status)
	}
	if v := x.decide(); v != passOn {
		return fmt.Sprint(x.reply.status)
	}
	if x.route == nil {
		return "none"
	}
	return x.route.name
}

// get returns the head of a request for a host and a path.
func get(hostAndPath string) string {
	host, path, _ := strings.Cut(hostAndPath, " ")
	return fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, host)
}

// precedence are routes, and requests with those that they have. It is nginx's order: see
// TestPrecedenceBesideNginx.
var precedence = []struct {
	name   string
	routes []string
	wants  [][2]string // request and route
}{
	{"exact before all", []string{"* /", "* = /a", "* ~ ^/a", "* ^~ /a"}, [][2]string{
		{"x /a", "* = /a"}, {"x /a?b", "* = /a"}, {"x /a/", "* ^~ /a"}, {"x /b", "* /"}}},
	{"the longest prefix, whatever their order", []string{"* /", "* /images/", "* /images/big/", "* /images/b"}, [][2]string{
		{"x /images/big/x.png", "* /images/big/"}, {"x /images/bird", "* /images/b"}, {"x /images/x", "* /images/"}, {"x /images", "* /"}, {"x /", "* /"}}},
	{"a prefix is one of bytes", []string{"* /", "* /api"}, [][2]string{
		{"x /apis", "* /api"}, {"x /api/v1", "* /api"}, {"x /ap", "* /"}}},
	{"regular expressions before prefixes, in their order", []string{"* /", "* /images/", `* ~ \.png$`, "* ~ ^/images/b", `* ~* \.JPG$`}, [][2]string{
		{"x /images/big.png", `* ~ \.png$`}, {"x /images/big.gif", "* ~ ^/images/b"}, {"x /images/a.jpg", `* ~* \.JPG$`}, {"x /images/a.gif", "* /images/"}, {"x /a.PNG", "* /"}}},
	{"^~ keeps regular expressions out, if it is the longest", []string{"* /", "* ^~ /images/", "* /images/big/", `* ~ \.png$`}, [][2]string{
		{"x /images/a.png", "* ^~ /images/"}, {"x /images/big/a.png", `* ~ \.png$`}, {"x /images/big/a", "* /images/big/"}, {"x /a.png", `* ~ \.png$`}}},
	{"paths are compared decoded and without steps", []string{"* /", "* /admin", "* = /a b", `* ~ ^/r/\d+$`}, [][2]string{
		{"x /%61dmin", "* /admin"}, {"x /x/../admin", "* /admin"}, {"x //admin", "* /admin"}, {"x /./admin/", "* /admin"}, {"x /x/%2e%2e/admin", "* /admin"}, {"x /%2Fadmin", "* /admin"},
		{"x /a%20b", "* = /a b"}, {"x /admin/..", "* /"}, {"x /r/%31%32", `* ~ ^/r/\d+$`}, {"x /x%3f/../admin", "* /admin"}, {"x /x?/../admin", "* /"},
		{"x /..", "400"}, {"x /a/../../b", "400"}, {"x /a%00", "400"}, {"x /...", "* /"}, {"x /admin/.x", "* /admin"}}},
	{"$ is the end of a path, and before a line feed there", []string{"* /", "* ~ ^/admin/.*$", `* ~ \.php$`, `* ~ ^/z\z`, "* ~* ^/(?:a|b)/(c$|d)"}, [][2]string{
		{"x /admin/users/%0a", "* ~ ^/admin/.*$"}, {"x /admin/%0A", "* ~ ^/admin/.*$"}, {"x /admin/a%0ab", "* /"}, {"x /admin/a%0a%0a", "* /"},
		{"x /a.php%0a", `* ~ \.php$`}, {"x /a.php%0d", "* /"}, {"x /a.php", `* ~ \.php$`}, {"x /z", `* ~ ^/z\z`}, {"x /z%0a", "* /"},
		{"x /B/C%0a", "* ~* ^/(?:a|b)/(c$|d)"}, {"x /B/ce", "* /"}}},
	{"hosts: exact, then the longest *., then the longest .*, then all", []string{
		"* /", "www.example.org /", "*.example.org /", "*.b.example.org /", "www.example.* /", "www.* /", ".example.net /"}, [][2]string{
		{"www.example.org /", "www.example.org /"}, {"WWW.Example.ORG:8080 /", "www.example.org /"}, {"www.example.org. /", "www.example.org /"},
		{"www.example.org.. /", "400"}, {"www.example.org..:80 /", "400"}, {"www..example.org /", "400"}, {". /", "400"}, {".:80 /", "400"},
		{"a.example.org /", "*.example.org /"}, {"a.a.example.org /", "*.example.org /"}, {"a.b.example.org /", "*.b.example.org /"}, {"b.example.org /", "*.example.org /"},
		{"www.example.com /", "www.example.* /"}, {"www.example.co.uk /", "www.example.* /"}, {"www.other.com /", "www.* /"},
		{"example.net /", ".example.net /"}, {"a.example.net /", ".example.net /"}, {"example.org /", "* /"}, {"x /", "* /"}, {"192.0.2.250 /", "* /"}, {"[2001:db8::1]:80 /", "* /"}}},
	{"the host decides before the path", []string{"* = /a", "* /", "a.example.org /", "*.example.org = /a", "*.example.org /"}, [][2]string{
		{"a.example.org /a", "a.example.org /"}, {"b.example.org /a", "*.example.org = /a"}, {"b.example.org /b", "*.example.org /"}, {"x /a", "* = /a"}}},
}

// TestRoutePrecedence: a request has the route that nginx would find.
func TestRoutePrecedence(t *testing.T) {
	pool := newPool(t, PoolConfig{})
	for _, c := range precedence {
		s := newHandlerSettings(HandlerConfig{Pool: pool, Routes: testRoutes(pool, c.routes...)})
		for _, w := range c.wants {
			if got := routeOf(t, s, get(w[0])); got != w[1] {
				t.Errorf("%s: %s: route %q, want %q", c.name, w[0], got, w[1])
			}
		}
	}
}

// TestRouteConditions: a route whose further conditions do not hold is passed over, for the
// next one by the order of precedence.
func TestRouteConditions(t *testing.T) {
	pool := newPool(t, PoolConfig{})
	route := func(name, path string, r Route) Route {
		r.Name, r.Pool = name, pool
		if path != "" {
			r.Paths = []string{path}
		}
		return r
	}
	s := newHandlerSettings(HandlerConfig{Pool: pool, Routes: []Route{
		route("delete", "= /a", Route{Methods: []string{"DELETE"}}),
		route("beta", "/a", Route{Headers: map[string]string{"X-Beta": "1"}}),
		route("any", "/a", Route{Headers: map[string]string{"cookie": ""}}),
		route("agent", "/a", Route{Headers: map[string]string{"User-Agent": "~ ^curl/"}}),
		route("inside", "^~ /a", Route{Sources: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/31")}, Methods: []string{"GET", "PUT"}}),
		route("outside", "/a", Route{Sources: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}}),
		route("digits", "~ ^/a/[0-9]+$", Route{Methods: []string{"POST"}}),
		route("host", "= /h", Route{Hosts: []string{"h"}, Methods: []string{"PUT"}}),
		route("less", "/h", Route{Methods: []string{"GET"}}),
	}})
	for _, c := range []struct{ request, want string }{
		{"DELETE /a HTTP/1.1\r\nHost: x\r\n\r\n", "delete"},
		{"DELETE /a HTTP/1.1\r\nHost: x\r\nx-beta: 1\r\n\r\n", "delete"},
		{"DELETE /a/ HTTP/1.1\r\nHost: x\r\nx-beta: 1\r\n\r\n", "beta"},
		{"GET /a HTTP/1.1\r\nHost: x\r\nX-Beta: 1\r\n\r\n", "beta"},
		{"GET /a HTTP/1.1\r\nHost: x\r\nX-Beta: 0\r\nX-Beta: 1\r\n\r\n", "beta"},
		{"GET /a HTTP/1.1\r\nHost: x\r\nX-Beta: 2\r\n\r\n", "inside"},
		{"GET /a HTTP/1.1\r\nHost: x\r\nCookie: b=1\r\n\r\n", "any"},
		{"GET /a HTTP/1.1\r\nHost: x\r\nUser-Agent: curl/8\r\n\r\n", "agent"},
		{"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "none"},
		{"POST /a/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "digits"},
		{"GET /a/1 HTTP/1.1\r\nHost: x\r\n\r\n", "inside"},
		{"PUT /h HTTP/1.1\r\nHost: h\r\n\r\n", "host"},
		{"GET /h HTTP/1.1\r\nHost: h\r\n\r\n", "less"}, // nginx: 404, for it stays with the server
		{"GET /b HTTP/1.1\r\nHost: x\r\n\r\n", "none"},
		{"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", "none"},
	} {
		if got := routeOf(t, s, c.request); got != c.want {
			t.Errorf("%q: route %q, want %q", c.request, got, c.want)
		}
	}
}

// TestMethodsOfRoutes: a route for GET takes HEAD as well, as nginx's limit_except does, unless
// another route for the same has it, and methods in lower case get past no rule.
func TestMethodsOfRoutes(t *testing.T) {
	pool := newPool(t, PoolConfig{})
	route := func(name, path string, methods ...string) Route {
		return Route{Name: name, Paths: []string{path}, Methods: methods, HandlerConfig: HandlerConfig{Pool: pool}}
	}
	s := newHandlerSettings(HandlerConfig{Pool: pool, Routes: []Route{
		route("get", "/a", "GET"), route("post", "/a", "POST"),
		route("get alone", "/b", "GET", "PUT"), route("head", "/b", "HEAD"),
		route("small", "/c", "get"), route("both", "/d", "HEAD", "GET"),
		{Name: "other host", Hosts: []string{"y"}, Paths: []string{"/a"}, Methods: []string{"HEAD"}},
	}})
	for request, want := range map[string]string{
		"GET /a": "get", "HEAD /a": "get", "POST /a": "post", "PUT /a": "none", "get /a": "get", "Head /a": "get", "GETS /a": "none",
		"GET /b": "get alone", "HEAD /b": "head", "PUT /b": "get alone", "HEAD /c": "small", "GET /c": "small", "HEAD /d": "both",
	} {
		if got := routeOf(t, s, request+" HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"); got != want {
			t.Errorf("%s: route %q, want %q", request, got, want)
		}
	}
}

// TestRegexpsOfOneRoute: of several regular expressions of a route the first that matches counts
// for its groups, whatever they begin with.
func TestRegexpsOfOneRoute(t *testing.T) {
	r := Route{Name: "a", Paths: []string{"~ ^/old/(.*)$", "~ ^/(.*)$", "~ ^/old/x/(.*)$"}, HandlerConfig: HandlerConfig{Rules: Rules{Redirect: Redirect{Location: "/new/${1}-$1"}}}}
	cfg := HandlerConfig{Routes: []Route{r}}
	for path, want := range map[string]string{"/old/x": "/new/x-x", "/other": "/new/other-other", "/old/x/y": "/new/x/y-x/y"} {
		x := testExchange(t, cfg, get("x "+path))
		if x.refusal(); x.decide() != answerHere || x.reply.fields[0].Value != want {
			t.Errorf("%s: %+v, want %s", path, x.reply.fields, want)
		}
	}
}

// TestHiddenRoutes: a route that no request can get to is refused.
func TestHiddenRoutes(t *testing.T) {
	pool := newPool(t, PoolConfig{})
	get := []string{"GET"}
	for _, c := range []struct {
		name   string
		routes []Route
		hidden string
	}{
		{"the same path", []Route{{Paths: []string{"/a"}}, {Paths: []string{"/a"}}}, "Routes[1].Paths"},
		{"a prefix and the same one that comes first", []Route{{Paths: []string{"/a"}}, {Paths: []string{"^~ /a"}}}, "Routes[1].Paths"},
		{"one of several", []Route{{Paths: []string{"/a", "/b"}}, {Paths: []string{"/b"}, Methods: get}}, "Routes[1].Paths"},
		{"all, twice", []Route{{}, {}}, "Routes[1].Paths"},
		{"two together", []Route{{Paths: []string{"/a"}}, {Paths: []string{"= /b"}}, {Paths: []string{"=/b", "/a"}}}, "Routes[2].Paths"},
		{"a host in another case", []Route{{Hosts: []string{"A.org"}}, {Hosts: []string{"a.org."}}}, "Routes[1].Paths"},
		{"not all of several", []Route{{Paths: []string{"/a"}}, {Paths: []string{"/a", "/b"}}}, ""},
		{"conditions of the first", []Route{{Paths: []string{"/a"}, Methods: get}, {Paths: []string{"/a"}}}, ""},
		{"another host", []Route{{Paths: []string{"/a"}}, {Hosts: []string{"x"}, Paths: []string{"/a"}}}, ""},
		{"exact and prefix", []Route{{Paths: []string{"/a"}}, {Paths: []string{"= /a"}}, {Paths: []string{"~ /a"}}, {Paths: []string{"~* /a"}}}, ""},
	} {
		for i := range c.routes {
			c.routes[i].Name = fmt.Sprint("r", i)
		}
		err := HandlerConfig{Pool: pool, Routes: c.routes}.Validate()
		if got := fmt.Sprint(err); (err == nil) != (c.hidden == "") || !strings.Contains(got, c.hidden) {
			t.Errorf("%s: %v, want %q", c.name, err, c.hidden)
		}
	}
}

// TestPrecedenceOfRandomRoutes: the tree finds what a walk through all routes finds.
func TestPrecedenceOfRandomRoutes(t *testing.T) {
	pool := newPool(t, PoolConfig{})
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	path := func() string {
		b := []byte("/")
		for range rnd.IntN(5) {
			if c := "ab/"[rnd.IntN(3)]; c != '/' || b[len(b)-1] != '/' {
				b = append(b, c)
			}
		}
		return string(b)
	}
	for range 300 {
		var written []string
		for range 1 + rnd.IntN(12) {
			mark := []string{"", "", "= ", "^~ ", "~ ^", "~ "}[rnd.IntN(6)]
			written = append(written, "* "+mark+path())
		}
		s := newHandlerSettings(HandlerConfig{Pool: pool, Routes: testRoutes(pool, written...)})
		for range 30 {
			request := path()
			if got, want := routeOf(t, s, get("x "+request)), slowRoute(written, request); got != want {
				t.Fatalf("%q: %s: route %q, want %q", written, request, got, want)
			}
		}
	}
}

// slowRoute finds the route of a path by nginx's words for it.
func slowRoute(written []string, path string) string {
	longest, first := "none", false
	length := 0
	for _, w := range written {
		mark, text, marked := strings.Cut(w[2:], " ")
		switch {
		case marked && mark == "=" && text == path:
			return w
		case marked && mark != "^~":
		default:
			if !marked {
				text = mark
			}
			if strings.HasPrefix(path, text) && len(text) > length {
				longest, length, first = w, len(text), marked
			}
		}
	}
	for _, w := range written {
		if re, ok := strings.CutPrefix(w[2:], "~ "); ok && !first && regexp.MustCompile(re).MatchString(path) {
			return w
		}
	}
	return longest
}

// routeOn returns a route for a path, with rules.
func routeOn(path string, r Rules) Route {
	return Route{Name: "a", Paths: []string{path}, HandlerConfig: HandlerConfig{Rules: r}}
}

// rewritten returns a route whose path is rewritten by a regular expression.
func rewritten(re, replacement string) Route {
	return routeOn("/", Rules{Rewrite: Rewrite{Regexp: re, Replacement: replacement}})
}

// TestRoutesSayWhatIsWrong: bad routes are refused, and nothing else is.
func TestRoutesSayWhatIsWrong(t *testing.T) {
	pool := newPool(t, PoolConfig{})
	for _, c := range []struct {
		r    Route
		want string // of the error; empty: there is none
	}{
		{Route{Name: "a"}, ""},
		{Route{}, "Routes[0].Name: none: want one"},
		{Route{Name: "a", Hosts: []string{"a:80"}}, `Routes[0].Hosts[0]: "a:80": want a host without a port`},
		{Route{Name: "a", Hosts: []string{"a.*.org"}}, `Hosts[0]: "a.*.org": want a host`},
		{Route{Name: "a", Hosts: []string{"*"}}, `Hosts[0]: "*": want a host`},
		{Route{Name: "a", Hosts: []string{"[2001:db8::1]", "192.0.2.1", "*.xn--bcher-kva.example"}}, ""},
		{Route{Name: "a", Paths: []string{"a"}}, `Paths[0]: "a": want a path that begins with /`},
		{Route{Name: "a", Paths: []string{"/", "=a"}}, `Paths[1]: "=a": want a path that begins with /`},
		{Route{Name: "a", Paths: []string{"/", "=/a", "^~/b", "~^/c", "~*^/d", "=  /e"}}, ""},
		{Route{Name: "a", Hosts: []string{"_"}}, `Hosts[0]: "_": a host that nobody asks for: leave the hosts out`},
		{Route{Name: "a", Paths: []string{"!~ a"}}, `Paths[0]: "!~ a": want a path that begins with /: "/path"`},
		{Route{Name: "a", Paths: []string{"~ ("}}, "want a regular expression as RE2 has them"},
		{Route{Name: "a", Paths: []string{`~ (?=a)`}}, "no look-ahead"},
		{Route{Name: "a", Paths: []string{"/a//b"}}, "want /a/b"},
		{Route{Name: "a", Paths: []string{"/a b", "/ä", "/a%b", "= /?"}}, ""},
		{Route{Name: "a", Methods: []string{"GET "}}, `Methods[0]: "GET ": want a method`},
		{Route{Name: "a", Headers: map[string]string{"a b": ""}}, `Headers[a b]: "a b": want the name of a header`},
		{Route{Name: "a", Headers: map[string]string{"a": "~ ["}}, "want a regular expression"},
		{Route{Name: "a", HandlerConfig: HandlerConfig{Tries: 99}}, "Routes[0].Tries: 99: want 1 to 8"},
		{Route{Name: "a", HandlerConfig: HandlerConfig{MaxHeader: 4096}}, "Routes[0].MaxHeader: want none in a route"},
		{Route{Name: "a", HandlerConfig: HandlerConfig{Routes: []Route{{Name: "b"}}}}, "Routes[0].Routes: want none in a route"},
		{routeOn("/", Rules{Redirect: Redirect{Location: "/${1}"}}), "Routes[0].Redirect.Location: ${1}: want a path with a regular expression that has such a group"},
		{routeOn("~ ^/(a)$", Rules{Redirect: Redirect{Location: "/$1$2"}}), "Redirect.Location: ${2}: want a path"},
		{routeOn("~ ^/(a)$", Rules{Answer: Answer{Status: 200, Content: "it costs $5"}}), "Answer.Content: ${5}: want a path"},
		{routeOn("~ ^/(a)$", Rules{Redirect: Redirect{Location: "/$1$$2"}}), ""},
		{rewritten("^/(a)$", "/$1$$2${1}$"), ""},
		{rewritten("^/(a)$", "/$2"), `Rewrite.Replacement: "$2": no such group in the expression, which has 1: want $1`},
		{rewritten("^/(a)$", "/$1_$2"), `"$2": no such group`},
		{rewritten("^/(a)$", "/${10}"), `"${10}": no such group`},
		{rewritten("^/(a)$", "/${nam"), `"${nam": no such group`},
		{rewritten("^/(?P<name>a)$", "/$name/${name}"), ""},
		{rewritten("^/(a)$", "/$1?$args"), `"$args": want groups of the expression alone, not variables`},
		{rewritten("^/(a)$", "/$1?a b"), "want no spaces"},
		{rewritten("^/(a)$", "/$1#a?b"), ""},
		{rewritten("^/(a)$", "/b/../$1"), "want a path without the steps . and .."},
		{Route{Name: "a", HandlerConfig: HandlerConfig{Rules: Rules{Rewrite: Rewrite{AddPrefix: "/a/.."}}}}, "Rewrite.AddPrefix: \"/a/..\": want a path without the steps"},
	} {
		err := HandlerConfig{Pool: pool, Routes: []Route{c.r}}.Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: error %v, want %q", c.r, err, c.want)
		}
	}
	if err := (HandlerConfig{Pool: pool, Rules: Rules{Redirect: Redirect{Location: "/$1"}}}).Validate(); err == nil || !strings.Contains(err.Error(), "Redirect.Location: ${1}") {
		t.Error(err)
	}
	twice := HandlerConfig{Pool: pool, Routes: []Route{{Name: "a"}, {Name: "a"}}}.Validate()
	if twice == nil || !strings.Contains(twice.Error(), `Routes[1].Name: "a": taken by another route`) {
		t.Error(twice)
	}
	if err := (HandlerConfig{Routes: []Route{{Name: "a", HandlerConfig: HandlerConfig{Pool: pool}}}}).Validate(); err != nil {
		t.Error(err)
	}
	if err := (HandlerConfig{Routes: []Route{{Name: "a"}}}).Validate(); err == nil {
		t.Error("a route without any pool is taken")
	}
}
