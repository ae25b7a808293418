package daemon

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// TestHTTPRoutesComeAndGo: routes of requests have pools of their own, which stay at a reload,
// as the connections of clients and those to backends do.
func TestHTTPRoutesComeAndGo(t *testing.T) {
	a, b, c, port := webServer(t, "a"), webServer(t, "b"), webServer(t, "c"), freePort(t)
	service := func(routes string) string {
		return fmt.Sprintf(`services: [{name: web, listen: "127.0.0.1:%s", backends: ["%s"], http: {request_headers: {X-LB: all}}%s}]`, port, a, routes)
	}
	d := startDaemon(t, service(""))
	kept, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	in := bufio.NewReader(kept)
	ask := func(path, want string) {
		t.Helper()
		kept.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprintf(kept, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		if got := fmt.Sprint(res.StatusCode, " ", string(body)); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	ask("/b/x", "200 a all http")
	toB := fmt.Sprintf(`{name: b, paths: [/b/], backends: ["%s"]}`, b)
	mustReload(t, d, service(", routes: ["+toB+"]"))
	ask("/b/x", "200 b all http") // what the route does not say is the service's
	ask("/", "200 a all http")
	pool := d.services[0].upstreams["b"].pool
	mustReload(t, d, service(fmt.Sprintf(`, routes: [{name: c, paths: ["= /b/c"], backends: ["%s"], http: {request_headers: {X-LB: own}}}, %s, {name: gone, paths: [/gone], http: {answer: {status: 410, content: gone}}}]`, c, toB)))
	ask("/b/c", "200 c own http")
	ask("/b/x", "200 b all http")
	ask("/gone/x", "410 gone")
	ask("/../x", "400 400 Bad Request\n")
	if got := d.services[0].upstreams["b"].pool; got != pool {
		t.Error("the pool of a route is another one after a reload that does not concern it")
	}
	if n := pool.Status().Backends[0].Connects; n != 1 {
		t.Errorf("%d connections to the route's backend, want 1 that is kept", n)
	}
	// Without backends of its own, a service is its routes.
	mustReload(t, d, fmt.Sprintf(`services: [{name: web, listen: "127.0.0.1:%s", routes: [%s]}]`, port, toB))
	ask("/b/x", "200 b  http")
	ask("/x", "404 404 Not Found\n")
	// Without any backends, its rules answer, and there is no pool to be shown.
	mustReload(t, d, fmt.Sprintf(`services: [{name: web, listen: "127.0.0.1:%s", http: {redirect: {location: https}}}]`, port))
	ask("/b/x", "301 301 Moved Permanently\n")
	if pools := d.services[0].upstreams; len(pools) != 0 {
		t.Errorf("pools %v, want none", pools)
	}
	mustReload(t, d, fmt.Sprintf(`services: [{name: web, listen: "127.0.0.1:%s", http: {maintenance: true}}]`, port))
	ask("/b/x", "503 503 Service Unavailable\n")
	mustReload(t, d, service(""))
	ask("/b/x", "200 a all http")
}
