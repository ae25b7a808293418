package lb

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkPeersHTTP measures mode http beside nginx with kept connections to its
// backends, HAProxy, and nginx as people have it who never changed its defaults. The plane
// of net/http, and mode tcp, which relays the same bytes and reads none of them, show
// where mode http stands between the two. Run it on a machine with nothing else to do:
//
//	go test ./lb -run '^$' -bench PeersHTTP -benchtime 1x -timeout 60m
//
// Client, balancer and servers share the processors, so that CPU time of the balancer per
// request is the figure that is steady. Ratios are to nginx, of the same round; their
// median is printed. HAVIP_BENCH and the other variables are those of this package's
// other benchmarks.
func BenchmarkPeersHTTP(b *testing.B) {
	n := newPeersNet(b, "wrk", "h2load", "nginx", "haproxy")
	cert := newCertificate(b)
	n.printVersions(b)
	for range b.N {
		for _, sc := range n.httpScenarios(b) {
			if !chosen("HAVIP_BENCH", sc.name) {
				continue
			}
			n.cert = ""
			if sc.secure {
				n.cert = cert
			}
			n.compareHTTP(b, sc)
		}
		for _, sc := range []struct {
			name, cert string
			goal       float64
		}{{"idle", "", 4}, {"idle, TLS", cert, 15}} {
			n.cert = sc.cert
			if chosen("HAVIP_BENCH", sc.name) {
				n.compareIdle(b, sc.name, sc.goal)
			}
		}
	}
}

// httpScenario is a kind of load, and what havip's CPU per request may be at most, as a
// multiple of nginx's.
type httpScenario struct {
	name   string
	secure bool
	goal   float64
	load   benchLoad
	except []string // balancers that cannot do it
}

func (n *peersNet) httpScenarios(b testing.TB) []httpScenario {
	wrk := func(path, connections string, header ...string) benchLoad {
		return func() (result, float64) {
			sc := scenario{path: path, load: "-t1 -c" + connections}
			for _, h := range header {
				sc.extra = append(sc.extra, "-H", h)
			}
			return n.wrk(b, sc)
		}
	}
	open := func(count int, resume bool) benchLoad {
		return func() (result, float64) { return n.openAll(b, "/128", count, resume) }
	}
	return []httpScenario{
		{"small, 64", false, 0.75, wrk("/128", "64"), nil},
		{"small, 512", false, 0.75, wrk("/128", "512"), nil},
		{"new connections", false, 0.9, wrk("/128", "64", "Connection: close"), nil},
		{"64 KB", false, 1, wrk("/64k", "64"), nil},
		{"1 MB", false, 0.5, wrk("/1m", "16"), nil},
		{"TLS, kept", true, 1, wrk("/128", "64"), nil},
		{"TLS, new", true, 1, open(2000, false), nil},
		{"TLS, resumed", true, 1, open(2500, true), nil},
		{"h2", true, 1, func() (result, float64) { return n.h2load(b, "/128") }, []string{"havip tcp"}},
	}
}

// compareHTTP runs the scenario against all balancers and prints what came out.
func (n *peersNet) compareHTTP(b testing.TB, sc httpScenario) {
	peers := slices.DeleteFunc(n.httpPeers(), func(p peer) bool { return slices.Contains(sc.except, p.name) })
	if len(peers) == 0 {
		return
	}
	results := alternate(b, peers, benchRounds(3), sc.load)
	fmt.Printf("\n%-18s %10s %6s %9s %6s %8s %8s %6s %7s   ratios to %s\n", sc.name, "per second", "ratio", "CPU us", "ratio", "p50 ms", "p99 ms", "ratio", "MB", peers[0].name)
	for i, p := range peers {
		r := median(results[i])
		fmt.Printf("  %-16s %10.0f %6.2f %9.1f %6.2f %8.2f %8.2f %6.2f %7.1f %s\n", p.name,
			r.rate, ratio(results[i], results[0], rateOf), r.cpu, ratio(results[i], results[0], cpuOf),
			r.p50, r.p99, ratio(results[i], results[0], p99Of), r.memory, r.errors)
	}
	for i, p := range peers {
		if calls := median(results[i]).calls; calls != "" {
			fmt.Printf("  %-16s calls per request:%s\n", p.name, calls)
		}
	}
	printGoals(sc.goal, peers, results)
}

// printGoals tells whether havip is as good as it is to be.
func printGoals(goal float64, peers []peer, results [][]result) {
	index := func(name string) int { return slices.IndexFunc(peers, func(p peer) bool { return p.name == name }) }
	havip, nginx, haproxy := index("havip"), index("nginx"), index("haproxy")
	verdict := func(what string, got, most float64) {
		fmt.Printf("  %-40s %5.2f, goal %.2f: %s\n", what, got, most, map[bool]string{true: "reached", false: "MISSED"}[got <= most])
	}
	if havip >= 0 && nginx >= 0 {
		verdict("havip's CPU by nginx's", ratio(results[havip], results[nginx], cpuOf), goal)
		verdict("havip's p99 by nginx's", ratio(results[havip], results[nginx], p99Of), 1)
	}
	if havip >= 0 && haproxy >= 0 {
		verdict("havip's CPU by HAProxy's", ratio(results[havip], results[haproxy], cpuOf), 1)
	}
}

func rateOf(r result) float64 { return r.rate }
func cpuOf(r result) float64  { return r.cpu }
func p99Of(r result) float64  { return r.p99 }

// ratio is the median of the rounds' ratios: what disturbs one round disturbs both sides.
func ratio(of, to []result, figure func(result) float64) float64 {
	var rs []float64
	for i := range of {
		if r := figure(of[i]) / figure(to[i]); !math.IsNaN(r) {
			rs = append(rs, r)
		}
	}
	if len(rs) == 0 {
		return math.NaN()
	}
	slices.Sort(rs)
	return rs[len(rs)/2]
}

// idleConnections is how many there are at once.
const idleConnections = 10000

// compareIdle prints what idle connections take in memory.
func (n *peersNet) compareIdle(b testing.TB, name string, goal float64) {
	fmt.Printf("\n%-18s %10s %10s   KB per connection, %d of them\n", name, "PSS", "RSS", idleConnections)
	for _, p := range n.httpPeers() {
		if p.name == "havip tcp" { // a connection to a backend for each, and mode tcp has its own benchmark
			continue
		}
		pss, rss := n.idle(b, p.start, "/128", idleConnections)
		verdict := ""
		if p.name == "havip" {
			verdict = fmt.Sprintf("goal %.0f: %s", goal, map[bool]string{true: "reached", false: "MISSED"}[pss <= goal])
		}
		fmt.Printf("  %-16s %10.1f %10.1f   %s\n", p.name, pss, rss, verdict)
	}
}

// printVersions prints what runs.
func (n *peersNet) printVersions(b testing.TB) {
	fmt.Printf("\n%s, %d processors\n", runtime.Version(), runtime.NumCPU())
	for _, c := range [][]string{{binaryOf("nginx"), "-V"}, {binaryOf("haproxy"), "-vv"}, {"wrk", "-v"}, {"h2load", "--version"}} {
		out, _ := output(n.client, c[0], c[1:]...) // wrk -v exits with 1
		for _, line := range regexp.MustCompile(`(?m)^(nginx version.*|HAProxy version.*|[Bb]uilt with OpenSSL.*|wrk .*|h2load .*)$`).FindAllString(out, -1) {
			fmt.Printf("  %s: %s\n", c[0], line)
		}
	}
}

// h2load asks by HTTP/2 over TLS: 16 connections, each with 8 requests at a time.
func (n *peersNet) h2load(b testing.TB, path string) (r result, count float64) {
	b.Helper()
	file := filepath.Join(b.TempDir(), "requests")
	out, err := output(n.client, "h2load", "-t1", "-c16", "-m8", "-D", benchTime, "--log-file="+file, "https://"+balancerAddress+path)
	if err != nil || !strings.Contains(out, "Application protocol: h2") {
		b.Fatalf("h2load: %v: %s", err, out)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		b.Fatal(err)
	}
	var times []time.Duration
	failed := 0
	for line := range strings.Lines(string(text)) { // start, status, microseconds
		f := strings.Fields(line)
		if len(f) < 3 || f[1] != "200" {
			failed++
			continue
		}
		us, _ := strconv.Atoi(f[2])
		times = append(times, time.Duration(us)*time.Microsecond)
	}
	if len(times) == 0 {
		b.Fatalf("h2load: no request succeeded: %s", out)
	}
	took, _ := time.ParseDuration(benchTime)
	r = resultOf(times, took)
	if failed > 0 {
		r.errors = fmt.Sprintf("%d failed", failed)
	}
	return r, float64(len(times))
}

// httpPeers are the balancers of BenchmarkPeersHTTP. Ratios are to the first.
func (n *peersNet) httpPeers() []peer {
	return choosePeers([]peer{
		{"nginx", n.nginxKept},
		{"haproxy", n.haproxyOf("mode http\n  timeout http-keep-alive 10m", "alpn h2,http/1.1")},
		{"nginx, defaults", n.nginxDefaults},
		{"havip", n.havip("http")},
		{"havip net/http", n.havip("net/http")},
		{"havip tcp", n.havip("tcp")},
	})
}

// nginxKept is nginx as somebody sets it up who wants it to be fast: it keeps connections
// to backends, which takes HTTP/1.1 and no Connection field, and writes no log.
func (n *peersNet) nginxKept(b testing.TB) (func() []int, func()) {
	dir := b.TempDir()
	return n.nginxOf(b, dir, nginxHTTP(dir, fmt.Sprintf(`
	sendfile on; tcp_nodelay on; keepalive_timeout 1h; keepalive_requests 100000000;
	upstream u { %s keepalive 512; keepalive_requests 100000000; keepalive_timeout 1h; }
	server { listen %s backlog=4096 %s
		location / { proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection ""; } }`,
		nginxServers(), balancerAddress, n.nginxTLS("ssl http2"))))
}

// nginxDefaults is the configuration that most tutorials show: a connection to a backend
// for each request, HTTP/1.0 there, and a line in the log. Only limits differ from it,
// which would end the load: worker_connections 1024, and 1000 requests a connection, after
// which h2load asks no more.
func (n *peersNet) nginxDefaults(b testing.TB) (func() []int, func()) {
	dir := b.TempDir()
	return n.nginxOf(b, dir, fmt.Sprintf(`http {
	default_type application/octet-stream;
	log_format main '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" "$http_x_forwarded_for"';
	access_log %[1]s/access.log main;
	client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
	sendfile on; keepalive_timeout 65; keepalive_requests 100000000;
	upstream backend-server { %[2]s }
	server { server_name localhost; listen %[3]s backlog=4096 %[4]s
		location / { proxy_pass http://backend-server; } }
}`, dir, nginxServers(), balancerAddress, n.nginxTLS("ssl http2")))
}

// nginxServers are the lines of an upstream block.
func nginxServers() (lines string) {
	for _, a := range appAddresses {
		lines += "server " + a + "; "
	}
	return lines
}
