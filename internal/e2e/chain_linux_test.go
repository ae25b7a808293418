package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
)

// edgeConfig is an HAProxy that takes HTTP/1 and HTTP/2 from clients, and speaks HTTP/2
// with havip, by TLS. It sends an :authority for a client of HTTP/2, and a field host
// either way.
const edgeConfig = `defaults
  mode http
  timeout connect 20s
  timeout client 20s
  timeout server 20s
frontend clients
  bind 192.168.31.20:443 ssl crt %s alpn h2,http/1.1
  default_backend havip
backend havip
  option forwardfor
  http-request set-header X-Forwarded-Proto https
  server lb01 192.168.31.240:8443 ssl verify none alpn h2 proto h2
`

// TestChainOfProxies: what curl asks, an HAProxy passes on to havip by HTTP/2, and nginx
// answers.
func TestChainOfProxies(t *testing.T) {
	t.Parallel()
	lab.Need(t, "curl", "haproxy", "nginx")
	l := lab.New(t)
	client, edge := l.MustHost("client", "192.168.31.10/24"), l.MustHost("edge", "192.168.31.20/24")
	lb01, app := l.MustHost("lb01", "192.168.31.240/24"), l.MustHost("app", "192.168.31.242/24")
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	certificate := filepath.Join(dir, "web.pem")
	labtest.WriteCertificate(t, certificate, "www.example.org")
	// The inner server has nothing to do with it, but proxy_pass reads the request to its end.
	if err := runNginx(app, t.TempDir(), `
	server { listen 127.0.0.1:8081; return 200 ""; }
	server {
		listen 192.168.31.242:8080;
		client_max_body_size 0;
		location / {
			proxy_pass http://127.0.0.1:8081;
			add_header Got "$request_method $request_uri $host $content_length$http_transfer_encoding $http_x_forwarded_for $http_x_forwarded_proto";
		}
		location /file { root `+dir+`; }
	}`); err != nil {
		t.Fatal(err)
	}
	startReloader(t, lb01, fmt.Sprintf(`services:
  - name: web
    listen: ":8443"
    backends: ["192.168.31.242:8080"]
    tls: {certificates: [%s]}
    http: {trusted_proxies: [192.168.31.20]}
`, certificate))
	if err := edge.Command("haproxy", "-db", "-f", write("haproxy.cfg", fmt.Sprintf(edgeConfig, certificate))).Start(); err != nil {
		t.Fatal(err)
	}
	upload := write("upload", strings.Repeat("0123456789", 50_000))
	write("file", strings.Repeat("abcdefghij", 50_000))
	curl := func(args ...string) (code int, out string) {
		return exitOf(t, client.Command("curl", append([]string{"-sk", "--max-time", "20", "--path-as-is", "--resolve", "www.example.org:443:192.168.31.20",
			"--write-out", "HTTP/%{http_version} %{http_code} %{size_download}: %header{got}\n"}, args...)...))
	}
	const page, via = "https://www.example.org", " 192.168.31.10, 192.168.31.20 https\n"
	lab.Eventually(t, 30*time.Second, "the chain answers", func() error {
		if code, out := curl(page); code != 0 || !strings.HasPrefix(out, "HTTP/2 200 ") {
			return fmt.Errorf("curl: %d: %s", code, out)
		}
		return nil
	})
	for option, answer := range map[string]string{"--http1.1": "HTTP/1.1 200 ", "--http2": "HTTP/2 200 "} {
		for _, tt := range []struct {
			name string
			args []string
			want string
		}{
			{"target", []string{page + "/a%2Fb|c/../d?e|f"}, answer + "0: GET /a%2Fb|c/../d?e|f www.example.org " + via},
			{"two requests", []string{page + "/1", page + "/2"},
				answer + "0: GET /1 www.example.org " + via + answer + "0: GET /2 www.example.org " + via},
			{"upload", []string{"-T", upload, page + "/up"}, answer + "0: PUT /up www.example.org 500000" + via},
			{"upload of unknown length", []string{"-T", upload, "-H", "Transfer-Encoding: chunked", "-H", "Content-Length:", page + "/up"},
				answer + "0: PUT /up www.example.org 500000chunked" + via},
			{"download", []string{"-o", "/dev/null", page + "/file"}, answer + "500000: \n"},
			{"names that fold", []string{"-H", "X_Forwarded_For: evil", "-H", "X_Forwarded_Proto: evil", page},
				answer + "0: GET / www.example.org " + via},
		} {
			if code, out := curl(append(tt.args, option)...); code != 0 || out != tt.want {
				t.Errorf("%s %s: curl: %d, %q, want %q", option, tt.name, code, out, tt.want)
			}
		}
	}
}
