package lb

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/havip/havip/internal/lab/labtest"
	"github.com/havip/havip/lb/internal/h1"
)

// linesOf returns the request line and the Host lines of what a backend got; empty if it got
// nothing.
func linesOf(rec *labtest.Recorder) string {
	var lines []string
	for _, r := range rec.Requests() {
		head, _, _ := strings.Cut(r, "\r\n\r\n")
		for i, line := range strings.Split(head, "\r\n") {
			if i == 0 || strings.HasPrefix(strings.ToLower(line), "host:") {
				lines = append(lines, line)
			}
		}
	}
	return strings.Join(lines, "|")
}

// A backend gets the target as the client wrote it, byte by byte, or the client gets 400.
func TestTargetIsPassedOnUnchanged(t *testing.T) {
	rec, b := record(t)
	h1, _ := front(t, HandlerConfig{}, b)
	h2, _ := front2(t, HandlerConfig{}, b)
	for _, target := range []string{
		"/", "/a%2Fb", "//a//b", "/a?", "/a??", "/a?b=c;d=%20&e", "/%41", "/a/../b", "/a%2e%2e/", "/?q=?", "/'()*", "/*",
		"/a%2Fb|c", "/x%2f..%2fadmin<", "/a|b", `/"<>[\]^{|}` + "`", `/%2f"<>[\]^{|}` + "`", "/%2F?a|b%zz%", "/\xc3\xa4%2F", "/\xff", "/%00", "/:@!$&+,;=",
	} {
		want := "GET " + target + " HTTP/1.1|Host: x"
		if status := rawStatus(t, h1, "GET "+target+" HTTP/1.1\r\nHost: x\r\n\r\n"); status != 200 {
			t.Errorf("HTTP/1.1 %q: %d", target, status)
		} else if got := linesOf(rec); got != want {
			t.Errorf("HTTP/1.1: the backend got %q, want %q", got, want)
		}
		if status := askHTTP2(t, h2, ":method", "GET", ":scheme", "https", ":authority", "x", ":path", target); status != "200" {
			t.Errorf("HTTP/2 %q: %s", target, status)
		} else if got := linesOf(rec); got != want {
			t.Errorf("HTTP/2: the backend got %q, want %q", got, want)
		}
	}
	// A fragment is no part of a target, and hides the end of the path from rules.
	for _, target := range []string{"/a#b", "/a%2Fb#c", "/?a#b", "/#", "/%zz", "/%", "/a%2", "foo", "/a\x01", "/a\x7f"} {
		if status := rawStatus(t, h1, "GET "+target+" HTTP/1.1\r\nHost: x\r\n\r\n"); status != 400 {
			t.Errorf("HTTP/1.1 %q: %d, want 400", target, status)
		}
	}
	// In HTTP/2 the authority has a place of its own (RFC 9113 §8.3.1), and in HTTP/1 there
	// is no room for the spaces.
	for _, target := range []string{"/a#b", "/%zz", "foo", "http://y/x", "http:///x", "http:x", "/a b", "/a%2F b", "/?a b", "/a\tb"} {
		if status := askHTTP2(t, h2, ":method", "GET", ":scheme", "https", ":authority", "x", ":path", target); status != "400" && status != "reset" {
			t.Errorf("HTTP/2 %q: %s, want 400", target, status)
		}
	}
	if got := rec.Requests(); len(got) != 0 {
		t.Errorf("the backend got %q", got)
	}
}

// A target in absolute form becomes one in origin form, or *.
func TestAbsoluteTarget(t *testing.T) {
	rec, b := record(t)
	s, _ := front(t, HandlerConfig{}, b)
	for _, tt := range []struct{ request, want string }{ // want "": 400
		{"GET http://y", "GET / HTTP/1.1|Host: y"},
		{"GET http://y/a%2Fb|c?d|e", "GET /a%2Fb|c?d|e HTTP/1.1|Host: y"},
		{"GET HTTPS://y:8080/", "GET / HTTP/1.1|Host: y:8080"},
		{"GET http://y?a", "GET /?a HTTP/1.1|Host: y"},
		{"OPTIONS http://y", "OPTIONS * HTTP/1.1|Host: y"}, // RFC 9112 §3.2.4
		{"OPTIONS http://y/", "OPTIONS / HTTP/1.1|Host: y"},
		{"OPTIONS http://y?", "OPTIONS /? HTTP/1.1|Host: y"},
		{"OPTIONS http://y?a", "OPTIONS /?a HTTP/1.1|Host: y"},
		{"GET http:///x", ""}, // RFC 9110 §4.2.1
		{"GET http://", ""},
		{"GET http:/x", ""},
		{"GET http:x", ""},
		{"GET http://:80/x", ""},
		{"GET http://user@y/", ""}, // RFC 9110 §4.2.4
		{"GET http://user:password@y/", ""},
		{"GET http://[fe80::1%25eth0]/", ""},
		{"GET http://y#a", ""},
		{"GET ftp://y/", ""},
	} {
		want := 200
		if tt.want == "" {
			want = 400
		}
		if got := rawStatus(t, s, tt.request+" HTTP/1.1\r\nHost: x\r\n\r\n"); got != want {
			t.Errorf("%s: %d, want %d", tt.request, got, want)
		}
		if got := linesOf(rec); got != tt.want {
			t.Errorf("%s: the backend got %q, want %q", tt.request, got, tt.want)
		}
	}
}

// What a middleware has changed counts, and the rest stays as the client wrote it.
func TestTargetOfMiddleware(t *testing.T) {
	edit := func(f func(*url.URL)) func(http.Handler) http.Handler {
		return func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f(r.URL); next.ServeHTTP(w, r) })
		}
	}
	strip := func(prefix string) func(http.Handler) http.Handler {
		return func(next http.Handler) http.Handler { return http.StripPrefix(prefix, next) }
	}
	other := edit(func(u *url.URL) { *u = url.URL{Path: "/new", RawQuery: "d"} })
	rec, b := record(t)
	h := newHandler(t, HandlerConfig{Pool: newPool(t, PoolConfig{Backends: []Backend{b}})})
	t.Cleanup(func() { h.Shutdown(t.Context()) })
	for _, tt := range []struct {
		name      string
		wrap      func(http.Handler) http.Handler
		got, want string
	}{
		{"prefix", strip("/api"), "/api/a%2Fb|c?d|e", "/a%2Fb|c?d|e"},
		{"whole path", strip("/api"), "/api?", "/?"},
		{"prefix with slash", strip("/api/"), "/api/a|b", "/a|b"},
		{"prefix with slash, encoded", strip("/api/"), "/api/a%2Fb", "/a%2Fb"},
		{"asterisk", strip("/api/"), "/api/*", "/*"},
		{"path", edit(func(u *url.URL) { u.Path = "/new path?#" }), "/a%2Fb?c", "/new%20path%3F%23?c"},
		{"both paths", edit(func(u *url.URL) { u.Path, u.RawPath = "/a/b", "/a%2fb" }), "/c", "/a%2fb"},
		{"encoded path only", edit(func(u *url.URL) { u.RawPath = "/other" }), "/c", "/c"},
		{"encoded path with a query", edit(func(u *url.URL) { u.Path, u.RawPath = "/a?b", "/a?b" }), "/c", "/a%3Fb"},
		{"query", edit(func(u *url.URL) { u.RawQuery = "new" }), "/a%2Fb|?c", "/a%2Fb|?new"},
		{"no query", edit(func(u *url.URL) { u.RawQuery = "" }), "/a%2Fb|?c", "/a%2Fb|"},
		{"other URL", other, "/a%2Fb|?c", "/new?d"},
		{"other URL for an absolute target", other, "http://x/a%2Fb|?c", "/new?d"},
		{"opaque", edit(func(u *url.URL) { u.Opaque = "//y/z" }), "/", ""},              // for clients, who would send it as it is
		{"scheme", edit(func(u *url.URL) { u.Scheme = "https" }), "/a%2Fb|", "/a%2Fb|"}, // as from X-Forwarded-Proto
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := httptest.NewServer(tt.wrap(h))
			defer s.Close()
			status := rawStatus(t, s, fmt.Sprintf("GET %s HTTP/1.1\r\nHost: x\r\n\r\n", tt.got))
			want, lines := 200, "GET "+tt.want+" HTTP/1.1|Host: x"
			if tt.want == "" {
				want, lines = 400, ""
			}
			if got := linesOf(rec); got != lines || status != want {
				t.Errorf("%d, the backend got %q, want %d, %q", status, got, want, lines)
			}
		})
	}
	// A server may pass on OPTIONS *.
	if got, ok := requestTarget("OPTIONS", "*", 1, &url.URL{Path: "/new"}); got != "/new" || !ok {
		t.Errorf("OPTIONS *: %q, %v", got, ok)
	}
}

// HTTP/2 may have an authority, and a field host. A backend gets one Host (RFC 9113 §8.3.1).
func TestHTTP2Host(t *testing.T) {
	rec, b := record(t)
	s, _ := front2(t, HandlerConfig{}, b)
	local := s.Listener.Addr().String()
	for _, tt := range []struct {
		authority string
		hosts     []string
		want      string // "": 400
	}{
		{"x", nil, "x"},
		{"x", []string{"x"}, "x"},
		{"x", []string{"X"}, "x"},
		{"x", []string{"x:443"}, "x"}, // the same with the port of the scheme
		{"x", []string{"x:"}, "x"},
		{"X:443", []string{"x"}, "X:443"},
		{"[::1]", []string{"[::1]:443"}, "[::1]"},
		{"x", []string{"y"}, ""},
		{"x", []string{"x:80"}, ""},
		{"x", []string{""}, ""},
		{"x", []string{"x", "x"}, ""},
		{"x", []string{"x", "y"}, ""},
		{"", []string{"y"}, "y"},
		{"", []string{"y", "y"}, ""},
		{"", []string{"y", "x"}, ""},
		{"", nil, local},
	} {
		fields := []string{":method", "GET", ":scheme", "https", ":path", "/"}
		if tt.authority != "" {
			fields = append(fields, ":authority", tt.authority)
		}
		for _, host := range tt.hosts {
			fields = append(fields, "host", host)
		}
		want, lines := "400", ""
		if tt.want != "" {
			want, lines = "200", "GET / HTTP/1.1|Host: "+tt.want
		}
		if got := askHTTP2(t, s, fields...); got != want {
			t.Errorf("%q: %s, want %s", fields, got, want)
		}
		if got := linesOf(rec); got != lines {
			t.Errorf("%q: the backend got %q, want %q", fields, got, lines)
		}
	}
	// In HTTP/1 the server has taken the Host out of the header: this one is a middleware's.
	x := testExchange(t, HandlerConfig{}, aGet)
	x.req.Fields = append(x.req.Fields, h1.Field{Name: "Host", Value: "y", ID: h1.Host})
	if !x.namesOneHost() {
		t.Error("a middleware's Host spoils a request of HTTP/1.1")
	}
}

// The same authorities are refused wherever they stand.
func TestAuthorityIsOneHost(t *testing.T) {
	rec, b := record(t)
	h1, _ := front(t, HandlerConfig{}, b)
	h2, _ := front2(t, HandlerConfig{}, b)
	head := []string{":method", "GET", ":scheme", "https", ":path", "/"}
	for authority, valid := range map[string]bool{
		"good.example": true, "good.example:8080": true, "good.example:": true, "GOOD.example.": true, "a_b": true,
		"192.0.2.1:80": true, "[2001:db8::1]": true, "[2001:db8::1]:80": true, "xn--4ca.example": true, "%c3%a4.example": true, "a!$&'()*+,;=~": true,
		"good.example/evil": false, `a"<>`: false, "a@b": false, "a?b": false, "a#b": false, `a\b`: false, "a|b": false, "a:b": false, "a:1:2": false,
		"a:80x": false, "a:-1": false, "a:+1": false, ":80": false, "[::1": false, "::1": false, "[::1]x": false, "[::1]:x": false, "[]": false, "[a]": false, "[192.0.2.1]": false,
		"[fe80::1%eth0]": true, "[fe80::1%a/b]": false, "[fe80::1%]": false, "a]": false, "a[b]": false, "%zz": false, "%4g": false, "a%2": false, "\xc3\xa4.example": false, "a{b}": false,
	} {
		want := 400
		if valid {
			want = 200
		}
		for where, got := range map[string]string{
			"Host":                    fmt.Sprint(rawStatus(t, h1, "GET / HTTP/1.1\r\nHost: "+authority+"\r\n\r\n")),
			":authority":              askHTTP2(t, h2, append(head, ":authority", authority)...),
			"host without :authority": askHTTP2(t, h2, append(head, "host", authority)...),
			"host besides :authority": askHTTP2(t, h2, append(head, ":authority", authority, "host", authority)...),
			"Host of HTTP/1.0":        fmt.Sprint(rawStatus(t, h1, "GET / HTTP/1.0\r\nHost: "+authority+"\r\n\r\n")),
		} {
			if got == "reset" {
				got = "400" // the answer of net/http to an @
			}
			if got != fmt.Sprint(want) {
				t.Errorf("%s %q: %s, want %d", where, authority, got, want)
			}
		}
		if got := rec.Requests(); !valid && len(got) > 0 {
			t.Errorf("%q: the backend got %q", authority, got)
		}
	}
}
