package admin

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/lab/labtest"
)

// TestNotForWhoHasGone: a process that was frozen finds requests in its sockets whose
// senders have long given up, and told a person so. It reads them, and does nothing.
func TestNotForWhoHasGone(t *testing.T) {
	for name, tt := range map[string]struct {
		request string
		waits   bool // who asks
		want    string
	}{
		"steering, and gone":    {"POST /api/v1/routers/VI_1/resign", false, ""},
		"steering, and waiting": {"POST /api/v1/routers/VI_1/resign", true, `resign "VI_1"`},
		"reading, and gone":     {"GET /api/v1/explain/192.0.2.1", false, "explain 192.0.2.1"},
	} {
		t.Run(name, func(t *testing.T) {
			node, log := newFakeNode(), new(labtest.Log)
			s := New(Config{Admin: config.Admin{}, Log: slog.New(slog.NewTextHandler(log, nil))}, node)
			dir, err := os.MkdirTemp("", "havip")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			l, err := listenSocket(t.Context(), filepath.Join(dir, "s"))
			if err != nil {
				t.Fatal(err)
			}
			c, err := net.Dial("unix", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := io.WriteString(c, tt.request+" HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			if !tt.waits {
				c.Close()
			}
			g := s.serve(&listener{Listener: l, close: func() { l.Close() }}, place{address: l.Addr().String()})
			if tt.waits {
				if _, err := io.ReadAll(c); err != nil {
					t.Error(err)
				}
			}
			f := &fixture{T: t, node: node, log: log}
			f.until("the request is through", func() bool {
				node.mu.Lock()
				defer node.mu.Unlock()
				return len(node.done) > 0 || log.Count("not steered") > 0
			})
			g.end()
			if got := node.took(); got != tt.want {
				t.Errorf("done: %q, want %q\n%s", got, tt.want, log)
			}
			if tt.want == "" && !strings.Contains(log.String(), "did not wait") {
				t.Errorf("the log does not say why:\n%s", log)
			}
		})
	}
}

// TestGone: of each kind of connection it is seen that the other end has closed it, also
// with bytes in it that nobody has read, and of no other.
func TestGone(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			address := "127.0.0.1:0"
			if network == "unix" {
				address = filepath.Join(t.TempDir(), "s")
			}
			l, err := net.Listen(network, address)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			there, err := net.Dial(network, l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer there.Close()
			here, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer here.Close()
			if _, err := io.WriteString(there, "unread"); err != nil {
				t.Fatal(err)
			}
			if isGone(here) {
				t.Error("gone while it is there")
			}
			there.Close()
			(&fixture{T: t}).until("it has gone", func() bool { return isGone(here) })
		})
	}
	if a, _ := net.Pipe(); isGone(a) || isGone(tls.Client(a, nil)) {
		t.Error("a connection without a socket has gone")
	}
}
