package lb

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/lb/internal/h1"
)

// manyRoutes are n routes: by host, prefix, exact path, and regular expressions that say with
// what a path begins, in turn.
func manyRoutes(pool *Pool, n int) []Route {
	var written []string
	for i := range n {
		written = append(written, []string{
			fmt.Sprintf("site%d.example.org /", i), fmt.Sprintf("*.site%d.example.org /", i), fmt.Sprintf("* /app%d/", i),
			fmt.Sprintf("* = /page%d.html", i), fmt.Sprintf(`* ~ ^/item%d/\d+$`, i),
		}[i%5])
	}
	return testRoutes(pool, written...)
}

// manyRequests are requests for routes of the first ten, which are there however many there
// are, and for none.
var manyRequests = []string{
	get("site0.example.org /x"), get("www.site1.example.org /x"), get("x /app2/a/b/c"), get("x /page3.html"), get("x /item4/77"), get("www.example.com /none"),
}

// BenchmarkRoutes shows what it costs to find the route of a request, and that a thousand
// routes cost no more than ten. 0 routes: what a request costs that has no rules.
func BenchmarkRoutes(b *testing.B) {
	pool := newPool(b, PoolConfig{})
	for _, c := range []struct {
		name   string
		n      int
		routes []Route
	}{
		{"0", 0, nil}, {"10", 10, manyRoutes(pool, 10)}, {"1000", 1000, manyRoutes(pool, 1000)},
		// Regular expressions that do not say with what a path begins are tried one by one.
		{"10 and 10 expressions", 10, append(manyRoutes(pool, 10), manyExpressions(pool, 10)...)},
		{"10 and 100 expressions", 10, append(manyRoutes(pool, 10), manyExpressions(pool, 100)...)},
	} {
		n := c.n
		b.Run(c.name, func(b *testing.B) {
			s := newHandlerSettings(HandlerConfig{Pool: pool, Routes: c.routes})
			xs := make([]*exchange, len(manyRequests))
			from := newRequestOrigin(netip.MustParseAddrPort("192.0.2.1:1000"), netip.MustParseAddrPort("192.0.2.250:80"), nil)
			for i, head := range manyRequests {
				xs[i] = openHead(b, s, &from, head)
				if x := xs[i]; x.decide() != passOn || (x.route != nil) != (n > 0 && i < 5) {
					b.Fatalf("%q: route %v", head, x.route)
				}
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				x := xs[i%len(xs)]
				x.cfg, x.route, x.text = s, nil, x.text[:0]
				x.decide()
			}
		})
	}
}

// manyExpressions returns routes with regular expressions that match none of manyRequests.
func manyExpressions(pool *Pool, n int) (routes []Route) {
	for i := range n {
		routes = append(routes, Route{Name: fmt.Sprint("re", i), Paths: []string{fmt.Sprintf(`~ \.x%d$`, i)}, HandlerConfig: HandlerConfig{Pool: pool}})
	}
	return routes
}

// openHead opens an exchange for a request.
func openHead(t testing.TB, s *handlerSettings, from *requestOrigin, head string) *exchange {
	t.Helper()
	x, req := new(exchange), new(h1.Request)
	if n, err := req.Parse([]byte(head), h1.Limits{}); n != len(head) || err != nil {
		t.Fatalf("%q: %v", head, err)
	}
	x.open(s, new(counters), from, req, time.Now())
	if status := x.refusal(); status != 0 {
		t.Fatalf("%q: %d", head, status)
	}
	return x
}

// TestRoutesDoNotAllocate: to find a route takes no memory, nor does a path that must be
// decoded, or the host in upper case.
func TestRoutesDoNotAllocate(t *testing.T) {
	pool := newPool(t, PoolConfig{})
	s := newHandlerSettings(HandlerConfig{Pool: pool, Routes: append(manyRoutes(pool, 100),
		Route{Name: "more", Methods: []string{"PUT"}, Headers: map[string]string{"X-A": "~ ^b"}, Sources: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})})
	from := newRequestOrigin(netip.MustParseAddrPort("192.0.2.1:1000"), netip.MustParseAddrPort("192.0.2.250:80"), nil)
	for _, head := range append([]string{
		get("SITE0.Example.ORG:80 /x"), get("x /a/../app2/%61//b"), "PUT /nowhere HTTP/1.1\r\nHost: x\r\nX-A: bc\r\nContent-Length: 0\r\n\r\n",
	}, manyRequests...) {
		x := openHead(t, s, &from, head)
		got := testing.AllocsPerRun(100, func() {
			x.cfg, x.route, x.text = s, nil, x.text[:0]
			x.decide()
		})
		if got != 0 {
			t.Errorf("%q: %v allocations", strings.SplitN(head, "\r", 2)[0], got)
		}
	}
}

// FuzzNormalPath: what is made of a path is the same again when it is encoded and made of
// anew, has no steps, and agrees with what net/url and path say. Rewritten targets hold to it.
func FuzzNormalPath(f *testing.F) {
	for _, s := range []string{"/", "/a/../b", "//a//", "/%2e%2e/x", "/a/./b/.", "/a%00", "/a/..?x=/..", "*", "/.../..a/.b", "/%2F..%2f", "/a%3f%23%25"} {
		f.Add(s, "/strip", "^/a(.*)$", "/n$1?q=$1", "/v1")
	}
	// Prefixes and groups that end in the middle of a step.
	f.Add("/static../secret", "/static", "", "", "/files/")
	f.Add("/static../secret", "", "^/static(.*)$", "/files/$1", "")
	f.Add("/a.", "/a", "", "", "")
	f.Add("/a/b", "", "(a)", "/$1_$$${1}$ $x", "")
	f.Fuzz(func(t *testing.T, target, strip, re, replacement, add string) {
		if !strings.HasPrefix(target, "/") || !validTarget(target) {
			return
		}
		path, ok := appendNormalPath(nil, target)
		if !ok {
			return
		}
		for step := range strings.SplitSeq(string(path), "/") {
			if step == "." || step == ".." {
				t.Fatalf("%q: %q", target, path)
			}
		}
		again, ok := appendNormalPath(nil, escapedPath(string(path)))
		if !ok || string(again) != string(path) || strings.Contains(string(path), "//") || path[0] != '/' {
			t.Fatalf("%q: %q, and then %q", target, path, again)
		}
		if isNormal(target) && target != string(path) && !strings.Contains(target, "?") {
			t.Fatalf("%q is not normal: %q", target, path)
		}
		fuzzRewrite(t, target, Rewrite{StripPrefix: strip, Regexp: re, Replacement: replacement, AddPrefix: add})
	})
}

// fuzzRewrite checks that a rewritten target is one that a client could have sent.
func fuzzRewrite(t *testing.T, target string, rewrite Rewrite) {
	s := HandlerConfig{Pool: newPool(t, PoolConfig{}), Rules: Rules{Rewrite: rewrite}}
	if s.Validate() != nil {
		return
	}
	x := new(exchange)
	req := h1.Request{Method: "GET", Target: target, Host: "x", HasHost: true, Minor: 1}
	from := newRequestOrigin(netip.AddrPort{}, netip.AddrPort{}, nil)
	x.open(newHandlerSettings(s), new(counters), &from, &req, time.Now())
	if x.refusal() != 0 || x.decide() != passOn {
		return
	}
	var got h1.Request
	head := h1.AppendRequestLine(nil, "GET", x.target)
	head = append(head, "Host: x\r\n\r\n"...)
	n, err := got.Parse(head, h1.Limits{})
	normal, ok := appendNormalPath(nil, x.target)
	if n != len(head) || err != nil || got.Target != x.target || !ok || string(normal) != x.path {
		t.Fatalf("%q became %q, %v", target, x.target, err)
	}
	if raw := string(appendPath(nil, x.target)); rewrite != (Rewrite{}) && hasSteps(raw) {
		t.Fatalf("%q became %q, which has steps", target, x.target)
	}
}
