package daemon

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/vrrp"
)

// TestRouterThatCannotRun: a router that its interface cannot carry is left out,
// with the reason in the log, and runs when that has changed. No other one notices.
func TestRouterThatCannotRun(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	h := l.MustHost("lb01", "192.168.31.240/24")
	attach(t, l, h, "eth1", "10.0.0.1/24")
	link, err := h.Netlink().LinkByName("eth1")
	if err == nil {
		err = h.Netlink().LinkSetMulticastOff(link)
	}
	if err != nil {
		t.Fatal(err)
	}
	one, two := "{name: VI_1, interface: eth0, vrid: 51, interval: 1s, lease: 20s, addresses: [192.168.31.250/24]}",
		"{name: VI_2, interface: eth1, vrid: 52, interval: 100ms, addresses: [10.0.0.250/24]}"
	n := startNode(t, h, "vrrp: ["+one+"]")
	n.awaits("VI_1", vrrp.Active)
	gone := removals(t, h, "192.168.31.250")
	n.must("vrrp: [" + one + ", " + two + "]")
	lab.Until(t, bound, "the log says why", func() bool { return len(n.log.Lines("router=VI_2")) > 0 && len(n.log.Lines("multicast")) > 0 })
	if err := h.Netlink().LinkSetMulticastOn(link); err != nil {
		t.Fatal(err)
	}
	n.awaits("VI_2", vrrp.Active)
	n.holds(true, "10.0.0.250", "192.168.31.250")
	if gone() != 0 {
		t.Errorf("the other router's address was removed %d times", gone())
	}
	// The router ends like any other, whether or not it runs.
	if err := h.Netlink().LinkSetMulticastOff(link); err != nil {
		t.Fatal(err)
	}
	n.must("vrrp: [" + one + ", " + strings.Replace(two, "52", "53", 1) + "]")
	n.must("vrrp: [" + one + "]")
	if slices.Contains([]bool{h.Holds(netip.MustParseAddr("10.0.0.250")), !h.Holds(netip.MustParseAddr("192.168.31.250"))}, true) {
		t.Error("the wrong addresses are held in the end")
	}
}

// TestRouterWhoseAddressIsElsewhere: an address that was to move from one router to
// another and that somebody else has got: the other router waits for it.
func TestRouterWhoseAddressIsElsewhere(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	h := l.MustHost("lb01", "192.168.31.240/24")
	attach(t, l, h, "eth1", "10.0.0.1/24")
	attach(t, l, h, "eth2", "10.2.0.1/24")
	file := func(one, two string) string {
		return "vrrp: [{name: VI_1, interface: eth0, vrid: 51, interval: 100ms, addresses: [192.168.31.250/24" + one + "]}" + two + "]"
	}
	n := startNode(t, h, file(", 192.168.31.251/24", ""))
	n.holds(true, "192.168.31.251")
	if err := h.AddAddr("eth2", netip.MustParsePrefix("192.168.31.251/32")); err != nil {
		t.Fatal(err)
	}
	n.must(file("", ", {name: VI_2, interface: eth1, vrid: 52, interval: 100ms, addresses: [192.168.31.251/24]}"))
	lab.Until(t, bound, "the router says what is in the way", func() bool {
		return strings.Contains(strings.Join(n.router("VI_2").node.Router().Status().Faults, ", "), "192.168.31.251 is on eth2")
	})
	link, err := h.Netlink().LinkByName("eth2")
	if err == nil {
		addr, _ := netlink.ParseAddr("192.168.31.251/32")
		err = h.Netlink().AddrDel(link, addr)
	}
	if err != nil {
		t.Fatal(err)
	}
	n.awaits("VI_2", vrrp.Active)
	n.holds(true, "192.168.31.250", "192.168.31.251")
}

// TestAddressOfAnotherProgram: an address that somebody else has put on the host
// is a fault of its router only, also at the start, and is never removed. The fault
// names the way out and ends with it, or with takeover.
func TestAddressOfAnotherProgram(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	h := l.MustHost("lb01", "192.168.31.240/24", "192.168.31.250/24", "192.168.31.253/24")
	attach(t, l, h, "eth1", "192.168.31.251/32")
	router := func(name, host string) string {
		return "{name: " + name + ", interface: eth0, vrid: " + host + ", interval: 100ms, addresses: [192.168.31." + host + "/24]"
	}
	file := func(takeover string) string {
		return "vrrp: [" + router("VI_1", "250") + "}, " + router("VI_2", "251") + "}, " + router("VI_3", "252") + "}, " +
			router("VI_4", "253") + takeover + "}]"
	}
	gone := removals(t, h, "192.168.31.250")
	n := startNode(t, h, file(""))
	n.awaits("VI_3", vrrp.Active)
	for name, way := range map[string]string{
		"VI_1": `"ip addr del 192.168.31.250/24 dev eth0" removes it`,
		"VI_2": `"ip addr del 192.168.31.251/32 dev eth1" removes it`,
		"VI_4": `"ip addr del 192.168.31.253/24 dev eth0" removes it`,
	} {
		lab.Until(t, bound, name+" says what is in the way", func() bool {
			return strings.Contains(strings.Join(n.router(name).node.Router().Status().Faults, ", "), way)
		})
	}
	n.must(file(", takeover: true"))
	n.awaits("VI_4", vrrp.Active)
	if gone() != 0 || !h.Holds(netip.MustParseAddr("192.168.31.250")) {
		t.Error("an address of another program was removed")
	}
	for ifname, p := range map[string]string{"eth0": "192.168.31.250/24", "eth1": "192.168.31.251/32"} {
		link, err := h.Netlink().LinkByName(ifname)
		if err == nil {
			addr, _ := netlink.ParseAddr(p)
			err = h.Netlink().AddrDel(link, addr)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	n.awaits("VI_1", vrrp.Active)
	n.awaits("VI_2", vrrp.Active)
}
