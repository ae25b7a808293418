package lb

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab/labtest"
)

// writeFirst is a connection on which a Write meets with the reset of the peer before any
// Read does. That Write returns late: what a Read has found then is acted on already.
type writeFirst struct {
	net.Conn
	fail, end     sync.Once
	failed, ended chan struct{}
}

func newWriteFirst(c net.Conn) *writeFirst {
	return &writeFirst{Conn: c, failed: make(chan struct{}), ended: make(chan struct{})}
}

// broken reports whether the kernel knows of a reset.
func (c *writeFirst) broken() bool {
	_, broken, _ := peerState(c.Conn)
	return broken
}

func (c *writeFirst) Read(b []byte) (int, error) {
	raw, err := rawConn(c.Conn)
	if err == nil {
		err = raw.Read(func(uintptr) bool { return isReadable(c.Conn) }) // up to the deadline
	}
	if err != nil {
		return 0, err
	}
	if _, broken, unread := peerState(c.Conn); broken && unread == 0 {
		select {
		case <-c.failed:
		case <-time.After(bound):
		}
	}
	n, err := c.Conn.Read(b)
	if n == 0 && err != nil {
		c.end.Do(func() { close(c.ended) })
	}
	return n, err
}

func (c *writeFirst) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if err != nil {
		c.fail.Do(func() { close(c.failed) })
		select {
		case <-c.ended:
			time.Sleep(30 * time.Millisecond)
		case <-time.After(bound):
		}
	}
	return n, err
}

func (c *writeFirst) CloseWrite() error { return closeWrite(c.Conn) }

// NetConn returns the connection itself, as that of tls.Conn does.
func (c *writeFirst) NetConn() net.Conn { return c.Conn }

// writeFirstDial returns a function that dials such connections, and where they are found.
func writeFirstDial() (func(context.Context, string, string) (net.Conn, error), chan *writeFirst) {
	dialled := make(chan *writeFirst, 1)
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dialBackend(ctx, network, address)
		if err != nil {
			return nil, err
		}
		w := newWriteFirst(c)
		dialled <- w
		return w, nil
	}, dialled
}

// writeFirstListener accepts such connections.
type writeFirstListener struct {
	net.Listener
	accepted chan *writeFirst
}

func (l *writeFirstListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	w := newWriteFirst(c)
	l.accepted <- w
	return w, nil
}

// The kernel tells of a reset once. If a write has met with it, reads find an end, which must
// not be passed on as one in order.
func TestResetThatAWriteMetIsPassedOn(t *testing.T) {
	for _, way := range []string{"plain", "TLS", "backend with TLS"} {
		t.Run(way, func(t *testing.T) {
			a := newAuthority(t)
			cert := a.certificates(a.issue("a", "127.0.0.1")).GetCertificate
			var tc TCPConfig
			release := make(chan bool)
			ln := listenTest(t)
			handle := func(raw, c net.Conn) {
				io.WriteString(c, "half")
				<-release
				reset(raw)
			}
			go func() {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				if way == "backend with TLS" {
					handle(c, tls.Server(c, &tls.Config{GetCertificate: cert}))
				} else {
					handle(c, c)
				}
			}()
			b := Backend{Address: ln.Addr().String()}
			if way == "backend with TLS" {
				b.TLS = &tls.Config{RootCAs: a.pool}
			}
			if way == "TLS" {
				tc.TLS = &tls.Config{GetCertificate: cert}
			}
			front := listenTest(t)
			dial, dialled := writeFirstDial()
			tc.Pool = newPool(t, PoolConfig{Backends: []Backend{b}})
			plane, err := NewTCP(tc)
			if err != nil {
				t.Fatal(err)
			}
			plane.settings.Load().dialer.dial = dial
			labtest.Run(t, func(ctx context.Context) error { return plane.Serve(ctx, foreign{front}) })
			var c stream = dialTest(t, front.Addr().String())
			if way == "TLS" {
				c = tls.Client(c, &tls.Config{ServerName: "127.0.0.1", RootCAs: a.pool})
			}
			if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
				t.Fatal(err)
			}
			close(release)
			w := <-dialled
			waitFor(t, "the reset", w.broken)
			io.WriteString(c, "x")
			if got, inOrder := ends(t, c); inOrder || got != "" {
				t.Errorf("the client gets %q, in order: %v; want a reset", got, inOrder)
			}
		})
	}
}

// The same the other way round.
func TestClientsResetThatAWriteMetIsPassedOn(t *testing.T) {
	for _, secure := range []bool{false, true} {
		a := newAuthority(t)
		tc := tcpWith(TCPConfig{})
		if secure {
			tc.TLS = &tls.Config{GetCertificate: a.certificates(a.issue("a", "a.test")).GetCertificate}
		}
		release, ended := make(chan bool), make(chan error, 1)
		ln := &writeFirstListener{listenTest(t), make(chan *writeFirst, 1)}
		relayOn(t, tc, ln, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
			r.ReadByte()
			io.WriteString(c, "half")
			<-release
			io.WriteString(c, "more")
			_, err := io.Copy(io.Discard, r)
			ended <- err
		}))
		var c stream = dialTest(t, ln.Addr().String())
		if secure {
			c = tls.Client(c, &tls.Config{ServerName: "a.test", RootCAs: a.pool})
		}
		io.WriteString(c, "x")
		if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		reset(c)
		waitFor(t, "the reset", (<-ln.accepted).broken)
		close(release)
		if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("TLS %v: the backend reads %v, want a reset", secure, err)
		}
	}
}

// A response without length ends with its connection. If the backend has reset that, and the
// upload is what met with it, the response is not complete.
func TestResetThatAnUploadMetEndsNoResponse(t *testing.T) {
	for _, version := range []string{"1.1", "1.0"} {
		release := make(chan bool)
		dial, dialled := writeFirstDial()
		s, h := front(t, HandlerConfig{Dial: dial}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
			http.ReadRequest(r)
			io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\nhalf")
			<-release
			reset(c)
		}))
		c := newReader(t, s.Listener.Addr().String())
		io.WriteString(c, "POST / HTTP/"+version+"\r\nHost: x\r\nContent-Length: 100\r\n\r\nx")
		res, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		half := make([]byte, 4)
		if _, err := io.ReadFull(res.Body, half); err != nil {
			t.Fatal(err)
		}
		close(release)
		waitFor(t, "the reset", (<-dialled).broken)
		io.WriteString(c, "y")
		if rest, err := io.ReadAll(res.Body); err == nil || len(rest) > 0 {
			t.Errorf("HTTP/%s: the response goes on with %q and is complete", version, rest)
		}
		waitFor(t, "the failure to count", func() bool { return h.pool().Status().Backends[0].Failures == 1 })
	}
}

// A tunnel passes on the client's reset.
func TestTunnelPassesOnAResetThatAWriteMet(t *testing.T) {
	release, ended := make(chan bool), make(chan error, 1)
	b := rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhalf")
		<-release
		io.WriteString(c, "more")
		_, err := io.Copy(io.Discard, r)
		ended <- err
	})
	h := newHandler(t, HandlerConfig{Pool: newPool(t, PoolConfig{Backends: []Backend{b}})})
	ln := &writeFirstListener{listenTest(t), make(chan *writeFirst, 1)}
	s := &httptest.Server{Listener: ln, Config: &http.Server{Handler: h}}
	s.Start()
	t.Cleanup(s.Close)
	t.Cleanup(func() { h.Shutdown(t.Context()) })
	c := newReader(t, ln.Addr().String())
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	if _, err := http.ReadResponse(c.r, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c.r, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	reset(c.Conn)
	waitFor(t, "the reset", (<-ln.accepted).broken)
	close(release)
	if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the backend reads %v, want a reset", err)
	}
}

// A peer that ends its side in order has done so, whatever becomes of the other direction.
func TestEndInOrderStaysOne(t *testing.T) {
	for what, also := range map[string]func(peer *net.TCPConn, c *frankConn){
		"a write waits": func(_ *net.TCPConn, c *frankConn) {
			go c.Write(make([]byte, 64<<20))
			waitFor(t, "the write", func() bool { return isWriting(c) })
		},
		"a reset follows": func(peer *net.TCPConn, c *frankConn) {
			finish(t, peer)
			reset(peer)
			waitFor(t, "the reset", func() bool { _, broken, _ := peerState(c); return broken })
			if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
				t.Errorf("writing after the reset: %v", err)
			}
		},
	} {
		ln := listenTest(t)
		c := &frankConn{Conn: dialTest(t, ln.Addr().String())}
		peer, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		also(peer.(*net.TCPConn), c)
		peer.(*net.TCPConn).CloseWrite()
		if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("%s: read %d bytes, %v; want the end", what, n, err)
		}
		if what == "a write waits" && !isWriting(c) {
			t.Error("the end is read after the write only")
		}
		c.Close()
		peer.Close()
	}
}

func isWriting(c *frankConn) bool {
	if !c.mu.TryLock() {
		return true
	}
	c.mu.Unlock()
	return false
}
