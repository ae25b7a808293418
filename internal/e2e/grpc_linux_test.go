package e2e

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
)

// grpcCases are gRPC's own interoperability tests, of calls of each kind: streams either way
// and both ways, cancelled, with deadlines, and with a status, metadata and large messages.
var grpcCases = []string{
	"empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream",
	"timeout_on_sleeping_server", "cancel_after_begin", "cancel_after_first_response", "status_code_and_message",
	"special_status_message", "custom_metadata", "unimplemented_method", "unimplemented_service",
}

// TestGRPC: gRPC's client and server understand each other through a service, with TLS and
// without, towards clients as well as towards backends.
func TestGRPC(t *testing.T) {
	lab.Need(t, "grpc-interop-client", "grpc-interop-server")
	t.Parallel()
	l := lab.New(t)
	h, client, app := l.MustHost("lb01", "192.168.31.240/24"), l.MustHost("client", "192.168.31.10/24"), l.MustHost("app", "192.168.31.242/24")
	file := filepath.Join(t.TempDir(), "web.pem")
	labtest.WriteCertificate(t, file, "www.example.org")
	for _, args := range [][]string{{"-port", "8080"}, {"-port", "8443", "-use_tls", "-tls_cert_file", file, "-tls_key_file", file}} {
		c := app.Command("grpc-interop-server", args...)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
	}
	startReloader(t, h, fmt.Sprintf(`services:
  - name: secure
    listen: ":443"
    mode: http
    backends: ["192.168.31.242:8443"]
    tls: {certificates: [%[1]s]}
    backend_tls: {server_name: www.example.org, ca: %[1]s}
    http: {backend_protocol: http2}
  - {name: plain, listen: ":80", mode: http, backends: ["192.168.31.242:8080"], http: {backend_protocol: http2}}
`, file))
	for name, front := range map[string][]string{
		"TLS":         {"-server_port", "443", "-use_tls", "-use_test_ca", "-ca_file", file, "-server_host_override", "www.example.org"},
		"without TLS": {"-server_port", "80"},
	} {
		t.Run(name, func(t *testing.T) {
			run := func(test string) (output string, err error) {
				c := client.Command("grpc-interop-client", append(front, "-server_host", "192.168.31.240", "-test_case", test)...)
				err = c.Run()
				return c.Output(), err
			}
			lab.Eventually(t, 30*time.Second, "a call succeeds", func() error {
				output, err := run("empty_unary")
				if err != nil {
					err = fmt.Errorf("%w: %s", err, output)
				}
				return err
			})
			for _, test := range grpcCases {
				if output, err := run(test); err != nil {
					t.Errorf("%s: %v\n%s", test, err, output)
				}
			}
		})
	}
}
