package lb

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// slowClients is how many clients TestSlowClientsHinderNobody has; each needs up to four
// descriptors here.
const slowClients = 2000

// TestSlowClientsHinderNobody: clients that send the header, or the body, a byte at a time, and
// clients that do not read the response, take no other client's turn. Those that go on are
// served as well.
func TestSlowClientsHinderNobody(t *testing.T) {
	t.Run("no rules", func(t *testing.T) { testSlowClients(t, slowClients, HandlerConfig{}) })
	t.Run("rules", func(t *testing.T) {
		cfg := quietRules()
		cfg.RequestsPerClient, cfg.RequestRate = 0, 0 // all have one address
		cfg.Buffering, cfg.BufferFolder = BufferingOn, t.TempDir()
		testSlowClients(t, slowClients/4, cfg)
	})
}

func testSlowClients(t *testing.T, n int, cfg HandlerConfig) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Cur < uint64(5*n) || testing.Short() {
		n = 200
	}
	large := strings.Repeat("x", 256<<10)
	address, h := listening(t, cfg, webBackend(t, func(w http.ResponseWriter, r *http.Request) {
		content, err := io.ReadAll(r.Body)
		switch {
		case err != nil:
		case r.URL.Path == "/large":
			io.WriteString(w, large)
		default:
			_, _ = w.Write(append(content, "ok"...))
		}
	}))
	slow := make([]*slowClient, n)
	for i := range slow {
		slow[i] = newSlowClient(t, address, i*3/n)
	}
	stop := make(chan struct{})
	var sent atomic.Int64
	var trickling, others sync.WaitGroup
	for _, s := range slow[:n/3*2] {
		trickling.Go(func() { s.trickle(stop, &sent) })
	}
	for range 8 {
		others.Go(func() {
			c := newReader(t, address)
			_ = c.SetDeadline(time.Now().Add(6 * bound))
			for range 100 {
				if _, got, err := c.ask(t, aPost); err != nil || got != "abcok" {
					t.Errorf("%q, %v", got, err)
					return
				}
			}
		})
	}
	others.Wait()
	if a := h.Stats().Active; a < int64(n/4) {
		t.Errorf("%d requests are under way, want those of the slow clients, %d at least", a, n/4)
	}
	waitFor(t, "them to send", func() bool { return sent.Load() >= int64(n) })
	close(stop)
	trickling.Wait()
	t.Logf("%d slow clients sent %d bytes, one by one, meanwhile", n, sent.Load())
	for i, s := range slow {
		if s.want > 0 { // those that read slowly leave
			if err := s.finish(); err != nil {
				t.Errorf("slow client %d: %v", i, err)
			}
		}
		s.Close()
	}
	waitFor(t, "the end", func() bool { return h.Stats().Active == 0 })
	if st := h.pool().Status().Backends[0]; st.Failures != 0 {
		t.Errorf("%+v", st)
	}
}

// slowClient sends the rest of what it has to say at its leisure.
type slowClient struct {
	net.Conn
	r    *bufio.Reader
	rest string
	want int // bytes of the response's body; 0: it is not read
}

// newSlowClient returns one with a slow header, a slow body, or one that reads slowly.
func newSlowClient(t *testing.T, address string, kind int) *slowClient {
	c := newReader(t, address)
	_ = c.SetDeadline(time.Now().Add(6 * bound))
	s := &slowClient{Conn: c.Conn, r: bufio.NewReaderSize(c.Conn, 16), want: len("ok")}
	pad := strings.Repeat("y", 5000)
	switch kind {
	case 0:
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
		s.rest = pad + "\r\n\r\n"
	case 1:
		fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", len(pad))
		s.rest, s.want = pad, len(pad)+len("ok")
	default:
		_ = c.Conn.(*net.TCPConn).SetReadBuffer(4096)
		io.WriteString(c, "GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
		s.want = 0
	}
	return s
}

// trickle sends a byte now and then, which it counts.
func (s *slowClient) trickle(stop <-chan struct{}, sent *atomic.Int64) {
	for len(s.rest) > 1000 {
		select {
		case <-stop:
			return
		case <-time.After(time.Second):
		}
		if _, err := io.WriteString(s.Conn, s.rest[:1]); err != nil {
			return
		}
		s.rest = s.rest[1:]
		sent.Add(1)
	}
}

// finish sends the rest, and reads the response.
func (s *slowClient) finish() error {
	if _, err := io.WriteString(s.Conn, s.rest); err != nil {
		return err
	}
	res, err := http.ReadResponse(s.r, nil)
	if err != nil {
		return err
	}
	got, err := io.Copy(io.Discard, res.Body)
	if err == nil && got != int64(s.want) {
		err = fmt.Errorf("%d, %d bytes, want %d", res.StatusCode, got, s.want)
	}
	return err
}
