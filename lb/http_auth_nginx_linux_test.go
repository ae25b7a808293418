package lb

import (
	"strings"
	"testing"
)

// TestAuthBesideNginx: the real nginx lets in whom TestBasicAuth lets in, by the same file.
func TestAuthBesideNginx(t *testing.T) {
	differs := map[string]string{
		"NUL": "nginx takes the password to end there (RFC 7617 §2 forbids control characters)",
	}
	dir := nginxDir(t)
	file := writeFile(t, dir, "users", strings.ReplaceAll(htpasswdText(), "\r", ""))
	address := besideNginx(t, `location / { auth_basic "closed site"; auth_basic_user_file `+file+`; proxy_pass http://backends; }`, webBackend(t, name("app")))
	for _, tt := range authCases {
		want := "401\nWWW-Authenticate: Basic realm=\"closed site\""
		if tt.served != (differs[tt.name] != "") {
			want = "200\nWWW-Authenticate: -"
		}
		got := askRaw(t, address, asked("/", tt.authorization), "WWW-Authenticate")
		if head := strings.Join(strings.SplitN(got, "\n", 3)[:2], "\n"); head != want {
			t.Errorf("%s: nginx: %q, want %q", tt.name, head, want)
		}
	}
}
