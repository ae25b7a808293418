package admin

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkScrape is what the answer to GET /metrics costs, without the status and the
// connection: of the scenario's configuration, which has one router, one check and one service with three
// backends, and of one with a thousand backends.
func BenchmarkScrape(b *testing.B) {
	for _, backends := range []int{3, 1000} {
		b.Run(fmt.Sprintf("backends=%d", backends), func(b *testing.B) {
			m := newMetrics(newShown(fullStatus(backends)))
			size := len(scrape(m))
			b.ReportAllocs()
			began := processorTime(b)
			for b.Loop() {
				_, release := m.fill()
				release()
			}
			b.ReportMetric(float64((processorTime(b)-began).Nanoseconds())/1e3/float64(b.N), "cpu-µs/scrape")
			b.ReportMetric(float64(size), "bytes/scrape")
		})
	}
}

// processorTime is what the process has used: that counts, on a machine that has other
// things to do.
func processorTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
