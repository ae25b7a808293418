package lb

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
)

// BenchmarkPeersUDP asks small questions over sessions that last (as QUIC's do) and
// over new ones (as DNS's are). HAProxy relays no UDP.
func BenchmarkPeersUDP(b *testing.B) {
	lab.Need(b, "nginx")
	l := lab.New(b)
	n := &peersNet{client: l.MustHost("client", "192.0.2.9/24"), lb: l.MustHost("lb", "192.0.2.40/24"), app: l.MustHost("app", "192.0.2.42/24")}
	dir := b.TempDir()
	startPeer(b, n.app, n.app.Command("nginx", "-e", dir+"/error.log", "-p", dir, "-c",
		nginxConf(b, dir, `stream { server { listen 192.0.2.42:5300 udp reuseport; proxy_timeout 1s; return "answer"; } }`)))
	for range b.N {
		for _, fresh := range []bool{false, true} {
			name := map[bool]string{false: "UDP, lasting", true: "UDP, new sessions"}[fresh]
			if !strings.Contains(name, os.Getenv("HAVIP_BENCH")) {
				continue
			}
			peers := []peer{{"havip", n.havipUDP(fresh)}, {"nginx stream", n.nginxUDP(fresh)}}
			results := make([][]result, len(peers))
			for range benchRounds {
				for i, p := range peers {
					pids, stop := p.start(b)
					before := cpu(pids())
					r, count := askAll(b, n.client, fresh)
					r.cpu = float64(cpu(pids())-before) / float64(time.Microsecond) / count
					results[i] = append(results[i], r)
					stop()
				}
			}
			printTable(name, peers, results)
		}
	}
}

func (n *peersNet) havipUDP(fresh bool) func(testing.TB) (func() []int, func()) {
	return func(b testing.TB) (func() []int, func()) {
		nd := node{Mode: "udp", Listen: "192.0.2.40:5300", Pool: PoolConfig{Backends: []Backend{{Address: "192.0.2.42:5300"}}}}
		if fresh {
			nd.Responses = 1
		}
		c := nd.start(b, n.lb)
		return func() []int { return []int{c.Pid()} }, func() {
			if err := c.Stop(bound); err != nil {
				b.Log(err)
			}
		}
	}
}

func (n *peersNet) nginxUDP(fresh bool) func(testing.TB) (func() []int, func()) {
	return func(b testing.TB) (func() []int, func()) {
		dir, responses := b.TempDir(), ""
		if fresh {
			responses = "proxy_responses 1;"
		}
		c := n.lb.Command("nginx", "-e", dir+"/error.log", "-p", dir, "-c", nginxConf(b, dir,
			"stream { server { listen 192.0.2.40:5300 udp reuseport; proxy_pass 192.0.2.42:5300; proxy_timeout 30s; "+responses+" } }"))
		startPeer(b, n.lb, c)
		return func() []int { return []int{c.Pid()} }, c.Kill
	}
}

// askAll asks from 16 clients for two seconds, each as soon as it has its answer.
func askAll(b testing.TB, h *lab.Host, fresh bool) (r result, count float64) {
	const clients, duration = 16, 2 * time.Second
	var mu sync.Mutex
	var times []time.Duration
	lost := 0
	var wg sync.WaitGroup
	dial := func() net.Conn {
		c, err := h.DialContext(context.Background(), "udp", "192.0.2.40:5300")
		if err != nil {
			b.Fatal(err)
		}
		return c
	}
	first := dial() // The balancer has just been started.
	ask(b, first, "question")
	first.Close()
	end := time.Now().Add(duration)
	for range clients {
		var sockets []net.Conn
		for range map[bool]int{false: 1, true: 300}[fresh] {
			sockets = append(sockets, dial())
		}
		wg.Go(func() {
			var mine []time.Duration
			buf := make([]byte, 64)
			missed := 0
			for i := 0; time.Now().Before(end); i++ {
				c := sockets[i%len(sockets)]
				start := time.Now()
				c.Write([]byte("question"))
				_ = c.SetReadDeadline(start.Add(time.Second))
				if _, err := c.Read(buf); err != nil {
					missed++
					continue
				}
				mine = append(mine, time.Since(start))
			}
			for _, c := range sockets {
				c.Close()
			}
			mu.Lock()
			defer mu.Unlock()
			times = append(times, mine...)
			lost += missed
		})
	}
	wg.Wait()
	if len(times) == 0 {
		b.Fatal("no question was answered")
	}
	slices.Sort(times)
	ms := func(q float64) float64 {
		return float64(times[int(q*float64(len(times)-1))]) / float64(time.Millisecond)
	}
	r = result{rate: float64(len(times)) / duration.Seconds(), p50: ms(0.5), p99: ms(0.99)}
	if lost > 0 {
		r.errors = fmt.Sprintf("%d lost", lost)
	}
	return r, float64(len(times))
}
