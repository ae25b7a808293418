package lb

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/lab/labtest"
)

// testUDP is a UDP with what it is made of.
type testUDP struct {
	UDPConfig
	*UDP // nil: not made yet
}

func udpWith(cfg UDPConfig) *testUDP { return &testUDP{UDPConfig: cfg} }

// make makes the UDP, over the backends unless there is a pool already.
func (u *testUDP) make(t testing.TB, bs ...Backend) {
	t.Helper()
	if u.Pool == nil {
		u.Pool = newPool(t, PoolConfig{Name: "dns", Backends: bs})
	}
	var err error
	if u.UDP, err = NewUDP(u.UDPConfig); err != nil {
		t.Fatal(err)
	}
}

// relayUDP serves u on loopback.
func relayUDP(t testing.TB, u *testUDP, bs ...Backend) (address string, stop func()) {
	t.Helper()
	u.make(t, bs...)
	conn := udpSocket(t, "127.0.0.1:0")
	return conn.LocalAddr().String(), labtest.Run(t, func(ctx context.Context) error { return u.Serve(ctx, conn) })
}

func TestUDPSessions(t *testing.T) {
	u := udpWith(UDPConfig{})
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

// A plane serves one socket at a time, and another one when that has ended.
func TestUDPServesOnceAtATime(t *testing.T) {
	u := udpWith(UDPConfig{})
	addr, stop := relayUDP(t, u, named(t, "a"))
	ask(t, dialUDPTest(t, addr), "1")
	if err := u.Serve(t.Context(), udpSocket(t, "127.0.0.1:0")); !errors.Is(err, ErrServing) {
		t.Errorf("error %v, want ErrServing", err)
	}
	stop()
	conn := udpSocket(t, "127.0.0.1:0")
	stop = labtest.Run(t, func(ctx context.Context) error { return u.Serve(ctx, conn) })
	ask(t, dialUDPTest(t, conn.LocalAddr().String()), "2")
	stop()
	if st := u.Stats(); st.Accepted != 2 || st.Active != 0 {
		t.Errorf("%+v, want both sessions counted", st)
	}
	if err := u.Serve(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "socket nil: want one") {
		t.Errorf("error %v without a socket", err)
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
	u := udpWith(UDPConfig{IdleTimeout: 100 * time.Millisecond, Record: func(r Record) { records <- r }})
	addr, _ := relayUDP(t, u, named(t, "a"))
	c := dialUDPTest(t, addr)
	ask(t, c, "1")
	if r := nextRecord(t, records); r.Client.String() != c.LocalAddr().String() || r.Sent < 2 || r.Backend == "" || r.Service != "dns" {
		t.Errorf("record %+v", r)
	}
	if b := u.Pool.Status().Backends[0]; b.Ended != 1 || b.Lasted <= 0 {
		t.Errorf("%+v, want one session", b)
	}

	u = udpWith(UDPConfig{Responses: 2, Record: func(r Record) { records <- r }})
	addr, _ = relayUDP(t, u, udpServer(t, udpSocket(t, "127.0.0.1:0"), func(string) []string { return []string{"1", "2"} }))
	dialUDPTest(t, addr).Write([]byte("x"))
	if r := nextRecord(t, records); r.Sent != 2 {
		t.Errorf("record %+v, want the end after two responses", r)
	}
}

// Who may go beyond net.core.rmem_max does.
func TestUDPBuffers(t *testing.T) {
	buffer := func(c *net.UDPConn, option, value int) (got int, err error) {
		raw, err := c.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(fd uintptr) {
			if value > 0 {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, option, value)
			}
			got, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF)
		})
		return got, err
	}
	plain, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	option := unix.SO_RCVBUFFORCE
	if _, err := buffer(plain, option, 1<<16); err != nil {
		option = unix.SO_RCVBUF // an ordinary user
	}
	want, _ := buffer(plain, option, 4<<20)
	if got, _ := buffer(udpSocket(t, "127.0.0.1:0"), option, 0); got != want {
		t.Errorf("a receive buffer of %d bytes, want %d", got, want)
	}
}

func readUDP(t testing.TB, c net.Conn) string {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(bound))
	b := make([]byte, 1<<16)
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

// What came at once goes on at once, and stays in order and in its session.
func TestUDPBursts(t *testing.T) {
	addr, _ := relayUDP(t, udpWith(UDPConfig{}), named(t, ""), named(t, ""))
	const clients, count = 3, 50
	var conns []net.Conn
	for range clients {
		conns = append(conns, dialUDPTest(t, addr))
	}
	word := func(i, j int) string { return fmt.Sprintf("%d of %d ", j, i) + strings.Repeat("x", j*j%701) }
	for j := range count {
		for i, c := range conns {
			if i == 0 || j%(3*i) != 0 { // so that some follow one another
				if _, err := c.Write([]byte(word(i, j))); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for i, c := range conns {
		for j := range count {
			if i == 0 || j%(3*i) != 0 {
				if got, want := readUDP(t, c), word(i, j); got != want {
					t.Fatalf("client %d got %.20q, want %.20q", i, got, want)
				}
			}
		}
	}
}

// dialUDPFromAddr lets a test be many clients.
func dialUDPFromAddr(t testing.TB, from net.IP, address string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.UDPAddr{IP: from}}
	c, err := d.Dial("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// In panic the pool uses backends that are down: their sessions stay.
func TestUDPPanic(t *testing.T) {
	bs := []Backend{named(t, "a"), named(t, "b"), named(t, "c")}
	u := udpWith(UDPConfig{Pool: newPool(t, PoolConfig{Backends: bs, Panic: 50})})
	addr, _ := relayUDP(t, u)
	for _, b := range bs {
		u.Pool.SetHealth(b.Address, errDown)
	}
	c := dialUDPTest(t, addr)
	first := ask(t, c, "0")[:1]
	for i := range 20 {
		q := fmt.Sprint("again", i)
		if got := ask(t, c, q); got != first+q {
			t.Errorf("got %q, want it from %s still", got, first)
		}
	}
	for _, b := range bs[1:] {
		u.Pool.SetHealth(b.Address, nil)
	}
	if got := ask(t, c, "end"); got == first+"end" {
		t.Errorf("%q after the panic", got)
	}
}

// Each backend is credited with the bytes that it had.
func TestUDPBytesOfEachBackend(t *testing.T) {
	a, b := named(t, "a"), named(t, "b")
	u := udpWith(UDPConfig{})
	addr, stop := relayUDP(t, u, a, b)
	c := dialUDPTest(t, addr)
	ask(t, c, "one")
	u.Pool.SetHealth(a.Address, errDown)
	ask(t, c, "two and more")
	stop()
	for i, want := range []string{"one", "two and more"} {
		st := u.Pool.Status().Backends[i]
		// Once or several times, if an answer was late.
		if n := st.Sent / uint64(len(want)); n == 0 || st.Sent != n*uint64(len(want)) || st.Received == 0 || st.Received%uint64(len(want)+1) != 0 {
			t.Errorf("%s: %d bytes sent, %d received", st.Name, st.Sent, st.Received)
		}
	}
}

func TestUDPTableIsBounded(t *testing.T) {
	u := udpWith(UDPConfig{MaxSessions: 8})
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

// A flood from invented addresses takes neither more room than there is nor a
// session from a client that goes on sending.
func TestUDPFlood(t *testing.T) {
	u := udpWith(UDPConfig{MaxSessions: 64})
	addr, _ := relayUDP(t, u, named(t, "a"))
	steady := dialUDPTest(t, addr)
	ask(t, steady, "at first")
	files := openFiles(t)
	const count = 2000
	for i := range count {
		c := dialUDPFromAddr(t, net.IPv4(127, 1, byte(i>>8), byte(i)), addr)
		c.Write([]byte("x"))
		c.Close()
		if i%32 == 0 {
			ask(t, steady, fmt.Sprint("still ", i))
		}
	}
	waitFor(t, "the flood to be over", func() bool { return u.Stats().Accepted >= count*9/10 })
	ask(t, steady, "at last")
	st := u.Stats()
	if st.Active != 64 || openFiles(t) > files+64 {
		t.Errorf("%+v and %d descriptors more", st, openFiles(t)-files)
	}
	if st.Accepted > count+1 {
		t.Errorf("%+v: the steady session was thrown out", st)
	}
}

func TestUDPLeavesNothingBehind(t *testing.T) {
	u := udpWith(UDPConfig{IdleTimeout: 20 * time.Millisecond})
	addr, stop := relayUDP(t, u, named(t, "a"), closedUDP(t), named(t, "c"))
	ask(t, dialUDPTest(t, addr), "x") // so that the loop runs
	waitFor(t, "the session to end", func() bool { return u.Stats().Active == 0 })
	files := openFiles(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 500 {
				c, err := net.Dial("udp", addr)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := tryAsk(c, "x"); err != nil {
					t.Error(err)
				}
				c.Close()
			}
		})
	}
	wg.Wait()
	waitFor(t, "sessions to end", func() bool { return u.Stats().Active == 0 })
	waitFor(t, "descriptors to be closed", func() bool { return openFiles(t) <= files })
	stop()
	for _, b := range u.Pool.Status().Backends {
		if b.Active != 0 {
			t.Errorf("%s: %d picks were not returned", b.Name, b.Active)
		}
	}
}
