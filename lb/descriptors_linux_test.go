package lb

import (
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
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

// All UDP services of a process together leave descriptors to its other services.
func TestUDPLeavesDescriptorsToOthers(t *testing.T) {
	l := lab.New(t)
	host := l.MustHost("lb", "192.0.2.40/24")
	ln, err := host.Listen("tcp", "192.0.2.40:9000")
	if err != nil {
		t.Fatal(err)
	}
	labtest.Serve(t, ln, func(c net.Conn) { io.Copy(c, c) })
	files := 200 + 4*runtime.NumCPU()
	udp := node{Mode: "udp", Listen: "192.0.2.40:53", Pool: PoolConfig{Backends: []Backend{echoUDP(t, host, "192.0.2.40:5300")}}}
	n := node{Mode: "tcp", Listen: "192.0.2.40:8080", Files: uint64(files), Pool: PoolConfig{Backends: []Backend{{Address: "192.0.2.40:9000"}}}, Others: []node{udp, udp}}
	n.Others[1].Listen = "192.0.2.40:54"
	cmd := n.start(t, host)
	used := func() int {
		t.Helper()
		open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", cmd.Pid()))
		if err != nil {
			t.Fatal(err)
		}
		return len(open)
	}
	before := used()
	for _, o := range n.Others { // the second one gets what the first one gives up
		for range files {
			c := dialUDPFrom(t, host, o.Listen)
			ask(t, c, "x")
			c.Close()
		}
		waitFor(t, "the services to have half of the descriptors", func() bool {
			n := used() - before
			return n > files/2-20 && n < files/2+20
		})
	}
	c, err := host.DialContext(t.Context(), "tcp", "192.0.2.40:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(bound))
	io.WriteString(c, "x")
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Errorf("TCP does not get a connection through: %v", err)
	}
}
