package lb

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/lab/labtest"
	"github.com/havip/havip/lb/internal/reactor"
)

var loopbackPrefix = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// Limits count who connects, in the end as well as in the beginning, whatever a PROXY header
// says.
func TestLimitsCountWhoConnects(t *testing.T) {
	everyWay(t, func(t *testing.T, open func(*testTCP, ...Backend) (func() stream, func())) {
		records := make(chan Record, 10)
		tc := tcpWith(TCPConfig{AcceptProxy: loopbackPrefix, Limits: Limits{PerClient: 1}, Record: func(r Record) { records <- r }})
		dial, _ := open(tc, talker(t, "a"))
		for i := range uint64(2) {
			c, raw := dial(), net.Conn(nil)
			if raw = c; tc.TLS != nil {
				raw = c.(*tls.Conn).NetConn()
			}
			io.WriteString(raw, "PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\n")
			go io.WriteString(c, "x") // with TLS the handshake comes before the backend
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				t.Fatalf("connection %d: %v", i+1, err)
			}
			other := dial()
			other.Read(make([]byte, 1))
			other.Close()
			waitFor(t, "the second connection to be refused", func() bool { st := tc.Stats(); return st.Refused == i+1 && st.Active == 1 })
			c.Close()
			waitFor(t, "the connection to end", func() bool { return tc.Stats().Active == 0 })
		}
	})
}

// A connection that a loop has had wait for descriptors ends by the idle timeout.
func TestStarvedLinkEnds(t *testing.T) {
	records := make(chan Record, 1)
	tc := tcpWith(TCPConfig{Record: func(r Record) { records <- r }})
	addr, _ := relay(t, tc, talker(t, "a"))
	e := engineOf(t, tc)
	c := dialTest(t, addr)
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	e.eachLink(t, func(k *link) {
		k.failAttempt(unix.EMFILE)
		k.start -= int64(time.Hour)
		k.expireTimer()
	})
	if r := nextRecord(t, records); r.Reason != "idle" || r.Backend != "" {
		t.Errorf("%+v", r)
	}
	if _, inOrder := ends(t, c); inOrder || tc.counters.starved.Load() != 0 {
		t.Errorf("in order %v, %d connections wait", inOrder, tc.counters.starved.Load())
	}
}

// Connections to a backend are counted, and how long they took to be made.
func TestConnectsAreCounted(t *testing.T) {
	everyWay(t, func(t *testing.T, open func(*testTCP, ...Backend) (func() stream, func())) {
		tc := tcpWith(TCPConfig{})
		dial, _ := open(tc, talker(t, "a"))
		if _, err := io.ReadFull(dial(), make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if b := tc.Pool.Status().Backends[0]; b.Connects != 1 || b.ConnectTime <= 0 || b.ConnectTime > bound {
			t.Errorf("%+v", b)
		}
	})
}

// How long the connections of a backend lasted is counted at their ends.
func TestEndedConnectionsAreCounted(t *testing.T) {
	everyWay(t, func(t *testing.T, open func(*testTCP, ...Backend) (func() stream, func())) {
		tc := tcpWith(TCPConfig{})
		dial, _ := open(tc, talker(t, "a"))
		began := time.Now()
		c := dial()
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if b := tc.Pool.Status().Backends[0]; b.Ended != 0 || b.Lasted != 0 {
			t.Errorf("%+v, want no end while the connection lasts", b)
		}
		c.Close()
		waitFor(t, "the end", func() bool { return tc.Pool.Status().Backends[0].Ended == 1 })
		if b := tc.Pool.Status().Backends[0]; b.Lasted <= 0 || b.Lasted > time.Since(began) {
			t.Errorf("%+v", b)
		}
	})
}

// A connection that was not accepted for want of descriptors is none of the limit's.
func TestWantOfDescriptorsCountsNobody(t *testing.T) {
	tc := tcpWith(TCPConfig{Limits: Limits{Connections: 1}})
	addr, _ := relay(t, tc, talker(t, "a"))
	e := engineOf(t, tc)
	l := e.loops[0]
	l.within(t, func() {
		var limit unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
			return
		}
		none := limit
		none.Cur = 3
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
			t.Error(err)
			return
		}
		reactor.NoteAccepted(-1, unix.EMFILE)
		l.acceptSome()
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
		}
		if l.resumeAt == reactor.Never || tc.counters.reserved.Load() != 0 {
			t.Errorf("paused %v, %d connections are counted", l.resumeAt != reactor.Never, tc.counters.reserved.Load())
		}
	})
	if _, err := io.ReadFull(dialTest(t, addr), make([]byte, 1)); err != nil {
		t.Error(err)
	}
}

// When a write has been told of the backend's reset, a read only sees an end: the client must
// not take it for that of the answer.
func TestResetThatAWriteWasToldOf(t *testing.T) {
	quit := make(chan struct{})
	tc := tcpWith(TCPConfig{})
	addr, _ := relay(t, tc, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		io.WriteString(c, "part")
		<-quit
		reset(c)
		quit <- struct{}{}
	}))
	e := engineOf(t, tc)
	c := dialTest(t, addr)
	if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	release := e.hold()
	io.WriteString(c, "x")
	quit <- struct{}{}
	<-quit
	release()
	if got, inOrder := ends(t, c); got != "" || inOrder {
		t.Errorf("got %q, in order: %v", got, inOrder)
	}
}

// A client that has sent everything has not failed when it is gone for good by the time
// that its backend takes the rest: it may not want the answer, or have it already.
func TestAllIsDeliveredAfterTheClientsEnd(t *testing.T) {
	const piece = 32 << 10
	for what, tt := range map[string]struct {
		answered bool
		reset    bool // after the end has been seen
	}{
		"reset after its end": {false, true},
		"end after both":      {true, false},
	} {
		t.Run(what, func(t *testing.T) {
			read, got := make(chan struct{}), make(chan int64, 1)
			tc := tcpWith(TCPConfig{})
			addr, _ := relay(t, tc, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
				if tt.answered {
					closeWrite(c)
				}
				<-read
				n, _ := io.Copy(io.Discard, r)
				got <- n
			}))
			e := engineOf(t, tc)
			c := dialTest(t, addr)
			if tt.answered {
				if n, err := c.Read(make([]byte, 1)); err != io.EOF {
					t.Fatalf("%d bytes, %v, want the backend's end", n, err)
				}
			}
			sent, full := int64(0), false
			for end := time.Now().Add(bound); !full && time.Now().Before(end); {
				sent += piece
				if _, err := c.Write(make([]byte, piece)); err != nil {
					t.Fatal(err)
				}
				e.eachLink(t, func(k *link) { full = k.half[0].full() && !k.half[0].writable })
			}
			waitFor(t, "all to be on this side of the balancer", func() bool { return unacknowledged(t, c) == 0 })
			c.CloseWrite()
			waitFor(t, "the end to be seen", func() (ending bool) {
				e.eachLink(t, func(k *link) { ending = k.half[0].ending })
				return ending
			})
			if tt.reset {
				reset(c)
			}
			c.Close()
			close(read)
			if n := <-got; n != sent {
				t.Errorf("the backend got %d bytes of %d", n, sent)
			}
		})
	}
}

// unacknowledged is how many bytes of c its peer's kernel does not have.
func unacknowledged(t *testing.T, c *net.TCPConn) (n int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	cerr := raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	if err := errors.Join(cerr, err); err != nil {
		t.Fatal(err)
	}
	return n
}

// Small writes to either side wait for no acknowledgement, and urgent bytes stay in their place.
func TestOptionsOfBothSockets(t *testing.T) {
	check := func(t *testing.T, tc *testTCP, c stream) {
		for range 3 {
			io.WriteString(c, "x")
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		found := false
		engineOf(t, tc).eachLink(t, func(k *link) {
			found = true
			for side, fd := range k.fd {
				delay, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY)
				urgent, uerr := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_OOBINLINE)
				if delay != 1 || urgent != 1 || err != nil || uerr != nil {
					t.Errorf("side %d: TCP_NODELAY %d, SO_OOBINLINE %d, %v, %v", side, delay, urgent, err, uerr)
				}
			}
		})
		if !found {
			t.Error("no loop has the connection")
		}
	}
	t.Run("plain", func(t *testing.T) {
		tc := tcpWith(TCPConfig{})
		addr, _ := relay(t, tc, rawBackend(t, func(c net.Conn, r *bufio.Reader) { io.Copy(c, r) }))
		check(t, tc, dialTest(t, addr))
	})
	eachTLS(t, func(t *testing.T, tc *testTCP, open func(func(net.Conn)) (func() stream, func())) {
		dial, _ := open(func(c net.Conn) { io.Copy(c, c) })
		check(t, tc, dial())
	})
}

// What came together with the PROXY header of a connection counts, also if TLS begins behind
// it.
func TestBytesBehindTheHeaderCount(t *testing.T) {
	a := newAuthority(t)
	ln := tls.NewListener(listenTest(t), &tls.Config{GetCertificate: a.certificates(a.issue("a", "a.test")).GetCertificate})
	labtest.Serve(t, ln, func(c net.Conn) { io.Copy(c, c) })
	records := make(chan Record, 1)
	tc := tcpWith(TCPConfig{AcceptProxy: loopbackPrefix, Record: func(r Record) { records <- r },
		BackendTLS: &tls.Config{ServerName: "a.test", RootCAs: a.pool}})
	addr, _ := relay(t, tc, Backend{Address: ln.Addr().String()})
	c := dialTest(t, addr)
	io.WriteString(c, "PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\nhello")
	c.CloseWrite()
	if got, _ := ends(t, c); got != "hello" {
		t.Errorf("got %q", got)
	}
	if r := nextRecord(t, records); r.Received != 5 || r.Sent != 5 || r.Connect <= 0 {
		t.Errorf("%+v", r)
	}
}

// Where a backend may ask for another handshake, which would wait, no loop takes the
// connection.
func TestRenegotiationStaysInAGoroutine(t *testing.T) {
	a := newAuthority(t)
	ln := tls.NewListener(listenTest(t), &tls.Config{GetCertificate: a.certificates(a.issue("a", "a.test")).GetCertificate})
	labtest.Serve(t, ln, func(c net.Conn) { io.Copy(c, c) })
	tc := tcpWith(TCPConfig{BackendTLS: &tls.Config{ServerName: "a.test", RootCAs: a.pool, Renegotiation: tls.RenegotiateFreelyAsClient}})
	addr, _ := relay(t, tc, Backend{Address: ln.Addr().String()})
	c := dialTest(t, addr)
	io.WriteString(c, "x")
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	engineOf(t, tc).eachLink(t, func(k *link) { t.Errorf("a loop has it: state %d", k.state) })
}

// What a loop has lent to a connection that waits for the rest of a record comes back when
// the connection ends.
func TestLentBuffersComeBack(t *testing.T) {
	a := newAuthority(t)
	tc := tcpWith(TCPConfig{TLS: &tls.Config{GetCertificate: a.certificates(a.issue("a", "a.test")).GetCertificate}})
	addr, _ := relay(t, tc, talker(t, "a"))
	e := engineOf(t, tc)
	lent := func() (n int) {
		for _, l := range e.loops {
			l.within(t, func() { n += l.tls.lent })
		}
		return n
	}
	raw := dialTest(t, addr)
	c := tls.Client(raw, &tls.Config{ServerName: "a.test", RootCAs: a.pool})
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	raw.Write([]byte{23, 3, 3, 1, 0, 1, 2, 3})
	waitFor(t, "a buffer to be lent", func() bool { return lent() == 1 })
	reset(raw)
	waitFor(t, "it to come back", func() bool { return lent() == 0 })
}

// The deadline of a shutdown ends the wait for a backend, also of a client that nobody can
// look at.
func TestShutdownEndsTheQueueOfAForeignListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bs := backends(1)
		bs[0].MaxConns = 1
		pool := newPool(t, PoolConfig{Queue: 1, QueueTimeout: time.Hour, Backends: bs})
		if _, err := pool.Pick(nil); err != nil {
			t.Fatal(err)
		}
		ln := &failingListener{conns: make(chan net.Conn, 1)}
		tc, err := NewTCP(TCPConfig{Pool: pool, ShutdownTimeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- tc.Serve(ctx, ln) }()
		client, server := net.Pipe()
		defer client.Close()
		ln.conns <- server
		synctest.Wait()
		if n := pool.Status().Queued; n != 1 {
			t.Fatalf("%d connections wait", n)
		}
		start := time.Now()
		cancel()
		if err := <-ended; err != nil || time.Since(start) > time.Minute+time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// A client that has left before its connection came to wait for a backend waits for none.
func TestClientThatLeftBeforeTheQueue(t *testing.T) {
	busy := talker(t, "a")
	busy.MaxConns = 1
	pool := newPool(t, PoolConfig{Queue: 1, QueueTimeout: time.Hour, Backends: []Backend{busy}})
	if _, err := pool.Pick(nil); err != nil {
		t.Fatal(err)
	}
	tc := tcpWith(TCPConfig{Pool: pool, AcceptProxy: loopbackPrefix, ShutdownTimeout: -1})
	addr, _ := relay(t, tc)
	release := engineOf(t, tc).hold()
	c := dialTest(t, addr)
	io.WriteString(c, "PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\n")
	reset(c)
	release()
	waitFor(t, "the connection to end", func() bool { st := tc.Stats(); return st.Accepted == 1 && st.Active == 0 })
	if n := pool.Status().Queued; n != 0 {
		t.Errorf("%d connections wait", n)
	}
}
