package lb

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"weak"
)

// stream is what a client has: a TCP connection or one with TLS.
type stream interface {
	net.Conn
	CloseWrite() error
}

// foreign hides from a plane what kind of listener it has.
type foreign struct{ net.Listener }

// everyWay runs f with each of the ways in which a plane relays: in event
// loops and in goroutines, with TLS and without. open starts a plane and returns how to connect
// to it and how to end it.
func everyWay(t *testing.T, f func(t *testing.T, open func(tc *testTCP, bs ...Backend) (dial func() stream, stop func()))) {
	t.Helper()
	waysOf(t, append([]string{"plain", "foreign listener"}, tlsWays...), f)
}

// tlsWays are those with TLS.
var tlsWays = []string{"TLS", "TLS, foreign listener"}

// waysOf runs f in some of the ways.
func waysOf(t *testing.T, ways []string, f func(t *testing.T, open func(tc *testTCP, bs ...Backend) (dial func() stream, stop func()))) {
	for _, way := range ways {
		t.Run(way, func(t *testing.T) {
			var a *authority
			if strings.HasPrefix(way, "TLS") {
				a = newAuthority(t)
			}
			f(t, func(tc *testTCP, bs ...Backend) (func() stream, func()) {
				t.Helper()
				if a != nil {
					tc.TLS = &tls.Config{GetCertificate: a.certificates(a.issue("a", "a.test")).GetCertificate}
				}
				ln, err := Listen(t.Context(), "tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				address := ln.Addr().String()
				if strings.HasSuffix(way, "foreign listener") {
					ln = foreign{ln}
				}
				return func() stream {
					t.Helper()
					c := dialTest(t, address)
					if a == nil {
						return c
					}
					return tls.Client(c, &tls.Config{ServerName: "a.test", RootCAs: a.pool})
				}, relayOn(t, tc, ln, bs...)
			})
		})
	}
}

// ends reads until c ends, in whatever way, and returns what came and whether
// the end was in order. That c goes on is an error.
func ends(t *testing.T, c net.Conn) (got string, inOrder bool) {
	t.Helper()
	b, err := io.ReadAll(c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the connection does not end, after %d bytes, %.100q", len(b), b)
	}
	return string(b), err == nil
}

// A reset is no end: who gets it must not take what came before for complete.
func TestResetIsPassedOn(t *testing.T) {
	everyWay(t, func(t *testing.T, open func(*testTCP, ...Backend) (func() stream, func())) {
		records := make(chan Record, 1)
		dial, _ := open(tcpWith(TCPConfig{Record: func(r Record) { records <- r }}), rawBackend(t, func(c net.Conn, r *bufio.Reader) {
			io.WriteString(c, "half")
			r.ReadByte()
			c.(*net.TCPConn).SetLinger(0)
		}))
		c := dial()
		if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, "x")
		if got, inOrder := ends(t, c); inOrder || got != "" {
			t.Errorf("after the backend's reset the client gets %q and an end in order", got)
		}
		if r := <-records; r.Reason != "reset" || r.Sent != 4 || r.Received != 1 {
			t.Errorf("record %+v", r)
		}
	})
}

// The backend, too, must be able to tell a client that broke off from one that is done.
func TestClientsResetIsPassedOn(t *testing.T) {
	everyWay(t, func(t *testing.T, open func(*testTCP, ...Backend) (func() stream, func())) {
		ended := make(chan error, 1)
		dial, _ := open(tcpWith(TCPConfig{}), rawBackend(t, func(c net.Conn, r *bufio.Reader) {
			io.WriteString(c, "hello")
			_, err := io.Copy(io.Discard, r)
			ended <- err
		}))
		c := dial()
		if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		reset(c)
		if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the backend reads %v", err)
		}
	})
}

// A backend may answer before it has read everything, and close: its answer counts.
func TestEarlyAnswerArrives(t *testing.T) {
	everyWay(t, func(t *testing.T, open func(*testTCP, ...Backend) (func() stream, func())) {
		const answer = "413 too large"
		dial, _ := open(tcpWith(TCPConfig{Pool: newPool(t, PoolConfig{MaxFails: -1, Backends: []Backend{rawBackend(t, func(c net.Conn, r *bufio.Reader) {
			r.ReadByte()
			io.WriteString(c, answer)
		})}})}))
		for i := range 30 {
			c := dial()
			go c.Write(make([]byte, 1<<20))
			got := make([]byte, len(answer))
			if n, err := io.ReadFull(c, got); err != nil {
				t.Fatalf("connection %d: %q, %v", i, got[:n], err)
			}
			c.Close()
		}
	})
}

func TestKillOnDown(t *testing.T) {
	everyWay(t, func(t *testing.T, open func(*testTCP, ...Backend) (func() stream, func())) {
		for _, kill := range []bool{true, false} {
			b := talker(t, "a")
			records := make(chan Record, 1)
			p := newPool(t, PoolConfig{Backends: []Backend{b}, KillOnDown: kill})
			dial, _ := open(tcpWith(TCPConfig{Pool: p, Record: func(r Record) { records <- r }}))
			c := dial()
			one := make([]byte, 1)
			if _, err := io.ReadFull(c, one); err != nil {
				t.Fatal(err)
			}
			p.SetHealth(b.Address, errDown)
			if !kill {
				io.WriteString(c, "x")
				if _, err := io.ReadFull(c, one); err != nil {
					t.Errorf("without it the connection reads %v", err)
				}
				continue
			}
			if _, inOrder := ends(t, c); inOrder {
				t.Error("the connection ends in order")
			}
			if r := <-records; r.Reason != "cut" {
				t.Errorf("record %+v", r)
			}
		}
	})
}

func TestDrain(t *testing.T) {
	everyWay(t, func(t *testing.T, open func(*testTCP, ...Backend) (func() stream, func())) {
		for what, drain := range map[string]time.Duration{
			"connections may finish": time.Hour, "they are cut at the deadline": 50 * time.Millisecond, "or at once": -1,
		} {
			records := make(chan Record, 1)
			tc := tcpWith(TCPConfig{ShutdownTimeout: drain, Record: func(r Record) { records <- r }})
			dial, stop := open(tc, talker(t, "a"))
			c := dial()
			b := make([]byte, 1)
			if _, err := io.ReadFull(c, b); err != nil {
				t.Fatal(err)
			}
			var stopped sync.WaitGroup
			stopped.Go(stop)
			if drain == time.Hour {
				io.WriteString(c, "x")
				if _, err := io.ReadFull(c, b); err != nil {
					t.Errorf("%s: %v", what, err)
				}
				c.CloseWrite()
			}
			_, inOrder := ends(t, c)
			if inOrder != (drain == time.Hour) {
				t.Errorf("%s: ended in order: %v", what, inOrder)
			}
			stopped.Wait()
			if r := <-records; (r.Reason == "cut") == inOrder {
				t.Errorf("%s: %+v", what, r)
			}
			if n := tc.Pool.Status().Backends[0].Active; n != 0 {
				t.Errorf("%s: %d picks were not returned", what, n)
			}
		}
	})
}

// Traffic in one direction, however little, keeps a connection; silence ends it.
func TestIdleTimeout(t *testing.T) {
	const idle = 400 * time.Millisecond
	everyWay(t, func(t *testing.T, open func(*testTCP, ...Backend) (func() stream, func())) {
		records := make(chan Record, 1)
		longest := make(chan time.Duration, 1)
		dial, _ := open(tcpWith(TCPConfig{IdleTimeout: idle, Record: func(r Record) { records <- r }}), rawBackend(t, func(c net.Conn, r *bufio.Reader) {
			c.Write(make([]byte, 100<<10)) // enough for what only bulk would bring about
			var pause time.Duration
			last := time.Now()
			for start := last; time.Since(start) < 2*idle; {
				time.Sleep(idle / 20)
				io.WriteString(c, "x")
				pause, last = max(pause, time.Since(last)), time.Now()
			}
			longest <- pause
			io.WriteString(c, ".")
			io.Copy(io.Discard, r)
		}))
		for try := 1; ; try++ {
			got, inOrder := ends(t, dial())
			r := <-records
			if pause := <-longest; pause > idle/2 && try < 20 {
				continue // this machine was too busy for it to mean anything
			}
			if !strings.HasSuffix(got, "x.") || inOrder || r.Reason != "idle" {
				t.Errorf("%d bytes, ended in order: %v, record %+v; want all up to the silence", len(got), inOrder, r)
			}
			return
		}
	})
}

// A connection that was accepted before the end is served, however late its beginning.
func TestLateBeginningIsServed(t *testing.T) {
	everyWay(t, func(t *testing.T, open func(*testTCP, ...Backend) (func() stream, func())) {
		tc := tcpWith(TCPConfig{AcceptProxy: loopback, ShutdownTimeout: time.Hour})
		dial, stop := open(tc, talker(t, "a"))
		c := dial()
		waitFor(t, "the connection to be accepted", func() bool { return tc.Stats().Active == 1 })
		var stopped sync.WaitGroup
		stopped.Go(stop)
		raw := innermost(c).(net.Conn)
		waitFor(t, "the listener to close", func() bool {
			c, err := net.Dial("tcp", raw.RemoteAddr().String())
			if err == nil {
				c.Close()
			}
			return err != nil
		})
		io.WriteString(raw, "PROXY UNKNOWN\r\n")
		io.WriteString(c, "hello")
		c.CloseWrite()
		if got, inOrder := ends(t, c); got != "ahello." || !inOrder {
			t.Errorf("got %q, in order: %v", got, inOrder)
		}
		stopped.Wait()
	})
}

// A PROXY header and a ClientHello may come in one segment.
func TestProxyHeaderBeforeTLS(t *testing.T) {
	a := newAuthority(t)
	ln, err := Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tc := tcpWith(TCPConfig{AcceptProxy: loopback, TLS: &tls.Config{GetCertificate: a.certificates(a.issue("a", "a.test")).GetCertificate}})
	relayOn(t, tc, foreign{ln}, talker(t, "a"))
	c := tls.Client(&prefaced{Conn: dialTest(t, ln.Addr().String()), greeting: []byte("PROXY UNKNOWN\r\n")}, &tls.Config{ServerName: "a.test", RootCAs: a.pool})
	io.WriteString(c, "hello")
	c.CloseWrite()
	if got, inOrder := ends(t, c); got != "ahello." || !inOrder {
		t.Errorf("got %q, in order: %v", got, inOrder)
	}
}

// failing is a backend that takes nothing.
type failing struct{ closed chan struct{} }

func (f *failing) Read([]byte) (int, error)  { return 0, io.EOF }
func (f *failing) Write([]byte) (int, error) { return 0, syscall.EPIPE }
func (f *failing) Close() error              { close(f.closed); return nil }

func TestSessionWhoseBackendTakesNothingEnds(t *testing.T) {
	client, inner := net.Pipe()
	defer client.Close()
	b := &failing{make(chan struct{})}
	s := &session{client: inner, backend: &onceCloser{ReadWriter: b, close: b.Close}, idle: time.Hour, early: []byte("header")}
	s.relay()
	<-b.closed
	if _, err := client.Write([]byte("x")); err == nil || s.why() != "reset" {
		t.Errorf("the client's side: %v, reason %q", err, s.why())
	}
}

type onceCloser struct {
	io.ReadWriter
	once  sync.Once
	close func() error
}

func (o *onceCloser) Close() (err error) {
	o.once.Do(func() { err = o.close() })
	return err
}

// However fast they come, no more than Limits.Connections are accepted.
func TestLimitHoldsForEveryWay(t *testing.T) {
	everyWay(t, func(t *testing.T, open func(*testTCP, ...Backend) (func() stream, func())) {
		tc := tcpWith(TCPConfig{Limits: Limits{Connections: 2}, ShutdownTimeout: -1})
		dial, stop := open(tc, talker(t, "a"))
		for range 50 {
			c := dial()
			go io.ReadFull(c, make([]byte, 1))
		}
		waitFor(t, "accepting to pause", func() bool { return tc.Stats().Paused > 0 })
		if st := tc.Stats(); st.Accepted != 2 || st.Active != 2 {
			t.Errorf("%+v, want 2 connections", st)
		}
		stop()
	})
}

// Pools of the past are forgotten, unless there are connections that need them.
func TestReplacedPoolsAreForgotten(t *testing.T) {
	b := talker(t, "a")
	first := newPool(t, PoolConfig{Backends: []Backend{b}, KillOnDown: true})
	tc := tcpWith(TCPConfig{Pool: first})
	addr, _ := relay(t, tc)
	c := dialTest(t, addr)
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	tc.Pool = nil
	pools := []weak.Pointer[Pool]{weak.Make(first)}
	replace := func(n int) {
		for range n {
			next := TCPConfig{Pool: newPool(t, PoolConfig{Backends: []Backend{b}}), Routes: map[string]*Pool{"a.test": newPool(t, PoolConfig{Backends: []Backend{b}})}}
			if err := tc.Reconfigure(next); err != nil {
				t.Fatal(err)
			}
			pools = append(pools, weak.Make(next.Pool), weak.Make(next.Routes["a.test"]))
		}
	}
	kept := func(want int) func() bool {
		return func() bool {
			runtime.GC()
			left := slices.DeleteFunc(slices.Clone(pools), func(p weak.Pointer[Pool]) bool { return p.Value() == nil })
			return len(left) == want
		}
	}
	replace(20)
	waitFor(t, "all pools to be freed but the current two and the one with a connection", kept(3))
	first.SetHealth(b.Address, errDown)
	if _, inOrder := ends(t, c); inOrder {
		t.Error("the old pool's connection was not cut")
	}
	waitFor(t, "the connection to end", func() bool { return tc.Stats().Active == 0 })
	replace(1)
	waitFor(t, "all pools to be freed but the current two", kept(2))
}

// The context of what waits for descriptors ends the wait.
func TestStarvingEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := new(counters)
	for c.starve(ctx) {
	}
	if n := c.starved.Load(); n != 0 {
		t.Errorf("%d still wait", n)
	}
}
