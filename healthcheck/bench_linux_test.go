package healthcheck

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// BenchmarkTCPMonitors is the load that a big installation makes: 10,000
// backends, each probed every 2 s. One iteration is one interval. The server
// is another process and not counted.
func BenchmarkTCPMonitors(b *testing.B) {
	address := startServer(b)
	benchmarkMonitors(b, TCP{Address: address})
}

// BenchmarkIdleMonitors is the same with a check that does nothing: what is
// left is the Monitor itself.
func BenchmarkIdleMonitors(b *testing.B) {
	benchmarkMonitors(b, CheckerFunc(func(context.Context) error { return nil }))
}

// BenchmarkTCPCheck is one check after the other, without a Monitor.
func BenchmarkTCPCheck(b *testing.B) {
	c := TCP{Address: startServer(b)}
	for b.Loop() {
		if err := c.Check(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

func benchmarkMonitors(b *testing.B, checker Checker) {
	const count, interval = 10_000, 2 * time.Second
	before := memory()
	ctx, cancel := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	monitors := make([]*Monitor, count)
	for i := range monitors {
		m, err := NewMonitor(Config{Checker: checker, Interval: interval, StartSpread: interval, Timeout: interval / 2})
		if err != nil {
			b.Fatal(err)
		}
		monitors[i] = m
		wg.Go(func() { _ = m.Run(ctx) })
	}
	time.Sleep(interval + interval/2) // until all of them probe at their intervals

	started, probesBefore, cpuBefore := time.Now(), totals(monitors), cpuTime()
	b.ResetTimer()
	for range b.N {
		time.Sleep(interval)
	}
	b.StopTimer()
	cpu, elapsed := cpuTime()-cpuBefore, time.Since(started)
	probes := totals(monitors).Probes - probesBefore.Probes
	if probes == 0 {
		b.Fatal("no probes")
	}
	// On a busy machine probes come late or time out. The figures are worth something only
	// if no probe failed.
	b.ReportMetric(float64(totals(monitors).Failed), "failed")
	b.ReportMetric(float64(probes)/elapsed.Seconds(), "probes/s")
	b.ReportMetric(100*cpu.Seconds()/elapsed.Seconds(), "%core")
	b.ReportMetric(float64(cpu.Microseconds())/float64(probes), "µs-cpu/probe")
	b.ReportMetric(float64(memory()-before)/count, "B/monitor")
	b.ReportMetric(float64(threads(b)), "threads")
}

// totals adds up what the monitors counted.
func totals(monitors []*Monitor) (sum Status) {
	for _, m := range monitors {
		s := m.Status()
		sum.Probes += s.Probes
		sum.Failed += s.Failed
	}
	return sum
}

// memory returns the bytes of heap and stacks that are in use.
func memory() uint64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapInuse + s.StackInuse
}

func cpuTime() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func threads(b *testing.B) int {
	entries, err := os.ReadDir("/proc/self/task")
	if err != nil {
		b.Fatal(err)
	}
	return len(entries)
}

// startServer starts a TCP server in a process of its own.
func startServer(tb testing.TB) (address string) {
	tb.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serverEnv+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		tb.Fatal(err)
	}
	return strings.TrimSpace(line)
}
