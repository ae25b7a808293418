package lb

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
)

// Out of descriptors, clients wait, and are served when there are some again: also the
// one for whom the last descriptor sufficed, but not for its backend.
func TestDescriptorLimit(t *testing.T) {
	l := lab.New(t)
	host := l.MustHost("lb", "192.0.2.40/24")
	ln, err := host.Listen("tcp", "192.0.2.40:9000")
	if err != nil {
		t.Fatal(err)
	}
	labtest.Serve(t, ln, func(c net.Conn) { io.Copy(c, c) })
	for _, files := range []uint64{64, 65} { // each connection takes two of them
		t.Run(fmt.Sprint(files), func(t *testing.T) {
			n := node{Mode: "tcp", Listen: "192.0.2.40:8080", Files: files, Pool: PoolConfig{Backends: []Backend{{Address: "192.0.2.40:9000"}}}}
			cmd := n.start(t, host)
			const clients = 60
			served := make(chan net.Conn, clients)
			for range clients {
				c, err := host.DialContext(t.Context(), "tcp", "192.0.2.40:8080")
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(2 * bound))
				go func() {
					_, err := io.WriteString(c, "x")
					if err == nil {
						_, err = io.ReadFull(c, make([]byte, 1))
					}
					if err != nil && t.Context().Err() == nil {
						t.Errorf("a client was not served: %v", err)
					}
					served <- c
				}()
			}
			waitFor(t, "the descriptors to be used up", func() bool {
				return strings.Contains(cmd.Output(), "accept paused") || strings.Contains(cmd.Output(), "connection waits")
			})
			// One after the other leaves, and so all get their turn.
			for range clients {
				select {
				case c := <-served:
					c.Close()
				case <-time.After(bound):
					t.Fatal("clients wait in vain")
				}
			}
			if err := cmd.Stop(bound); err != nil || !strings.Contains(cmd.Output(), "paused: true") {
				t.Errorf("%v: %s; want accepting to have paused", err, cmd.Output())
			}
		})
	}
}
