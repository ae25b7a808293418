package lb

import (
	"strings"
	"testing"
)

// TestRedirectsStayOnTheirHost: a path that a client has made does not lead to a host of its
// choice (RFC 3986 §4.2). What the configuration says literally does.
func TestRedirectsStayOnTheirHost(t *testing.T) {
	for _, tt := range []struct{ location, target, want string }{
		{"${uri}", "//evil.test/a", "/evil.test/a"},
		{"${uri}", "///evil.test/a", "/evil.test/a"},
		{"${uri}", `/\evil.test/a`, "/evil.test/a"},
		{"${uri}", `/\/\/evil.test/a`, "/evil.test/a"},
		{"${uri}", `//\evil.test/a`, "/evil.test/a"},
		{"${uri}", "/a//evil.test", "/a//evil.test"},
		{"/${arg_to}", "/?to=/evil.test", "/evil.test"},
		{"/${query}", `/?\evil.test`, "/evil.test"},
		{"https://www.example.org${uri}", "//evil.test/a", "https://www.example.org//evil.test/a"},
		{"//cdn.example.org/x", "/", "//cdn.example.org/x"},
	} {
		for _, front := range trapFronts() {
			s := front.serve(t, HandlerConfig{Rules: Rules{Redirect: Redirect{Location: tt.location}}}, Backend{Address: "127.0.0.1:1"})
			got := s.askRaw(t, "GET "+tt.target+" HTTP/1.1\r\nHost: x\r\n\r\n", "Location")
			if !strings.Contains(got, "Location: "+tt.want+"\n") {
				t.Errorf("%s, %s to %s: %q, want %s", front.name, tt.target, tt.location, got, tt.want)
			}
		}
	}
}
