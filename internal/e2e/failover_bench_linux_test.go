package e2e

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
)

var failoverTrials = flag.Int("failover.trials", 20, "BenchmarkFailover: trials with each program")

// BenchmarkFailover compares pairs of havip with pairs of keepalived, in
// alternation: for how long a client that asks every millisecond has no answer
// when the node that has the address is stopped by its administrator, and when
// its power fails.
//
//	go test ./internal/e2e -run '^$' -bench Failover -benchtime 1x -timeout 30m
//
// The past metrics are by how much the first answer came later than the
// protocol's timers allow: the skew time after priority 0, or three intervals
// and the skew time after the last advertisement that LB-02 heard. ratio is of
// the medians, keepalived is 1.
func BenchmarkFailover(b *testing.B) {
	lab.Need(b, "keepalived")
	lab.New(b) // or say why there cannot be labs
	programs := [2]peer{havipPeer(b), keepalivedPeer}
	causes := []*cause{{name: "SIGTERM", told: true, strike: signal(syscall.SIGTERM)}, powerOff}
	for _, interval := range allIntervals {
		for _, c := range causes {
			b.Run(fmt.Sprintf("interval=%v/%s", interval, strings.ReplaceAll(c.name, " ", "-")), func(b *testing.B) {
				for range b.N {
					failover(b, interval, c, programs)
				}
			})
		}
	}
}

func failover(b *testing.B, interval time.Duration, c *cause, programs [2]peer) {
	atOnce := 1
	if interval == time.Second {
		atOnce = 4 // they do little but wait
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var outage, past [2][]time.Duration
	next := make(chan int)
	for range atOnce {
		wg.Go(func() {
			for i := range next {
				program := i % 2
				tr := &trial{interval: interval, peers: [2]peer{programs[program], programs[program]}, cause: c, fine: true}
				// At every moment between two advertisements, the same for both.
				tr.phase = interval * time.Duration(i/2) / time.Duration(*failoverTrials)
				r, err := tr.run(b.TempDir())
				if err != nil {
					b.Error(err)
					continue
				}
				mu.Lock()
				outage[program] = append(outage[program], r.silence)
				past[program] = append(past[program], r.past)
				mu.Unlock()
			}
		})
	}
	for i := range 2 * *failoverTrials {
		next <- i
	}
	close(next)
	wg.Wait()
	if b.Failed() {
		b.FailNow()
	}
	b.ReportMetric(0, "ns/op") // says nothing here
	for i, p := range programs {
		b.ReportMetric(quantile(outage[i], 0.5), p.name+"-ms")
		b.ReportMetric(quantile(outage[i], 0.99), p.name+"-p99-ms")
		b.ReportMetric(quantile(past[i], 0.5), p.name+"-past-ms")
		b.ReportMetric(quantile(past[i], 0.99), p.name+"-past-p99-ms")
	}
	b.ReportMetric(quantile(outage[0], 0.5)/quantile(outage[1], 0.5), "ratio")
}

// quantile returns a quantile in milliseconds: the least value that so many
// are not above.
func quantile(list []time.Duration, q float64) float64 {
	slices.Sort(list)
	i := int(q*float64(len(list)) + 0.999999)
	return float64(list[max(0, min(i, len(list))-1)]) / float64(time.Millisecond)
}
