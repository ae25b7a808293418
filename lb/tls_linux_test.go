package lb

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
)

// eachTLS runs f with TLS on the client's side, on the backend's, and on both. open starts a
// plane whose backend serves connections by serve, and returns how to connect to it.
func eachTLS(t *testing.T, f func(t *testing.T, tc *testTCP, open func(serve func(net.Conn)) (dial func() stream, stop func()))) {
	for _, where := range []string{"client", "backend", "both"} {
		t.Run(where, func(t *testing.T) {
			a := newAuthority(t)
			server := &tls.Config{GetCertificate: a.certificates(a.issue("a", "a.test")).GetCertificate}
			client := &tls.Config{ServerName: "a.test", RootCAs: a.pool}
			tc := tcpWith(TCPConfig{})
			f(t, tc, func(serve func(net.Conn)) (func() stream, func()) {
				ln := listenTest(t)
				if where != "client" {
					ln, tc.BackendTLS = tls.NewListener(ln, server), client
				}
				labtest.Serve(t, ln, serve)
				if where != "backend" {
					tc.TLS = server
				}
				address, stop := relay(t, tc, Backend{Address: ln.Addr().String()})
				return func() stream {
					c := dialTest(t, address)
					if where == "backend" {
						return c
					}
					return tls.Client(c, client)
				}, stop
			})
		})
	}
}

// Records of any size arrive whole, both ways at once, and so do both ends.
func TestTLSBulkBothWaysAtOnce(t *testing.T) {
	eachTLS(t, func(t *testing.T, tc *testTCP, open func(func(net.Conn)) (func() stream, func())) {
		dial, _ := open(func(c net.Conn) {
			io.Copy(struct{ io.Writer }{c}, c)
			closeWrite(c)
			io.Copy(io.Discard, c)
		})
		data := make([]byte, 5<<20+123)
		for i := range data {
			data[i] = byte(rand.Uint32())
		}
		c := dial()
		var wrote sync.WaitGroup
		wrote.Go(func() {
			for rest := data; len(rest) > 0; {
				n := min(1+rand.IntN(40<<10), len(rest))
				if _, err := c.Write(rest[:n]); err != nil {
					t.Error(err)
					return
				}
				rest = rest[n:]
			}
			c.CloseWrite()
		})
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes came back (%v), want the same %d", len(got), err, len(data))
		}
		wrote.Wait()
	})
}

// A slow reader gets everything, and does not make the balancer hoard it.
func TestTLSBackpressure(t *testing.T) {
	const size = 16 << 20
	eachTLS(t, func(t *testing.T, tc *testTCP, open func(func(net.Conn)) (func() stream, func())) {
		dial, _ := open(func(c net.Conn) {
			c.Write(make([]byte, size))
			closeWrite(c)
			io.Copy(io.Discard, c)
		})
		c := dial()
		e := engineOf(t, tc)
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		var taken int64
		var held int
		waitFor(t, "the client to be full", func() bool {
			full := false
			e.eachLink(t, func(k *link) {
				down := &k.half[1]
				full, taken, held = down.full() && !down.writable, down.read, len(down.pending)
			})
			return full
		})
		if taken > size/2 || held > 2*scratchSize {
			t.Errorf("%d bytes are on their way to a client that does not read, %d of them in the balancer", taken, held)
		}
		if n, err := io.Copy(io.Discard, c); n != size-1 || err != nil {
			t.Errorf("then %d bytes come, and %v, want %d", n, err, size-1)
		}
	})
}

// An idle connection with TLS has no goroutine, and no buffer after large records.
func TestIdleTLSTakesNoBuffer(t *testing.T) {
	const n, size = 20, 200 << 10
	eachTLS(t, func(t *testing.T, tc *testTCP, open func(func(net.Conn)) (func() stream, func())) {
		dial, _ := open(func(c net.Conn) { io.Copy(struct{ io.Writer }{c}, c) })
		for range n {
			c := dial()
			var wrote sync.WaitGroup
			wrote.Go(func() { c.Write(make([]byte, size)) })
			if _, err := io.ReadFull(c, make([]byte, size)); err != nil {
				t.Fatal(err)
			}
			wrote.Wait()
		}
		e := engineOf(t, tc)
		links, kept := 0, 0
		e.eachLink(t, func(k *link) {
			links++
			for i, r := range k.tls {
				kept += len(k.half[i].pending)
				if r != nil {
					kept += rawInput(r.conn).Cap()
				}
			}
		})
		if links != n || kept > n*4<<10 {
			t.Errorf("%d connections are in the loops, with %d bytes of buffers, want %d without any", links, kept, n)
		}
		for _, l := range e.loops {
			l.within(t, func() {
				if l.tls.lent != 0 {
					t.Errorf("%d of a loop's buffers are with idle connections", l.tls.lent)
				}
			})
		}
		waitFor(t, "the goroutines to end", func() bool { return !strings.Contains(stacks(), "lb.(*tcpConn)") })
	})
}

// This version of Go has the fields of tls.Conn that buffers are lent to.
func TestBuffersCanBeLent(t *testing.T) {
	if rawInput == nil || plainInput == nil || handInput == nil {
		t.Error("tls.Conn has no bytes.Buffer rawInput or hand, or no bytes.Reader input: find out what took their place")
	}
}

// Who sends the half of a record and waits keeps no buffer from others for ever: only so
// many may have one.
func TestHalfRecordsKeepNoBuffers(t *testing.T) {
	a := newAuthority(t)
	tc := tcpWith(TCPConfig{TLS: &tls.Config{GetCertificate: a.certificates(a.issue("a", "a.test")).GetCertificate}})
	addr, _ := relay(t, tc, rawBackend(t, func(c net.Conn, r *bufio.Reader) { io.Copy(c, r) }))
	e := engineOf(t, tc)
	conns := make([]*halving, len(e.loops)*maxLent+100)
	for i := range conns {
		conns[i] = &halving{Conn: dialTest(t, addr)}
		c := tls.Client(conns[i], &tls.Config{ServerName: "a.test", RootCAs: a.pool})
		io.WriteString(c, "x")
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		conns[i].half = true
		c.Write(make([]byte, 8<<10))
		conns[i].tls = c
	}
	waitFor(t, "all halves to be read", func() bool {
		waiting := 0
		e.eachLink(t, func(k *link) {
			if rawInput(k.tls[0].conn).Len() > 0 {
				waiting++
			}
		})
		return waiting == len(conns)
	})
	for _, l := range e.loops {
		l.within(t, func() {
			if l.tls.lent > maxLent {
				t.Errorf("%d buffers are lent, want %d at most", l.tls.lent, maxLent)
			}
		})
	}
	for _, c := range conns {
		_ = c.SetDeadline(time.Now().Add(bound)) // the first has waited for the last
		c.Conn.Write(c.rest)
		if _, err := io.ReadFull(c.tls, make([]byte, 8<<10)); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range e.loops {
		l.within(t, func() {
			if l.tls.lent != 0 || len(l.tls.raw) > spareRaw {
				t.Errorf("%d buffers are lent and %d kept in the end, want 0 and %d at most", l.tls.lent, len(l.tls.raw), spareRaw)
			}
		})
	}
}

// halving keeps back all but a half of what is written first, once half is set.
type halving struct {
	net.Conn
	half bool
	rest []byte
	tls  *tls.Conn
}

func (h *halving) Write(b []byte) (int, error) {
	if !h.half {
		return h.Conn.Write(b)
	}
	n := 0
	if h.rest == nil {
		n = len(b) / 2
	}
	h.rest = append(h.rest, b[n:]...)
	_, err := h.Conn.Write(b[:n])
	return len(b), err
}

// A peer may change its keys at any time, and ask for the same (RFC 8446 §4.6.3): the answer
// is written in the middle of a read.
func TestTLSKeyUpdate(t *testing.T) {
	lab.Need(t, "openssl")
	a := newAuthority(t)
	tc := tcpWith(TCPConfig{TLS: &tls.Config{GetCertificate: a.certificates(a.issue("a", "a.test")).GetCertificate}})
	addr, _ := relay(t, tc, talker(t, "a"))
	cmd := exec.CommandContext(t.Context(), "openssl", "s_client", "-connect", addr, "-servername", "a.test", "-CAfile", a.writeCA(), "-tls1_3")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	path := a.dir + "/out"
	if cmd.Stdout, err = os.Create(path); err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	said := func() string { b, _ := os.ReadFile(path); return string(b) }
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { in.Close(); cmd.Process.Kill(); cmd.Wait() }()
	// What it makes the loops write must not get into other connections.
	var others []net.Conn
	for range 8 {
		c := tls.Client(dialTest(t, addr), &tls.Config{ServerName: "a.test", RootCAs: a.pool})
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		others = append(others, c)
	}
	waitFor(t, "the connection", func() bool { return strings.Contains(said(), "Verify return code") })
	for i, keys := range []string{"K", "k", "K"} {
		io.WriteString(in, keys+"\n")
		waitFor(t, "new keys", func() bool { return strings.Count(said(), "KEYUPDATE") == i+1 })
		for _, c := range others {
			io.WriteString(c, "x")
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				t.Fatalf("another connection, after new keys: %v", err)
			}
		}
		word := strings.Repeat("hello", i+1) + "\n"
		io.WriteString(in, word)
		waitFor(t, "the answer "+word, func() bool { return strings.Contains(said(), word) })
	}
}

// A connection that was cut before an event loop could take it over stays where it is, and
// one that is cut after that is cut there.
func TestCutWhileAdopted(t *testing.T) {
	for _, before := range []bool{true, false} {
		records := make(chan Record, 1)
		tc := tcpWith(TCPConfig{Record: func(r Record) { records <- r }})
		relay(t, tc, talker(t, "a"))
		e := engineOf(t, tc)
		ln := listenTest(t)
		peer := dialTest(t, ln.Addr().String())
		client, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		settings := tc.settings.Load()
		settings.plane.counters.active.Add(1)
		c := settings.newConn(client, time.Now())
		c.origin.pool = tc.Pool
		pick, err := c.connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if before {
			c.cut(nil)
		}
		if adopted := e.loops[0].adopt(c, pick, c.origin.client.Addr(), 0); adopted == before {
			t.Errorf("cut before %v: adopted %v", before, adopted)
		}
		if before {
			pick.Done(Neutral)
			settings.plane.counters.active.Add(-1)
		} else {
			c.cut(nil)
			if r := nextRecord(t, records); r.Reason != "cut" {
				t.Errorf("%+v, want a cut", r)
			}
			c.cut(nil) // which concerns nobody any more, nor who has its place
			e.loops[0].within(t, func() {})
		}
		if _, inOrder := ends(t, peer); inOrder {
			t.Errorf("cut before %v: an end in order", before)
		}
		tc.sessions.remove(c)
	}
}

// resetInLoop has src, the peer on one side, reset its connection, calls then, and has the
// loop go on with what came from the other side before it notes the reset.
func resetInLoop(t *testing.T, e *engine, src net.Conn, side int, then func()) {
	t.Helper()
	e.eachLink(t, func(k *link) {
		await := func(what string, cond func() bool) {
			for end := time.Now().Add(bound); !cond(); time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Error("waited in vain: " + what)
					return
				}
			}
		}
		reset(src)
		await("the reset", func() bool { _, broken, _ := peerStateFD(int(k.fd[side])); return broken })
		then()
		other := &k.half[1-side]
		await("the bytes", func() bool { return hasBytes(k.fd[1-side]) })
		k.half[side].readable = false
		other.readable = true
		if r := k.tls[1-side]; r != nil {
			r.wire.dry = false
		}
		k.handleEvents()
	})
}

// TestTLSEndsNothingInOrderAfterAReset: once a write has met with a reset, reads find an end
// only. The other side is not told of it as of one in order.
func TestTLSEndsNothingInOrderAfterAReset(t *testing.T) {
	eachTLS(t, func(t *testing.T, tc *testTCP, open func(func(net.Conn)) (func() stream, func())) {
		peer := make(chan net.Conn, 1)
		dial, _ := open(func(c net.Conn) {
			io.WriteString(c, "half")
			_, _ = io.ReadFull(c, make([]byte, 1))
			peer <- c
			<-t.Context().Done()
		})
		e := engineOf(t, tc)
		for side := range 2 {
			var c net.Conn = dial()
			if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
				t.Fatal(err)
			}
			io.WriteString(c, "x")
			src, dst := c, <-peer
			if side == 1 {
				src, dst = dst, c
			}
			resetInLoop(t, e, src, side, func() { io.WriteString(dst, "y") })
			if got, inOrder := ends(t, dst); got != "" || inOrder {
				t.Errorf("after a reset from side %d the other one gets %q, in order: %v", side, got, inOrder)
			}
			waitFor(t, "the connection to end", func() bool { return tc.Stats().Active == 0 })
		}
	})
}

// TestResetThatAnAnswerMetIsPassedOn: what TLS itself writes, an answer to new keys, may meet
// with the reset.
func TestResetThatAnAnswerMetIsPassedOn(t *testing.T) {
	ended := make(chan error, 1)
	tc := tcpWith(TCPConfig{})
	addr, cfg := testPlaneTLS(t, tc, func(c net.Conn) {
		io.WriteString(c, "half")
		_, err := io.Copy(io.Discard, c)
		ended <- err
	})
	c := newRecordClient(t, dialTest(t, addr), cfg)
	if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	engineOf(t, tc).eachLink(t, func(k *link) {
		c.addKeys(1, false)
		c.send()
		reset(c.socket)
		for end := time.Now().Add(bound); time.Now().Before(end); time.Sleep(time.Millisecond) {
			if _, broken, _ := peerStateFD(int(k.fd[0])); broken {
				break
			}
		}
		k.half[0].readable, k.tls[0].wire.dry = true, false
		k.handleEvents()
	})
	if err := <-ended; err == nil {
		t.Error("the backend reads an end in order")
	}
}

// hasBytes reports whether something has come that nobody has read.
func hasBytes(fd int32) bool {
	n, err := unix.IoctlGetInt(int(fd), unix.TIOCINQ)
	return err == nil && n > 0
}
