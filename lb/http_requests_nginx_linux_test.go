package lb

import (
	"slices"
	"strings"
	"testing"
)

// TestRequestRateBesideNginx: of ten requests at once as many pass as with nginx's limit_req and
// nodelay, whose burst is one less: it is what comes beyond the first. Locations, or routes, that
// say nothing of it count together.
func TestRequestRateBesideNginx(t *testing.T) {
	app := webBackend(t, name("app"))
	nginx := besideNginx(t, `limit_req_zone $binary_remote_addr zone=clients:1m rate=1r/m;
		upstream app { server `+app.Address+`; }
		server { listen LISTEN; limit_req zone=clients burst=4 nodelay; limit_req_status 429;
			location / { proxy_pass http://app; } location /b { proxy_pass http://app; } }`)
	ask := func(address string) (statuses []string) {
		for i := range 10 {
			status, _, _ := strings.Cut(askRaw(t, address, "GET "+[]string{"/", "/b"}[i%2]+" HTTP/1.1\r\nHost: x\r\n\r\n"), "\n")
			statuses = append(statuses, status)
		}
		return statuses
	}
	want := ask(nginx)
	if n := slices.Index(want, "429"); n != 5 {
		t.Fatalf("nginx: %q", want)
	}
	for _, front := range trapFronts() {
		if front.http2 {
			continue // askRaw is of HTTP/1.1
		}
		t.Run(front.name, func(t *testing.T) {
			s := front.serve(t, HandlerConfig{Rules: Rules{RequestRate: 1. / 60, RequestBurst: 5}, Routes: []Route{{Name: "b", Paths: []string{"/b"}}}}, app)
			if got := ask(strings.TrimPrefix(s.url, "http://")); !slices.Equal(got, want) {
				t.Errorf("%q, nginx: %q", got, want)
			}
		})
	}
}
