package lb

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab/labtest"
)

var requests = flag.Int("lb.requests", 20000, "how many requests TestRequestsThroughChange makes")

// mortalWeb is a backend of HTTP that dies, with its connections, and comes back.
type mortalWeb struct {
	address string
	mu      sync.Mutex
	ln      net.Listener
	conns   map[net.Conn]bool
	cut     atomic.Int64 // connections that it has had when it died
}

func (m *mortalWeb) live(t *testing.T) {
	ln, err := net.Listen("tcp", m.address)
	if err != nil {
		t.Error(err)
		return
	}
	m.mu.Lock()
	m.address, m.ln, m.conns = ln.Addr().String(), ln, make(map[net.Conn]bool)
	m.mu.Unlock()
	labtest.Serve(t, ln, m.serve)
}

// serve answers each request with its target and its body.
func (m *mortalWeb) serve(c net.Conn) {
	m.mu.Lock()
	m.conns[c] = true
	m.mu.Unlock()
	r := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		content, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		answer := req.RequestURI + " " + string(content)
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(answer), answer)
	}
}

func (m *mortalWeb) die() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ln.Close()
	for c := range m.conns {
		_ = c.(*net.TCPConn).SetLinger(0)
		c.Close()
		m.cut.Add(1)
	}
	m.conns = make(map[net.Conn]bool)
}

// TestRequestsThroughChange: through reloads, changes of health and deaths of backends each
// request gets its own answer. Only a POST is lost, and only with a connection that a backend
// has cut. Nothing is left behind. -lb.requests 1000000 makes it a long test.
func TestRequestsThroughChange(t *testing.T) {
	n := *requests
	if testing.Short() {
		n /= 10
	}
	mortals := make([]*mortalWeb, 4)
	bs := make([]Backend, len(mortals))
	for i := range mortals {
		mortals[i] = &mortalWeb{address: fmt.Sprintf("127.0.0.%d:0", 2+i)}
		mortals[i].live(t)
		t.Cleanup(mortals[i].die)
		bs[i] = Backend{Name: fmt.Sprint("b", i), Address: mortals[i].address}
	}
	pool := newPool(t, PoolConfig{Name: "web", Backends: bs, FailTimeout: 20 * time.Millisecond})
	cfg := HandlerConfig{Pool: pool, Tries: 8}
	s, h := shell{HandlerConfig: cfg, tracked: true}.serve(t)
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	heap := liveHeap()
	stop := make(chan struct{})
	var churn, clients sync.WaitGroup
	churn.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
			switch m := mortals[i%3]; i % 5 { // the fourth always lives
			case 0:
				m.die()
				m.live(t)
			case 1:
				pool.SetHealth(bs[i%3].Name, errDown)
			case 2:
				for _, b := range bs {
					pool.SetHealth(b.Name, nil)
				}
			case 3:
				if err := pool.Update(bs[1+i%2:]); err != nil {
					t.Error(err)
				}
			case 4:
				if err := pool.Update(bs); err != nil {
					t.Error(err)
				}
				if err := h.Reconfigure(cfg); err != nil {
					t.Error(err)
				}
			}
		}
	})
	var lost atomic.Int64
	for g := range 16 {
		clients.Go(func() { lost.Add(askThroughChange(t, s.Listener.Addr().String(), g, n/16)) })
	}
	clients.Wait()
	close(stop)
	churn.Wait()
	var cut int64
	for _, m := range mortals {
		cut += m.cut.Load()
	}
	waitFor(t, "the end", func() bool { return h.Stats().Active == 0 })
	st := h.Stats()
	t.Logf("%d requests: %d attempts repeated elsewhere, %d POSTs lost, %d connections cut by backends", st.Accepted, st.Retries, lost.Load(), cut)
	if lost.Load() > cut {
		t.Errorf("%d POSTs were lost, but only %d connections cut", lost.Load(), cut)
	}
	for _, b := range pool.Status().Backends {
		if b.Active != 0 {
			t.Errorf("%s: %d active", b.Name, b.Active)
		}
	}
	// Connections that are kept have a goroutine or two each.
	waitFor(t, "goroutines to end", func() bool { return runtime.NumGoroutine() < goroutines+200 })
	// Both ends of those that each loop may keep to each backend are here.
	most := files + 2*16*len(mortals)*runtime.GOMAXPROCS(0)
	waitFor(t, "descriptors to be closed", func() bool { return openFiles(t) <= most })
	if grown := liveHeap() - heap; grown > 32<<20 {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
}

// liveHeap is how many bytes of the heap are in use.
func liveHeap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// askThroughChange makes n requests on connections that last for a while, and returns how many
// POSTs were lost.
func askThroughChange(t *testing.T, address string, client, n int) (lost int64) {
	var c *reader
	for i := range n {
		if c == nil {
			c = newReader(t, address)
		}
		_ = c.SetDeadline(time.Now().Add(bound))
		method := []string{"GET", "POST", "PUT", "GET"}[i%4]
		content := strings.Repeat("x", i%4*10)
		want := fmt.Sprintf("/%d-%d %s", client, i, content)
		res, got, err := c.ask(t, fmt.Sprintf("%s /%d-%d HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", method, client, i, len(content), content))
		switch {
		case err == nil && res.StatusCode == 200 && got == want:
		case err == nil && res.StatusCode == 502 && method == "POST":
			lost++
		case err != nil:
			t.Errorf("%s: %q, %v", method, got, err)
		default:
			t.Errorf("%s: %d %q, want %q", method, res.StatusCode, got, want)
		}
		if err != nil || i%100 == 99 || i == n-1 {
			c.Close()
			c = nil
		}
	}
	return lost
}
