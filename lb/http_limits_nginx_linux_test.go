package lb

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestRequestsPerConnectionBesideNginx: as many requests get an answer on a connection as with
// nginx's keepalive_requests, and the answer to the last says that it is.
func TestRequestsPerConnectionBesideNginx(t *testing.T) {
	app := webBackend(t, name("app"))
	nginx := besideNginx(t, "keepalive_requests 3; location / { proxy_pass http://backends; }", app)
	ask := func(address string) (said []string) {
		c := dialTest(t, address)
		defer c.Close()
		_, _ = io.WriteString(c, strings.Repeat(aGet, 5))
		r := bufio.NewReader(c)
		for {
			res, err := http.ReadResponse(r, nil)
			if err != nil {
				return said
			}
			_, _ = io.Copy(io.Discard, res.Body)
			said = append(said, fmt.Sprint(res.StatusCode, res.Close))
		}
	}
	want := ask(nginx)
	if len(want) != 3 || want[1] != "200 false" || want[2] != "200 true" {
		t.Fatalf("nginx: %q", want)
	}
	s := planeSite(t, HandlerConfig{Rules: Rules{RequestsPerConnection: 3}}, []Backend{app})
	if got := ask(strings.TrimPrefix(s.url, "http://")); !slices.Equal(got, want) {
		t.Errorf("%q, nginx: %q", got, want)
	}
}

// TestRequestsPerClientBesideNginx: as many requests of a client are under way at once as with
// nginx's limit_conn, in HTTP/1.1 and HTTP/2; further ones are refused, until one has ended.
func TestRequestsPerClientBesideNginx(t *testing.T) {
	begun, gate := make(chan struct{}, 10), make(chan struct{})
	app := webBackend(t, func(w http.ResponseWriter, r *http.Request) {
		begun <- struct{}{}
		<-gate
		_, _ = io.WriteString(w, "app")
	})
	address := besideNginx(t, `limit_conn_zone $binary_remote_addr zone=clients:1m;
		upstream app { server `+app.Address+`; }
		server { listen LISTEN; location / { limit_conn clients 2; limit_conn_status 429; proxy_pass http://app; } }`)
	ask := func(t *testing.T, s *trapSite) (said []string) {
		var asking sync.WaitGroup
		t.Cleanup(func() { // after a failure no server waits for its requests
			for {
				select {
				case gate <- struct{}{}:
				default:
					return
				}
			}
		})
		for range 2 {
			early := make(chan struct{})
			asking.Go(func() {
				defer close(early)
				if got := s.askRaw(t, aLastGet); got != "200\napp" {
					t.Errorf("within the bound: %q", got)
				}
			})
			select {
			case <-begun:
			case <-early:
				t.Fatal("a request has an answer before it has reached the backend")
			}
		}
		for range 3 {
			status, _, _ := strings.Cut(s.askRaw(t, aLastGet), "\n")
			said = append(said, status)
		}
		for range 2 {
			select {
			case gate <- struct{}{}:
			case <-time.After(bound):
				t.Fatal("no request is under way")
			}
		}
		asking.Wait()
		for range 2 { // one after the other, each is within the bound
			waitFor(t, "a place", func() bool {
				answer := make(chan string, 1)
				go func() { answer <- s.askRaw(t, aLastGet) }()
				for {
					select {
					case <-begun:
						gate <- struct{}{}
					case got := <-answer:
						return got == "200\napp"
					}
				}
			})
		}
		return said
	}
	want := ask(t, siteAt(t, address, nil))
	if !slices.Equal(want, []string{"429", "429", "429"}) {
		t.Fatalf("nginx: %q", want)
	}
	for _, front := range trapFronts() {
		t.Run(front.name, func(t *testing.T) {
			s := front.serve(t, HandlerConfig{Rules: Rules{RequestsPerClient: 2}}, app)
			if got := ask(t, s); !slices.Equal(got, want) {
				t.Errorf("%q, nginx: %q", got, want)
			}
		})
	}
}

// TestLargeHeadersBesideNginx: targets and headers of about the same lengths are refused as with
// nginx's large_client_header_buffers: a target with 414. A header is refused with 431 here (RFC
// 6585 §5), with 400 there. nginx bounds each line, here MaxHeader bounds all.
func TestLargeHeadersBesideNginx(t *testing.T) {
	app := webBackend(t, name("app"))
	nginx := besideNginx(t, "large_client_header_buffers 4 8k; location / { proxy_pass http://backends; }", app)
	for _, tt := range []struct {
		name         string
		target, sent int // bytes of the target and of a header
		want, nginx  string
	}{
		{"short", 100, 100, "200", "200"},
		{"long target", 8000, 100, "200", "200"},
		{"too long a target", 8200, 100, "414", "414"},
		{"a target that nobody can read", 40_000, 100, "431", "414"}, // here MaxHeader comes first
		{"long header", 100, 8000, "200", "200"},
		{"too long a header", 100, 40_000, "431", "400"},
	} {
		request := "GET /" + strings.Repeat("a", tt.target-1) + " HTTP/1.1\r\nHost: x\r\nX-A: " + strings.Repeat("b", tt.sent) + "\r\n\r\n"
		if got := askRaw(t, nginx, request); !strings.HasPrefix(got, tt.nginx+"\n") {
			t.Errorf("nginx, %s: %.20q, want %s", tt.name, got, tt.nginx)
		}
		for _, front := range trapFronts() {
			t.Run(tt.name+"/"+front.name, func(t *testing.T) {
				s := front.serve(t, HandlerConfig{Rules: Rules{MaxURI: 8 << 10}}, app)
				if got := s.askRaw(t, request); !strings.HasPrefix(got, tt.want+"\n") {
					t.Errorf("%.20q, want %s", got, tt.want)
				}
			})
		}
	}
}
