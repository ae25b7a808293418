package vip

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/lab"
)

// advertise has a host advertise 2001:db8::/64 as on-link, and nobody to get an
// address from it (RFC 4861 §4.2, §4.6.2).
func advertise(t *testing.T, h *lab.Host) {
	t.Helper()
	conn, err := h.ListenPacket("ip6:ipv6-icmp", "::")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	link, err := h.Netlink().LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	const onLink = 0x80
	ra := append([]byte{134, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, // no default router
		3, 4, 64, onLink, 0, 0, 0x0e, 0x10, 0, 0, 0x0e, 0x10, 0, 0, 0, 0) // for an hour
	ra = append(ra, netip.MustParseAddr("2001:db8::").AsSlice()...)
	p := ipv6.NewPacketConn(conn)
	if err := p.SetMulticastHopLimit(255); err != nil {
		t.Fatal(err)
	}
	cm := &ipv6.ControlMessage{IfIndex: link.Attrs().Index}
	if _, err := p.WriteTo(ra, cm, &net.IPAddr{IP: net.ParseIP("ff02::1")}); err != nil {
		t.Fatal(err)
	}
}

// TestNetnsOnLinkRouteStays: a network that is on the link by the word of a router,
// or of the program that listens to it, stays so when an address comes and goes.
func TestNetnsOnLinkRouteStays(t *testing.T) {
	for _, by := range []string{"kernel", "another program"} {
		for _, lease := range []time.Duration{0, 3 * time.Second} {
			t.Run(by+" lease "+lease.String(), func(t *testing.T) {
				t.Parallel()
				l := lab.New(t)
				h, router := l.MustHost("a", "192.0.2.1/24"), l.MustHost("router")
				link, err := h.Netlink().LinkByName("eth0")
				if err != nil {
					t.Fatal(err)
				}
				onLink := func() bool {
					list, err := h.Netlink().RouteList(link, netlink.FAMILY_V6)
					if err != nil {
						t.Fatal(err)
					}
					return slices.ContainsFunc(list, func(r netlink.Route) bool { return r.Dst.String() == "2001:db8::/64" })
				}
				if by == "kernel" {
					if err := h.Sysctl("net.ipv6.conf.eth0.accept_ra", "2"); err != nil {
						t.Fatal(err)
					}
					lab.Until(t, bound, "the router is heard", func() bool {
						advertise(t, router)
						return onLink()
					})
				} else if err := h.Netlink().RouteAdd(&netlink.Route{
					LinkIndex: link.Attrs().Index, Dst: prefixNet(t, "2001:db8::/64"), Protocol: unix.RTPROT_RA, Priority: 256,
				}); err != nil {
					t.Fatal(err)
				}
				before := routes(t, h)
				m, stop := runIn(t, h, Config{Addresses: addrs(t, vip6+"/64", "2001:db8::11/64"), Lease: lease})
				for range 2 {
					mustAcquire(t, m)
					mustAcquire(t, m)
					if got := slices.DeleteFunc(routes(t, h), isHostRoute); !slices.Equal(got, before) {
						t.Errorf("routes while held:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(before, "\n"))
					}
					if err := m.Release(t.Context()); err != nil {
						t.Error(err)
					}
					if !onLink() {
						t.Error("the network has gone with the address")
					}
				}
				stop()
				if got := routes(t, h); !slices.Equal(got, before) {
					t.Errorf("routes afterwards:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(before, "\n"))
				}
			})
		}
	}
}
