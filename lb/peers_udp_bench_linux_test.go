package lb

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/ipv4"

	"github.com/havip/havip/internal/lab"
)

// udpScenario is how 16 clients ask; each waits for the answers before it asks again.
type udpScenario struct {
	name  string
	fresh bool // each question begins a session, as DNS's do; otherwise they last, as QUIC's
	burst int  // datagrams at once
	size  int  // bytes of each
}

var udpScenarios = []udpScenario{
	{"UDP, lasting", false, 1, 8},
	{"UDP, new sessions", true, 1, 8},
	{"UDP, 16 at once", false, 16, 1200},
}

// BenchmarkPeersUDP sends datagrams to a server that sends each back. HAProxy relays
// no UDP.
func BenchmarkPeersUDP(b *testing.B) {
	lab.Need(b, "nginx")
	l := lab.New(b)
	n := &peersNet{client: l.MustHost("client", "192.0.2.9/24"), lb: l.MustHost("lb", "192.0.2.40/24"), app: l.MustHost("app", "192.0.2.42/24")}
	n.echoUDP(b)
	for range b.N {
		for _, sc := range udpScenarios {
			if chosen("HAVIP_BENCH", sc.name) {
				compareUnder(b, sc.name, []peer{{"havip", n.havipUDP(sc)}, {"nginx stream", n.nginxUDP(sc)}},
					func() (result, float64) { return askAll(b, n.client, sc) })
			}
		}
	}
}

// echoUDP sends back what it gets, as much at once as there is.
func (n *peersNet) echoUDP(b testing.TB) {
	var conn *net.UDPConn
	if err := n.app.Do(func() (err error) {
		conn, err = ListenPacket(b.Context(), "udp4", "192.0.2.42:5300")
		return err
	}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	go func() {
		batch := ipv4.NewPacketConn(conn)
		ms := make([]ipv4.Message, 32)
		buffers := make([][]byte, len(ms))
		for i := range ms {
			buffers[i] = make([]byte, 2048)
			ms[i].Buffers = net.Buffers{buffers[i]}
		}
		for {
			count, err := batch.ReadBatch(ms, 0)
			if err != nil {
				return
			}
			for i := range ms[:count] {
				ms[i].Buffers[0] = buffers[i][:ms[i].N]
			}
			for sent := 0; sent < count; {
				k, err := batch.WriteBatch(ms[sent:count], 0)
				if err != nil {
					return
				}
				sent += k
			}
			for i := range ms[:count] {
				ms[i].Buffers[0] = buffers[i]
			}
		}
	}()
}

func (n *peersNet) havipUDP(sc udpScenario) startBalancer {
	return func(b testing.TB) (func() []int, func()) {
		nd := node{Mode: "udp", Listen: "192.0.2.40:5300", Pool: PoolConfig{Backends: []Backend{{Address: "192.0.2.42:5300"}}}}
		if sc.fresh {
			nd.Responses = 1
		}
		c := nd.start(b, n.lb)
		return func() []int { return []int{c.Pid()} }, n.stop(b, c)
	}
}

func (n *peersNet) nginxUDP(sc udpScenario) startBalancer {
	return func(b testing.TB) (func() []int, func()) {
		dir, responses := b.TempDir(), ""
		if sc.fresh {
			responses = "proxy_responses 1;"
		}
		c := n.lb.Command("nginx", "-e", dir+"/error.log", "-p", dir, "-c", nginxConf(b, dir,
			"stream { server { listen 192.0.2.40:5300 udp reuseport; proxy_pass 192.0.2.42:5300; proxy_timeout 30s; "+responses+" } }"))
		startPeer(b, n.lb, c)
		return func() []int { return []int{c.Pid()} }, c.Kill
	}
}

// askAll asks for two seconds and counts the answers.
func askAll(b testing.TB, h *lab.Host, sc udpScenario) (r result, count float64) {
	const clients, duration = 16, 2 * time.Second
	var mu sync.Mutex
	var times []time.Duration
	answers, lost := 0, 0
	var wg sync.WaitGroup
	dial := func() net.Conn {
		c, err := h.DialContext(context.Background(), "udp", "192.0.2.40:5300")
		if err != nil {
			b.Fatal(err)
		}
		return c
	}
	first := dial() // the balancer has just been started
	ask(b, first, "question")
	first.Close()
	end := time.Now().Add(duration)
	for range clients {
		var sockets []net.Conn
		for range map[bool]int{false: 1, true: 300}[sc.fresh] {
			sockets = append(sockets, dial())
		}
		wg.Go(func() {
			var mine []time.Duration
			question, buf := make([]byte, sc.size), make([]byte, 2048)
			got, missed := 0, 0
			for i := 0; time.Now().Before(end); i++ {
				c := sockets[i%len(sockets)]
				start := time.Now()
				for range sc.burst {
					c.Write(question)
				}
				_ = c.SetReadDeadline(start.Add(time.Second))
				before := got
				for range sc.burst {
					if _, err := c.Read(buf); err != nil {
						break
					}
					got++
				}
				missed += sc.burst - (got - before)
				mine = append(mine, time.Since(start))
			}
			for _, c := range sockets {
				c.Close()
			}
			mu.Lock()
			defer mu.Unlock()
			times = append(times, mine...)
			answers += got
			lost += missed
		})
	}
	wg.Wait()
	if answers == 0 {
		b.Fatal("no question was answered")
	}
	r = resultOf(times, duration)
	r.rate = float64(answers) / duration.Seconds()
	if lost > 0 {
		r.errors = fmt.Sprintf("%d lost", lost)
	}
	return r, float64(answers)
}
