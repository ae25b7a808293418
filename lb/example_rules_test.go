package lb_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"

	"github.com/havip/havip/lb"
)

// Some requests have a backend of their own, some are answered in a backend's place, and each has
// a line in a log. Whatever a Route leaves out is as above it.
func ExampleRoute() {
	name := func(name string) *lb.Pool {
		app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s has %s", name, r.URL.Path)
		}))
		pool, err := lb.NewPool(lb.PoolConfig{Backends: []lb.Backend{{Address: app.Listener.Addr().String()}}})
		if err != nil {
			log.Fatal(err)
		}
		return pool
	}
	accesses, err := lb.NewAccessLog(lb.AccessLogConfig{Writer: os.Stderr})
	if err != nil {
		log.Fatal(err)
	}
	defer accesses.Close()
	inside := []lb.AccessRule{{From: netip.MustParsePrefix("192.168.0.0/16")}, {Deny: true}}
	cfg := lb.HandlerConfig{
		Pool:   name("web"),
		Record: accesses.Record,
		Routes: []lb.Route{
			{Name: "api", Paths: []string{"/api/"}, HandlerConfig: lb.HandlerConfig{
				Pool: name("api"), Rules: lb.Rules{Rewrite: lb.Rewrite{StripPrefix: "/api"}}}},
			{Name: "old", Hosts: []string{"example.org"}, HandlerConfig: lb.HandlerConfig{
				Rules: lb.Rules{Redirect: lb.Redirect{Location: "https://www.example.org${uri}"}}}},
			{Name: "admin", Paths: []string{"/admin/"}, HandlerConfig: lb.HandlerConfig{Rules: lb.Rules{Access: inside}}},
		},
	}
	if cfg, err = cfg.ReadFiles(nil); err != nil { // of passwords and pages, if rules name some
		log.Fatal(err)
	}
	web, err := lb.NewHTTP(lb.HTTPConfig{HandlerConfig: cfg})
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ln, err := lb.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go web.Serve(ctx, ln)

	ask(ln.Addr(), "www.example.org", "/index")
	ask(ln.Addr(), "www.example.org", "/api/users")
	ask(ln.Addr(), "www.example.org", "/admin/")
	ask(ln.Addr(), "example.org", "/index?page=2")
	// Output:
	// web has /index
	// api has /users
	// 403 Forbidden
	// 302 Found, to https://www.example.org/index?page=2
}

// ask prints what a request is answered.
func ask(to net.Addr, host, target string) {
	req, err := http.NewRequest("GET", "http://"+to.String()+target, nil)
	if err != nil {
		log.Fatal(err)
	}
	req.Host = host
	res, err := http.DefaultTransport.RoundTrip(req)
	switch {
	case err != nil:
		log.Fatal(err)
	case res.Header.Get("Location") != "":
		fmt.Printf("%s, to %s\n", res.Status, res.Header.Get("Location"))
		res.Body.Close()
	case res.StatusCode != http.StatusOK:
		fmt.Println(res.Status)
		res.Body.Close()
	default:
		show(res, nil)
	}
}
