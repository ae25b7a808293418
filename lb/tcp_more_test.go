package lb

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab/labtest"
	"github.com/havip/havip/internal/proxyproto"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// proxyReader says what PROXY header it got, and then echoes.
func proxyReader(t *testing.T) Backend {
	return rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		for {
			b, err := r.Peek(max(r.Buffered(), 1))
			if err != nil {
				return
			}
			h, n, err := proxyproto.Parse(b)
			if err == nil {
				r.Discard(n)
				fmt.Fprintf(c, "%v to %v:", h.Source, h.Destination.Addr())
				io.Copy(c, r)
				return
			}
			if _, err := r.Peek(len(b) + 1); err != nil {
				return
			}
		}
	})
}

func TestProxyProtocolIsSent(t *testing.T) {
	a := newAuthority(t)
	certs := a.certificates(a.issue("a", "a.test"))
	for version := 1; version <= 2; version++ {
		addr, _ := relay(t, tcpWith(TCPConfig{SendProxy: ProxyVersion(version)}), proxyReader(t))
		c := dialTest(t, addr)
		io.WriteString(c, "data")
		c.CloseWrite()
		got, err := io.ReadAll(c)
		if want := c.LocalAddr().String() + " to 127.0.0.1:data"; string(got) != want || err != nil {
			t.Errorf("version %d: %q, %v; want %q", version, got, err, want)
		}
		addr, _ = relay(t, tcpWith(TCPConfig{SendProxy: ProxyVersion(version), TLS: &tls.Config{GetCertificate: certs.GetCertificate}}), proxyReader(t))
		if got, _ := talk(t, addr, &tls.Config{ServerName: "a.test", RootCAs: a.pool}, "data"); !strings.HasSuffix(got, " to 127.0.0.1:data") {
			t.Errorf("version %d behind TLS: %q", version, got)
		}
	}
}

// tlsProxyReader is a proxyReader behind whose header TLS begins, as behind HAProxy's
// "accept-proxy ssl" and nginx's "ssl proxy_protocol". It says what is wrong with a connection
// that begins otherwise.
func tlsProxyReader(t *testing.T, cfg *tls.Config) Backend {
	return Backend{Address: labtest.Listen(t, func(c net.Conn) {
		header, err := labtest.ReadProxyHeader(c)
		if err != nil {
			if len(header) > 0 {
				t.Errorf("the backend's connection begins with %q: %v", header, err)
			}
			return
		}
		h, _, _ := proxyproto.Parse(header)
		secure := tls.Server(c, cfg)
		defer secure.Close()
		if _, err := fmt.Fprintf(secure, "%v to %v:", h.Source, h.Destination.Addr()); err == nil {
			io.Copy(secure, secure)
		}
	})}
}

// The header goes ahead of the handshake, since whoever accepts both reads it there, and
// nothing of the header follows inside TLS. Each attempt has a header of its own.
func TestProxyHeaderPrecedesBackendTLS(t *testing.T) {
	everyWay(t, func(t *testing.T, open func(*testTCP, ...Backend) (func() stream, func())) {
		a := newAuthority(t)
		server := &tls.Config{GetCertificate: a.certificates(a.issue("app", "127.0.0.1", "localhost")).GetCertificate}
		impostor := &tls.Config{GetCertificate: a.certificates(a.issue("impostor", "other.test")).GetCertificate}
		client := &tls.Config{RootCAs: a.pool}
		for version := ProxyV1; version <= ProxyV2; version++ {
			good := tlsProxyReader(t, server)
			own, named := good, good
			own.TLS = client
			_, port, _ := net.SplitHostPort(good.Address)
			named.Address = "localhost:" + port
			for what, tt := range map[string]struct {
				tls      *tls.Config
				backends []Backend
			}{
				"of the plane":      {client, []Backend{good}},
				"of the backend":    {nil, []Backend{own}},
				"of a name":         {client, []Backend{named}},
				"after an impostor": {client, []Backend{tlsProxyReader(t, impostor), good}},
			} {
				dial, stop := open(tcpWith(TCPConfig{SendProxy: version, BackendTLS: tt.tls}), tt.backends...)
				c := dial()
				io.WriteString(c, "data")
				c.CloseWrite()
				got, inOrder := ends(t, c)
				if want := c.LocalAddr().String() + " to 127.0.0.1:data"; got != want || !inOrder {
					t.Errorf("%v, TLS %s: %q, in order: %v; want %q", version, what, got, inOrder, want)
				}
				stop()
			}
		}
	})
}

func TestProxyProtocolIsAccepted(t *testing.T) {
	const v1 = "PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\n"
	for _, tt := range []struct {
		name    string
		trusted []netip.Prefix
		send    []string
		want    string // empty: closed
	}{
		{"version 1", loopback, []string{v1 + "data"}, "192.0.2.1:1000 to 192.0.2.2:data"},
		{"version 2", loopback, []string{string(proxyproto.Append(nil, 2, netip.MustParseAddrPort("192.0.2.1:1000"), netip.MustParseAddrPort("192.0.2.2:80"))) + "data"}, "192.0.2.1:1000 to 192.0.2.2:data"},
		{"in pieces", loopback, []string{v1[:3], v1[3:20], v1[20:], "da", "ta"}, "192.0.2.1:1000 to 192.0.2.2:data"},
		{"none from a trusted peer", loopback, []string{"data\r\n"}, ""},
		{"garbled", loopback, []string{"PROXY TCP4 192.0.2.1 x\r\ndata"}, ""},
		{"cut", loopback, []string{v1[:20]}, ""},
		// It is data: the backend gets a header of ours that tells the truth.
		{"forged", nil, []string{v1}, "client to 127.0.0.1:" + v1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tc := tcpWith(TCPConfig{AcceptProxy: tt.trusted, SendProxy: 2})
			addr, _ := relay(t, tc, proxyReader(t))
			c := dialTest(t, addr)
			for _, s := range tt.send {
				io.WriteString(c, s)
				time.Sleep(2 * time.Millisecond) // so that it is sent by itself
			}
			c.CloseWrite()
			got, _ := ends(t, c)
			want := strings.Replace(tt.want, "client", c.LocalAddr().String(), 1)
			if got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			if want == "" {
				waitFor(t, "the refusal to be counted", func() bool { return tc.Stats().Refused == 1 })
			}
		})
	}
}

func TestProxyHeaderThatDoesNotCome(t *testing.T) {
	tc := tcpWith(TCPConfig{AcceptProxy: loopback, HandshakeTimeout: 50 * time.Millisecond})
	addr, _ := relay(t, tc, talker(t, "a"))
	if got, _ := ends(t, dialTest(t, addr)); got != "" {
		t.Errorf("got %q", got)
	}
	waitFor(t, "the refusal to be counted", func() bool { return tc.Stats().Refused == 1 })
}

func TestLimits(t *testing.T) {
	t.Run("per client", func(t *testing.T) {
		tc := tcpWith(TCPConfig{Limits: Limits{PerClient: 2}})
		addr, _ := relay(t, tc, talker(t, "a"))
		one := make([]byte, 1)
		var conns []net.Conn
		for i := range 3 {
			c := dialTest(t, addr)
			conns = append(conns, c)
			if i == 2 {
				if got, _ := ends(t, c); got != "" {
					t.Errorf("the third is served: %q", got)
				}
			} else if _, err := io.ReadFull(c, one); err != nil {
				t.Errorf("connection %d: %v", i+1, err)
			}
		}
		conns[0].Close()
		waitFor(t, "room for another", func() bool {
			c := dialTest(t, addr)
			_, err := io.ReadFull(c, one)
			return err == nil
		})
	})
	t.Run("total", func(t *testing.T) {
		tc := tcpWith(TCPConfig{Limits: Limits{Connections: 2}})
		addr, _ := relay(t, tc, talker(t, "a"))
		one := make([]byte, 1)
		var conns []*net.TCPConn
		for range 3 {
			conns = append(conns, dialTest(t, addr))
		}
		waitFor(t, "accepting to pause", func() bool { st := tc.Stats(); return st.Active == 2 && st.Paused > 0 })
		conns[0].Close()
		// The third has waited in the backlog.
		if _, err := io.ReadFull(conns[2], one); err != nil {
			t.Error(err)
		}
	})
}

func TestLimiterRate(t *testing.T) {
	l := Limits{Rate: 10, Burst: 3}
	if err := l.Validate(); err != nil {
		t.Fatal(err)
	}
	var r limiter
	a := netip.MustParseAddr("2001:db8::1")
	now := time.Now()
	admitted := func(a netip.Addr, now time.Time) (n int) {
		for range 10 {
			if r.admit(&l, a, now) {
				n++
				r.release(&l, a)
			}
		}
		return n
	}
	for _, step := range []struct {
		addr string
		at   time.Duration
		want int
	}{
		{"2001:db8::1", 0, 3},
		{"2001:db8::ffff", 0, 0}, // the same /64
		{"2001:db8:0:1::1", 0, 3},
		{"192.0.2.1", 0, 3},
		{"192.0.2.2", 0, 3},
		{"2001:db8::1", 100 * time.Millisecond, 1},
		{"2001:db8::1", time.Hour, 3},
	} {
		if got := admitted(netip.MustParseAddr(step.addr), now.Add(step.at)); got != step.want {
			t.Errorf("%s after %v: %d admitted, want %d", step.addr, step.at, got, step.want)
		}
	}
	r.admit(&l, a, now.Add(2*time.Hour))
	if len(r.clients) != 1 {
		t.Errorf("%d clients are remembered, want 1", len(r.clients))
	}
}

func TestReconfigureKeepsListenerAndConnections(t *testing.T) {
	first := tcpWith(TCPConfig{Pool: newPool(t, PoolConfig{Backends: []Backend{talker(t, "a")}})})
	addr, _ := relay(t, first)
	old := dialTest(t, addr)
	one := make([]byte, 1)
	if _, err := io.ReadFull(old, one); err != nil {
		t.Fatal(err)
	}
	if err := first.Reconfigure(TCPConfig{}); err == nil {
		t.Error("a configuration without a pool is taken")
	}
	routed := TCPConfig{Routes: map[string]*Pool{"a.test": first.Pool}, AcceptProxy: slices.Clone(loopback)}
	if err := first.Reconfigure(routed); err != nil {
		t.Fatal(err)
	}
	routed.Routes["a.test"], routed.AcceptProxy[0] = nil, netip.Prefix{}
	if cfg := first.settings.Load(); cfg.Routes["a.test"] == nil || !cfg.AcceptProxy[0].IsValid() {
		t.Error("what the caller does to a configuration afterwards changes the settings")
	}
	if err := first.Reconfigure(TCPConfig{Pool: newPool(t, PoolConfig{Backends: []Backend{proxyReader(t)}}), SendProxy: 1}); err != nil {
		t.Fatal(err)
	}
	c := dialTest(t, addr)
	c.CloseWrite()
	if got, err := io.ReadAll(c); !strings.HasPrefix(string(got), c.LocalAddr().String()) || err != nil {
		t.Errorf("new connection: %q, %v", got, err)
	}
	io.WriteString(old, "x")
	old.CloseWrite()
	if got, err := io.ReadAll(old); string(got) != "x." || err != nil {
		t.Errorf("old connection: %q, %v", got, err)
	}
	if st := first.Stats(); st.Accepted != 2 {
		t.Errorf("%+v, want both counted", st)
	}
}

func TestRecords(t *testing.T) {
	var out labtest.Log
	log, flush := LogRecords(slog.New(slog.NewTextHandler(&out, nil)))
	records := make(chan Record, 1)
	tc := tcpWith(TCPConfig{Record: func(r Record) { log(r); records <- r }})
	addr, _ := relay(t, tc, closedBackend(t), talker(t, "a"))
	c := dialTest(t, addr)
	io.WriteString(c, "hello")
	c.CloseWrite()
	io.ReadAll(c)
	r := <-records
	if r.Client.String() != c.LocalAddr().String() || r.Received != 5 || r.Sent != 7 || r.Retries != 1 || r.Service != "db" ||
		r.Backend != tc.Pool.Status().Backends[1].Name || r.Duration < r.Connect || r.Connect <= 0 || r.Reason != "" {
		t.Errorf("record %+v", r)
	}
	if st := tc.Stats(); st.Received != 5 || st.Sent != 7 || st.Retries != 1 || st.Accepted != 1 || st.Active != 0 {
		t.Errorf("stats %+v", st)
	}
	if b := tc.Pool.Status().Backends[1]; b.Sent != 5 || b.Received != 7 || b.Connects != 1 || b.ConnectTime <= 0 {
		t.Errorf("backend %+v", b)
	}
	waitFor(t, "the line", func() bool {
		flush()
		return strings.Contains(out.String(), "msg=connection service=db client="+c.LocalAddr().String())
	})
}

func TestTCPToNamesAndUnixSockets(t *testing.T) {
	b := talker(t, "a")
	_, port, _ := net.SplitHostPort(b.Address)
	path := t.TempDir() + "/s"
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	labtest.Serve(t, ln, func(c net.Conn) {
		io.WriteString(c, "u")
		io.Copy(c, c)
	})
	tc := tcpWith(TCPConfig{})
	addr, _ := relay(t, tc, Backend{Address: "localhost:" + port}, Backend{Address: "unix:" + path}, Backend{Address: "nowhere.invalid:1"})
	for _, want := range []string{"ahello.", "uhello", "ahello."} {
		c := dialTest(t, addr)
		io.WriteString(c, "hello")
		c.CloseWrite()
		if got, err := io.ReadAll(c); string(got) != want || err != nil {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
}

func TestTCPQueue(t *testing.T) {
	b := talker(t, "a")
	b.MaxConns = 1
	tc := tcpWith(TCPConfig{Pool: newPool(t, PoolConfig{Backends: []Backend{b}, Queue: 1, QueueTimeout: bound})})
	addr, _ := relay(t, tc)
	one := make([]byte, 1)
	first := dialTest(t, addr)
	if _, err := io.ReadFull(first, one); err != nil {
		t.Fatal(err)
	}
	second := dialTest(t, addr) // not before: another loop may be faster with it
	waitFor(t, "the second to queue", func() bool { return tc.Pool.Status().Queued == 1 })
	if got, _ := ends(t, dialTest(t, addr)); got != "" {
		t.Errorf("the third is served: %q", got)
	}
	first.Close()
	if _, err := io.ReadFull(second, one); err != nil {
		t.Errorf("the second: %v", err)
	}
}

func openFiles(t testing.TB) int {
	t.Helper()
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}

// openPipes counts the descriptors of pipes among them.
func openPipes(t testing.TB) (n int) {
	t.Helper()
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err == nil && strings.HasPrefix(target, "pipe:") {
			n++
		}
	}
	return n
}

// bulk sends enough to be spliced, and takes what comes of it, to the end.
func bulk(c net.Conn) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(bound))
	go func() {
		c.Write(make([]byte, 2<<20))
		c.(*net.TCPConn).CloseWrite()
	}()
	io.Copy(io.Discard, c)
}

// Many connections, some of which end in every way there is, leave nothing behind.
func TestTCPLeavesNothingBehind(t *testing.T) {
	n := 20000
	if testing.Short() {
		n = 2000
	}
	hang := rawBackend(t, func(c net.Conn, r *bufio.Reader) { io.Copy(io.Discard, r) })
	reset := rawBackend(t, func(c net.Conn, r *bufio.Reader) { r.ReadByte(); c.(*net.TCPConn).SetLinger(0) })
	echo := rawBackend(t, func(c net.Conn, r *bufio.Reader) { io.Copy(c, r) })
	tc := tcpWith(TCPConfig{Pool: newPool(t, PoolConfig{MaxFails: -1, Backends: []Backend{hang, reset, echo, closedBackend(t)}}), IdleTimeout: bound})
	addr, stop := relay(t, tc)
	dialTest(t, addr).Close()
	waitFor(t, "the loops to run", func() bool { st := tc.Stats(); return st.Accepted == 1 && st.Active == 0 })
	files, pipes, goroutines := openFiles(t), openPipes(t), runtime.NumGoroutine()
	const clients = 8
	var wg sync.WaitGroup
	for g := range clients {
		wg.Go(func() {
			for i := range n / clients {
				c, err := net.Dial("tcp", addr)
				if err != nil {
					t.Error(err)
					return
				}
				if i%256 == 0 {
					bulk(c)
					continue
				}
				switch (g + i) % 4 {
				case 0: // not a word
				case 1:
					io.WriteString(c, "x")
				case 2:
					io.WriteString(c, "x")
					c.(*net.TCPConn).CloseWrite()
					_ = c.SetReadDeadline(time.Now().Add(bound))
					io.Copy(io.Discard, c)
				case 3:
					c.(*net.TCPConn).SetLinger(0)
				}
				c.Close()
			}
		})
	}
	wg.Wait()
	waitFor(t, "all connections to end", func() bool { return tc.Stats().Active == 0 })
	what := ""
	defer func() { t.Log(what) }()
	waitFor(t, "descriptors and goroutines to be gone", func() bool {
		// Pipes may stay for later use: those of both directions of as many connections
		// as there were at once, some of which outlive their client for a moment.
		f, p, g := openFiles(t), openPipes(t), runtime.NumGoroutine()
		what = fmt.Sprintf("%d descriptors, %d before; of these pipes %d, %d before; %d goroutines, %d before",
			f, files, p, pipes, g, goroutines)
		return f-p <= files-pipes+4 && p <= pipes+2*clients*2*2 && g <= goroutines+4
	})
	stop() // the last connections may have waited for accept until now
	for _, b := range tc.Pool.Status().Backends {
		if b.Active != 0 {
			t.Errorf("%s: %d picks were not returned", b.Name, b.Active)
		}
	}
	if st := tc.Stats(); st.Accepted < uint64(n)*9/10 { // a reset may come before accept
		t.Errorf("%+v, want about %d accepted", st, n)
	}
}
