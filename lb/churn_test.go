package lb

import (
	"flag"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab/labtest"
)

// mortal is a backend that dies and comes back on the same address. It answers
// what it is sent with its name in front.
type mortal struct {
	name, address string
	mu            sync.Mutex
	ln            net.Listener
}

func (m *mortal) live(t *testing.T) error {
	ln, err := net.Listen("tcp", m.address)
	if err != nil {
		return err
	}
	m.address = ln.Addr().String()
	m.mu.Lock()
	m.ln = ln
	m.mu.Unlock()
	labtest.Serve(t, ln, func(c net.Conn) {
		b := make([]byte, 64)
		n, err := c.Read(b)
		if err != nil {
			return
		}
		c.Write(append([]byte(m.name+" "), b[:n]...))
		// The client ends first: it must not wait for the port.
		c.Read(b)
	})
	return nil
}

func (m *mortal) die() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ln.Close()
}

var connections = flag.Int("lb.connections", 30000, "how many connections TestConnectionsThroughChange makes")

// Through reloads, changes of health and deaths of backends no connection goes to
// another service's backend, and none is lost that could be tried elsewhere: only
// those that a backend had taken when it died. -lb.connections 1000000 makes it a
// long test.
func TestConnectionsThroughChange(t *testing.T) {
	n := *connections
	if testing.Short() {
		n /= 10
	}
	var broken atomic.Int64 // connections that a backend broke off before it answered
	type service struct {
		tcp     *testTCP
		pool    *Pool
		address string
		mortals []*mortal
		config  []Backend
	}
	var services []*service
	for _, name := range []string{"red", "blue"} {
		s := &service{}
		for i := range 4 {
			m := &mortal{name: name, address: fmt.Sprintf("127.0.0.%d:0", 2+i)}
			if err := m.live(t); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(m.die)
			s.mortals = append(s.mortals, m)
			s.config = append(s.config, Backend{Name: fmt.Sprint(name, i), Address: m.address})
		}
		s.pool = newPool(t, PoolConfig{Name: name, Backends: s.config, FailTimeout: 20 * time.Millisecond})
		s.tcp = tcpWith(TCPConfig{Pool: s.pool, Tries: 4, Record: func(r Record) {
			if r.Backend != "" && r.Reason == "reset" && r.Sent == 0 {
				broken.Add(1)
			}
		}})
		s.address, _ = relay(t, s.tcp)
		services = append(services, s)
	}

	stop := make(chan struct{})
	var churn sync.WaitGroup
	for _, s := range services {
		churn.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-time.After(5 * time.Millisecond):
				}
				victim := s.mortals[i%3] // the fourth always lives
				switch i % 6 {
				case 0, 3:
					victim.die()
					time.Sleep(2 * time.Millisecond)
					if err := victim.live(t); err != nil {
						t.Errorf("%s: %v", victim.name, err)
					}
				case 1:
					s.pool.SetHealth(s.config[i%3].Name, errDown)
				case 2:
					for _, b := range s.config {
						s.pool.SetHealth(b.Name, nil)
					}
				case 4:
					some := append([]Backend(nil), s.config[1+i%2:]...)
					some[0].Weight = 1 + i%5
					if err := s.pool.Update(some); err != nil {
						t.Error(err)
					}
				case 5:
					if err := s.pool.Update(s.config); err != nil {
						t.Error(err)
					}
					if err := s.tcp.Reconfigure(TCPConfig{Pool: s.pool, Tries: 4, Record: s.tcp.Record}); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}

	var lost, misrouted atomic.Int64
	var clients sync.WaitGroup
	for g := range 16 {
		clients.Go(func() {
			s := services[g%2]
			name := s.mortals[0].name
			for i := range n / 16 {
				token := fmt.Sprintf("%d-%d", g, i)
				got, err := exchangeToken(s.address, token)
				switch {
				case err != nil || got == "":
					lost.Add(1)
				case got != name+" "+token:
					misrouted.Add(1)
					t.Errorf("%s: got %q for %q", name, got, token)
				}
			}
		})
	}
	start := time.Now()
	clients.Wait()
	close(stop)
	churn.Wait()
	var failed, retries uint64
	for _, s := range services {
		waitFor(t, "connections to end", func() bool { return s.tcp.Stats().Active == 0 })
		failed += s.tcp.Stats().Failed
		retries += s.tcp.Stats().Retries
	}
	t.Logf("%d connections in %v: %d connects repeated elsewhere, %d broken off by a dying backend, %d lost, %d misrouted",
		n/16*16, time.Since(start).Round(time.Millisecond), retries, broken.Load(), lost.Load(), misrouted.Load())
	if failed > 0 {
		t.Errorf("%d connections found no backend although one was always alive", failed)
	}
	if lost.Load() > broken.Load() {
		t.Errorf("%d connections were lost, but only %d were broken off by a backend", lost.Load(), broken.Load())
	}
	if retries == 0 {
		t.Error("nothing was ever retried: the backends did not die at all")
	}
}

// exchangeToken sends the token, and returns the answer.
func exchangeToken(address, token string) (string, error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return "", err
	}
	defer c.Close()
	// A reset leaves no port waiting.
	defer c.(*net.TCPConn).SetLinger(0)
	_ = c.SetDeadline(time.Now().Add(bound))
	if _, err := io.WriteString(c, token); err != nil {
		return "", err
	}
	b := make([]byte, 64)
	n, err := io.ReadAtLeast(c, b, len(token)+4)
	if err != nil {
		return strings.TrimSpace(string(b[:n])), err
	}
	return string(b[:n]), nil
}
