package lb

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/havip/havip/internal/lab"
)

// Each way in which ICMP refuses a datagram for good is a failure of the backend, and the
// session goes on with another one. Of the others Linux tells a socket nothing (udp(7)).
func TestUDPMovesWhenICMPRefuses(t *testing.T) {
	lab.Need(t, "nft")
	l := lab.New(t)
	balancer, client := l.MustHost("lb", "192.0.2.40/24", "2001:db8::40/64"), l.MustHost("client", "192.0.2.9/24")
	app := l.MustHost("app", "192.0.2.42/24", "2001:db8::42/64")
	for _, name := range []string{"net.ipv4.icmp_ratelimit", "net.ipv6.icmp.ratelimit"} {
		if err := app.Sysctl(name, "0"); err != nil {
			t.Fatal(err)
		}
	}
	nft := func(command string) {
		t.Helper()
		if out, err := output(app, "nft", strings.Fields(command)...); err != nil {
			t.Fatalf("nft %s: %v: %s", command, err, out)
		}
	}
	nft("add table inet f")
	nft("add chain inet f i { type filter hook input priority 0 ; policy accept ; }")
	good := echoUDP(t, app, "192.0.2.42:5300")
	for i, reject := range []string{
		"icmp port-unreachable", "icmp prot-unreachable", "icmp admin-prohibited", "icmp host-prohibited", "icmp net-prohibited",
		"icmpv6 port-unreachable", "icmpv6 admin-prohibited", "icmpv6 policy-fail", "icmpv6 reject-route",
	} {
		port := 6000 + i
		family, kind, _ := strings.Cut(reject, " ")
		nft(fmt.Sprintf("add rule inet f i udp dport %d reject with %s type %s", port, family, kind))
		host := map[string]string{"icmp": "192.0.2.42", "icmpv6": "2001:db8::42"}[family]
		bad := Backend{Name: "bad", Address: net.JoinHostPort(host, fmt.Sprint(port))}
		u := udpWith(UDPConfig{Pool: newPool(t, PoolConfig{Backends: []Backend{bad, good}})})
		address := fmt.Sprintf("192.0.2.40:%d", port)
		serveUDPIn(t, balancer, u, address)
		if got := ask(t, dialUDPFrom(t, client, address), "x"); got != "x!" {
			t.Errorf("%s: got %q", reject, got)
		}
		if b := u.Pool.Status().Backends[0]; b.Failures != 1 || !b.Ejected {
			t.Errorf("%s: %+v, want it ejected by one failure", reject, b)
		}
	}
}

// A backend on this host is down, and a session gets its port: the session would talk to
// itself, and its client would get back what it has sent.
func TestUDPSelfConnectIsARefusal(t *testing.T) {
	l := lab.New(t)
	balancer, client := l.MustHost("lb", "192.0.2.40/24"), l.MustHost("client", "192.0.2.9/24")
	if err := balancer.Sysctl("net.ipv4.ip_local_port_range", "40000 40000"); err != nil {
		t.Fatal(err)
	}
	bad := Backend{Name: "bad", Address: "192.0.2.40:40000"}
	u := udpWith(UDPConfig{Pool: newPool(t, PoolConfig{Backends: []Backend{bad, echoUDP(t, balancer, "192.0.2.40:5300")}})})
	serveUDPIn(t, balancer, u, "192.0.2.40:53")
	if got := ask(t, dialUDPFrom(t, client, "192.0.2.40:53"), "x"); got != "x!" {
		t.Errorf("got %q", got)
	}
	if b := u.Pool.Status().Backends[0]; b.Failures != 1 || b.Active != 0 {
		t.Errorf("%+v, want one failure", b)
	}
}
