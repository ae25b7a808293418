package lb

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestSlowlorisWithRules: whatever a client waits for with half of a request, in the head, in a
// body that is held, or behind a password, it is ended by the timeouts, and keeps nothing. Those
// who are not slow are served meanwhile.
func TestSlowlorisWithRules(t *testing.T) {
	login := "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("sha:secret")) + "\r\n"
	halves := map[string]string{
		"head":                 "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: a",
		"head of a login":      "POST /users HTTP/1.1\r\nHost: x\r\n" + login,
		"body":                 "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc",
		"body behind a login":  "POST /users HTTP/1.1\r\nHost: x\r\n" + login + "Content-Length: 10\r\n\r\nabc",
		"body beyond memory":   "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n" + strings.Repeat("a", 3000),
		"chunk":                "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
		"trailer":              "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Slow: a",
		"body that is refused": "POST /users HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc",
		"body of no route":     "GET /no HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc",
	}
	for name, modify := range map[string]func(*http.Response) error{"loops": nil, "net/http": func(*http.Response) error { return nil }} {
		for _, buffering := range []Buffering{BufferingOn, BufferingOff} {
			t.Run(fmt.Sprintf("%s/buffering %v", name, buffering), func(t *testing.T) {
				t.Parallel() // they wait
				cfg := quietRules()
				cfg.RequestsPerClient, cfg.RequestRate = 0, 0 // all have one address
				cfg.Buffering, cfg.BufferMemory, cfg.BufferFolder = buffering, 1<<10, t.TempDir()
				cfg.ModifyResponse, cfg.ClientTimeout = modify, 1500*time.Millisecond
				cfg.Routes = append(cfg.Routes, Route{Name: "users", Paths: []string{"/users"}, HandlerConfig: HandlerConfig{
					Rules: Rules{Auth: &BasicAuth{Users: users(t, "sha:"+hashes["sha"]+"\n")}}}})
				cfg.Pool = newPool(t, PoolConfig{Backends: []Backend{webBackend(t, func(w http.ResponseWriter, r *http.Request) {
					if _, err := io.Copy(io.Discard, r.Body); err == nil {
						io.WriteString(w, "ok")
					}
				})}})
				p, err := NewHTTP(HTTPConfig{HandlerConfig: cfg, HeaderTimeout: 1500 * time.Millisecond, ShutdownTimeout: -1})
				if err != nil {
					t.Fatal(err)
				}
				ln := listenTest(t)
				serveHTTP(t, p, ln)
				slow := make(map[string][]net.Conn)
				for half, text := range halves {
					for range 20 {
						c := dialTest(t, ln.Addr().String())
						io.WriteString(c, text)
						slow[half] = append(slow[half], c)
					}
				}
				for _, request := range []string{aPost, "POST /users HTTP/1.1\r\nHost: x\r\n" + login + "Content-Length: 3\r\n\r\nabc"} {
					if _, got, err := newReader(t, ln.Addr().String()).ask(t, request); err != nil || got != "ok" {
						t.Errorf("a quick client: %q, %v", got, err)
					}
				}
				for half, cs := range slow {
					for _, c := range cs {
						_ = c.SetReadDeadline(time.Now().Add(bound))
						if _, err := io.Copy(io.Discard, c); err != nil && !errors.Is(err, syscall.ECONNRESET) {
							t.Errorf("%s: %v, want the end", half, err)
							break
						}
					}
				}
				waitFor(t, "all requests to end", func() bool { return p.Stats().Active == 0 })
				if b := cfg.Pool.Status().Backends[0]; b.Failures != 0 || b.Active != 0 {
					t.Errorf("the backend is blamed: %+v", b)
				}
			})
		}
	}
}
