package lb

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
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
			name, cert string
			count      int
		}{{"accept", "", 6000}, {"accept, TLS", cert, 1500}} {
			n.cert = sc.cert
			if chosen("HAVIP_BENCH", sc.name) {
				compareUnder(b, sc.name, n.peers(sc.cert), func() (result, float64) { return n.openAll(b, "/1", sc.count, false) })
			}
		}
	}
}

// openAll opens so many connections, 16 at a time. With TLS each has a whole handshake, or
// else resumes the session of the one before: anything else is an error. wrk would be a
// cheaper client, but resumes sessions whenever it can, and does not tell.
func (n *peersNet) openAll(b testing.TB, path string, count int, resume bool) (r result, opened float64) {
	b.Helper()
	var mu sync.Mutex
	var times []time.Duration
	var next, failed atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for range 16 {
		wg.Go(func() {
			// all servers know X25519; Go's would agree on a costlier exchange with Go's client
			cfg := &tls.Config{InsecureSkipVerify: true, ServerName: "lb.test", CurvePreferences: []tls.CurveID{tls.X25519}}
			if resume {
				cfg.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			}
			var mine []time.Duration
			err := n.client.Do(func() error {
				for next.Add(1) <= int64(count) {
					start := time.Now()
					resumed, err := n.openOne(cfg, path)
					if err != nil || n.cert != "" && resumed != (resume && len(mine) > 0) {
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
func (n *peersNet) openOne(cfg *tls.Config, path string) (resumed bool, err error) {
	c, err := (&net.Dialer{Timeout: bound}).DialContext(context.Background(), "tcp", balancerAddress)
	if err != nil {
		return false, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(bound))
	var encrypted *tls.Conn
	if n.cert != "" {
		encrypted = tls.Client(c, cfg)
		c = encrypted
	}
	if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: lb.test\r\nConnection: close\r\n\r\n"); err != nil {
		return false, err
	}
	got, err := io.ReadAll(c)
	if err == nil && !strings.HasPrefix(string(got), "HTTP/1.1 200 ") {
		err = fmt.Errorf("got %.20q", got)
	}
	return encrypted != nil && encrypted.ConnectionState().DidResume, err
}

// resultOf is what is known from how long each of the requests took, and all together.
func resultOf(times []time.Duration, took time.Duration) result {
	slices.Sort(times)
	ms := func(q float64) float64 {
		return float64(times[int(q*float64(len(times)-1))]) / float64(time.Millisecond)
	}
	return result{rate: float64(len(times)) / took.Seconds(), p50: ms(0.5), p99: ms(0.99)}
}
