package lb

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

func TestTunnelTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPipeNet(t, HandlerConfig{Timeout: time.Second, ClientTimeout: time.Second, TunnelTimeout: time.Hour}, func(c net.Conn, r *bufio.Reader) {
			http.ReadRequest(r)
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
			io.Copy(c, r)
		})
		c, r := n.client(t, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		if res, err := http.ReadResponse(r, nil); err != nil || res.StatusCode != 101 {
			t.Fatal(res, err)
		}
		time.Sleep(59 * time.Minute)
		io.WriteString(c, "a")
		if b, err := r.ReadByte(); b != 'a' {
			t.Fatalf("%q, %v", b, err)
		}
		start := time.Now()
		if _, err := r.ReadByte(); err == nil || errors.Is(err, io.ErrNoProgress) || time.Since(start) != time.Hour {
			t.Errorf("%v after %v of silence, want the end after 1h", err, time.Since(start))
		}
		n.settled(t, 0)
	})
}

// Connections to backends are kept for a while, and for a shorter one if the request
// cannot be repeated.
func TestIdleConnectionsAreKept(t *testing.T) {
	for _, tt := range []struct {
		method string
		idle   time.Duration
		kept   bool
	}{
		{"GET", 29 * time.Second, true},
		{"GET", 31 * time.Second, false},
		{"POST", 900 * time.Millisecond, true},
		{"POST", 1100 * time.Millisecond, false},
		{"RPC", 900 * time.Millisecond, true},
		{"RPC", 1100 * time.Millisecond, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			conns := 0
			n := newPipeNet(t, HandlerConfig{}, func(c net.Conn, r *bufio.Reader) {
				conns++
				for {
					if _, err := http.ReadRequest(r); err != nil {
						return
					}
					io.WriteString(c, anOK)
				}
			})
			c, r := n.client(t, aGet)
			for range 2 {
				if status, _, _, err := receive(t, r, time.Now()); status != 200 {
					t.Fatal(status, err)
				}
				time.Sleep(tt.idle)
				fmt.Fprintf(c, "%s / HTTP/1.1\r\nHost: x\r\n\r\n", tt.method)
			}
			if status, _, _, err := receive(t, r, time.Now()); status != 200 {
				t.Fatal(status, err)
			}
			if (conns == 1) != tt.kept {
				t.Errorf("%s after %v: %d connections", tt.method, tt.idle, conns)
			}
		})
	}
}

// TestSilenceOnAKeptConnection: the time for an answer is not twice as long there.
func TestSilenceOnAKeptConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPipeNet(t, HandlerConfig{Timeout: 10 * time.Second}, func(c net.Conn, r *bufio.Reader) {
			http.ReadRequest(r)
			io.WriteString(c, anOK)
			discard(c, r)
		})
		c, r := n.client(t, aGet)
		if status, _, _, err := receive(t, r, time.Now()); status != 200 {
			t.Fatal(status, err)
		}
		start := time.Now()
		io.WriteString(c, aGet)
		if status, _, took, err := receive(t, r, start); status != 504 || took != 10*time.Second {
			t.Errorf("%d after %v, %v; want 504 after 10s", status, took, err)
		}
		n.settled(t, 1)
	})
}
