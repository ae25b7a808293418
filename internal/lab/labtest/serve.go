package labtest

import (
	"bufio"
	"fmt"
	"net"
	"sync"

	"github.com/havip/havip/internal/lab"
)

// Serve gives each connection to ln to handle, in a goroutine of its own, and closes
// it afterwards. At the end of the test it closes ln and the connections, and waits
// for handle.
func Serve(t lab.TB, ln net.Listener, handle func(net.Conn)) {
	t.Helper()
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		open = map[net.Conn]bool{}
	)
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			wg.Go(func() {
				handle(c)
				c.Close()
				mu.Lock()
				delete(open, c)
				mu.Unlock()
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

// EchoLines returns a handler that answers each line with a name and the line.
func EchoLines(name string) func(net.Conn) {
	return func(c net.Conn) {
		for in := bufio.NewScanner(c); in.Scan(); {
			fmt.Fprintf(c, "%s %s\n", name, in.Text())
		}
	}
}
