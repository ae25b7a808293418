package lb

import (
	"bufio"
	"cmp"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
)

// The benchmarks of this file measure havip beside HAProxy and nginx on the same
// hosts: a client on one, nginx as the server on another, and on the third one
// balancer after the other, in alternation. They print tables with ratios, where
// more than 1 is in havip's favour. Run them with
//
//	go test ./lb -run '^$' -bench Peers -benchtime 1x
//
// HAVIP_BENCH chooses scenarios and HAVIP_BENCH_PEER balancers by a part of their
// name; HAVIP_BENCH_PROFILE names a file for havip's CPU profile.

func newPeersNet(b *testing.B, programs ...string) *peersNet {
	lab.Need(b, programs...)
	l := lab.New(b)
	n := &peersNet{
		client: l.MustHost("client", "192.0.2.9/24"),
		lb:     l.MustHost("lb", "192.0.2.40/24"),
		app:    l.MustHost("app", "192.0.2.42/24"),
	}
	n.startApp(b)
	b.ResetTimer()
	return n
}

func BenchmarkPeersTCP(b *testing.B) {
	n := newPeersNet(b, "wrk", "nginx", "haproxy")
	for range b.N {
		compare(b, n, n.peers(""), []scenario{
			{"small messages", "/1", "-t1 -c50", nil},
			{"connections", "/1", "-t1 -c50", []string{"-H", "Connection: close"}},
			{"64 KB", "/64k", "-t1 -c20", nil},
			{"1 MB", "/1m", "-t1 -c10", nil},
		})
	}
}

func BenchmarkPeersTLS(b *testing.B) {
	n := newPeersNet(b, "wrk", "nginx", "haproxy")
	n.cert = newCertificate(b)
	for range b.N {
		compare(b, n, n.peers("tls"), []scenario{
			{"TLS messages", "/1", "-t1 -c50", nil},
			{"TLS connections", "/1", "-t1 -c20", []string{"-H", "Connection: close"}},
			{"TLS 1 MB", "/1m", "-t1 -c10", nil},
		})
	}
}

// newCertificate returns a file with a certificate and its key, as HAProxy wants it.
func newCertificate(b testing.TB) string {
	f := newAuthority(b).issue("lb", "lb.test")
	both := ""
	for _, path := range []string{f.Cert, f.Key} {
		text, err := os.ReadFile(path)
		if err != nil {
			b.Fatal(err)
		}
		both += string(text)
	}
	return writeFile(b, b.TempDir(), "both.pem", both)
}

// BenchmarkPeersIdle measures the memory that an idle connection takes after an exchange,
// by the resident memory of the whole process. Run it with
//
//	go test ./lb -run '^$' -bench PeersIdle -benchtime 1x
func BenchmarkPeersIdle(b *testing.B) {
	n := newPeersNet(b, "nginx", "haproxy")
	cert := newCertificate(b)
	for range b.N {
		fmt.Printf("\n%-18s %12s %12s %8s   KB per idle connection\n", "", "havip", "haproxy", "ratio")
		for _, sc := range []struct {
			name, mode, cert string
			backendTLS       bool
		}{
			{"tcp", "tcp", "", false},
			{"tcp, TLS", "tcp", cert, false},
			{"tcp, backend_tls", "tcp", "", true},
			{"tcp, both", "tcp", cert, true},
			{"http", "http", "", false},
			{"https", "http", cert, false},
		} {
			if !strings.Contains(sc.name, os.Getenv("HAVIP_BENCH")) {
				continue
			}
			n.mode, n.cert, n.backendTLS = sc.mode, sc.cert, sc.backendTLS
			var kb []float64
			for _, p := range []peer{{"havip", n.havip}, {"haproxy", n.haproxy("")}} {
				kb = append(kb, n.idle(b, p))
			}
			fmt.Printf("  %-16s %12.1f %12.1f %8.2f\n", sc.name, kb[0], kb[1], kb[1]/kb[0])
		}
	}
}

// idle returns what a connection to p takes while it is idle, in KB.
func (n *peersNet) idle(b *testing.B, p peer) float64 {
	const count, warm = 1000, 20
	pids, stop := p.start(b)
	defer stop()
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	open := func(count int) {
		for range count {
			c, err := n.client.DialContext(b.Context(), "tcp", "192.0.2.40:8080")
			if err != nil {
				b.Fatal(err)
			}
			if n.cert != "" {
				c = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
			}
			conns = append(conns, c)
			_ = c.SetDeadline(time.Now().Add(bound))
			if _, err := io.WriteString(c, "GET /8k HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				b.Fatal(err)
			}
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				b.Fatal(err)
			}
			if n, err := io.Copy(io.Discard, res.Body); n != 8<<10 || err != nil {
				b.Fatal(n, err)
			}
		}
	}
	open(warm)
	before := rss(pids())
	open(count)
	time.Sleep(3 * time.Second) // whoever gives back memory of idle connections has done so
	return float64(rss(pids())-before) / 1024 / count
}

// peers are the balancers; tls says that they terminate TLS.
func (n *peersNet) peers(tls string) []peer {
	all := []peer{{"havip", n.havip}, {"haproxy", n.haproxy("")}, {"haproxy splice", n.haproxy("option splice-auto")}, {"nginx", n.nginx}}
	if tls != "" || n.mode == "http" {
		all = slices.Delete(all, 2, 3) // nothing to splice
	}
	return slices.DeleteFunc(all, func(p peer) bool { return !strings.Contains(p.name, os.Getenv("HAVIP_BENCH_PEER")) })
}

type peersNet struct {
	client, lb, app *lab.Host
	cert            string // certificate and key; empty: no TLS
	mode            string // tcp or http; empty: tcp
	backendTLS      bool
}

// scenario is one kind of load.
type scenario struct {
	name, path, load string
	extra            []string
}

// peer is a balancer to measure; start runs it on 192.0.2.40:8080 and returns its
// processes and its end.
type peer struct {
	name  string
	start func(testing.TB) (pids func() []int, stop func())
}

// startApp runs the servers of all balancers.
func (n *peersNet) startApp(b testing.TB) {
	dir := b.TempDir()
	for name, size := range map[string]int{"1": 1, "8k": 8 << 10, "64k": 64 << 10, "1m": 1 << 20} {
		if err := os.WriteFile(dir+"/"+name, make([]byte, size), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	servers, cert := "", newCertificate(b)
	for port := 8080; port < 8083; port++ {
		servers += fmt.Sprintf("server { listen 192.0.2.42:%d backlog=4096; listen 192.0.2.42:%d backlog=4096 ssl; ssl_certificate %[3]s; ssl_certificate_key %[3]s;"+
			" root %[4]s; keepalive_requests 100000000; keepalive_timeout 1h; }\n", port, port+tlsPorts, cert, dir)
	}
	startNginx(b, n.app, nginxConf(b, dir, nginxHTTP(dir, "sendfile on; tcp_nopush on;\n"+servers)),
		"192.0.2.42:8080", "192.0.2.42:8081", "192.0.2.42:8082")
}

// tlsPorts is how far the servers' ports for TLS are from the others.
const tlsPorts = 100

// backends are the addresses of the servers.
func (n *peersNet) backends() []string {
	if !n.backendTLS {
		return appAddresses
	}
	return []string{"192.0.2.42:8180", "192.0.2.42:8181", "192.0.2.42:8182"}
}

var appAddresses = []string{"192.0.2.42:8080", "192.0.2.42:8081", "192.0.2.42:8082"}

func (n *peersNet) havip(b testing.TB) (func() []int, func()) {
	var bs []Backend
	for _, a := range n.backends() {
		bs = append(bs, Backend{Address: a})
	}
	c := node{Mode: cmp.Or(n.mode, "tcp"), Listen: "192.0.2.40:8080", Pool: PoolConfig{Backends: bs}, Cert: n.cert, Key: n.cert, BackendTLS: n.backendTLS}.start(b, n.lb)
	return func() []int { return []int{c.Pid()} }, func() {
		if err := c.Stop(bound); err != nil {
			b.Log(err)
		}
	}
}

func (n *peersNet) haproxy(option string) func(testing.TB) (func() []int, func()) {
	return func(b testing.TB) (func() []int, func()) {
		servers, backendTLS := "", ""
		if n.backendTLS {
			backendTLS = "ssl verify none"
		}
		for i, a := range n.backends() {
			servers += fmt.Sprintf("  server s%d %s %s\n", i, a, backendTLS)
		}
		tls := ""
		if n.cert != "" {
			tls = " ssl crt " + n.cert
		}
		conf := writeFile(b, b.TempDir(), "haproxy.cfg", fmt.Sprintf(`
global
  nbthread 2
  maxconn 4000
defaults
  mode %s
  timeout connect 5s
  timeout client 10m
  timeout server 10m
  %s
listen l
  bind 192.0.2.40:8080 backlog 4096%s
  balance roundrobin
%s`, cmp.Or(n.mode, "tcp"), option, tls, servers))
		c := n.lb.Command("haproxy", "-db", "-f", conf)
		startPeer(b, n.lb, c, "192.0.2.40:8080")
		return func() []int { return []int{c.Pid()} }, c.Kill
	}
}

func (n *peersNet) nginx(b testing.TB) (func() []int, func()) {
	dir := b.TempDir()
	servers := ""
	for _, a := range appAddresses {
		servers += "server " + a + ";\n"
	}
	tls, options := "", ""
	if n.cert != "" {
		tls, options = "ssl", fmt.Sprintf("ssl_certificate %[1]s; ssl_certificate_key %[1]s; ssl_protocols TLSv1.2 TLSv1.3;", n.cert)
	}
	const server = "upstream u { %s } server { listen 192.0.2.40:8080 backlog=4096 %s; %s tcp_nodelay on; %s }"
	block := "stream {" + fmt.Sprintf(server, servers, tls, options, "proxy_pass u;") + "}"
	if n.mode == "http" {
		block = nginxHTTP(dir, fmt.Sprintf(server, servers, tls, options, "location / { proxy_pass http://u; }"))
	}
	conf := nginxConf(b, dir, block)
	text, _ := os.ReadFile(conf)
	text = []byte(strings.NewReplacer("master_process off;", "", "worker_processes 1", "worker_processes 2").Replace(string(text)))
	if err := os.WriteFile(conf, text, 0o600); err != nil {
		b.Fatal(err)
	}
	c := n.lb.Command("nginx", "-e", dir+"/error.log", "-p", dir, "-c", conf)
	startPeer(b, n.lb, c, "192.0.2.40:8080")
	return func() []int { return append(children(c.Pid()), c.Pid()) }, func() {
		if err := c.Stop(bound); err != nil {
			b.Log(err)
		}
	}
}

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

// rss is the resident memory of the processes in bytes, shared pages once.
func rss(pids []int) (n int) {
	for _, pid := range pids {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == "Pss:" {
				kb, _ := strconv.Atoi(f[1])
				n += kb << 10
			}
		}
	}
	return n
}

// result is what one run measured.
type result struct {
	rate     float64 // requests per second
	cpu      float64 // microseconds of the balancer per request
	p50, p99 float64 // milliseconds
	errors   string
}

const benchRounds, benchTime = 3, "2s"

// compare runs every scenario against every peer and prints medians and ratios.
func compare(b *testing.B, n *peersNet, peers []peer, scenarios []scenario) {
	for _, sc := range scenarios {
		if !strings.Contains(sc.name, os.Getenv("HAVIP_BENCH")) {
			continue
		}
		compareUnder(b, sc.name, peers, func() (result, float64) { return n.wrk(b, sc) })
	}
}

// compareUnder runs a load against every peer and prints medians and ratios. The load
// returns what it found out, with the number of what it calls a request.
func compareUnder(b *testing.B, name string, peers []peer, load func() (result, float64)) {
	results := make([][]result, len(peers))
	for range benchRounds {
		for i, p := range peers {
			pids, stop := p.start(b)
			before := cpuTime(pids())
			r, count := load()
			r.cpu = float64(cpuTime(pids())-before) / float64(time.Microsecond) / count
			results[i] = append(results[i], r)
			stop()
		}
	}
	printTable(name, peers, results)
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
	pick := func(f func(result) float64) float64 {
		var v []float64
		for _, r := range rs {
			v = append(v, f(r))
		}
		sort.Float64s(v)
		return v[len(v)/2]
	}
	m := result{
		rate: pick(func(r result) float64 { return r.rate }), cpu: pick(func(r result) float64 { return r.cpu }),
		p50: pick(func(r result) float64 { return r.p50 }), p99: pick(func(r result) float64 { return r.p99 }),
	}
	for _, r := range rs {
		if r.errors != "" {
			m.errors = r.errors
		}
	}
	return m
}

// wrk runs the load and returns what it says, with the number of requests.
func (n *peersNet) wrk(b testing.TB, sc scenario) (r result, count float64) {
	b.Helper()
	args := append(strings.Fields(sc.load), "-d", benchTime, "--latency")
	scheme := "http"
	if n.cert != "" {
		scheme = "https"
	}
	args = append(append(args, sc.extra...), scheme+"://192.0.2.40:8080"+sc.path)
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
