package daemon

import (
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
)

// TestBackendOnAUnixSocket: requests and connections go to a server on a Unix socket, and its
// check finds it, and that it has gone.
func TestBackendOnAUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "app for ", r.URL.Path) })}
	go func() { _ = server.Serve(ln) }()
	t.Cleanup(func() { server.Close() })
	web, plain := freePort(t), freePort(t)
	startDaemon(t, fmt.Sprintf(`services:
  - {name: web, listen: "127.0.0.1:%s", backends: ["unix:%s"], check: {type: http, path: /health, interval: 100ms, fall: 1}}
  - {name: plain, listen: "127.0.0.1:%s", mode: tcp, backends: ["unix:%[2]s"], check: {type: tcp, interval: 100ms, fall: 1}}`, web, path, plain))
	for _, port := range []string{web, plain} {
		lab.Until(t, 20*time.Second, "an answer from the socket", func() bool { return fetch(t, port) == "200 app for /" })
	}
	server.Close()
	lab.Until(t, 20*time.Second, "the check to find nobody", func() bool {
		return strings.HasPrefix(fetch(t, web), "503") && !strings.HasPrefix(fetch(t, plain), "200")
	})
}
