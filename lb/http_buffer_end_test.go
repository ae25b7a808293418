package lb

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
)

// A held body goes when the backend has it and has answered, and not when the client has taken
// the last byte of the answer: that may be hours later.
func TestHeldBodyGoesBeforeTheResponseEnds(t *testing.T) {
	const size = 12 << 20 // more than what sockets take
	for _, early := range []bool{false, true} {
		for _, f := range bufferFronts() {
			goOn, end := make(chan struct{}), make(chan struct{})
			s := f.serve(t, HandlerConfig{}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
				req, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				half := func() { io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na") }
				if early {
					half()
					<-goOn
				}
				_, _ = io.Copy(io.Discard, req.Body)
				if !early {
					half()
				}
				<-end
				io.WriteString(c, "b")
			}))
			last := sync.OnceFunc(func() { close(end) })
			t.Cleanup(last)
			c := newReader(t, s.address)
			used := s.handler.settings.Load().bodies.used
			fmt.Fprintf(c, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", size)
			_, _ = c.Write(numbered(size)[:size-1])
			waitFor(t, f.name+": the file", func() bool { return used.Load() > 0 })
			_, _ = c.Write(numbered(size)[size-1:])
			res, err := http.ReadResponse(c.r, nil)
			if err != nil {
				t.Fatal(err)
			}
			close(goOn)
			waitFor(t, f.name+": the file to go before the response ends", func() bool { return used.Load() == 0 })
			last()
			if got := body(t, res, nil); got != "ab" {
				t.Errorf("%s, early %v: %q", f.name, early, got)
			}
		}
	}
}
