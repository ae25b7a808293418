package lb

import (
	"cmp"
	"fmt"
	"strings"
	"testing"
)

// TestVariablesBesideNginx: what nginx has a variable for is the same here, except where the
// table says so.
func TestVariablesBesideNginx(t *testing.T) {
	config := "location / { return 200; "
	for i, tt := range variableCases {
		if tt.nginx != "" {
			config += fmt.Sprintf("add_header X-%d %q;\n", i, tt.nginx)
		}
	}
	address := besideNginx(t, config+"}")
	for i, tt := range variableCases {
		if tt.nginx == "" {
			continue
		}
		want := fmt.Sprintf("200\nX-%d: %s\n", i, cmp.Or(tt.other, tt.want))
		if got := askRaw(t, address, tt.request.text(), fmt.Sprintf("X-%d", i)); got != want {
			t.Errorf("%s: %q, want %q", tt.name, got, want)
		}
	}
}

// TestRealClientBesideNginx: nginx with real_ip_recursive finds the same client, except where
// the table says so.
func TestRealClientBesideNginx(t *testing.T) {
	config := "real_ip_header X-Forwarded-For; real_ip_recursive on; location / { return 200 $remote_addr; }"
	for _, p := range ourProxies {
		config += " set_real_ip_from " + p.String() + ";"
	}
	address := besideNginx(t, config)
	for _, tt := range realClients {
		r := request{target: "/"}
		for _, line := range tt.lines {
			r.fields = append(r.fields, "X-Forwarded-For", line)
		}
		if got, want := askRaw(t, address, r.text()), "200\n"+cmp.Or(tt.nginx, tt.want); got != want {
			t.Errorf("%s: %q, want %q", tt.name, got, want)
		}
	}
}

// TestHeadersOfRepliesBesideNginx: so does nginx.
func TestHeadersOfRepliesBesideNginx(t *testing.T) {
	config := ""
	for name, tt := range replyRules {
		config += fmt.Sprintf("location /%s { %s }\n", strings.ReplaceAll(name, " ", "-"), tt.nginx)
	}
	address := besideNginx(t, config+`add_header X-Set "$request_method $host" always; add_header Link "</$arg_a>" always;
		add_header Set-Cookie a=b always; add_header Set-Cookie c=d always;`)
	for name, tt := range replyRules {
		want := fmt.Sprintf("%d\nX-Set: GET x\nLink: </7>\nSet-Cookie: a=b + c=d\n", tt.status)
		got := askRaw(t, address, "GET /"+strings.ReplaceAll(name, " ", "-")+"?a=7 HTTP/1.1\r\nHost: x\r\n\r\n", "X-Set", "Link", "Set-Cookie")
		if !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
