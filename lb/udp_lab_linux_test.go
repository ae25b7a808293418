package lb

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
)

// serveUDPIn serves u in h until the test ends.
func serveUDPIn(t testing.TB, h *lab.Host, u *testUDP, address string) {
	t.Helper()
	u.make(t)
	var conn *net.UDPConn
	if err := h.Do(func() (err error) {
		conn, err = ListenPacket(t.Context(), "udp", address)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	labtest.Run(t, func(ctx context.Context) error { return h.Do(func() error { return u.Serve(ctx, conn) }) })
}

// echoUDP answers in h what it is asked, with an exclamation mark.
func echoUDP(t testing.TB, h *lab.Host, address string) Backend {
	t.Helper()
	var conn *net.UDPConn
	if err := h.Do(func() (err error) {
		conn, err = ListenPacket(t.Context(), "udp", address)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return udpServer(t, conn, func(q string) []string { return []string{q + "!"} })
}

func dialUDPFrom(t testing.TB, h *lab.Host, address string) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	c, err := h.DialContext(ctx, "udp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// A host with several addresses answers from the one that was asked, and from its
// own if that was everybody's.
func TestUDPAnswersFromTheAddressThatWasAsked(t *testing.T) {
	l := lab.New(t)
	balancer := l.MustHost("lb", "192.0.2.40/24", "192.0.2.250/24", "2001:db8::40/64", "2001:db8::250/64")
	client := l.MustHost("client", "192.0.2.9/24", "2001:db8::9/64")
	app := l.MustHost("app", "192.0.2.42/24", "2001:db8::42/64")
	pool := newPool(t, PoolConfig{Backends: []Backend{
		echoUDP(t, app, "192.0.2.42:5300"), echoUDP(t, app, "192.0.2.42:5301"), echoUDP(t, app, "[2001:db8::42]:5300"),
	}})
	four, six := []string{"192.0.2.40", "192.0.2.250"}, []string{"2001:db8::40", "2001:db8::250"}
	linkLocal := linkLocalOf(t, balancer)
	for _, tt := range []struct {
		listen string
		asked  []string
		all    bool // takes broadcasts
	}{
		{":53", append(append([]string{linkLocal}, four...), six...), true},
		{"0.0.0.0:54", four, true},
		{"[2001:db8::250]:55", six[1:], false},
		{"192.0.2.250:56", four[1:], false},
	} {
		serveUDPIn(t, balancer, udpWith(UDPConfig{Pool: pool}), tt.listen)
		_, port, _ := net.SplitHostPort(tt.listen)
		for _, addr := range tt.asked {
			// Connected: answers from elsewhere would not arrive.
			c := dialUDPFrom(t, client, net.JoinHostPort(addr, port))
			if got := ask(t, c, addr); got != addr+"!" {
				t.Errorf("%s at %s: %q", addr, tt.listen, got)
			}
		}
		if tt.all {
			if from := askBroadcast(t, client, "192.0.2.255:"+port); from != "192.0.2.40:"+port {
				t.Errorf("broadcast to %s was answered from %s", tt.listen, from)
			}
		}
	}
}

// linkLocalOf is h's link-local address, with the zone that the client knows it by.
func linkLocalOf(t *testing.T, h *lab.Host) string {
	t.Helper()
	addrs, err := h.Addrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if a.Addr().IsLinkLocalUnicast() {
			return a.Addr().WithZone("eth0").String()
		}
	}
	t.Fatalf("no link-local address among %v", addrs)
	return ""
}

// askBroadcast returns who answers.
func askBroadcast(t *testing.T, h *lab.Host, address string) string {
	t.Helper()
	c, err := h.ListenPacket("udp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	to := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(address))
	for end := time.Now().Add(bound); time.Now().Before(end); {
		if _, err := c.WriteTo([]byte("anybody?"), to); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		if _, from, err := c.ReadFrom(make([]byte, 100)); err == nil {
			return from.String()
		}
	}
	return "nowhere"
}

// logged counts the messages of a logger.
type logged struct {
	slog.Handler
	messages chan string
}

func (l logged) Enabled(context.Context, slog.Level) bool { return true }
func (l logged) Handle(_ context.Context, r slog.Record) error {
	select {
	case l.messages <- r.Message:
	default:
	}
	return nil
}

// A datagram that this host's own filter drops is no backend's failure.
func TestUDPFilterOfThisHost(t *testing.T) {
	lab.Need(t, "nft")
	l := lab.New(t)
	balancer, client := l.MustHost("lb", "192.0.2.40/24"), l.MustHost("client", "192.0.2.9/24")
	app := l.MustHost("app", "192.0.2.42/24")
	log := logged{slog.DiscardHandler, make(chan string, 100)}
	u := udpWith(UDPConfig{Logger: slog.New(log), Pool: newPool(t, PoolConfig{Backends: []Backend{
		echoUDP(t, app, "192.0.2.42:5300"), echoUDP(t, app, "192.0.2.42:5301"),
	}})})
	serveUDPIn(t, balancer, u, "192.0.2.40:53")
	c := dialUDPFrom(t, client, "192.0.2.40:53")
	ask(t, c, "before")
	nft := func(command string) {
		t.Helper()
		if out, err := output(balancer, "nft", strings.Fields(command)...); err != nil {
			t.Fatalf("nft %s: %v: %s", command, err, out)
		}
	}
	nft("add table ip f")
	nft("add chain ip f o { type filter hook output priority 0 ; policy accept ; }")
	nft("add rule ip f o udp dport 5300-5301 drop")
	for range 5 {
		if _, err := c.Write([]byte("dropped")); err != nil {
			t.Fatal(err)
		}
		select {
		case m := <-log.messages:
			if m != "datagram not sent" {
				t.Errorf("logged %q", m)
			}
		case <-time.After(bound):
			t.Fatal("nothing was logged")
		}
	}
	nft("delete table ip f")
	ask(t, c, "after")
	// Nor does the plane end, or stop for others, when its answers are dropped.
	nft("add table ip f")
	nft("add chain ip f o { type filter hook output priority 0 ; policy accept ; }")
	nft("add rule ip f o udp dport " + fmt.Sprint(c.LocalAddr().(*net.UDPAddr).Port) + " drop")
	for range 5 {
		if _, err := c.Write([]byte("not answered")); err != nil {
			t.Fatal(err)
		}
	}
	ask(t, dialUDPFrom(t, client, "192.0.2.40:53"), "another client")
	nft("delete table ip f")
	ask(t, c, "after that")
	for _, b := range u.Pool.Status().Backends {
		if b.Failures > 0 || b.Picks != 1 {
			t.Errorf("%+v", b)
		}
	}
}

// When the sessions of one service have all ports of this host, they make room for those
// of another service, which has none to give up.
func TestUDPServicesSharePorts(t *testing.T) {
	l := lab.New(t)
	balancer, client := l.MustHost("lb", "192.0.2.40/24"), l.MustHost("client", "192.0.2.9/24")
	app := l.MustHost("app", "192.0.2.42/24")
	if err := balancer.Sysctl("net.ipv4.ip_local_port_range", "40000 40031"); err != nil {
		t.Fatal(err)
	}
	backend := echoUDP(t, app, "192.0.2.42:5300")
	var all []*testUDP
	for port := 53; port < 55; port++ {
		u := udpWith(UDPConfig{Pool: newPool(t, PoolConfig{Backends: []Backend{backend}})})
		all = append(all, u)
		address := fmt.Sprintf("192.0.2.40:%d", port)
		serveUDPIn(t, balancer, u, address)
		for i := range 40 {
			ask(t, dialUDPFrom(t, client, address), fmt.Sprint(i))
		}
	}
	if a, b := all[0].Stats().Active, all[1].Stats().Active; a+b > 28 {
		t.Errorf("%d and %d of 32 ports are in use, want 4 left to others", a, b)
	}
}

// When this host is out of ports, old sessions make room.
func TestUDPOutOfPorts(t *testing.T) {
	l := lab.New(t)
	balancer, client := l.MustHost("lb", "192.0.2.40/24"), l.MustHost("client", "192.0.2.9/24")
	app := l.MustHost("app", "192.0.2.42/24")
	if err := balancer.Sysctl("net.ipv4.ip_local_port_range", "40000 40031"); err != nil {
		t.Fatal(err)
	}
	u := udpWith(UDPConfig{Pool: newPool(t, PoolConfig{Backends: []Backend{echoUDP(t, app, "192.0.2.42:5300"), echoUDP(t, app, "192.0.2.42:5301")}})})
	serveUDPIn(t, balancer, u, "192.0.2.40:53")
	for i := range 100 {
		ask(t, dialUDPFrom(t, client, "192.0.2.40:53"), fmt.Sprint(i))
	}
	if st := u.Stats(); st.Active > 32 || st.Refused < 68 || st.Retries > 0 {
		t.Errorf("%+v", st)
	}
	for _, b := range u.Pool.Status().Backends {
		if b.Failures > 0 {
			t.Errorf("%+v", b)
		}
	}
}
