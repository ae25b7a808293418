package labtest

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/proxyproto"
)

// Serve gives each connection to ln to handle, in a goroutine of its own, and closes the
// connection afterwards. At the end of the test it closes ln and the connections, and waits
// for handle.
func Serve(t lab.TB, ln net.Listener, handle func(net.Conn)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() {
		ln.Close()
		cancel()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				defer context.AfterFunc(ctx, func() { c.Close() })()
				handle(c)
			})
		}
	})
}

// Listen is [Serve] for a port of the loopback interface, and returns its address.
func Listen(t lab.TB, handle func(net.Conn)) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	Serve(t, ln, handle)
	return ln.Addr().String()
}

// ServePackets sends what answer returns for each packet to conn back to the sender. At
// the end of the test it closes conn, and waits for answer.
func ServePackets(t lab.TB, conn net.PacketConn, answer func(packet []byte, from net.Addr) [][]byte) {
	t.Helper()
	var wg sync.WaitGroup
	t.Cleanup(func() { conn.Close(); wg.Wait() })
	wg.Go(func() {
		for b := make([]byte, 1<<16); ; {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			for _, reply := range answer(bytes.Clone(b[:n]), from) {
				_, _ = conn.WriteTo(reply, from)
			}
		}
	})
}

// Echo is an answer of [ServePackets].
func Echo(packet []byte, _ net.Addr) [][]byte { return [][]byte{packet} }

// Run runs a function until the test ends or stop is called, and reports an error of it,
// or that it does not return.
func Run(t lab.TB, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(30 * time.Second):
			t.Error("what runs does not return")
		}
	})
	t.Cleanup(stop)
	return stop
}

// EchoLines returns a handler that answers each line with a name and the line.
func EchoLines(name string) func(net.Conn) {
	return func(c net.Conn) {
		for in := bufio.NewScanner(c); in.Scan(); {
			fmt.Fprintf(c, "%s %s\n", name, in.Text())
		}
	}
}

// ReadProxyHeader reads the PROXY header with which a connection must begin, and nothing of what
// follows. With an error it returns what came.
func ReadProxyHeader(c net.Conn) (header []byte, err error) {
	for one := make([]byte, 1); ; {
		if _, err := io.ReadFull(c, one); err != nil {
			return header, err
		}
		header = append(header, one...)
		if _, _, err := proxyproto.Parse(header); err != io.ErrUnexpectedEOF {
			return header, err
		}
	}
}
