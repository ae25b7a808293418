package lb

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
)

// TestListsOfGoneServersGo: a loop keeps nothing of a backend that has been removed, whether the
// latest connection to it was idle when it ended, or in use.
func TestListsOfGoneServersGo(t *testing.T) {
	for _, tt := range []struct {
		name, latest string
		before       bool // the response comes before the backend is removed
	}{
		{"kept, removed, then ended by the backend", anOK, true},
		{"removed, then closed", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", false},
		{"removed, then an end without a response", "", false},
		{"closed, then removed", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			asked, answer := make(chan struct{}, 3), make(chan struct{}, 3)
			b := rawBackend(t, func(c net.Conn, r *bufio.Reader) {
				for i := range 2 { // the second request comes on the kept connection, whose list is empty meanwhile
					if _, err := http.ReadRequest(r); err != nil {
						return
					}
					response := anOK
					if i == 1 {
						asked <- struct{}{}
						<-answer
						response = tt.latest
					}
					io.WriteString(c, response)
				}
			})
			cfg := HTTPConfig{ShutdownTimeout: -1}
			cfg.Tries = 1
			p, ln := newHTTP(t, cfg, b), listenTest(t)
			serveHTTP(t, p, ln)
			c := newReader(t, ln.Addr().String())
			if _, got, err := c.ask(t, aGet); got != "ok" {
				t.Fatalf("%q, %v", got, err)
			}
			io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
			<-asked
			remove := func() {
				if err := p.handler.pool().Update([]Backend{webBackend(t, name("other"))}); err != nil {
					t.Fatal(err)
				}
			}
			if !tt.before {
				remove()
			}
			answer <- struct{}{}
			if res, err := http.ReadResponse(c.r, nil); err != nil {
				t.Fatal(err)
			} else if _, err = io.Copy(io.Discard, res.Body); err != nil {
				t.Fatal(err)
			}
			if tt.before {
				remove()
			}
			waitFor(t, "the lists to go", func() bool {
				left := 0
				for _, l := range httpLoopsOf(t, p) {
					l.within(t, func() { left += len(l.idle) })
				}
				return left == 0
			})
		})
	}
}
