package lb

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
)

// udpServer answers each datagram with f's words.
func udpServer(t testing.TB, conn *net.UDPConn, f func(string) []string) Backend {
	t.Helper()
	t.Cleanup(func() { conn.Close() })
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			for _, reply := range f(string(b[:n])) {
				conn.WriteToUDPAddrPort([]byte(reply), from)
			}
		}
	}()
	return Backend{Address: conn.LocalAddr().String()}
}

func udpSocket(t testing.TB, address string) *net.UDPConn {
	t.Helper()
	c, err := ListenPacket(t.Context(), "udp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// named answers with its name and the question.
func named(t testing.TB, name string) Backend {
	return udpServer(t, udpSocket(t, "127.0.0.1:0"), func(q string) []string { return []string{name + q} })
}

// relayUDP serves u on loopback.
func relayUDP(t testing.TB, u *UDP, bs ...Backend) (address string, stop func()) {
	t.Helper()
	if u.Pool == nil {
		u.Pool = newPool(t, PoolConfig{Name: "dns", Backends: bs})
	}
	conn := udpSocket(t, "127.0.0.1:0")
	address = conn.LocalAddr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- u.Serve(ctx, conn) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(bound):
			t.Error("Serve does not return")
		}
	})
	t.Cleanup(stop)
	return address, stop
}

func dialUDPTest(t testing.TB, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// ask sends q until there is an answer: datagrams may be lost.
func ask(t testing.TB, c net.Conn, q string) string {
	t.Helper()
	b := make([]byte, 1<<16)
	for range 40 {
		if _, err := c.Write([]byte(q)); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		if n, err := c.Read(b); err == nil {
			return string(b[:n])
		}
	}
	t.Fatalf("no answer to %q", q)
	return ""
}

func TestUDPSessions(t *testing.T) {
	u := new(UDP)
	addr, stop := relayUDP(t, u, named(t, "a"), named(t, "b"))
	one, two := dialUDPTest(t, addr), dialUDPTest(t, addr)
	large := strings.Repeat("x", 60000)
	for _, tt := range []struct {
		c       net.Conn
		q, want string
	}{{one, "1", "a1"}, {two, "2", "b2"}, {one, "3", "a3"}, {two, "", "b"}, {two, large, "b" + large}} {
		if got := ask(t, tt.c, tt.q); got != tt.want {
			t.Errorf("got %d bytes %.10q, want %.10q", len(got), got, tt.want)
		}
	}
	if st := u.Stats(); st.Active != 2 || st.Accepted != 2 {
		t.Errorf("%+v, want two sessions", st)
	}
	stop()
	if st := u.Stats(); st.Active != 0 || st.Received < 60003 || st.Sent < 60008 {
		t.Errorf("%+v at the end", st)
	}
	for _, b := range u.Pool.Status().Backends {
		if b.Active != 0 || b.Picks != 1 {
			t.Errorf("%+v, want one pick, returned", b)
		}
	}
}

func TestUDPMovesFromABackendThatIsGone(t *testing.T) {
	gone := closedUDP(t)
	u := new(UDP)
	addr, _ := relayUDP(t, u, gone, named(t, "b"), named(t, "c"))
	c := dialUDPTest(t, addr)
	if got := ask(t, c, "1"); got != "b1" {
		t.Errorf("got %q", got)
	}
	if st := u.Pool.Status().Backends[0]; !st.Ejected {
		t.Errorf("the one that is gone: %+v", st)
	}
	u.Pool.SetHealth(u.Pool.Status().Backends[1].Name, false)
	if got := ask(t, c, "2"); got != "c2" {
		t.Errorf("after its backend went down the session gets %q", got)
	}
}

// closedUDP is an address where nobody listens.
func closedUDP(t *testing.T) Backend {
	c := udpSocket(t, "127.0.0.1:0")
	defer c.Close()
	return Backend{Address: c.LocalAddr().String()}
}

func TestUDPSessionEnds(t *testing.T) {
	records := make(chan Record, 10)
	u := &UDP{IdleTimeout: 100 * time.Millisecond, Record: func(r Record) { records <- r }}
	addr, _ := relayUDP(t, u, named(t, "a"))
	c := dialUDPTest(t, addr)
	ask(t, c, "1")
	if r := <-records; r.Client.String() != c.LocalAddr().String() || r.Sent < 2 || r.Backend == "" || r.Service != "dns" {
		t.Errorf("record %+v", r)
	}

	u = &UDP{Responses: 2, Record: func(r Record) { records <- r }}
	addr, _ = relayUDP(t, u, udpServer(t, udpSocket(t, "127.0.0.1:0"), func(string) []string { return []string{"1", "2"} }))
	ask(t, dialUDPTest(t, addr), "x")
	if r := <-records; r.Sent != 2 {
		t.Errorf("record %+v, want the end after two responses", r)
	}

	u = &UDP{Responses: 1, IdleTimeout: 50 * time.Millisecond, Record: func(r Record) { records <- r }}
	addr, _ = relayUDP(t, u, udpServer(t, udpSocket(t, "127.0.0.1:0"), func(string) []string { return nil }))
	dialUDPTest(t, addr).Write([]byte("x"))
	<-records
	if n := u.Pool.Status().Backends[0].Failures; n != 1 {
		t.Errorf("%d failures of a backend that does not respond, want 1", n)
	}
}

func TestUDPTableIsBounded(t *testing.T) {
	u := &UDP{MaxSessions: 8}
	addr, _ := relayUDP(t, u, named(t, "a"))
	steady := dialUDPTest(t, addr)
	for range 50 {
		ask(t, dialUDPTest(t, addr), "x")
		ask(t, steady, "y")
	}
	if st := u.Stats(); st.Active != 8 || st.Refused < 43 {
		t.Errorf("%+v, want 8 active", st)
	}
	if n := u.Stats().Accepted; n > 60 {
		t.Errorf("%d sessions: the steady one was thrown out", n)
	}
}

func TestUDPReplace(t *testing.T) {
	u := new(UDP)
	addr, _ := relayUDP(t, u, named(t, "a"))
	old := dialUDPTest(t, addr)
	ask(t, old, "1")
	if err := u.Replace(&UDP{}); err == nil {
		t.Error("a replacement without a pool is taken")
	}
	if err := u.Replace(&UDP{Pool: newPool(t, PoolConfig{Backends: []Backend{named(t, "b")}})}); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, old, "2"); got != "a2" {
		t.Errorf("the old session gets %q", got)
	}
	if got := ask(t, dialUDPTest(t, addr), "3"); got != "b3" {
		t.Errorf("a new one gets %q", got)
	}
}

func TestUDPRefusesBadConfiguration(t *testing.T) {
	p := newPool(t, PoolConfig{})
	for want, u := range map[string]*UDP{
		"no pool": {}, "idle timeout": {Pool: p, IdleTimeout: -1}, "responses": {Pool: p, Responses: -1}, "max sessions": {Pool: p, MaxSessions: -1},
	} {
		if err := u.Serve(t.Context(), udpSocket(t, "127.0.0.1:0")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

// A host with several addresses answers from the one that was asked.
func TestUDPAnswersFromTheAddressThatWasAsked(t *testing.T) {
	l := lab.New(t)
	balancer := l.MustHost("lb", "192.0.2.40/24", "192.0.2.250/24", "2001:db8::40/64", "2001:db8::250/64")
	client := l.MustHost("client", "192.0.2.9/24", "2001:db8::9/64")
	app := l.MustHost("app", "192.0.2.42/24")
	var servers []Backend
	for i := range 2 {
		var conn *net.UDPConn
		if err := app.Do(func() (err error) {
			conn, err = ListenPacket(t.Context(), "udp4", fmt.Sprintf("192.0.2.42:%d", 5300+i))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		servers = append(servers, udpServer(t, conn, func(q string) []string { return []string{q + "!"} }))
	}
	for _, listen := range []string{":53", "0.0.0.0:54"} {
		n := node{Mode: "udp", Listen: listen, Pool: PoolConfig{Backends: servers}}
		n.start(t, balancer)
		_, port, _ := net.SplitHostPort(listen)
		for _, addr := range []string{"192.0.2.40", "192.0.2.250", "2001:db8::40", "2001:db8::250"} {
			if listen != ":53" && strings.Contains(addr, ":") {
				continue
			}
			// Connected: answers from elsewhere would not arrive.
			ctx, cancel := context.WithTimeout(t.Context(), bound)
			c, err := client.DialContext(ctx, "udp", net.JoinHostPort(addr, port))
			cancel()
			if err != nil {
				t.Fatal(err)
			}
			if got := ask(t, c, addr); got != addr+"!" {
				t.Errorf("%s at %s: %q", addr, listen, got)
			}
			c.Close()
		}
	}
}

func TestUDPLeavesNothingBehind(t *testing.T) {
	u := &UDP{IdleTimeout: 20 * time.Millisecond}
	addr, stop := relayUDP(t, u, named(t, "a"), closedUDP(t), named(t, "c"))
	ask(t, dialUDPTest(t, addr), "x") // So that the loop runs.
	waitFor(t, "the session to end", func() bool { return u.Stats().Active == 0 })
	files := openFiles(t)
	var answered atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 500 {
				c, err := net.Dial("udp", addr)
				if err != nil {
					t.Error(err)
					return
				}
				c.Write([]byte("x"))
				_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
				if _, err := c.Read(make([]byte, 10)); err == nil {
					answered.Add(1)
				}
				c.Close()
			}
		})
	}
	wg.Wait()
	waitFor(t, "sessions to end", func() bool { return u.Stats().Active == 0 })
	waitFor(t, "descriptors to be closed", func() bool { return openFiles(t) <= files })
	if n := answered.Load(); n < 1500 {
		t.Errorf("%d of 2000 were answered", n)
	}
	stop()
	for _, b := range u.Pool.Status().Backends {
		if b.Active != 0 {
			t.Errorf("%s: %d picks were not returned", b.Name, b.Active)
		}
	}
}
