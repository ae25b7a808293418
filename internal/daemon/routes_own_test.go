package daemon

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab/labtest"
)

// keptClient asks a service on one connection, which a reload must not end.
type keptClient struct {
	net.Conn
	in *bufio.Reader
}

func newKeptClient(t *testing.T, port string) *keptClient {
	t.Helper()
	c, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &keptClient{c, bufio.NewReader(c)}
}

// ask returns the status and the content of an answer.
func (c *keptClient) ask(t *testing.T, path string) string {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
	res, err := http.ReadResponse(c.in, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	return fmt.Sprint(res.StatusCode, " ", string(body))
}

// TestAccessLogOffInRoute: the requests of a route without log have no line, neither in the file
// nor in havip's own log, until a reload says otherwise. They count all the time.
func TestAccessLogOffInRoute(t *testing.T) {
	file, port := filepath.Join(t.TempDir(), "web.log"), freePort(t)
	config := func(log bool) string {
		return fmt.Sprintf(`services: [{name: web, listen: "127.0.0.1:%s", backends: ["%s"], access_log: {log: true, file: %s},
  routes: [{name: health, paths: [/health], access_log: %t, http: {answer: {status: 204}}}]}]`, port, "127.0.0.1:9", file, log)
	}
	var own labtest.Log
	d := startLogging(t, config(false), slog.New(slog.NewTextHandler(&own, nil)))
	until(t, "the service is there", func() bool { return d.View().Services[0].Serving() })
	c := newKeptClient(t, port)
	ask := func(path, want string) {
		t.Helper()
		if got := c.ask(t, path); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q, want %s", path, got, want)
		}
	}
	both := func(want string) {
		t.Helper()
		until(t, want+" is in both logs", func() bool { return strings.Contains(logged(file), want) && strings.Contains(own.String(), want) })
	}
	ask("/health/1", "204")
	ask("/2", "502")
	both("/2")
	mustReload(t, d, config(true))
	ask("/health/3", "204")
	both("/health/3")
	mustReload(t, d, config(false))
	ask("/health/4", "204")
	ask("/5", "502")
	both("/5")
	for name, log := range map[string]string{"the file": logged(file), "havip's log": own.String()} {
		if strings.Contains(log, "/health/1") || strings.Contains(log, "/health/4") {
			t.Errorf("%s has requests of the route without log:\n%s", name, log)
		}
	}
	until(t, "all are counted", func() bool { return d.View().Services[0].Tally().Statuses[2] == 3 })
	if got := d.View().Services[0].Stats().Accepted; got != 5 {
		t.Errorf("%d requests, want 5", got)
	}
}
