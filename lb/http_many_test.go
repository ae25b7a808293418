package lb

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// sized is a backend that answers with as many bytes as the path says, and tells each response
// from others. It returns what the request has brought.
func sized(t *testing.T) Backend {
	return webBackend(t, func(w http.ResponseWriter, r *http.Request) {
		got, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		w.Header().Set("Got", fmt.Sprintf("%d %s", len(got), r.URL.Path))
		n, _ := strconv.Atoi(strings.Split(r.URL.Path, "/")[1])
		_, _ = w.Write(append(pattern(r.URL.Path, n), got...))
	})
}

// pattern returns n bytes that no other name has.
func pattern(name string, n int) []byte {
	return bytes.Repeat([]byte(name+" "), n/(len(name)+1)+1)[:n]
}

// crowd is many clients that send many requests each.
type crowd struct {
	clients, requests  int
	down, up, variants int // bytes of a response and of a request, and how much more it may be
	slow, tls          bool
}

// request returns the path of one of the requests, its body, and the body of its response.
func (m *crowd) request(client, serial int) (path string, up, down []byte) {
	more := (client*m.requests + serial) * 37 % m.variants
	n := m.down + more
	path = fmt.Sprintf("/%d/%d/%d", n, client, serial)
	if m.up > 0 {
		up = pattern("up"+path, m.up+more)
	}
	return path, up, append(pattern(path, n), up...)
}

// dial connects one of the clients.
func (m *crowd) dial(t *testing.T, address string) net.Conn {
	c := dialTest(t, address)
	if m.slow {
		_ = c.SetReadBuffer(4096)
	}
	_ = c.SetDeadline(time.Now().Add(10 * bound)) // there are many of them
	if m.tls {
		return tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	}
	return c
}

// ask sends all requests of a client, and reads the responses.
func (m *crowd) ask(t *testing.T, client int, c net.Conn) {
	go func() {
		for k := range m.requests {
			path, up, _ := m.request(client, k)
			fmt.Fprintf(c, "PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", path, len(up), up)
		}
	}()
	r := bufio.NewReaderSize(c, 512)
	for k := range m.requests {
		path, up, want := m.request(client, k)
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			return
		}
		if m.slow && k%10 == 0 {
			time.Sleep(20 * time.Millisecond)
		}
		got, err := io.ReadAll(res.Body)
		if err != nil || !bytes.Equal(got, want) || res.Header.Get("Got") != fmt.Sprintf("%d %s", len(up), path) {
			t.Errorf("%s: %d %v, %d bytes, %v, want %d of its own", path, res.StatusCode, res.Header, len(got), err, len(want))
			return
		}
	}
}

// Each of many clients gets its own responses, whole and in order, whatever they wait for and
// however slowly it takes them.
func TestManyAtOnce(t *testing.T) {
	for name, m := range map[string]crowd{
		"small ones":                          {clients: 100, requests: 40, down: 100, variants: 7},
		"around what waits for others":        {clients: 200, requests: 4, down: 16<<10 - 300, variants: 600},
		"uploads around it":                   {clients: 100, requests: 6, down: 10, up: 16<<10 - 300, variants: 600},
		"both ways, with TLS":                 {clients: 50, requests: 6, down: 8 << 10, up: 8 << 10, variants: 600, tls: true},
		"slow readers that pipeline":          {clients: 50, requests: 30, down: 10 << 10, variants: 100, slow: true},
		"slow readers that pipeline with TLS": {clients: 20, requests: 20, down: 10 << 10, variants: 100, slow: true, tls: true},
		"more than waits for others":          {clients: 50, requests: 4, down: 200 << 10, variants: 1 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			var address string
			if m.tls {
				address = listeningTLS(t, shell{}, sized(t))
			} else {
				address, _ = listening(t, HandlerConfig{}, sized(t))
			}
			var all sync.WaitGroup
			for i := range m.clients {
				c := m.dial(t, address)
				all.Go(func() { m.ask(t, i, c) })
			}
			all.Wait()
		})
	}
}
