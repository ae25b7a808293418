package lb

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"weak"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/lab"
)

// engineOf waits for the event loops of a plane.
func engineOf(t *testing.T, tc *testTCP) (e *engine) {
	t.Helper()
	waitFor(t, "the event loops", func() bool {
		r := &tc.sessions
		r.mu.Lock()
		defer r.mu.Unlock()
		for c := range r.all {
			if all, ok := c.(*engine); ok {
				e = all
			}
		}
		return e != nil
	})
	return e
}

// oneLink is a plane with one connection, which is established.
func oneLink(t *testing.T) (tc *testTCP, e *engine, c net.Conn) {
	t.Helper()
	tc = tcpWith(TCPConfig{})
	addr, _ := relay(t, tc, talker(t, "a"))
	e = engineOf(t, tc)
	c = dialTest(t, addr)
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return tc, e, c
}

// within runs f in a loop, and waits for it.
func (l *loop) within(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	if !l.Post(func() { f(); close(done) }) {
		t.Fatal("the loop has ended")
	}
	<-done
}

// hold keeps the loops busy until the returned function is called.
func (e *engine) hold() (release func()) {
	c := make(chan struct{})
	var held sync.WaitGroup
	for _, l := range e.loops {
		held.Add(1)
		l.Post(func() { held.Done(); <-c })
	}
	held.Wait()
	return func() { close(c) }
}

// eachLink calls f, in their loops, with all connections.
func (e *engine) eachLink(t *testing.T, f func(*link)) {
	t.Helper()
	for _, l := range e.loops {
		l.within(t, func() {
			for _, k := range l.links {
				if k != nil {
					f(k)
				}
			}
		})
	}
}

// The memory of a burst of connections is given back, also while one of them stays.
func TestLinksAreGivenBack(t *testing.T) {
	tc := tcpWith(TCPConfig{})
	addr, _ := relay(t, tc, rawBackend(t, func(c net.Conn, r *bufio.Reader) { io.Copy(io.Discard, r) }))
	e := engineOf(t, tc)
	const n = 1000
	var conns []net.Conn
	for range n {
		conns = append(conns, dialTest(t, addr))
	}
	waitFor(t, "all connections to be accepted", func() bool { return tc.Stats().Active == n })
	var links []weak.Pointer[link]
	e.eachLink(t, func(k *link) { links = append(links, weak.Make(k)) })
	for i, left := range []int64{1, 0} {
		for _, c := range conns[left : n-int64(i)*(n-1)] {
			c.Close()
		}
		waitFor(t, "the connections to end", func() bool { return tc.Stats().Active == left })
		most := len(e.loops)*spareLinks + int(left)
		waitFor(t, "the memory to be given back", func() bool {
			runtime.GC()
			kept := 0
			for _, w := range links {
				if w.Value() != nil {
					kept++
				}
			}
			return kept <= most
		})
	}
	for _, l := range e.loops {
		l.within(t, func() {
			if len(l.links) > spareLinks || len(l.unused) > spareLinks {
				t.Errorf("%d places are kept, %d of them unused", len(l.links), len(l.unused))
			}
		})
	}
}

// Connections that arrive one by one go to all loops.
func TestLoopsShareSlowArrivals(t *testing.T) {
	tc := tcpWith(TCPConfig{})
	addr, _ := relay(t, tc, rawBackend(t, func(c net.Conn, r *bufio.Reader) { io.Copy(c, r) }))
	e := engineOf(t, tc)
	if len(e.loops) < 2 {
		lab.Lacking(t, "a second processor is not there")
	}
	const n = 60
	for range n {
		c := dialTest(t, addr)
		io.WriteString(c, "x")
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	for i, l := range e.loops {
		if got := int(l.live.Load()); got < n/len(e.loops)/2 || got > n/len(e.loops)*2 {
			t.Errorf("loop %d has %d of %d connections, and there are %d loops", i, got, n, len(e.loops))
		}
	}
}

// Who has a connection when the end comes is served, even if nobody had
// serveConn it yet.
func TestBacklogIsServedAtTheEnd(t *testing.T) {
	tc := tcpWith(TCPConfig{ShutdownTimeout: time.Hour})
	addr, stop := relay(t, tc, talker(t, "a"))
	e := engineOf(t, tc)
	release := e.hold()
	var conns []*net.TCPConn
	for range 4 * acceptBatch * len(e.loops) {
		conns = append(conns, dialTest(t, addr))
	}
	var stopped sync.WaitGroup
	stopped.Go(stop)
	waitFor(t, "the loops to be told of the end", func() bool {
		// Whoever tells them waits for them then.
		for _, g := range strings.Split(stacks(), "\n\n") {
			if strings.Contains(g, "lb.(*TCP).serveListener(") && strings.Contains(g, "sync.(*WaitGroup).Wait(") {
				return true
			}
		}
		return false
	})
	release()
	for i, c := range conns {
		c.CloseWrite()
		if got, inOrder := ends(t, c); got != "a." || !inOrder {
			t.Fatalf("connection %d: %q, ended in order: %v", i, got, inOrder)
		}
	}
	stopped.Wait()
}

// stacks is what all goroutines do.
func stacks() string {
	b := make([]byte, 1<<20)
	return string(b[:runtime.Stack(b, true)])
}

// A loop that has ended says so to what comes late, even while others go on.
func TestLoopRefusesWhatComesTooLate(t *testing.T) {
	tc := tcpWith(TCPConfig{ShutdownTimeout: time.Hour})
	addr, stop := relay(t, tc, talker(t, "a"))
	e := engineOf(t, tc)
	if len(e.loops) < 2 {
		lab.Lacking(t, "a second processor is not there")
	}
	c := dialTest(t, addr)
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	var stopped sync.WaitGroup
	stopped.Go(stop)
	waitFor(t, "the loop without a connection to end", func() bool {
		refused := 0
		for _, l := range e.loops {
			if !l.Post(func() {}) {
				refused++
			}
		}
		return refused == len(e.loops)-1
	})
	c.CloseWrite()
	ends(t, c)
	stopped.Wait()
}

// stuck is an address whose connections do not come about: its backlog is full.
func stuck(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", sa.(*unix.SockaddrInet4).Port)
	for {
		// The first comes about at once, or never.
		c, err := net.DialTimeout("tcp", address, 500*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { c.Close() })
	}
}

// A backend that goes down while it is being connected to costs nobody a connection.
func TestKillOnDownWhileConnecting(t *testing.T) {
	address := stuck(t)
	everyWay(t, func(t *testing.T, open func(*testTCP, ...Backend) (func() stream, func())) {
		for _, name := range []string{address, strings.Replace(address, "127.0.0.1", "localhost", 1)} {
			p := newPool(t, PoolConfig{KillOnDown: true, Backends: []Backend{{Name: "stuck", Address: name}, talker(t, "a")}})
			records := make(chan Record, 1)
			dial, stop := open(tcpWith(TCPConfig{Pool: p, ConnectTimeout: time.Hour, Record: func(r Record) { records <- r }}))
			c := dial()
			go io.WriteString(c, "hello") // with TLS the handshake comes before the backend
			waitFor(t, "the connection to the backend to begin", func() bool { return p.Status().Backends[0].Active == 1 })
			p.SetHealth("stuck", errDown)
			got := make([]byte, 6)
			if _, err := io.ReadFull(c, got); err != nil || string(got) != "ahello" {
				t.Errorf("%s: %q, %v", name, got, err)
			}
			if st := p.Status().Backends[0]; st.Active != 0 || st.Failures != 0 {
				t.Errorf("%s: %+v, want no connection and no failure", name, st)
			}
			c.Close()
			if r := <-records; r.Retries != 1 || r.Backend == "stuck" {
				t.Errorf("%s: %+v", name, r)
			}
			stop()
		}
	})
}

// A backend that was being connected to when the end came was not reached.
func TestRecordNamesNoBackendThatWasNotReached(t *testing.T) {
	address := stuck(t)
	everyWay(t, func(t *testing.T, open func(*testTCP, ...Backend) (func() stream, func())) {
		tc := tcpWith(TCPConfig{Pool: newPool(t, PoolConfig{Backends: []Backend{{Address: address}}}), ShutdownTimeout: -1})
		records := make(chan Record, 1)
		tc.Record = func(r Record) { records <- r }
		dial, stop := open(tc)
		c := dial()
		go io.WriteString(c, "hello") // with TLS the handshake comes before the backend
		waitFor(t, "the connection to the backend to begin", func() bool { return tc.Pool.Status().Backends[0].Active == 1 })
		stop()
		if r := nextRecord(t, records); r.Backend != "" || r.Reason != "cut" || r.Connect != 0 || r.Sent != 0 {
			t.Errorf("%+v, want no backend", r)
		}
		if b := tc.Pool.Status().Backends[0]; b.Active != 0 || b.Failures != 0 {
			t.Errorf("%+v", b)
		}
	})
}

// The client's end and the backend's reset, noticed at once: the answer still counts.
func TestAnswerBeforeAReset(t *testing.T) {
	reset := make(chan struct{})
	tc := tcpWith(TCPConfig{})
	addr, _ := relay(t, tc, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		// What nobody has read makes closing a reset.
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			return
		}
		<-reset
		io.WriteString(c, "answer")
		c.Close()
		reset <- struct{}{}
	}))
	e := engineOf(t, tc)
	c := dialTest(t, addr)
	io.WriteString(c, "xyyyy")
	waitFor(t, "the request to be passed on", func() bool {
		passed := int64(0)
		e.eachLink(t, func(k *link) { passed = k.half[0].written })
		return passed == 5
	})
	release := e.hold()
	c.CloseWrite()
	reset <- struct{}{}
	<-reset
	release()
	if got, _ := ends(t, c); got != "answer" {
		t.Errorf("got %q", got)
	}
}

// A client that breaks off is noticed although its backend does not read.
func TestClientsResetBehindAFullBackend(t *testing.T) {
	hold := make(chan struct{})
	defer close(hold)
	tc := tcpWith(TCPConfig{ShutdownTimeout: -1})
	addr, _ := relay(t, tc, rawBackend(t, func(net.Conn, *bufio.Reader) { <-hold }))
	e := engineOf(t, tc)
	c := dialTest(t, addr)
	var wrote sync.WaitGroup
	wrote.Go(func() { c.Write(make([]byte, 64<<20)) })
	waitFor(t, "the backend to be full", func() bool {
		full := false
		e.eachLink(t, func(k *link) { full = k.half[0].full() && !k.half[0].writable })
		return full
	})
	reset(c)
	wrote.Wait()
	waitFor(t, "the connection to end", func() bool { return tc.Stats().Active == 0 })
}

// A slow reader must get everything, and must not make the balancer hoard it.
func TestTCPBackpressure(t *testing.T) {
	const size = 32 << 20
	pattern := make([]byte, 251*1000)
	for i := range pattern {
		pattern[i] = byte(i % 251)
	}
	for _, noSplice := range []bool{false, true} {
		tc := tcpWith(TCPConfig{NoSplice: noSplice})
		addr, _ := relay(t, tc, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
			for sent := 0; sent < size; sent += len(pattern) {
				if _, err := c.Write(pattern); err != nil {
					return
				}
			}
		}))
		e := engineOf(t, tc)
		c := dialTest(t, addr)
		_ = c.SetReadBuffer(64 << 10)
		// Then it reads no more from the backend, until the client takes something.
		var taken int64
		var held int
		waitFor(t, "the client to be full", func() bool {
			full := false
			e.eachLink(t, func(k *link) {
				down := &k.half[1]
				full, taken, held = down.full() && !down.writable, down.read, len(down.pending)+down.piped
			})
			return full
		})
		if taken > size/2 || held > pipeSize {
			t.Errorf("no splice %v: %d bytes are on their way to a client that does not read, %d of them in the balancer", noSplice, taken, held)
		}
		got := make([]byte, len(pattern))
		for at := 0; at+len(got) <= size; at += len(got) {
			if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, pattern) {
				t.Fatalf("no splice %v: wrong bytes after %d (%v)", noSplice, at, err)
			}
		}
	}
}

// Where the listener fails for good, another one takes over at once: nobody accepts on the
// address in between, connections stay, and limits count them. Without another one it is the end.
func TestAnotherListenerTakesOver(t *testing.T) {
	for _, hidden := range []bool{false, true} { // from the event loops
		ln := listenTest(t)
		address := ln.Addr().String()
		fail := func() {
			raw, err := ln.(*net.TCPListener).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			if err := raw.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RD) }); err != nil {
				t.Fatal(err)
			}
		}
		as := func(ln net.Listener) net.Listener {
			if hidden {
				return foreign{ln}
			}
			return ln
		}
		tc, err := NewTCP(TCPConfig{Pool: newPool(t, PoolConfig{Backends: []Backend{talker(t, "a")}}), Limits: Limits{PerClient: 2}, ShutdownTimeout: -1})
		if err != nil {
			t.Fatal(err)
		}
		opened := make(chan net.Listener, 1)
		calls := 0
		no := errors.New("no more listeners")
		served := make(chan error, 1)
		go func() {
			served <- tc.ServeNext(t.Context(), as(ln), func(ctx context.Context, cause error) (net.Listener, error) {
				if calls++; calls > 1 {
					return nil, no
				}
				if !errors.Is(cause, syscall.EINVAL) {
					t.Errorf("the cause is %v", cause)
				}
				// That works since nobody has the address.
				next, err := Listen(ctx, "tcp", address)
				opened <- next
				return as(next), err
			})
		}()
		isServed := func(c net.Conn) bool {
			got := make([]byte, 1)
			_, err := io.ReadFull(c, got)
			return err == nil
		}
		kept := dialTest(t, address)
		if !isServed(kept) {
			t.Fatal("not served")
		}
		fail()
		waitFor(t, "the other listener to serve", func() bool {
			c, err := net.Dial("tcp", address)
			if err != nil {
				return false
			}
			t.Cleanup(func() { c.Close() })
			_ = c.SetDeadline(time.Now().Add(bound))
			return isServed(c)
		})
		io.WriteString(kept, "x")
		if !isServed(kept) {
			t.Errorf("hidden %v: a connection did not outlive its listener", hidden)
		}
		if c := dialTest(t, address); isServed(c) {
			t.Errorf("hidden %v: the limit does not count the connections of the listener of before", hidden)
		}
		ln = <-opened
		fail()
		select {
		case err := <-served:
			if err != no {
				t.Errorf("hidden %v: the end is %v, want that of next", hidden, err)
			}
		case <-time.After(bound):
			t.Fatal("no end")
		}
		if _, inOrder := ends(t, kept); inOrder {
			t.Errorf("hidden %v: the end left a connection", hidden)
		}
	}
}
