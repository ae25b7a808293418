package lb

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
)

// What a real server of names says of hosts and SRV records is understood, and a host
// without a route for IPv6 uses no IPv6 address.
func TestNamesOfAServer(t *testing.T) {
	lab.Need(t, "dnsmasq")
	h := lab.New(t).MustHost("lb", "192.0.2.1/24")
	startPeer(t, h, h.Command("dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-hosts", "--no-resolv", "--user=root", "--pid-file=",
		"--listen-address=192.0.2.1", "--bind-interfaces", "--local=/example.com/",
		"--host-record=app.example.com,192.0.2.12,2001:db8::12", "--host-record=app.example.com,192.0.2.11", "--host-record=spare.example.com,192.0.2.13",
		"--srv-host=_http._tcp.example.com,app.example.com,8080,10,5", "--srv-host=_http._tcp.example.com,spare.example.com,8081,20,7"), "192.0.2.1:53")
	p := newPool(t, PoolConfig{ResolveInterval: 100 * time.Millisecond, Backends: []Backend{
		{Name: "app", Address: "app.example.com:80"}, {Name: "srv", Address: "_http._tcp.example.com"}},
		Resolver: &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return h.DialContext(ctx, network, "192.0.2.1:53")
		}}})
	p.hasRoute = func(a netip.Addr) (has bool) {
		_ = h.Do(func() error { has = hasRoute(a); return nil })
		return has
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go p.Run(ctx)
	const want = "app/192.0.2.11:80 app/192.0.2.12:80 srv/192.0.2.11:8080*5 srv/192.0.2.12:8080*5 srv/192.0.2.13:8081+*7"
	waitFor(t, want, func() bool { return members(p) == want })
	if !p.hasRoute(netip.MustParseAddr("192.0.2.13")) || p.hasRoute(netip.MustParseAddr("2001:db8::12")) {
		t.Error("there is a route for IPv4 alone")
	}
}
