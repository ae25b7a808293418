package lb

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// BenchmarkHTTPVersions compares mode http of several test binaries of this package, which
// run in turn, in small steps, so that what else the machine does reaches all of them alike:
//
//	go test -c -o /tmp/old.test ./lb    # then change something
//	go test -c -o /tmp/new.test ./lb
//	HAVIP_BENCH_AB='/tmp/old.test /tmp/new.test' go test ./lb -run '^$' -bench HTTPVersions -benchtime 1x
//
// HAVIP_BENCH chooses scenarios of BenchmarkPeersHTTP, and is "small, 64" if it is empty.
// HAVIP_BENCH_ROUNDS is 15 if it is empty. One binary named twice shows what differences
// mean nothing. FILE=MODE runs another mode of a node, such as net/http or tcp.
func BenchmarkHTTPVersions(b *testing.B) {
	binaries := strings.Fields(os.Getenv("HAVIP_BENCH_AB"))
	if len(binaries) < 2 {
		b.Skip("HAVIP_BENCH_AB names no test binaries")
	}
	if os.Getenv("HAVIP_BENCH") == "" {
		b.Setenv("HAVIP_BENCH", "^small, 64$")
	}
	n := newPeersNet(b, "wrk", "h2load", "nginx")
	cert := newCertificate(b)
	for range b.N {
		for _, sc := range n.httpScenarios(b) {
			if !chosen("HAVIP_BENCH", sc.name) {
				continue
			}
			n.cert = ""
			if sc.secure {
				n.cert = cert
			}
			n.compareVersions(b, sc, binaries)
		}
	}
}

// compareVersions prints the medians of each binary, and its ratios to the first one.
func (n *peersNet) compareVersions(b testing.TB, sc httpScenario, binaries []string) {
	var peers []peer
	for _, binary := range binaries {
		path, mode, found := strings.Cut(binary, "=")
		if !found {
			mode = "http"
		}
		peers = append(peers, peer{binary, n.havipOf(path, mode)})
	}
	results := alternate(b, peers, benchRounds(15), sc.load)
	fmt.Printf("\n%-18s %9s %8s %14s %10s %8s %8s %6s\n", sc.name, "CPU us", "ratio", "quartiles", "per second", "ratio", "p99 ms", "MB")
	for i, p := range peers {
		r := median(results[i])
		q := quartiles(results[i], results[0], cpuOf)
		fmt.Printf("  %-16s %9.2f %8.3f %7.3f-%6.3f %10.0f %8.3f %8.2f %6.1f %s\n",
			fmt.Sprintf("%c", 'A'+i), r.cpu, q[1], q[0], q[2], r.rate, ratio(results[i], results[0], rateOf), r.p99, r.memory, p.name+" "+r.errors)
		if r.calls != "" {
			fmt.Printf("    calls per request:%s\n", r.calls)
		}
	}
}

// quartiles of the rounds' ratios: if 1 is between the first and the last, there is hardly a
// difference.
func quartiles(of, to []result, figure func(result) float64) (q [3]float64) {
	var rs []float64
	for i := range of {
		rs = append(rs, figure(of[i])/figure(to[i]))
	}
	slices.Sort(rs)
	for i := range q {
		q[i] = rs[(i+1)*(len(rs)-1)/4]
	}
	return q
}
