package lb

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkPeersAccept opens connections, each for one request: what accepting costs, with
// the connection to a backend that it leads to, and a whole TLS handshake.
func BenchmarkPeersAccept(b *testing.B) {
	n := newPeersNet(b, "nginx", "haproxy")
	cert := newCertificate(b)
	for range b.N {
		for _, sc := range []struct {
			mode, cert string
			count      int
		}{{"tcp", "", 6000}, {"tcp", cert, 1500}, {"http", "", 6000}, {"http", cert, 1500}} {
			n.mode, n.cert = sc.mode, sc.cert
			name := "accept, " + sc.mode
			if sc.cert != "" {
				name += ", TLS"
			}
			if strings.Contains(name, os.Getenv("HAVIP_BENCH")) {
				compareUnder(b, name, n.peers(sc.cert), func() (result, float64) { return n.openAll(b, sc.count) })
			}
		}
	}
}

// openAll opens so many connections, 16 at a time.
func (n *peersNet) openAll(b testing.TB, count int) (r result, opened float64) {
	b.Helper()
	var mu sync.Mutex
	var times []time.Duration
	var next, failed atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for range 16 {
		wg.Go(func() {
			var mine []time.Duration
			err := n.client.Do(func() error {
				for next.Add(1) <= int64(count) {
					start := time.Now()
					if n.openOne() != nil {
						failed.Add(1)
					}
					mine = append(mine, time.Since(start))
				}
				return nil
			})
			if err != nil {
				b.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			times = append(times, mine...)
		})
	}
	wg.Wait()
	r = resultOf(times, time.Since(began))
	if f := failed.Load(); f > 0 {
		r.errors = fmt.Sprintf("%d failed", f)
	}
	return r, float64(count)
}

// openOne opens a connection, in whose namespace it is called, and waits for its end.
func (n *peersNet) openOne() error {
	c, err := (&net.Dialer{Timeout: bound}).DialContext(context.Background(), "tcp", "192.0.2.40:8080")
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(bound))
	if n.cert != "" {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	}
	if _, err := io.WriteString(c, "GET /1 HTTP/1.1\r\nHost: lb.test\r\nConnection: close\r\n\r\n"); err != nil {
		return err
	}
	got, err := io.ReadAll(c)
	if err == nil && !strings.HasPrefix(string(got), "HTTP/1.1 200 ") {
		err = fmt.Errorf("got %.20q", got)
	}
	return err
}

// resultOf is what is known from how long each of the requests took, and all together.
func resultOf(times []time.Duration, took time.Duration) result {
	slices.Sort(times)
	ms := func(q float64) float64 {
		return float64(times[int(q*float64(len(times)-1))]) / float64(time.Millisecond)
	}
	return result{rate: float64(len(times)) / took.Seconds(), p50: ms(0.5), p99: ms(0.99)}
}
