package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	addressing "github.com/havip/havip/vip"
	"github.com/havip/havip/vrrp"
)

// TestFutilePreemption: a node that could not hold its addresses leaves them to its
// peer for good, with the reason in its log, and takes them back when it could; an
// excluded address of the other family does not keep both nodes from serving.
func TestFutilePreemption(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	inside, err := l.Segment("inside")
	if err != nil {
		t.Fatal(err)
	}
	in, in6 := netip.MustParseAddr("10.0.0.250"), netip.MustParseAddr("2001:db8:31::250")
	var nodes [2]*lab.Host
	var runs [2]*reloader
	for i := range nodes {
		h := l.MustHost(fmt.Sprintf("lb%02d", i+1), fmt.Sprintf("192.168.31.%d/24", 240+i))
		if err := h.Attach("eth1", inside, netip.MustParsePrefix(fmt.Sprintf("10.0.0.%d/24", 1+i))); err != nil {
			t.Fatal(err)
		}
		if err := h.Sysctl("net.ipv6.conf.eth0.disable_ipv6", "1"); err != nil {
			t.Fatal(err)
		}
		nodes[i] = h
		runs[i] = startReloader(t, h, fmt.Sprintf(`vrrp:
  - name: VI_1
    interface: eth0
    vrid: 51
    priority: %d
    interval: 500ms
    lease: 30s
    addresses: [192.168.31.250/24]
    excluded: ["%v/64", {address: %v/24, interface: eth1}]
`, 120-10*i, in6, in))
	}
	a, b := nodes[0], nodes[1]
	holds := func(h *lab.Host) bool { return h.Holds(vip) && h.Holds(in) }
	logged := func(i int, words string) {
		t.Helper()
		lab.Until(t, 30*time.Second, "it is said: "+words, func() bool { return strings.Contains(runs[i].cmd.Output(), words) })
	}
	lab.Until(t, 30*time.Second, "LB-01 serves, without IPv6", func() bool { return holds(a) && !b.Holds(vip) })
	logged(0, "held without "+in6.String())
	if err := a.Sysctl("net.ipv6.conf.eth0.disable_ipv6", "0"); err != nil {
		t.Fatal(err)
	}
	lab.Until(t, 30*time.Second, "the IPv6 address is there", func() bool { return a.Holds(in6) })

	if err := a.Cut("eth1"); err != nil {
		t.Fatal(err)
	}
	lab.Until(t, 30*time.Second, "LB-02 serves", func() bool { return holds(b) && !a.Holds(vip) && !a.Holds(in) })
	logged(0, "link eth1 down")
	gone := watchDeletions(t, b)
	for from := time.Now(); time.Since(from) < 3*time.Second; time.Sleep(10 * time.Millisecond) {
		if a.Holds(vip) || a.Holds(in) || gone.of(vip) > 0 || gone.of(in) > 0 {
			t.Fatalf("LB-01 has taken the addresses from LB-02, in vain: %s", runs[0].cmd.Output())
		}
	}
	if err := a.Restore("eth1"); err != nil {
		t.Fatal(err)
	}
	lab.Until(t, 30*time.Second, "LB-01 serves again", func() bool { return holds(a) && !b.Holds(vip) && !b.Holds(in) })
}

// TestEmbeddedFault: a program that gives a Manager to a Router, and nothing else,
// has what the daemon has.
func TestEmbeddedFault(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	h := l.MustHost("lb01", "192.168.31.240/24")
	inside, err := l.Segment("inside")
	if err == nil {
		err = h.Attach("eth1", inside)
	}
	if err != nil {
		t.Fatal(err)
	}
	in := netip.MustParseAddr("10.0.0.250")
	var addresses *addressing.Manager
	var conn *vrrp.Conn
	if err := h.Do(func() (err error) {
		addresses, err = addressing.NewManager(addressing.Config{Interface: "eth0", Addresses: []addressing.Address{
			{Prefix: netip.PrefixFrom(vip, 24)}, {Prefix: netip.PrefixFrom(in, 24), Interface: "eth1"},
		}})
		if err == nil {
			conn, err = vrrp.Listen(vrrp.ListenConfig{Interface: "eth0"})
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	router, err := vrrp.NewRouter(vrrp.Config{VRID: 51, Interval: 100 * time.Millisecond, Addresses: []netip.Addr{vip}}, conn, addresses)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { addresses.Run(ctx) })
	wg.Go(func() { router.Run(ctx) })

	state := func(what string, want vrrp.State, held bool) {
		t.Helper()
		lab.Until(t, 30*time.Second, what, func() bool {
			return router.Status().State == want && h.Holds(vip) == held && h.Holds(in) == held
		})
	}
	state("it serves", vrrp.Active, true)
	if err := h.Cut("eth1"); err != nil {
		t.Fatal(err)
	}
	state("it lets go", vrrp.Initialize, false)
	if got := strings.Join(router.Status().Faults, ", "); got != "link eth1 down" {
		t.Errorf("fault %q", got)
	}
	if err := h.Restore("eth1"); err != nil {
		t.Fatal(err)
	}
	state("it serves again", vrrp.Active, true)
	link, err := h.Netlink().LinkByName("eth1")
	if err == nil {
		err = h.Netlink().LinkDel(link)
	}
	if err != nil {
		t.Fatal(err)
	}
	lab.Until(t, 30*time.Second, "it has lost them", func() bool { return strings.Join(router.Status().Faults, ", ") == "link eth1 missing" && !h.Holds(vip) })
}
