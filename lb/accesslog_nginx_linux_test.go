package lb

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestCombinedBesideNginx: our line is the real nginx's, byte for byte but for the time, of
// which the form is. Of what is answered here the bytes are those of other pages.
func TestCombinedBesideNginx(t *testing.T) {
	b := webBackend(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })
	path := filepath.Join(nginxDir(t), "access.log")
	address := besideNginx(t, "access_log "+path+" combined; location = /closed { return 444; } location / { proxy_pass http://backends; }", b)
	ours := filepath.Join(t.TempDir(), "access.log")
	l := openAccessLog(t, AccessLogConfig{Path: ours})
	s := planeSite(t, HandlerConfig{Record: l.Record, Routes: []Route{
		{Name: "closed", Paths: []string{"= /closed"}, HandlerConfig: HandlerConfig{Rules: Rules{Answer: Answer{Status: statusClosed}}}},
	}}, []Backend{b})
	const host = "Host: x\r\nConnection: close\r\n"
	requests := map[string]string{
		"usual":        "GET /a?b=c HTTP/1.1\r\n" + host + "User-Agent: curl/8\r\nReferer: https://x/\r\n\r\n",
		"no fields":    "GET / HTTP/1.1\r\n" + host + "\r\n",
		"empty fields": "GET / HTTP/1.1\r\n" + host + "User-Agent:\r\nReferer: \r\n\r\n",
		"HTTP/1.0":     "GET / HTTP/1.0\r\n\r\n",
		"HEAD":         "HEAD / HTTP/1.1\r\n" + host + "\r\n",
		"a user":       "GET / HTTP/1.1\r\n" + host + "Authorization: Basic Ym9iOnNlY3JldA==\r\n\r\n",
		"no colon":     "GET / HTTP/1.1\r\n" + host + "Authorization: Basic Ym9i\r\n\r\n",
		"a bad user":   "GET / HTTP/1.1\r\n" + host + "Authorization: Basic YiJvXGI6c2VjcmV0\r\n\r\n",
		"quotes":       "GET /\"\\\xe9 HTTP/1.1\r\n" + host + "User-Agent: \"\\\t\xc3\xa9\r\n\r\n",
		"absolute":     "GET http://x/p HTTP/1.1\r\n" + host + "\r\n",
		"garbage":      "nonsense\r\n\r\n",
		"closed":       "GET /closed HTTP/1.1\r\n" + host + "\r\n",
		"TLS":          "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n",
	}
	clock := regexp.MustCompile(`\[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]`)
	bytes400 := regexp.MustCompile(`" 400 \d+ "`)
	n := 0
	for name, request := range requests {
		n++
		for _, to := range []string{address, strings.TrimPrefix(s.url, "http://")} {
			c, err := net.DialTimeout("tcp", to, bound)
			if err != nil {
				t.Fatal(err)
			}
			_ = c.SetDeadline(time.Now().Add(bound))
			io.WriteString(c, request)
			_, _ = io.Copy(io.Discard, c)
			c.Close()
		}
		last := func(path string) string {
			lines := strings.Split(strings.TrimSuffix(linesIn(t, path, n), "\n"), "\n")
			line := lines[len(lines)-1]
			if !clock.MatchString(line) {
				t.Errorf("%s: %q: no time as nginx's", name, line)
			}
			return bytes400.ReplaceAllString(clock.ReplaceAllString(line, "[]"), `" 400 n "`)
		}
		if got, want := last(ours), last(path); got != want {
			t.Errorf("%s:\n%q, want nginx's\n%q", name, got, want)
		}
	}
}

// TestCombinedOfHTTP2BesideNginx: requests of HTTP/2 have the line that nginx writes.
func TestCombinedOfHTTP2BesideNginx(t *testing.T) {
	b := webBackend(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })
	theirs := filepath.Join(nginxDir(t), "access.log")
	address := besideNginx(t, "server { listen LISTEN http2; access_log "+theirs+" combined; location / { proxy_pass http://backends; } }", b)
	ours := filepath.Join(t.TempDir(), "access.log")
	l := openAccessLog(t, AccessLogConfig{Path: ours})
	s := planeSite(t, HandlerConfig{Record: l.Record}, []Backend{b})
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	clock := regexp.MustCompile(`\[[^]]*\]`)
	requests := []string{"GET /a?b=c", "HEAD /", "POST /", "GET /%22%5c%e9"}
	for _, request := range requests {
		for _, to := range []string{address, strings.TrimPrefix(s.url, "http://")} {
			method, target, _ := strings.Cut(request, " ")
			req, err := http.NewRequest(method, "http://"+to+target, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("User-Agent", `a "browser"`)
			req.Header.Set("Referer", "https://x/")
			req.SetBasicAuth("bob", "secret")
			res, err := transport.RoundTrip(req)
			body(t, res, err)
		}
	}
	got, want := clock.ReplaceAllString(linesIn(t, ours, len(requests)), "[]"), clock.ReplaceAllString(linesIn(t, theirs, len(requests)), "[]")
	if got != want {
		t.Errorf("%s\nwant nginx's\n%s", got, want)
	}
}

// TestUnloggedBesideNginx: requests have lines where nginx writes some, with access_log off in
// locations, which are found by the path without its steps.
func TestUnloggedBesideNginx(t *testing.T) {
	b, closed := webBackend(t, name("a")), closedBackend(t)
	theirs := filepath.Join(nginxDir(t), "access.log")
	address := besideNginx(t, "access_log "+theirs+` combined; location / { proxy_pass http://backends; }
		location /quiet/ { access_log off; proxy_pass http://backends; }
		location = /quiet/denied { access_log off; deny all; }
		location = /quiet/answered { access_log off; return 200; }
		location = /quiet/failed { access_log off; proxy_pass http://`+closed.Address+`; }`, b)
	requests := []string{
		get("x /quiet/passed"), get("x /quiet/denied"), get("x /quiet/answered"), get("x /quiet/failed"), get("x /quietly"), get("x /loud"),
		get("x /a/%2e%2e/quiet/passed"), get("x /quiet/../loud"), get("x /../quiet/"), get("x /last"),
	}
	targets := func(text string) (all []string) {
		for line := range strings.Lines(text) {
			_, request, _ := strings.Cut(line, `"`)
			request, _, _ = strings.Cut(request, `"`)
			all = append(all, request)
		}
		return all
	}
	for _, request := range requests {
		askRaw(t, address, request)
	}
	var want []string
	waitFor(t, "nginx's last line", func() bool {
		content, _ := os.ReadFile(theirs)
		want = targets(string(content))
		return len(want) > 0 && strings.Contains(want[len(want)-1], "/last")
	})
	quiet := func(path string, rules Rules) Route {
		rules.Unlogged = true
		return Route{Name: path, Paths: []string{path}, HandlerConfig: HandlerConfig{Rules: rules}}
	}
	failed := quiet("= /quiet/failed", Rules{})
	failed.Pool = newPool(t, PoolConfig{Backends: []Backend{closed}})
	for _, f := range trapFronts() {
		if f.http2 {
			continue // the requests are of HTTP/1.1
		}
		t.Run(f.name, func(t *testing.T) {
			ours := filepath.Join(t.TempDir(), "access.log")
			l := openAccessLog(t, AccessLogConfig{Path: ours})
			s := f.serve(t, HandlerConfig{Record: l.Record, Routes: []Route{
				quiet("/quiet/", Rules{}), quiet("= /quiet/denied", Rules{Access: []AccessRule{{Deny: true}}}),
				quiet("= /quiet/answered", Rules{Answer: Answer{Status: 200}}), failed,
			}}, b)
			for _, request := range requests {
				s.askRaw(t, request)
			}
			if got := targets(linesIn(t, ours, len(want))); !slices.Equal(got, want) {
				t.Errorf("lines of %q, nginx's of %q", got, want)
			}
		})
	}
}
