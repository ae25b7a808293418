package vip

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/havip/havip/internal/lab"
)

// Setting the link down removes IPv6 addresses, and setting it up brings none
// back but ours.
func TestNetnsLinkDownUp(t *testing.T) {
	h := lab.New(t).MustHost("a", "192.0.2.1/24")
	m, _ := runIn(t, h, Config{Addresses: addrs(t, vip4+"/24", vip6+"/64")})
	mustAcquire(t, m)
	for range 3 {
		if err := h.SetLink("eth0", false); err != nil {
			t.Fatal(err)
		}
		if err := h.SetLink("eth0", true); err != nil {
			t.Fatal(err)
		}
		lab.Until(t, bound, "the IPv6 address is back", func() bool { return h.Holds(netip.MustParseAddr(vip6)) })
	}
	if !m.Status().Held || !h.Holds(netip.MustParseAddr(vip4)) {
		t.Errorf("status %+v, addresses %v", m.Status(), held(t, h))
	}
}

func TestNetnsInterfaceRenamed(t *testing.T) {
	h := lab.New(t).MustHost("a", "192.0.2.1/24")
	m, stop := runIn(t, h, Config{Addresses: addrs(t, vip4+"/24"), Lease: time.Second})
	mustAcquire(t, m)
	link, err := h.Netlink().LinkByName("eth0")
	if err == nil {
		err = h.Netlink().LinkSetName(link, "wan")
	}
	if err != nil {
		t.Fatal(err)
	}
	delAddr(t, h, "wan", vip4+"/24")
	lab.Until(t, bound, "address is back on the renamed interface", func() bool { return h.Holds(netip.MustParseAddr(vip4)) })
	stop()
	wantHeld(t, h, "192.0.2.1/24")
}

// A renamed interface is left for the one that takes its name, with nothing on it.
func TestNetnsInterfaceNameTaken(t *testing.T) {
	for name, mac := range map[string]net.HardwareAddr{"address": nil, "macvlan": VirtualMAC(51, false)} {
		t.Run(name, func(t *testing.T) {
			h := lab.New(t).MustHost("a", "192.0.2.1/24")
			m, stop := runIn(t, h, Config{
				Interface: "eth0", VirtualMAC: mac, Addresses: addrs(t, vip4+"/24"), Lease: 30 * time.Second,
				Routes: []Route{{Destination: prefix("198.51.100.0/24")}},
			})
			mustAcquire(t, m)
			on := func(ifname string) (addresses []string, routes int) {
				t.Helper()
				link, err := h.Netlink().LinkByName(ifname)
				if err != nil {
					return nil, 0
				}
				list, err := h.Netlink().AddrList(link, netlink.FAMILY_V4)
				if err != nil {
					t.Fatal(err)
				}
				for _, a := range list {
					addresses = append(addresses, a.IPNet.String())
				}
				to := netlink.Route{LinkIndex: link.Attrs().Index, Dst: &net.IPNet{IP: net.IPv4(198, 51, 100, 0).To4(), Mask: net.CIDRMask(24, 32)}}
				rs, err := h.Netlink().RouteListFiltered(netlink.FAMILY_V4, &to, netlink.RT_FILTER_OIF|netlink.RT_FILTER_DST)
				if err != nil {
					t.Fatal(err)
				}
				return addresses, len(rs)
			}
			old, err := h.Netlink().LinkByName("eth0")
			if err == nil {
				err = h.Netlink().LinkSetName(old, "wan")
			}
			if err != nil {
				t.Fatal(err)
			}
			attrs := netlink.NewLinkAttrs()
			attrs.Name, attrs.Flags = "eth0", net.FlagUp
			if err := h.Netlink().LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
				t.Fatal(err)
			}
			carrier := "eth0"
			if mac != nil {
				carrier = "vrrp.51"
			}
			lab.Eventually(t, bound, "everything is where the name is", func() error {
				if !m.Status().Held { // it may have looked between the two
					m.Acquire(t.Context())
				}
				left, leftRoutes := on("wan")
				addresses, _ := on(carrier)
				_, routes := on("eth0")
				if slices.Equal(left, []string{"192.0.2.1/24"}) && leftRoutes == 0 && slices.Equal(addresses, []string{vip4 + "/24"}) && routes == 1 {
					return nil
				}
				return fmt.Errorf("on wan %v and %d routes, on %s %v, on eth0 %d routes", left, leftRoutes, carrier, addresses, routes)
			})
			stop()
			wantHeld(t, h, "192.0.2.1/24")
		})
	}
}

func TestNetnsInterfaceRecreated(t *testing.T) {
	h := lab.New(t).MustHost("a")
	create := func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.Flags = "vip0", net.FlagUp
		return h.Netlink().LinkAdd(&netlink.Bridge{LinkAttrs: attrs})
	}
	if err := create(); err != nil {
		t.Fatal(err)
	}
	lost := make(chan error, 1)
	m, _ := runIn(t, h, Config{
		Interface: "vip0", Addresses: addrs(t, vip4+"/24", vip6+"/64"),
		OnLost: func(err error) { lost <- err },
	})
	mustAcquire(t, m)
	loseLink(t, h, "vip0", lost)
	if err := create(); err != nil {
		t.Fatal(err)
	}
	mustAcquire(t, m)
	wantHeld(t, h, vip4+"/24", vip6+"/64")
}

// loseLink deletes an interface, and waits until lost says that the addresses on it are.
func loseLink(t *testing.T, h *lab.Host, name string, lost <-chan error) {
	t.Helper()
	link, err := h.Netlink().LinkByName(name)
	if err == nil {
		err = h.Netlink().LinkDel(link)
	}
	if err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-lost:
		if !errors.Is(err, ErrNoInterface) {
			t.Errorf("OnLost was told %v, want ErrNoInterface", err)
		}
	case <-time.After(bound):
		t.Fatal("nobody was told that the interface is gone")
	}
}
