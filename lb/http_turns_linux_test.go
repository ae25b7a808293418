package lb

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
)

// In the event loops, too, a connection on which somebody has logged in by NTLM is that
// client's: nobody else gets it, however many requests without credentials follow.
func TestEngineAuthenticatedConnectionIsItsClients(t *testing.T) {
	for _, reuse := range []Reuse{ReuseSafe, ReuseNever, ReuseAlways} {
		t.Run(reuse.String(), func(t *testing.T) {
			var open atomic.Int32
			address, _ := engineAt(t, HTTPConfig{HandlerConfig: HandlerConfig{Reuse: reuse}}, loginBackend(t, &open))
			ann := newReader(t, address)
			as := logIn(t, ann)
			for i := range 6 {
				if _, got, err := ann.ask(t, []string{aGet, aPost}[i%2]); got != as {
					t.Fatalf("ann is %q, %v, want %q", got, err, as)
				}
				// On each loop, for it may be another one's.
				for range 8 {
					bob := newReader(t, address)
					if res, got, err := bob.ask(t, aGet); err != nil || res.StatusCode != 401 {
						t.Fatalf("bob is %q, %v", got, err)
					}
					bob.Close()
				}
			}
			before := open.Load()
			ann.Close()
			waitFor(t, "the connection to end with ann's", func() bool { return open.Load() < before })
		})
	}
}

// What comes on the connection of a client that has logged in, and belongs to no request, is
// the end of that connection, and of nothing else.
func TestEngineAuthenticatedConnectionIsSpoilt(t *testing.T) {
	var conns atomic.Int32
	spoilt := make(chan struct{})
	address, p := engineAt(t, HTTPConfig{}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		first := conns.Add(1) == 1
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			io.WriteString(c, anOK)
			if first {
				<-spoilt
				io.WriteString(c, anOK)
			}
		}
	}))
	ann := newReader(t, address)
	if _, got, err := ann.ask(t, login); got != "ok" {
		t.Fatal(got, err)
	}
	close(spoilt)
	waitFor(t, "the connection to be given up", func() bool {
		idle := false
		eachConn(t, p, func(c *httpConn) { idle = c.bound == nil || c.bound.fd < 0 })
		return idle
	})
	if _, got, err := ann.ask(t, aPost); got != "ok" {
		t.Errorf("the next request gets %q, %v", got, err)
	}
}
