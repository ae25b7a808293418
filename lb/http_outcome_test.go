package lb

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestRefusedAndFailed: what rules and limits keep from backends is refused, as is what no
// backend should see. Failed is only what a backend should have answered, and answers and
// redirects are neither.
func TestRefusedAndFailed(t *testing.T) {
	logins := users(t, "u:{SHA}nU4eI71bcnBGqeO0t9tXvY1u5oQ=\n")
	routes := []Route{
		{Name: "login", Paths: []string{"/login"}, HandlerConfig: HandlerConfig{Rules: Rules{Auth: &BasicAuth{Users: logins}}}},
		{Name: "closed", Paths: []string{"/closed"}, HandlerConfig: HandlerConfig{Rules: Rules{Maintenance: true}}},
		{Name: "denied", Paths: []string{"/denied"}, HandlerConfig: HandlerConfig{Rules: Rules{Access: []AccessRule{{Deny: true}}}}},
		{Name: "few", Paths: []string{"/few"}, HandlerConfig: HandlerConfig{Rules: Rules{RequestRate: 0.001, RequestBurst: 1}}},
		{Name: "short", Paths: []string{"/short"}, HandlerConfig: HandlerConfig{Rules: Rules{MaxURI: 10}}},
		{Name: "small", Paths: []string{"/small"}, HandlerConfig: HandlerConfig{MaxBody: 1}},
		{Name: "moved", Paths: []string{"/moved"}, HandlerConfig: HandlerConfig{Rules: Rules{Redirect: Redirect{Location: "/"}}}},
		{Name: "fixed", Paths: []string{"/fixed"}, HandlerConfig: HandlerConfig{Rules: Rules{Answer: Answer{Status: 503}}}},
		{Name: "dead", Paths: []string{"/dead"}, HandlerConfig: HandlerConfig{Pool: newPool(t, PoolConfig{Backends: []Backend{{Address: "127.0.0.1:9"}}})}},
	}
	const refused, failed, neither = "refused 1, failed 0", "refused 0, failed 1", "refused 0, failed 0"
	tests := []struct{ request, want string }{
		{"GET /", "200 " + neither}, {"GET /moved", "302 " + neither}, {"GET /fixed", "503 " + neither},
		{"GET /login", "401 " + refused}, {"GET /closed", "503 " + refused}, {"GET /denied", "403 " + refused},
		{"GET /few", "200 " + neither}, {"GET /few", "429 " + refused}, {"GET /short?0123456789", "414 " + refused},
		{"POST /small", "413 " + refused}, {"GET /..", "400 " + refused},
		{"GET /dead", "502 " + failed},
	}
	for _, front := range trapFronts() {
		t.Run(front.name, func(t *testing.T) {
			b := webBackend(t, func(http.ResponseWriter, *http.Request) {})
			s := front.serve(t, HandlerConfig{Pool: newPool(t, PoolConfig{Backends: []Backend{b}}), Routes: routes})
			for _, tt := range tests {
				before := s.h.Stats()
				method, target, _ := strings.Cut(tt.request, " ")
				raw := tt.request + " HTTP/1.1\r\nHost: x\r\n\r\n"
				if method == "POST" {
					raw = "POST " + target + " HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nxx"
				}
				status, _, _ := strings.Cut(s.askRaw(t, raw), "\n")
				waitFor(t, "the end", func() bool { return s.h.Stats().Active == 0 })
				after := s.h.Stats()
				got := fmt.Sprintf("%s refused %d, failed %d", status, after.Refused-before.Refused, after.Failed-before.Failed)
				if got != tt.want {
					t.Errorf("%s: %s, want %s", tt.request, got, tt.want)
				}
			}
		})
	}
}
