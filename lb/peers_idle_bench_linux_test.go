package lb

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkPeersIdle measures the memory that an idle connection takes after an exchange.
// Run it with
//
//	go test ./lb -run '^$' -bench PeersIdle -benchtime 1x
func BenchmarkPeersIdle(b *testing.B) {
	n := newPeersNet(b, "nginx", "haproxy")
	cert := newCertificate(b)
	for range b.N {
		fmt.Printf("\n%-18s %12s %12s %8s   KB per idle connection\n", "", "havip", "haproxy", "ratio")
		for _, sc := range []struct {
			name, cert string
			backendTLS bool
		}{
			{"tcp", "", false},
			{"tcp, TLS", cert, false},
			{"tcp, backend_tls", "", true},
			{"tcp, both", cert, true},
		} {
			if !chosen("HAVIP_BENCH", sc.name) {
				continue
			}
			n.cert, n.backendTLS = sc.cert, sc.backendTLS
			havip, _ := n.idle(b, n.havip("tcp"), "/8k", 1000)
			haproxy, _ := n.idle(b, n.haproxy(""), "/8k", 1000)
			fmt.Printf("  %-16s %12.1f %12.1f %8.2f\n", sc.name, havip, haproxy, haproxy/havip)
		}
	}
}

// idle returns what a connection takes while it is idle, in KB by both ways to count
// memory. Each has had one answer of path.
func (n *peersNet) idle(b testing.TB, start startBalancer, path string, count int) (pss, rss float64) {
	pids, stop := start(b)
	defer stop()
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	conns = n.openIdle(b, path, 20)
	pss1, rss1 := memory(pids())
	conns = append(conns, n.openIdle(b, path, count)...)
	time.Sleep(3 * time.Second) // whoever gives back memory of idle connections has done so
	pss2, rss2 := memory(pids())
	return float64(pss2-pss1) / 1024 / float64(count), float64(rss2-rss1) / 1024 / float64(count)
}

// openIdle opens so many connections, eight at a time, that each have got an answer.
func (n *peersNet) openIdle(b testing.TB, path string, count int) []net.Conn {
	b.Helper()
	conns := make([]net.Conn, count)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := int(next.Add(1)); i <= count && !b.Failed(); i = int(next.Add(1)) {
				c, err := n.ask(path)
				if err != nil {
					b.Error(err)
					return
				}
				conns[i-1] = c
			}
		})
	}
	wg.Wait()
	if b.Failed() {
		b.FailNow()
	}
	return conns
}

// ask opens a connection and reads one answer.
func (n *peersNet) ask(path string) (net.Conn, error) {
	c, err := n.client.DialContext(context.Background(), "tcp", balancerAddress)
	if err != nil {
		return nil, err
	}
	if n.cert != "" {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	}
	_ = c.SetDeadline(time.Now().Add(10 * time.Minute))
	if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return nil, err
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, errors.New(res.Status)
	}
	return c, nil
}
