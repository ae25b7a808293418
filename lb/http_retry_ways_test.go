package lb

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// TestRetryStatusesWithSendProxy: that connections to backends begin with a PROXY header, and so
// belong to a client, keeps no request from another backend.
func TestRetryStatusesWithSendProxy(t *testing.T) {
	for _, front := range trapFronts() {
		t.Run(front.name, func(t *testing.T) {
			first, firstHeaders := headersOfConns(t, says("HTTP/1.1 503 No\r\nContent-Length: 5\r\n\r\nfirst"))
			second, secondHeaders := headersOfConns(t, answersOnce)
			s := front.serve(t, HandlerConfig{Rules: Rules{RetryStatuses: []int{503}, SendProxy: ProxyV1}}, first, second)
			if got := s.ask(t, "GET", ""); got != "200 ok" {
				t.Errorf("%q, want the second backend's", got)
			}
			select {
			case other := <-secondHeaders:
				if one := <-firstHeaders; one != other || !strings.HasPrefix(one, "PROXY TCP4 127.0.0.1 ") {
					t.Errorf("headers %q and %q", one, other)
				}
			default:
				t.Error("the second backend was not asked")
			}
		})
	}
}

// TestRetryStatusesAfterLogin: who is authenticated on a connection to a backend gets what that
// answers: to another backend the client is nobody.
func TestRetryStatusesAfterLogin(t *testing.T) {
	for _, version := range []ProxyVersion{ProxyNone, ProxyV1} {
		t.Run("PROXY header "+version.String(), func(t *testing.T) {
			eachListener(t, func(t *testing.T, wrap func(net.Listener) net.Listener) {
				var others atomic.Int32
				serve := func(c net.Conn, r *bufio.Reader) {
					for user := false; ; {
						req, err := http.ReadRequest(r)
						switch {
						case err != nil:
							return
						case req.Header.Get("Authorization") != "":
							user = true
							io.WriteString(c, anOK)
						case user:
							io.WriteString(c, "HTTP/1.1 503 No\r\nContent-Length: 5\r\n\r\nfirst")
						default:
							others.Add(1)
							io.WriteString(c, anOK)
						}
					}
				}
				if inner := serve; version != ProxyNone {
					serve = func(c net.Conn, r *bufio.Reader) {
						if _, err := r.ReadString('\n'); err == nil {
							inner(c, r)
						}
					}
				}
				cfg := HTTPConfig{ShutdownTimeout: -1}
				cfg.RetryStatuses, cfg.SendProxy = []int{503}, version
				p, ln := newHTTP(t, cfg, rawBackend(t, serve), rawBackend(t, serve)), listenTest(t)
				serveHTTP(t, p, wrap(ln))
				c := newReader(t, ln.Addr().String())
				if _, got, err := c.ask(t, login); got != "ok" {
					t.Fatalf("login: %q, %v", got, err)
				}
				if res, got, err := c.ask(t, aGet); err != nil || res.StatusCode != 503 || got != "first" || others.Load() != 0 {
					t.Errorf("%q, %v, and another backend was asked %d times", got, err, others.Load())
				}
			})
		})
	}
}

// TestRetryStatusesAfterHints: a client that has had hints of a backend gets the response that
// they were about.
func TestRetryStatusesAfterHints(t *testing.T) {
	const hints = "HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n"
	for _, tt := range []struct{ name, before, want string }{
		{"hints", hints, "103 | 503 first"},
		{"none", "", "200 second"},
		{"100 (Continue) that nobody has asked for", "HTTP/1.1 100 Continue\r\n\r\n", "200 second"},
	} {
		for _, front := range trapFronts() {
			t.Run(tt.name+"/"+front.name, func(t *testing.T) {
				first := rawBackend(t, says(tt.before+"HTTP/1.1 503 No\r\nContent-Length: 5\r\n\r\nfirst"))
				second := rawBackend(t, says("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond"))
				s := front.serve(t, HandlerConfig{Rules: Rules{RetryStatuses: []int{503}}}, first, second)
				if got := s.ask(t, "GET", ""); got != tt.want {
					t.Errorf("%q, want %q", got, tt.want)
				}
			})
		}
	}
}
