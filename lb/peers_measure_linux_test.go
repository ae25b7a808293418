package lb

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// This file's helpers measure balancers, and print what they found out.

// children are the processes whose parent is pid.
func children(pid int) (pids []int) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for _, f := range strings.Fields(string(b)) {
		if n, err := strconv.Atoi(f); err == nil {
			pids = append(pids, n)
		}
	}
	return pids
}

// cpuTime is the time that the processes have spent on processors. It is summed over
// their threads, to the nanosecond; /proc/PID/stat counts whole ticks.
func cpuTime(pids []int) (d time.Duration) {
	for _, pid := range pids {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		for _, path := range threads {
			b, err := os.ReadFile(path)
			if err != nil {
				continue
			}
			n, _ := strconv.ParseInt(strings.Fields(string(b))[0], 10, 64)
			d += time.Duration(n)
		}
	}
	return d
}

// memory is what the processes have in memory, in bytes: pss counts a page that several
// processes have in parts, rss in each of them.
func memory(pids []int) (pss, rss int) {
	for _, pid := range pids {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if len(f) < 2 {
				continue
			}
			kb, _ := strconv.Atoi(f[1])
			switch f[0] {
			case "Pss:":
				pss += kb << 10
			case "Rss:":
				rss += kb << 10
			}
		}
	}
	return pss, rss
}

// result is what one run measured.
type result struct {
	rate     float64 // requests per second
	cpu      float64 // microseconds of the balancer per request
	p50, p99 float64 // milliseconds
	memory   float64 // MB of the balancer after the load, by PSS
	errors   string
	calls    string // system calls per request, if they were counted
}

// chosen reports whether the variable, a regular expression, matches a part of the name.
func chosen(variable, name string) bool {
	return regexp.MustCompile(os.Getenv(variable)).MatchString(name)
}

// benchTime is how long a load takes.
var benchTime = cmp.Or(os.Getenv("HAVIP_BENCH_TIME"), "2s")

// benchRounds is how often each balancer is measured.
func benchRounds(usual int) int {
	if n, err := strconv.Atoi(os.Getenv("HAVIP_BENCH_ROUNDS")); err == nil {
		return n
	}
	return usual
}

// benchLoad loads the balancer. It returns what it found out, with the number of what
// it calls a request.
type benchLoad func() (result, float64)

// compare runs every scenario against every peer and prints medians and ratios.
func compare(b *testing.B, n *peersNet, peers []peer, scenarios []scenario) {
	for _, sc := range scenarios {
		if chosen("HAVIP_BENCH", sc.name) {
			compareUnder(b, sc.name, peers, func() (result, float64) { return n.wrk(b, sc) })
		}
	}
}

// compareUnder runs a load against every peer and prints medians and ratios.
func compareUnder(b *testing.B, name string, peers []peer, load benchLoad) {
	printTable(name, peers, alternate(b, peers, benchRounds(3), load))
}

// alternate runs a load against one peer after the other, again and again.
func alternate(b testing.TB, peers []peer, rounds int, load benchLoad) [][]result {
	results := make([][]result, len(peers))
	for range rounds {
		for i, p := range peers {
			results[i] = append(results[i], p.measure(b, load))
		}
	}
	return results
}

// measure runs the peer for one load.
func (p peer) measure(b testing.TB, load benchLoad) result {
	pids, stop := p.start(b)
	defer stop()
	counted := countCalls(b, pids())
	before := cpuTime(pids())
	r, count := load()
	r.cpu = float64(cpuTime(pids())-before) / float64(time.Microsecond) / count
	pss, _ := memory(pids())
	r.memory = float64(pss) / (1 << 20)
	r.calls = counted(count)
	return r
}

// printTable prints medians; the first peer is the one that others are compared with.
func printTable(name string, peers []peer, results [][]result) {
	fmt.Printf("\n%-18s %12s %8s %10s %8s %9s %9s\n", name, "per second", "ratio", "CPU us", "ratio", "p50 ms", "p99 ms")
	for i, p := range peers {
		mine, r := median(results[0]), median(results[i])
		fmt.Printf("  %-16s %12.0f %8.2f %10.1f %8.2f %9.2f %9.2f %s\n", p.name, r.rate, mine.rate/r.rate, r.cpu, r.cpu/mine.cpu, r.p50, r.p99, r.errors)
	}
}

func median(rs []result) result {
	m := result{
		rate: medianOf(rs, func(r result) float64 { return r.rate }), cpu: medianOf(rs, func(r result) float64 { return r.cpu }),
		p50: medianOf(rs, func(r result) float64 { return r.p50 }), p99: medianOf(rs, func(r result) float64 { return r.p99 }),
		memory: medianOf(rs, func(r result) float64 { return r.memory }),
	}
	for _, r := range rs {
		m.errors, m.calls = cmp.Or(r.errors, m.errors), cmp.Or(r.calls, m.calls)
	}
	return m
}

// medianOf is the median of one figure.
func medianOf(rs []result, figure func(result) float64) float64 {
	var v []float64
	for _, r := range rs {
		v = append(v, figure(r))
	}
	slices.Sort(v)
	return v[len(v)/2]
}

// wrk runs the load and returns what it says, with the number of requests.
func (n *peersNet) wrk(b testing.TB, sc scenario) (r result, count float64) {
	b.Helper()
	args := append(strings.Fields(sc.load), "-d", benchTime, "--latency")
	scheme := "http"
	if n.cert != "" {
		scheme = "https"
	}
	args = append(append(args, sc.extra...), scheme+"://"+balancerAddress+sc.path)
	out, err := output(n.client, "wrk", args...)
	if err != nil {
		b.Fatalf("wrk: %v: %s", err, out)
	}
	find := func(pattern string) string {
		m := regexp.MustCompile(pattern).FindStringSubmatch(out)
		if m == nil {
			b.Fatalf("no %q in wrk's output:\n%s", pattern, out)
		}
		return m[1]
	}
	r.rate, _ = strconv.ParseFloat(find(`Requests/sec:\s+([\d.]+)`), 64)
	count, _ = strconv.ParseFloat(find(`(\d+) requests in`), 64)
	milliseconds := func(s string) float64 {
		d, err := time.ParseDuration(s)
		if err != nil {
			b.Fatal(err)
		}
		return float64(d) / float64(time.Millisecond)
	}
	r.p50, r.p99 = milliseconds(find(`(?m)^\s+50%\s+(\S+)`)), milliseconds(find(`(?m)^\s+99%\s+(\S+)`))
	if m := regexp.MustCompile(`Socket errors: .*|Non-2xx.*`).FindString(out); m != "" {
		r.errors = m
	}
	return r, count
}
