package lb

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/lb/internal/reactor"
)

// An idle connection that is kept has next to nothing in memory, whatever went over it before.
// The heap may become twice as large before it is collected. What the client has of a connection
// is given up, but for its descriptor.
func TestIdleConnectionsTakeLittle(t *testing.T) {
	const n = 250
	b := webBackend(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		io.WriteString(w, strings.Repeat("answer", 10000))
	})
	for _, tt := range []struct {
		name   string
		secure func(*tls.Config) // nil: no TLS
		most   int               // bytes
	}{
		{"plain", nil, 2 << 10},
		{"TLS 1.2", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, 5 << 10},
		{"TLS 1.3", func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }, 5 << 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var address string
			cfg := new(tls.Config)
			if tt.secure == nil {
				address, _ = engineAt(t, HTTPConfig{}, b)
			} else {
				address, cfg, _ = secureEngine(t, HTTPConfig{}, b)
				tt.secure(cfg)
			}
			request := "PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 20000\r\n\r\n" + strings.Repeat("body", 5000)
			fds := make([]int32, 0, 2*n)
			defer func() {
				for _, fd := range fds {
					reactor.Close(fd)
				}
			}()
			open := func() {
				c, err := net.Dial("tcp", address)
				if err != nil {
					t.Fatal(err)
				}
				_ = c.SetDeadline(time.Now().Add(bound))
				fd, err := dupFD(c.(*net.TCPConn))
				if err != nil {
					t.Fatal(err)
				}
				fds = append(fds, fd)
				socket := c
				if tt.secure != nil {
					c = tls.Client(c, cfg)
				}
				io.WriteString(c, request)
				res, err := http.ReadResponse(bufio.NewReader(c), nil)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, res.Body); err != nil {
					t.Fatal(err)
				}
				socket.Close()
			}
			for range 20 {
				open()
			}
			before := heapInUse()
			for range n {
				open()
			}
			each := (heapInUse() - before) / n
			t.Logf("%d bytes for each connection", each)
			if each > tt.most {
				t.Errorf("an idle connection takes %d bytes, want %d at most", each, tt.most)
			}
		})
	}
}

// heapInUse is how much memory is in use.
func heapInUse() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse)
}
