package daemon

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab/labtest"
)

// webServer answers with its name and some of what it was asked.
func webServer(t *testing.T, name string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			<-r.Context().Done()
			return
		}
		fmt.Fprintf(w, "%s %s %s", name, r.Header.Get("X-Lb"), r.Header.Get("X-Forwarded-Proto"))
	}))
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s.Listener.Addr().String()
}

// TestHTTPReload: settings of requests and of connections change one by one,
// and a connection that is kept stays.
func TestHTTPReload(t *testing.T) {
	web, port := webServer(t, "a"), freePort(t)
	service := func(rest string) string {
		return fmt.Sprintf(`services: [{name: web, listen: "127.0.0.1:%s", backends: ["%s"], %s}]`, port, web, rest)
	}
	d := startDaemon(t, service("tries: 3"))
	p := d.services[0].plane.(*httpPlane)
	kept, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	in := bufio.NewReader(kept)
	ask := func(want string) {
		t.Helper()
		kept.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprint(kept, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		if got := string(body); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	ask("a  http")
	for i := range 20 {
		mustReload(t, d, service(fmt.Sprintf(`http: {request_headers: {X-LB: "%d"}}, idle_timeout: %dm`, i, i+2)))
		ask(fmt.Sprintf("a %d http", i))
	}
	if n := p.Stats().Accepted; n != 21 {
		t.Errorf("%d requests are counted after reloads, want 21", n)
	}
	if n := d.services[0].upstreams[""].pool.Status().Backends[0].Connects; n != 1 {
		t.Errorf("%d connections to the backend, want 1 that is kept", n)
	}

	// A request that is under way goes on.
	held, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(held, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n")
	until(t, "the request is under way", func() bool { return p.Stats().Active == 1 })
	mustReload(t, d, service(`http: {request_headers: {X-LB: new}}`))
	ask("a new http")
	until(t, "the request that is held is the only one under way", func() bool { return p.Stats().Active == 1 })
	held.Close()
	until(t, "the request has ended", func() bool { return p.Stats().Active == 0 })
}

// TestOptionsOfAll: what concerns the whole server is for the backend to answer, too.
func TestOptionsOfAll(t *testing.T) {
	rec, port := labtest.Record(t, labtest.Answers("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")), freePort(t)
	startDaemon(t, fmt.Sprintf(`services: [{name: web, listen: "127.0.0.1:%s", backends: ["%s"]}]`, port, rec.Address))
	c, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprint(c, "OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	answer, err := io.ReadAll(c)
	if got := rec.Bytes(); err != nil || !strings.HasPrefix(got, "OPTIONS * HTTP/1.1\r\nHost: x\r\n") {
		t.Errorf("the backend got %q, the client %q, %v", got, answer, err)
	}
}

// TestHTTPReloadLosesNoConnection: whoever connects while settings of connections change,
// or another plane takes the socket over, is served.
func TestHTTPReloadLosesNoConnection(t *testing.T) {
	web, port := webServer(t, "a"), freePort(t)
	service := func(rest string) string {
		return fmt.Sprintf(`services: [{name: web, listen: "127.0.0.1:%s", backends: ["%s"], %s}]`, port, web, rest)
	}
	d := startDaemon(t, service("tries: 3"))
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	var clients sync.WaitGroup
	var served atomic.Int32
	done := make(chan struct{})
	for range 3 {
		clients.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				res, err := client.Get("http://127.0.0.1:" + port)
				if err != nil {
					t.Error(err)
					return
				}
				res.Body.Close()
				served.Add(1)
			}
		})
	}
	for i := range 12 {
		before := served.Load()
		mustReload(t, d, service([]string{"mode: tcp", "idle_timeout: 2m", "idle_timeout: 3m"}[i%3]))
		until(t, "clients are served", func() bool { return served.Load() > before+3 || t.Failed() })
	}
	close(done)
	clients.Wait()
}

// TestHTTPLimits: limits of an http service are kept, and can be changed. Connections that
// they turn away are counted. A reload, whatever else it changes, starts nothing anew.
func TestHTTPLimits(t *testing.T) {
	web, port := webServer(t, "a"), freePort(t)
	service := func(rest string) string {
		return fmt.Sprintf(`services: [{name: web, listen: "127.0.0.1:%s", backends: ["%s"], %s}]`, port, web, rest)
	}
	d := startDaemon(t, service("limits: {per_client: 1, total_rate: 0.001, total_burst: 3}"))
	open := func(want string) {
		t.Helper()
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		if _, err = http.ReadResponse(bufio.NewReader(c), nil); (err == nil) != (want == "served") {
			t.Errorf("error %v, want the connection %s", err, want)
		}
	}
	open("served")
	open("refused")
	mustReload(t, d, service("limits: {per_client: 1, total_rate: 0.001, total_burst: 3}, idle_timeout: 2m"))
	open("refused")
	mustReload(t, d, service("limits: {per_client: 2, total_rate: 0.001, total_burst: 3}, http: {header_timeout: 33s}"))
	open("served")
	open("refused")
	mustReload(t, d, service("limits: {per_client: 9, total_rate: 0.001, total_burst: 3}, idle_timeout: 3m"))
	open("served")
	open("refused") // by the rate: three have been served in all
	if s := d.View().Services[0].Stats(); s.Refused != 4 || s.Accepted != 3 {
		t.Errorf("stats are %+v, want 4 refused and 3 accepted", s)
	}
}

// TestHTTPLoginsStayApart: the plane knows the connections of clients, so who has logged in
// by NTLM stays logged in, and nobody else is.
func TestHTTPLoginsStayApart(t *testing.T) {
	type key struct{}
	backend := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user := r.Context().Value(key{}).(*string) // of the connection
		if _, name, ok := strings.Cut(r.Header.Get("Authorization"), "NTLM "); ok {
			*user = name
		}
		io.WriteString(w, *user)
	}))
	backend.Config.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		return context.WithValue(ctx, key{}, new(string))
	}
	backend.Start()
	defer backend.Close()
	port := freePort(t)
	startDaemon(t, fmt.Sprintf(`services: [{name: web, listen: "127.0.0.1:%s", backends: ["%s"], http: {reuse: always}}]`, port, backend.Listener.Addr()))
	get := func(c *http.Client, credentials, want string) {
		t.Helper()
		req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://127.0.0.1:"+port, nil)
		if credentials != "" {
			req.Header.Set("Authorization", credentials)
		}
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if got, err := io.ReadAll(res.Body); err != nil || string(got) != want {
			t.Errorf("the user is %q, %v, want %q", got, err, want)
		}
	}
	ann, bob := &http.Client{Transport: new(http.Transport)}, &http.Client{Transport: new(http.Transport)}
	get(ann, "NTLM ann", "ann")
	for range 2 {
		get(ann, "", "ann")
		get(bob, "", "")
	}
	ann.CloseIdleConnections()
	bob.CloseIdleConnections()
}
