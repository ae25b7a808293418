package lb

import (
	"strings"
	"testing"
)

// nginxRedirects are locations of nginx that change where redirects of backends lead.
const nginxRedirects = `server_name _; absolute_redirect off;
	location /app/ { proxy_pass http://backends/; proxy_redirect http://internal:8080/ /app/; proxy_redirect /app/ /app/; proxy_redirect / /app/; }
	location /default/ { proxy_pass http://backends/one/; }
	location /off/ { proxy_pass http://backends/one/; proxy_redirect off; }
	location /user/ { proxy_pass http://backends; proxy_redirect ~^http://[^/]*/user/([^/]+)/(.+)$ https://$1.example.org/$2; proxy_redirect ~*^http://INTERNAL/(.*)$ /user/$1; }
	location /port/ { proxy_pass http://backends; proxy_redirect ~^(http://[^:]+):\d+(/.+)$ $1$2; }
	location /scheme/ { proxy_pass http://backends; proxy_redirect http:// https://; }
	location /names/ { proxy_pass http://backends; proxy_redirect http://$http_x_backend/ $scheme://$host/names/; }
	location /root/ { proxy_pass http://backends; proxy_redirect http://internal:8080/ /; proxy_redirect http://internal https://www.example.org; proxy_redirect ~^/to/(.*)$ https://$1.example.org/; }
	location /whole/ { absolute_redirect on; proxy_pass http://backends; proxy_redirect / /whole/; }`

// TestLocationsBesideNginx: redirects of backends lead to where nginx has them lead by
// proxy_redirect. Where that is not so, differs says what nginx sends, and why that is not done
// here.
func TestLocationsBesideNginx(t *testing.T) {
	backend := relocatingBackend(t)
	address := besideNginx(t, nginxRedirects, backend)
	route := func(path string, list ...LocationRewrite) Route {
		return namedRoute(path, Rules{RewriteLocation: list})
	}
	routes := []Route{
		route("/app/", LocationRewrite{Prefix: "http://internal:8080/", To: "/app/"}, LocationRewrite{Prefix: "/app/", To: "/app/"}, LocationRewrite{Prefix: "/", To: "/app/"}),
		route("/default/", LocationRewrite{Prefix: "http://backends/one/", To: "/default/"}),
		route("/off/"),
		route("/user/", LocationRewrite{Regexp: "^http://[^/]*/user/([^/]+)/(.+)$", To: "https://$1.example.org/$2"}, LocationRewrite{Regexp: "(?i)^http://INTERNAL/(.*)$", To: "/user/$1"}),
		route("/port/", LocationRewrite{Regexp: `^(http://[^:]+):\d+(/.+)$`, To: "$1$2"}),
		route("/scheme/", LocationRewrite{Prefix: "http://", To: "https://"}),
		route("/names/", LocationRewrite{Prefix: "http://${header_X-Backend}/", To: "http://${host}/names/"}), // TLS is on one front
		route("/root/", LocationRewrite{Prefix: "http://internal:8080/", To: "/"}, LocationRewrite{Prefix: "http://internal", To: "https://www.example.org"},
			LocationRewrite{Regexp: "^/to/(.*)$", To: "https://$1.example.org/"}),
		route("/whole/", LocationRewrite{Prefix: "/", To: "/whole/"}),
	}
	fronts := trapFronts()
	sites := make([]*trapSite, len(fronts))
	for i, front := range fronts {
		sites[i] = front.serve(t, HandlerConfig{Routes: routes}, backend)
	}
	for _, c := range []struct{ path, url, want, differs string }{
		{"/app/", "/login", "/app/login", ""},
		{"/app/", "/", "/app/", ""},
		{"/app/", "/app/login?a=b#c", "/app/login?a=b#c", ""},
		{"/app/", "/application", "/app/application", ""},
		{"/app/", "http://internal:8080/login", "/app/login", ""},
		{"/app/", "http://internal:8080", "http://internal:8080", ""},
		{"/app/", "http://internal:80801/", "http://internal:80801/", ""},
		{"/app/", "HTTP://internal:8080/", "HTTP://internal:8080/", ""},
		{"/app/", "https://sso.example.org/?to=http://internal:8080/", "https://sso.example.org/?to=http://internal:8080/", ""},
		{"/app/", "login", "login", ""},
		{"/app/", "//other.example.org/x", "/app//other.example.org/x", ""},
		{"/default/", "http://backends/one/x", "/default/x", ""},
		{"/default/", "/one/x", "/one/x", ""},
		{"/off/", "http://backends/one/x", "http://backends/one/x", ""},
		{"/user/", "http://internal:8080/user/ann/x?y", "https://ann.example.org/x?y", ""},
		{"/user/", "http://internal/a", "/user/a", ""},
		{"/user/", "/user/ann/x", "/user/ann/x", ""},
		{"/port/", "http://www.example.org:8080/a", "http://www.example.org/a", ""},
		{"/scheme/", "http://www.example.org:80/a", "https://www.example.org:80/a", ""},
		{"/names/", "http://internal/a", "http://www.example.org/names/a", ""},
		{"/root/", "http://internal:8080/a", "/a", ""},
		{"/root/", "http://internal/a", "https://www.example.org/a", ""},
		{"/root/", "/to/ann", "https://ann.example.org/", ""},

		// A path that a client has made, and the backend repeats, would lead to its host.
		{"/root/", "http://internal:8080//evil.test/", "/evil.test/", "//evil.test/"},
		{"/root/", `http://internal:8080/\evil.test/`, "/evil.test/", `/\evil.test/`},
		{"/root/", "/to/evil.test/", "/to/evil.test/", "https://evil.test/.example.org/"},
		// A prefix is for the host that it names. For nginx it is for any that begins so.
		{"/root/", "http://internal.test/a", "http://internal.test/a", "https://www.example.org.test/a"},
		{"/root/", "http://internal:80/a", "http://internal:80/a", "https://www.example.org:80/a"},
		// nginx has a path lead to itself with its own port, as in other redirects of its own.
		{"/whole/", "/a", "/whole/a", "http://www.example.org:PORT/whole/a"},
	} {
		_, port, _ := strings.Cut(address, ":")
		want := strings.Replace(c.differs, "PORT", port, 1)
		if c.differs == "" {
			want = c.want
		}
		if got := locationOf(askRaw(t, address, relocated(c.path, c.url), "Location")); got != want {
			t.Errorf("nginx, %s, %s: %q, want %q", c.path, c.url, got, want)
		}
		for i, s := range sites {
			if got := locationOf(s.askRaw(t, relocated(c.path, c.url), "Location")); got != c.want {
				t.Errorf("%s, %s, %s: %q, want %q", fronts[i].name, c.path, c.url, got, c.want)
			}
		}
	}
	for _, c := range []struct{ refresh, want, differs string }{
		{"5; url=/a", "5; url=/app/a", ""},
		{"0;URL=http://internal:8080/a", "0;URL=/app/a", ""},
		{"5; url=https://x/?url=/a", "5; url=https://x/?url=/a", ""},
		{"5", "5", ""},
		{"5; /a", "5; /a", ""},
		// Browsers take what is in quotes for the URL (HTML, 4.2.5.3).
		{`5; url="/a"`, `5; url="/app/a"`, `5; url="/a"`},
	} {
		request := strings.Replace(relocated("/app/", "/x"), "X-Refresh: 5; url=/x", "X-Refresh: "+c.refresh, 1)
		want := c.differs
		if want == "" {
			want = c.want
		}
		if got := locationOf(askRaw(t, address, request, "Refresh")); got != want {
			t.Errorf("nginx, %s: %q, want %q", c.refresh, got, want)
		}
		for i, s := range sites {
			if got := locationOf(s.askRaw(t, request, "Refresh")); got != c.want {
				t.Errorf("%s, %s: %q, want %q", fronts[i].name, c.refresh, got, c.want)
			}
		}
	}
}

// locationOf returns the field of an answer that was asked for.
func locationOf(answer string) string {
	_, field, _ := strings.Cut(answer, ": ")
	field, _, _ = strings.Cut(field, "\n")
	return field
}
