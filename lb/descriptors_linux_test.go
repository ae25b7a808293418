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

// echoingHost is a host with 192.0.2.40, and a backend on it that echoes.
func echoingHost(t *testing.T) (*lab.Host, Backend) {
	t.Helper()
	host := lab.New(t).MustHost("lb", "192.0.2.40/24")
	ln, err := host.Listen("tcp", "192.0.2.40:9000")
	if err != nil {
		t.Fatal(err)
	}
	labtest.Serve(t, ln, func(c net.Conn) { io.Copy(c, c) })
	return host, Backend{Address: ln.Addr().String()}
}

// Out of descriptors, clients wait, and are served when there are some again: also the
// one for whom the last descriptor sufficed, but not for its backend.
func TestDescriptorLimit(t *testing.T) {
	host, backend := echoingHost(t)
	for _, files := range []uint64{64, 65} { // each connection takes two of them
		t.Run(fmt.Sprint(files), func(t *testing.T) {
			n := node{Mode: "tcp", Listen: "192.0.2.40:8080", Files: files, Pool: PoolConfig{Backends: []Backend{backend}}}
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
	host, backend := echoingHost(t)
	files := 200 + 4*runtime.NumCPU()
	udp := node{Mode: "udp", Listen: "192.0.2.40:53", Pool: PoolConfig{Backends: []Backend{echoUDP(t, host, "192.0.2.40:5300")}}}
	n := node{Mode: "tcp", Listen: "192.0.2.40:8080", Files: uint64(files), Pool: PoolConfig{Backends: []Backend{backend}}, Others: []node{udp, udp}}
	n.Others[1].Listen = "192.0.2.40:54"
	cmd := n.start(t, host)
	before := openFilesOf(t, cmd.Pid())
	for _, o := range n.Others { // the second one gets what the first one gives up
		for range files {
			c := dialUDPFrom(t, host, o.Listen)
			ask(t, c, "x")
			c.Close()
		}
		waitFor(t, "the services to have half of the descriptors", func() bool {
			n := openFilesOf(t, cmd.Pid()) - before
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

// openFilesOf counts the descriptors of another process.
func openFilesOf(t *testing.T, pid int) int {
	t.Helper()
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(open)
}

// Clients leave the last descriptors to the rest of the process, whatever the plane and
// however many they are: health checks and VRRP need some. Nor do those that have been
// accepted take the last ones, when all of them need a backend at once.
func TestClientsLeaveDescriptorsToOthers(t *testing.T) {
	l := lab.New(t)
	host := l.MustHost("lb", "192.0.2.40/24")
	ln, err := host.Listen("tcp", "192.0.2.40:9000")
	if err != nil {
		t.Fatal(err)
	}
	labtest.Serve(t, ln, func(c net.Conn) { io.Copy(io.Discard, c) })
	f := newAuthority(t).issue("lb", "lb.test")
	files := 240 + 8*runtime.NumCPU()
	reserve := files / 8
	trusted := []string{"192.0.2.40/32"}
	const proxy, request = "ROXY UNKNOWN\r\n", "UT / HTTP/1.0\r\nContent-Length: 9\r\n\r\n"
	for name, tt := range map[string]struct {
		node
		rest string // has a connection need a backend
	}{
		"relayed":          {node{Mode: "tcp"}, ""},
		"with a header":    {node{Mode: "tcp", AcceptProxy: trusted}, proxy},
		"in TLS handshake": {node{Mode: "tcp", Cert: f.Cert, Key: f.Key}, ""},
		"of goroutines":    {node{Mode: "tcp", Foreign: true, AcceptProxy: trusted}, proxy},
		"of mode http":     {node{Mode: "http"}, request},
	} {
		t.Run(name, func(t *testing.T) {
			n := tt.node
			n.Listen, n.Files = "192.0.2.40:8080", uint64(files)
			n.Pool.Backends = []Backend{{Address: "192.0.2.40:9000"}}
			cmd := n.start(t, host)
			// Goroutines that go on all at once have more of them for a moment.
			stays := func() {
				t.Helper()
				for range 20 {
					waitFor(t, fmt.Sprintf("%d of %d descriptors or so to be left", reserve, files), func() bool {
						return openFilesOf(t, cmd.Pid()) <= files-reserve/2
					})
					time.Sleep(5 * time.Millisecond)
				}
			}
			var conns []net.Conn
			for range files {
				c, err := host.DialContext(t.Context(), "tcp", n.Listen)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				io.WriteString(c, "P")
				conns = append(conns, c)
			}
			waitFor(t, "accepting to pause", func() bool { return openFilesOf(t, cmd.Pid()) >= files-2*reserve-2 })
			stays()
			for _, c := range conns {
				io.WriteString(c, tt.rest)
			}
			stays()
			waitFor(t, "the log to say why", func() bool {
				out := cmd.Output()
				return strings.Contains(out, "accept paused") && strings.Contains(out, fmt.Sprintf("the last %d to the rest of the process", reserve))
			})
		})
	}
}
