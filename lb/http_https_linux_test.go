package lb

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

// TestRedirectHTTPS: who has not come by TLS is sent to the same URL with https, as nginx does
// with return 301 https://$host$request_uri, and who has, be it to a proxy that is trusted, is
// not.
func TestRedirectHTTPS(t *testing.T) {
	backend := webBackend(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(r.Header.Get("X-Forwarded-Proto")))
	})
	address := besideNginx(t, `location = /308 { return 308 https://$host$request_uri; }
		location / { return 301 https://$host$request_uri; }`)
	const passed = "200\nLocation: -\n"
	for _, c := range []struct {
		name, request string
		trusted       bool // the client is a trusted proxy
		want          string
		alone         bool // nginx has no such rule
	}{
		{"plain", get("x /a?b=c"), false, "301\nLocation: https://x/a?b=c", false},
		{"path with escapes", get("x /a%20b/%2e?c=%41"), false, "301\nLocation: https://x/a%20b/%2e?c=%41", false},
		{"host with a port", get("x:8080 /a"), false, "301\nLocation: https://x/a", false},
		{"host in upper case", get("Web.TEST /"), false, "301\nLocation: https://web.test/", false},
		{"host of IPv6", get("[2001:db8::1]:80 /a"), false, "301\nLocation: https://[2001:db8::1]/a", false},
		{"HEAD", "HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n", false, "301\nLocation: https://x/a", false},
		{"POST with 308", "POST /308 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", false, "308\nLocation: https://x/308", false},
		{"https by a stranger", forwardedProto("https", ""), false, "301\nLocation: https://x/", false},
		{"https by a trusted proxy", forwardedProto("https", ""), true, passed + "https", true},
		{"HTTPS in upper case", forwardedProto("HTTPS", ""), true, passed + "HTTPS", true},
		{"http by a trusted proxy", forwardedProto("http", ""), true, "301\nLocation: https://x/", true},
		{"https by a trusted proxy, for the connection only", forwardedProto("https", "Connection: X-Forwarded-Proto\r\n"), true, "301\nLocation: https://x/", true},
		{"no word of a trusted proxy", get("x /a"), true, "301\nLocation: https://x/a", true},
	} {
		bare := func(answer string) string {
			if lines := strings.SplitN(answer, "\n", 3); lines[0] != "200" {
				return strings.Join(lines[:2], "\n")
			}
			return answer
		}
		if got := bare(askRaw(t, address, c.request, "Location")); !c.alone && got != c.want {
			t.Errorf("nginx, %s: %q, want %q", c.name, got, c.want)
		}
		cfg := HandlerConfig{Rules: Rules{Redirect: Redirect{Location: RedirectHTTPS}}}
		cfg.Routes = []Route{{Name: "308", Paths: []string{"= /308"}, HandlerConfig: HandlerConfig{Rules: Rules{Redirect: Redirect{Location: RedirectHTTPS, Status: 308}}}}}
		if c.trusted {
			cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		}
		for _, front := range trapFronts() {
			s := front.serve(t, cfg, backend)
			if strings.HasPrefix(s.url, "https:") || front.http2 && strings.Contains(c.request, "Connection:") {
				continue // see TestNoRedirectBehindTLS; HTTP/2 has no Connection
			}
			if got := bare(s.askRaw(t, c.request, "Location")); got != c.want {
				t.Errorf("%s, %s: %q, want %q", front.name, c.name, got, c.want)
			}
		}
	}
}

// TestNoRedirectBehindTLS: with TLS, in HTTP/1.1 and HTTP/2, the backend is asked, whatever the
// client says itself.
func TestNoRedirectBehindTLS(t *testing.T) {
	eachListener(t, func(t *testing.T, wrap func(net.Listener) net.Listener) {
		b := webBackend(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte(r.Header.Get("X-Forwarded-Proto")))
		})
		cfg := HTTPConfig{TLS: serverConfig(newAuthority(t)), HandlerConfig: HandlerConfig{Rules: Rules{Redirect: Redirect{Location: RedirectHTTPS}}}}
		p, ln := newHTTP(t, cfg, b), listenTest(t)
		serveHTTP(t, p, wrap(ln))
		for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
			for _, says := range []string{"", "http", "https"} {
				req, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+ln.Addr().String(), nil)
				if err != nil {
					t.Fatal(err)
				}
				if says != "" {
					req.Header.Set("X-Forwarded-Proto", says)
				}
				res, err := secureClient(t, protocol).Do(req)
				if got := body(t, res, err); got != "https" || res.StatusCode != http.StatusOK || res.Proto != protocol {
					t.Errorf("%s, client says %q: %s %d %q, want 200 and https", protocol, says, res.Proto, res.StatusCode, got)
				}
			}
		}
	})
}
