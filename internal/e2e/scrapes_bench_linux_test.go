package e2e

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
)

var scrapesTime = flag.Duration("scrapes.time", 10*time.Second, "how long BenchmarkScrapes watches, with scrapes and without")

// scrapesInterval is that of the advertisements, and late is how long after the advertisement
// before it one is counted as late.
const scrapesInterval, scrapesLate = 10 * time.Millisecond, 15 * time.Millisecond

// BenchmarkScrapes asks the Active node of a pair for its metrics a hundred times a second,
// while it advertises each 10 ms, at real-time priority 10:
//
//	go test ./internal/e2e -run '^$' -bench Scrapes -benchtime 1x
//
// cpu-µs/scrape is the processor time of the node that a scrape costs, the connection
// included, and scrapes-cpu% what a hundred of them in a second take of a core; idle-cpu% is
// what the node takes without any. late and late-idle are the advertisements that came more
// than 5 ms late, with scrapes and without, of all in the same time; transitions those of
// both nodes, from the beginning of the scrapes on.
func BenchmarkScrapes(b *testing.B) {
	for _, backends := range []int{3, 1000} {
		b.Run(fmt.Sprintf("backends=%d", backends), func(b *testing.B) {
			for range b.N {
				benchScrapes(b, backends)
			}
		})
	}
}

func benchScrapes(b *testing.B, backends int) {
	l := lab.New(b)
	defer l.Close()
	var nodes [2]*lab.Cmd
	for i := range nodes {
		h := l.MustHost(fmt.Sprintf("lb%02d", i+1), fmt.Sprintf("192.168.31.%d/24", 240+i))
		file := filepath.Join(b.TempDir(), "havip.yaml")
		if err := os.WriteFile(file, scrapesConfig(i, backends), 0o600); err != nil {
			b.Fatal(err)
		}
		nodes[i] = h.Command(havip(b), "run", "--realtime", "10", "-c", file)
		nodes[i].Private = true
		if err := nodes[i].Start(); err != nil {
			b.Fatal(err)
		}
		defer nodes[i].Stop(20 * time.Second)
	}
	mon := l.MustHost("mon", "192.168.31.9/24")
	lan, err := l.Segment("lan")
	if err != nil {
		b.Fatal(err)
	}
	wire, err := lan.Capture(lab.Protocol(112), func(f lab.Frame) bool { return bytes.HasPrefix(f.Data[26:], []byte{192, 168, 31, 240}) })
	if err != nil {
		b.Fatal(err)
	}
	c := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableCompression: true, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		return mon.DialContext(ctx, network, address)
	}}}
	defer c.CloseIdleConnections()
	lab.Until(b, 60*time.Second, "LB-01 is Active", func() bool {
		text, _ := scrapeOnce(c)
		return strings.Contains(text, `havip_router_state{router="VI_1",state="active"} 1`)
	})
	time.Sleep(2 * time.Second) // the first probes are over
	watch := func(each func()) (cpu time.Duration, late, all int) {
		before, from := labtest.ProcessorTime(nodes[0].Pid()), time.Now()
		each()
		cpu = labtest.ProcessorTime(nodes[0].Pid()) - before
		late, all = lateAdvertisements(wire, from, time.Now())
		return cpu, late, all
	}
	idle, lateIdle, _ := watch(func() { time.Sleep(*scrapesTime) })
	transitions := func() int {
		return strings.Count(nodes[0].Output(), " msg=state ") + strings.Count(nodes[1].Output(), " msg=state ")
	}
	before, scrapes, size := transitions(), 0, 0
	busy, late, all := watch(func() {
		ticks := time.NewTicker(10 * time.Millisecond)
		defer ticks.Stop()
		for end := time.Now().Add(*scrapesTime); time.Now().Before(end); <-ticks.C {
			text, err := scrapeOnce(c)
			if err != nil {
				b.Error(err)
			}
			scrapes, size = scrapes+1, len(text)
		}
	})
	one := float64((busy - idle).Microseconds()) / float64(scrapes)
	b.ReportMetric(one, "cpu-µs/scrape")
	b.ReportMetric(one*100/1e6*100, "scrapes-cpu%")
	b.ReportMetric(100*float64(idle)/float64(*scrapesTime), "idle-cpu%")
	b.ReportMetric(float64(scrapes)/scrapesTime.Seconds(), "scrapes/s")
	b.ReportMetric(float64(size), "bytes/scrape")
	b.ReportMetric(float64(late), "late")
	b.ReportMetric(float64(lateIdle), "late-idle")
	b.ReportMetric(float64(all), "advertisements")
	b.ReportMetric(float64(transitions()-before), "transitions")
	b.ReportMetric(0, "ns/op")
}

// scrapesConfig is the scenario's configuration with short intervals, and so many backends,
// none of which is there.
func scrapesConfig(side, backends int) []byte {
	var f bytes.Buffer
	fmt.Fprintf(&f, `admin: {listen: "192.168.31.%d:9650"}
log: {level: info}
checks:
  balancer: {type: tcp, address: "127.0.0.1:8080", interval: 1s}
vrrp:
  - name: VI_1
    interface: eth0
    vrid: 51
    priority: %d
    interval: %v
    peers: [192.168.31.%d]
    addresses: [192.168.31.250/24]
    track: [{check: balancer}]
services:
  - name: web
    listen: ":8080"
    mode: http
    backends:
`, 240+side, 120-10*side, scrapesInterval, 241-side)
	for i := range backends {
		fmt.Fprintf(&f, "      - 192.168.31.242:%d\n", 8080+i)
	}
	return f.Bytes()
}

// scrapeOnce returns the metrics of LB-01, over a connection that is kept.
func scrapeOnce(c *http.Client) (string, error) {
	r, err := c.Get("http://192.168.31.240:9650/metrics")
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", r.StatusCode, text)
	}
	return string(text), err
}

// lateAdvertisements counts the advertisements between two times.
func lateAdvertisements(wire *lab.Capture, from, to time.Time) (late, all int) {
	var last time.Time
	for _, f := range wire.Packets() {
		if f.Time.Before(from) || f.Time.After(to) {
			continue
		}
		if all++; !last.IsZero() && f.Time.Sub(last) > scrapesLate {
			late++
		}
		last = f.Time
	}
	return late, all
}
