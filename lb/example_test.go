package lb_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/havip/havip/lb"
)

// A TCP load balancer over three servers.
func Example() {
	ctx := context.Background()
	pool, err := lb.NewPool(lb.PoolConfig{Backends: []lb.Backend{
		{Address: "192.168.31.242:8080"},
		{Address: "192.168.31.242:8081", Weight: 2},
		{Address: "192.168.31.242:8082", Backup: true},
	}})
	if err != nil {
		log.Fatal(err)
	}
	relay, err := lb.NewTCP(lb.TCPConfig{Pool: pool})
	if err != nil {
		log.Fatal(err)
	}
	ln, err := lb.Listen(ctx, "tcp", ":8080")
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(relay.Serve(ctx, ln))
}

// An HTTP load balancer, with TLS. Serve ends with its context, when the requests under way
// have been answered.
func ExampleHTTP() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	pool, err := lb.NewPool(lb.PoolConfig{Backends: []lb.Backend{
		{Address: "192.168.31.242:8080"},
		{Address: "192.168.31.242:8081"},
	}})
	if err != nil {
		log.Fatal(err)
	}
	certificates, err := lb.NewCertificates(lb.CertificateFile{Cert: "web.pem", Key: "web.key"})
	if err != nil {
		log.Fatal(err)
	}
	web, err := lb.NewHTTP(lb.HTTPConfig{
		HandlerConfig: lb.HandlerConfig{Pool: pool, ResponseHeaders: map[string]string{"LB_IP": "${source}"}},
		TLS:           &tls.Config{GetCertificate: certificates.GetCertificate},
		Limits:        lb.Limits{PerClient: 100},
	})
	if err != nil {
		log.Fatal(err)
	}
	ln, err := lb.Listen(ctx, "tcp", ":443")
	if err != nil {
		log.Fatal(err)
	}
	if err := web.Serve(ctx, ln); err != nil {
		log.Fatal(err)
	}
}

// A handler that balances is a handler like any other. The server ends first: it waits
// for its requests. The Handler then ends what the server has let go, WebSockets for
// instance.
func ExampleHandler() {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s for %s", r.URL.Path, r.Header.Get("X-Forwarded-Host"))
	}))
	defer app.Close()
	pool, err := lb.NewPool(lb.PoolConfig{Backends: []lb.Backend{{Address: app.Listener.Addr().String()}}})
	if err != nil {
		log.Fatal(err)
	}
	handler, err := lb.NewHandler(lb.HandlerConfig{Pool: pool})
	if err != nil {
		log.Fatal(err)
	}
	ln, err := lb.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	// The server reads a little more of a header than the Handler takes, not 1 MB.
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute, MaxHeaderBytes: 40 << 10}
	lb.TrackConns(server) // logins by NTLM work then
	go server.Serve(ln)

	req, _ := http.NewRequest("GET", "http://"+ln.Addr().String()+"/index", nil)
	req.Host = "www.example.org"
	show(http.DefaultClient.Do(req))

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		server.Close()
	}
	handler.Shutdown(ctx)
	// Output: /index for www.example.org
}

func show(res *http.Response, err error) {
	if err != nil {
		log.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(body))
}

// Under a prefix that the backend does not know, a redirect of the backend would leave
// the prefix.
func ExampleHandlerConfig_modifyResponse() {
	app := httptest.NewServer(http.RedirectHandler("/home", http.StatusFound))
	defer app.Close()
	pool, err := lb.NewPool(lb.PoolConfig{Backends: []lb.Backend{{Address: app.Listener.Addr().String()}}})
	if err != nil {
		log.Fatal(err)
	}
	handler, err := lb.NewHandler(lb.HandlerConfig{
		Pool: pool,
		ModifyResponse: func(res *http.Response) error {
			if path := res.Header.Get("Location"); strings.HasPrefix(path, "/") {
				res.Header.Set("Location", "/app"+path)
			}
			return nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/app/", http.StripPrefix("/app", handler))

	answer := httptest.NewRecorder()
	mux.ServeHTTP(answer, httptest.NewRequest("GET", "/app/", nil))
	fmt.Println(answer.Code, answer.Header().Get("Location"))
	// Output: 302 /app/home
}

// nearest is a Balancer that prefers backends of the same site.
type nearest struct{ site string }

func (n nearest) Pick(_ lb.Flow, candidates []lb.Candidate) int {
	for i, c := range candidates {
		if strings.HasPrefix(c.Backend().Name, n.site) {
			return i
		}
	}
	return 0
}

func ExampleBalancer() {
	pool, err := lb.NewPool(lb.PoolConfig{Balancer: nearest{"berlin"}, Backends: []lb.Backend{
		{Name: "paris-1", Address: "192.0.2.1:80"},
		{Name: "berlin-1", Address: "192.0.2.2:80"},
	}})
	if err != nil {
		log.Fatal(err)
	}
	for _, down := range []string{"nobody", "berlin-1"} {
		pool.SetHealth(down, errors.New("does not answer"))
		pick, err := pool.Pick(nil)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(pick.Backend())
		pick.Done(lb.Success)
	}
	// Output:
	// berlin-1
	// paris-1
}

func ExamplePool_Pick() {
	pool, err := lb.NewPool(lb.PoolConfig{Backends: []lb.Backend{
		{Name: "a", Address: "192.0.2.1:80", Weight: 5},
		{Name: "b", Address: "192.0.2.2:80"},
		{Name: "c", Address: "192.0.2.3:80"},
	}})
	if err != nil {
		log.Fatal(err)
	}
	pool.SetHealth("c", errors.New("does not answer"))
	for range 6 {
		pick, err := pool.Pick(new(lb.Flow))
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(pick.Backend(), " ")
		pick.Done(lb.Success)
	}
	// Output: a a a b a a
}
