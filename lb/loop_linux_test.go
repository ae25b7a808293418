package lb

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/lb/internal/reactor"
)

// Pipes are for bulk: who has become quiet gives them back.
func TestQuietConnectionsHaveNoPipes(t *testing.T) {
	const bulk, rest = 4 << 20, 1000
	var spliced atomic.Bool
	tc := tcpWith(TCPConfig{})
	next := make(chan struct{})
	addr, _ := relay(t, tc, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		c.Write(make([]byte, bulk))
		<-next
		c.Write(make([]byte, rest))
		io.Copy(io.Discard, r)
	}))
	e := engineOf(t, tc)
	var conns []*net.TCPConn
	for range 4 {
		c := dialTest(t, addr)
		if _, err := io.CopyN(io.Discard, c, bulk-1); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	for _, l := range e.loops {
		l.within(t, func() { spliced.Store(spliced.Load() || l.piping > 0) })
	}
	if !spliced.Load() {
		t.Error("nothing was spliced")
	}
	allGivenBack := func() bool {
		kept := 0
		e.eachLink(t, func(k *link) {
			for i := range k.half {
				if k.half[i].pipe.Exists() {
					kept++
				}
			}
		})
		return kept == 0
	}
	waitFor(t, "the pipes to be given back after bulk", allGivenBack)
	close(next)
	for _, c := range conns {
		if _, err := io.CopyN(io.Discard, c, rest+1); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "the pipes to be given back", allGivenBack)
}

// Pipes are bounded, and one that is not empty goes to no other connection.
func TestPipesOfALoop(t *testing.T) {
	l := new(loop)
	release := func(piped int) (closed bool) {
		p, ok := reactor.NewPipe(4096)
		if !ok {
			t.Fatal("no pipe")
		}
		l.piping++
		h := half{pipe: p, piped: piped, pending: []byte("x")}
		h.release(l)
		if h.pipe.Exists() || h.full() {
			t.Errorf("%+v after its release", h)
		}
		return !slices.Contains(l.pipes, p)
	}
	for i := range sparePipes + 1 {
		if closed := release(0); closed != (i == sparePipes) {
			t.Errorf("pipe %d: closed %v", i+1, closed)
		}
	}
	l.pipes[0].Close()
	l.pipes = l.pipes[1:]
	l.piping--
	if !release(1) {
		t.Error("a pipe that is not empty is kept")
	}
	if l.piping != len(l.pipes) {
		t.Errorf("%d pipes are counted, want %d", l.piping, len(l.pipes))
	}
	for _, p := range l.pipes {
		p.Close()
	}
	l.pipes, l.piping = nil, maxPipes
	if k := (&link{loop: l}); k.takePipe(&k.half[0]) {
		t.Error("there is one pipe too many")
	}
}

// A sink that is full for long is still given pieces of some size.
func TestRoomHasALeast(t *testing.T) {
	var h half
	for range 20 {
		h.stalled()
	}
	if h.limit() != leastRoom {
		t.Errorf("room %d, want %d", h.limit(), leastRoom)
	}
}

// watched counts what is in the epoll instance of each loop that watches the listener.
func (e *engine) watched(t *testing.T) (counts []int) {
	t.Helper()
	files, err := filepath.Glob("/proc/self/fdinfo/*")
	if err != nil {
		t.Fatal(err)
	}
	listener := regexp.MustCompile(fmt.Sprintf(`tfd: +%d events: .* data: +ffffffff `, e.loops[0].listener))
	for _, file := range files {
		b, _ := os.ReadFile(file) // it may be gone
		if s := string(b); listener.MatchString(s) {
			counts = append(counts, strings.Count(s, "tfd:"))
		}
	}
	return counts
}

// A connection that a goroutine has wakes no loop.
func TestHandedOffConnectionsLeaveTheLoop(t *testing.T) {
	a := newAuthority(t)
	tc := tcpWith(TCPConfig{AcceptProxy: loopback, TLS: &tls.Config{GetCertificate: a.certificates(a.issue("a", "a.test")).GetCertificate}})
	addr, _ := relay(t, tc, talker(t, "a"))
	e := engineOf(t, tc)
	const n = 10
	for range n {
		io.WriteString(dialTest(t, addr), "PROXY UNKNOWN\r\n")
	}
	waitFor(t, "handshakes to begin", func() bool { return strings.Count(stacks(), "lb.(*tcpConn).begin(") == n })
	// A loop leaves the listener alone now and then: see yield.
	waitFor(t, "all loops to watch the listener and their wake-ups", func() bool {
		counts := e.watched(t)
		for _, n := range counts {
			if n > 2 {
				t.Fatalf("a loop watches %d descriptors, want its listener and its wake-up", n)
			}
		}
		return len(counts) == len(e.loops)
	})
}

// What follows the PROXY header must not wait until the backend has acknowledged that.
func TestNothingWaitsForTheProxyHeader(t *testing.T) {
	tc := tcpWith(TCPConfig{SendProxy: 2})
	addr, _ := relay(t, tc, proxyReader(t))
	e := engineOf(t, tc)
	c := dialTest(t, addr)
	if _, err := c.Read(make([]byte, 1)); err != nil { // the backend has the header
		t.Fatal(err)
	}
	e.eachLink(t, func(k *link) {
		if on, err := unix.GetsockoptInt(int(k.fd[1]), unix.IPPROTO_TCP, unix.TCP_NODELAY); on == 0 {
			t.Errorf("TCP_NODELAY is off (%v)", err)
		}
	})
}

func TestListenersAreOrdinaryTCP(t *testing.T) {
	ln, err := Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	raw, err := ln.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	protocol, cerr := 0, error(nil)
	err = raw.Control(func(fd uintptr) { protocol, cerr = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PROTOCOL) })
	if err := errors.Join(err, cerr); err != nil || protocol != unix.IPPROTO_TCP {
		t.Errorf("protocol %d, %v", protocol, err)
	}
}

// Descriptors that run out while a connection is made make it wait, and accepting too.
func TestStarvedLinkWaits(t *testing.T) {
	tc, e, c := oneLink(t)
	// The connection is as it was before it had a backend, and there is none for it.
	tries := 0
	e.eachLink(t, func(k *link) { tries = k.tries })
	e.eachLink(t, func(k *link) {
		k.start -= int64(time.Minute) // it has waited for long, which is not how long connecting takes
		k.failAttempt(unix.EMFILE)
	})
	e.eachLink(t, func(k *link) {
		if k.tries != tries-1 || k.retries != 0 {
			t.Errorf("%d tries, %d of them in vain: this is no backend's fault", k.tries, k.retries)
		}
	})
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Errorf("the connection was not made again: %v", err)
	}
	if b := tc.Pool.Status().Backends[0]; b.Failures != 0 || b.Active != 1 || b.ConnectTime >= time.Minute {
		t.Errorf("%+v", b)
	}
	if n := tc.counters.starved.Load(); n != 0 {
		t.Errorf("%d connections still wait", n)
	}
}

// A client in the backlog, for whom the limits leave no room when Serve's context ends, is
// served when there is room.
func TestTCPServesTheBacklogAtItsLimit(t *testing.T) {
	tc := tcpWith(TCPConfig{Limits: Limits{Connections: 1}, ShutdownTimeout: bound,
		Pool: newPool(t, PoolConfig{Backends: []Backend{talker(t, "a")}})})
	address, stop := relay(t, tc)
	greeted := func(c net.Conn) {
		t.Helper()
		if err := readFull(c, make([]byte, 1)); err != nil {
			t.Error(err)
		}
	}
	first := dialTest(t, address)
	greeted(first)
	second := dialTest(t, address)
	waitFor(t, "accepting to pause", func() bool { return tc.Stats().Paused > 0 })
	var ended sync.WaitGroup
	ended.Go(stop)
	time.Sleep(20 * time.Millisecond) // the context has ended
	first.Close()
	greeted(second)
	second.Close()
	ended.Wait()
}
