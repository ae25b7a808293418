package lb

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/havip/havip/internal/lab"
)

// The benchmarks of this file measure havip beside HAProxy and nginx on the same
// hosts: a client on one, nginx as the server on another, and on the third one
// balancer after the other, in alternation. They print tables with ratios, where
// more than 1 is in havip's favour. Run them with
//
//	go test ./lb -run '^$' -bench Peers -benchtime 1x
//
// HAVIP_BENCH chooses scenarios and HAVIP_BENCH_PEER balancers, each by a regular
// expression that a part of the name matches. HAVIP_BENCH_ROUNDS is how often each
// balancer is measured, HAVIP_BENCH_TIME for how many seconds, such as 10s, unless the load
// ends by itself. HAVIP_BENCH_NGINX and HAVIP_BENCH_HAPROXY name other binaries
// than the installed ones. HAVIP_BENCH_PROFILE names a file for havip's CPU profile, which
// each run of havip writes anew: choose one scenario and one balancer, such as
//
//	HAVIP_BENCH='small, 64' HAVIP_BENCH_PEER='^havip$' HAVIP_BENCH_ROUNDS=1 HAVIP_BENCH_TIME=20s HAVIP_BENCH_PROFILE=/tmp/cpu \
//	  go test ./lb -run '^$' -bench PeersHTTP -benchtime 1x && go tool pprof -top /tmp/cpu
//
// HAVIP_BENCH_CALLS=1 counts system calls per request with perf, which costs time itself:
// the other figures of such a run do not count.

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

// peers are the balancers of TCP connections; tls says that they terminate TLS.
func (n *peersNet) peers(tls string) []peer {
	all := []peer{{"havip", n.havip("tcp")}, {"haproxy", n.haproxy("")}, {"haproxy splice", n.haproxy("option splice-auto")}, {"nginx", n.nginx}}
	if tls != "" {
		all = slices.Delete(all, 2, 3) // nothing to splice
	}
	return choosePeers(all)
}

// choosePeers leaves those that are to be measured.
func choosePeers(all []peer) []peer {
	return slices.DeleteFunc(all, func(p peer) bool { return !chosen("HAVIP_BENCH_PEER", p.name) })
}

type peersNet struct {
	client, lb, app *lab.Host
	cert            string // certificate and key; empty: no TLS
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
	start startBalancer
}

type startBalancer func(testing.TB) (pids func() []int, stop func())

// startApp runs the servers of all balancers.
func (n *peersNet) startApp(b testing.TB) {
	dir := b.TempDir()
	for name, size := range map[string]int{"1": 1, "128": 128, "8k": 8 << 10, "64k": 64 << 10, "1m": 1 << 20} {
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

// havip is the balancer of a mode, in a process of its own.
func (n *peersNet) havip(mode string) startBalancer {
	return n.havipOf("", mode)
}

// havipOf runs another test binary than this one, if it has a name.
func (n *peersNet) havipOf(binary, mode string) startBalancer {
	return func(b testing.TB) (func() []int, func()) {
		var bs []Backend
		for _, a := range n.backends() {
			bs = append(bs, Backend{Address: a})
		}
		c := node{Mode: mode, Listen: balancerAddress, Pool: PoolConfig{Backends: bs}, Cert: n.cert, Key: n.cert, BackendTLS: n.backendTLS}.startFrom(b, n.lb, binary)
		return func() []int { return []int{c.Pid()} }, n.stop(b, c)
	}
}

// stop returns what ends c.
func (n *peersNet) stop(b testing.TB, c *lab.Cmd) func() {
	return func() {
		if err := c.Stop(bound); err != nil {
			b.Log(err)
		}
	}
}

// balancerAddress is where balancers listen, one after the other.
const balancerAddress = "192.0.2.40:8080"

func (n *peersNet) haproxy(option string) startBalancer {
	return n.haproxyOf("mode tcp\n"+option, "")
}

// haproxyOf runs HAProxy with these defaults, and options of the bind line.
func (n *peersNet) haproxyOf(defaults, bind string) startBalancer {
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
			tls = " ssl crt " + n.cert + " " + bind
		}
		conf := writeFile(b, b.TempDir(), "haproxy.cfg", fmt.Sprintf(`
global
  nbthread 2
  maxconn 12000
  no strict-limits
defaults
  timeout connect 5s
  timeout client 10m
  timeout server 10m
  %s
listen l
  bind %s backlog 4096%s
  balance roundrobin
%s`, defaults, balancerAddress, tls, servers))
		c := n.lb.Command(binaryOf("haproxy"), "-db", "-f", conf)
		startPeer(b, n.lb, c, balancerAddress)
		return func() []int { return []int{c.Pid()} }, c.Kill
	}
}

func (n *peersNet) nginx(b testing.TB) (func() []int, func()) {
	return n.nginxOf(b, b.TempDir(), fmt.Sprintf("stream { upstream u { %s } server { listen %s backlog=4096 %s tcp_nodelay on; proxy_pass u; } }",
		nginxServers(), balancerAddress, n.nginxTLS("ssl")))
}

// nginxTLS is the rest of a listen directive with these words, and what makes it speak TLS.
func (n *peersNet) nginxTLS(words string) string {
	if n.cert == "" {
		return ";"
	}
	return fmt.Sprintf("%[2]s; ssl_certificate %[1]s; ssl_certificate_key %[1]s; ssl_protocols TLSv1.2 TLSv1.3;", n.cert, words)
}

// nginxOf runs nginx with two workers.
func (n *peersNet) nginxOf(b testing.TB, dir, block string) (func() []int, func()) {
	var files syscall.Rlimit // Go's runtime has raised the limit, but not for other programs
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		b.Fatal(err)
	}
	conf := nginxConf(b, dir, block)
	text, err := os.ReadFile(conf)
	if err != nil {
		b.Fatal(err)
	}
	text = []byte(strings.NewReplacer("master_process off;", fmt.Sprintf("worker_rlimit_nofile %d;", files.Cur), "worker_processes 1", "worker_processes 2").Replace(string(text)))
	if binaryOf("nginx") != "nginx" { // Debian's module is for Debian's nginx
		text = []byte(strings.Replace(string(text), nginxModules(), "", 1))
	}
	if err := os.WriteFile(conf, text, 0o600); err != nil {
		b.Fatal(err)
	}
	c := n.lb.Command(binaryOf("nginx"), "-e", dir+"/error.log", "-p", dir, "-c", conf)
	startPeer(b, n.lb, c, balancerAddress)
	waitFor(b, "nginx's workers", func() bool { return len(children(c.Pid())) == 2 })
	return func() []int { return append(children(c.Pid()), c.Pid()) }, n.stop(b, c)
}

// binaryOf is the program to run for a balancer of this name.
func binaryOf(name string) string {
	return cmp.Or(os.Getenv("HAVIP_BENCH_"+strings.ToUpper(name)), name)
}
