package vip

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/havip/havip/internal/lab"
)

// becomes waits until what was told last is want.
func (l *faultLog) becomes(want string) {
	l.t.Helper()
	lab.Until(l.t, bound, "the faults are "+want, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.told) > 0 && l.told[len(l.told)-1] == want
	})
}

// second returns a host with eth0 and eth1.
func second(t *testing.T) *lab.Host {
	t.Helper()
	l := lab.New(t)
	h := l.MustHost("a", "192.0.2.1/24")
	s, err := l.Segment("second")
	if err == nil {
		err = h.Attach("eth1", s, netip.MustParsePrefix("198.51.100.1/24"))
	}
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestNetnsSecondInterface: an address on another interface than the others' is a
// fault while that one is down, has no carrier or is missing.
func TestNetnsSecondInterface(t *testing.T) {
	h := second(t)
	create := func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.Flags = "vip0", net.FlagUp
		if err := h.Netlink().LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "vip1"}); err != nil {
			return err
		}
		return h.SetLink("vip1", true)
	}
	remove := func() error {
		link, err := h.Netlink().LinkByName("vip0")
		if err != nil {
			return err
		}
		return h.Netlink().LinkDel(link)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(create())
	list := addrs(t, vip4+"/24", "198.51.100.10/24", "203.0.113.10/32")
	list[1].Interface, list[2].Interface = "eth1", "vip0"
	m, _ := runIn(t, h, Config{Addresses: list})
	faults := watchFaults(t, m)
	faults.becomes("")
	for range 2 {
		must(h.SetLink("eth1", false))
		faults.becomes("link eth1 down")
		must(h.SetLink("eth1", true))
		faults.becomes("")
		must(h.Cut("eth1"))
		faults.becomes("link eth1 down")
		must(h.Restore("eth1"))
		faults.becomes("")
		mustAcquire(t, m)
	}
	must(remove())
	faults.becomes("link vip0 missing")
	if s := m.Status(); s.Held || s.Lost != 1 {
		t.Errorf("status %+v, want the addresses lost", s)
	}
	must(create())
	faults.becomes("")
	mustAcquire(t, m)
	wantHeld(t, h, "192.0.2.1/24", vip4+"/24", "198.51.100.1/24", "198.51.100.10/24", "203.0.113.10/32")
}

// TestNetnsNoIPv6: without IPv6 the addresses of IPv4 are held alone where the other
// ones are optional; where they are not that is a fault.
func TestNetnsNoIPv6(t *testing.T) {
	h := second(t)
	disable := func(ifname, value string) {
		t.Helper()
		if err := h.Sysctl("net.ipv6.conf."+ifname+".disable_ipv6", value); err != nil {
			t.Fatal(err)
		}
	}
	list := addrs(t, vip4+"/24", vip6+"/64")
	list[1].Optional = true
	disable("eth0", "1")
	m, _ := runIn(t, h, Config{Addresses: list, Routes: []Route{{Destination: prefix("2001:db8:1::/48"), Optional: true}}, Lease: 3 * time.Second})
	faults := watchFaults(t, m)
	faults.becomes("")
	mustAcquire(t, m)
	wantHeld(t, h, "192.0.2.1/24", vip4+"/24", "198.51.100.1/24")
	for range 2 {
		lab.Until(t, bound, "it is said", func() bool {
			return strings.Contains(m.Status().Problem, "held without 2001:db8::10/64 (") && strings.Contains(m.Status().Problem, "route to 2001:db8:1::/48 (")
		})
		disable("eth0", "0")
		lab.Until(t, bound, "all is held", func() bool { return m.Status().Problem == "" && h.Holds(netip.MustParseAddr(vip6)) })
		disable("eth0", "1") // removes what there is
	}
	if s := m.Status(); !s.Held || s.Lost != 0 {
		t.Errorf("status %+v, want held all the time", s)
	}

	needed := addrs(t, "192.0.2.11/24", "2001:db8:2::10/64")
	needed[1].Interface = "eth1"
	n, _ := runIn(t, h, Config{Addresses: needed})
	faults = watchFaults(t, n)
	faults.becomes("")
	disable("eth1", "1")
	faults.becomes("IPv6 disabled on eth1")
	disable("eth1", "0")
	faults.becomes("")
	mustAcquire(t, n)
}

// TestNetnsGateway: a route by a gateway that nothing makes a neighbour is a fault
// until something does.
func TestNetnsGateway(t *testing.T) {
	h := second(t)
	m, _ := runIn(t, h, Config{Addresses: addrs(t, vip4+"/24"), Routes: []Route{
		{Destination: prefix("10.0.0.0/8"), Gateway: netip.MustParseAddr("192.0.2.254")},
		{Destination: prefix("10.1.0.0/16"), Gateway: netip.MustParseAddr("198.51.100.254"), Interface: "eth1"},
	}})
	faults := watchFaults(t, m)
	faults.becomes("")
	delAddr(t, h, "eth1", "198.51.100.1/24")
	faults.becomes("route to 10.1.0.0/16: gateway 198.51.100.254 is not on the link of eth1")
	if err := m.Acquire(t.Context()); err == nil {
		t.Error("the kernel takes the route")
	}
	if err := h.AddAddr("eth1", netip.MustParsePrefix("198.51.100.1/24")); err != nil {
		t.Fatal(err)
	}
	faults.becomes("")
	mustAcquire(t, m)
	delAddr(t, h, "eth1", "198.51.100.1/24") // which may be back at once
	time.Sleep(2 * spacing)
	if !m.Status().Held {
		t.Error("what is held is given up although it is all there")
	}
}

// TestOnLink: what is said of a gateway is what the kernel does with its route.
func TestOnLink(t *testing.T) {
	h := second(t)
	k := openIn(t, h)
	eth1, err := k.link(0, "eth1")
	if err != nil {
		t.Fatal(err)
	}
	eth0, err := k.link(0, "eth0")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.AddAddr("eth1", netip.MustParsePrefix("2001:db8:2::1/64")); err != nil {
		t.Fatal(err)
	}
	put := func(dst, gateway string, index int) {
		t.Helper()
		r := Route{Destination: prefix(dst)}
		if gateway != "" {
			r.Gateway = netip.MustParseAddr(gateway)
		}
		if err := k.putRoute(r, index); err != nil {
			t.Fatal(err)
		}
	}
	put("10.7.0.0/16", "", eth1.index)
	put("2001:db8:7::/48", "", eth1.index)
	for _, byDefault := range []bool{false, true} {
		if byDefault {
			put("0.0.0.0/0", "198.51.100.254", eth1.index)
			put("::/0", "fe80::1", eth1.index)
		}
		for gateway, want := range map[string]bool{
			"198.51.100.254": true, "10.7.1.1": true, "192.0.2.254": false, "10.8.1.1": false,
			"2001:db8:2::fe": true, "2001:db8:7::1": true, "2001:db8:8::1": false,
		} {
			r := Route{Destination: prefix("203.0.113.0/24"), Gateway: netip.MustParseAddr(gateway)}
			if r.Gateway.Is6() {
				r.Destination = prefix("2001:db8:9::/48")
			}
			got, err := k.onLink(r.Gateway, eth1.index)
			if err != nil || got != want {
				t.Errorf("%s on eth1 with a default route %v: %v (error %v), want %v", gateway, byDefault, got, err, want)
			}
			if err := k.putRoute(r, eth1.index); (err == nil) != want {
				t.Errorf("the kernel says of the route by %s: %v", gateway, err)
			}
			if err := k.removeRoute(r, eth1.index); err != nil {
				t.Error(err)
			}
		}
		if on, err := k.onLink(netip.MustParseAddr("198.51.100.254"), eth0.index); on || err != nil {
			t.Errorf("what is on eth1 is on eth0: %v (error %v)", on, err)
		}
	}
}
