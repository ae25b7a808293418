package vrrp_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/vrrp"
)

// holder puts addresses on a host's interface and takes them off.
type holder struct {
	host  *lab.Host
	addrs []netip.Prefix
}

func (h holder) each(f func(link netlink.Link, a *netlink.Addr) error) error {
	link, err := h.host.Netlink().LinkByName("eth0")
	if err != nil {
		return err
	}
	for _, p := range h.addrs {
		a, err := netlink.ParseAddr(p.String())
		if err != nil {
			return err
		}
		a.Flags = 0x02 // IFA_F_NODAD
		if err := f(link, a); err != nil {
			return err
		}
	}
	return nil
}

func (h holder) Acquire(context.Context) error  { return h.each(h.host.Netlink().AddrReplace) }
func (h holder) Announce(context.Context) error { return nil }
func (h holder) Release(context.Context) error {
	return h.each(func(link netlink.Link, a *netlink.Addr) error {
		h.host.Netlink().AddrDel(link, a) // which may not be there
		return nil
	})
}

// TestConnOwner: an owner that has no address but the virtual ones comes back, and
// is heard by the router that has put the very same addresses on its interface.
func TestConnOwner(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		own, other string
		cfg        vrrp.Config
	}{
		"v2":      {"192.0.2.250/24", "192.0.2.2/24", vrrp.Config{Version: 2}},
		"v2 PASS": {"192.0.2.250/24", "192.0.2.2/24", vrrp.Config{Version: 2, Auth: vrrp.Auth{Type: vrrp.AuthPass, Password: "d0cker"}}},
		"v2 AH":   {"192.0.2.250/24", "192.0.2.2/24", vrrp.Config{Version: 2, Auth: vrrp.Auth{Type: vrrp.AuthAH, Password: "d0cker"}}},
		"v3":      {"192.0.2.250/24", "192.0.2.2/24", vrrp.Config{Interval: 100 * time.Millisecond}},
		"v3 IPv6": {"fe80::250/64", "fe80::2/64", vrrp.Config{Interval: 100 * time.Millisecond}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := lab.New(t)
			a, b := l.MustHost("lb-01", test.own), l.MustHost("lb-02", test.other)
			virtual := netip.MustParsePrefix(test.own)
			v6 := virtual.Addr().Is6()
			if v6 { // no other link-local address
				link, err := a.Netlink().LinkByName("eth0")
				if err != nil {
					t.Fatal(err)
				}
				list, err := a.Netlink().AddrList(link, netlink.FAMILY_V6)
				if err != nil {
					t.Fatal(err)
				}
				for _, addr := range list {
					if addr.IP.String() != virtual.Addr().String() {
						if err := a.Netlink().AddrDel(link, &addr); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			cfg := test.cfg
			cfg.VRID, cfg.Addresses = 51, []netip.Addr{virtual.Addr()}
			other, err := vrrp.NewRouter(cfg, openConn(t, b, vrrp.ListenConfig{Interface: "eth0", IPv6: v6}), holder{b, []netip.Prefix{virtual}})
			if err != nil {
				t.Fatal(err)
			}
			run(t, other)
			lab.Until(t, patience, "the other router takes over", func() bool { return b.Holds(virtual.Addr()) })

			cfg.Priority = 255
			owner, stop := start(t, openConn(t, a, vrrp.ListenConfig{Interface: "eth0", IPv6: v6}), cfg)
			until(t, vrrp.Active, owner)
			until(t, vrrp.Backup, other)
			lab.Until(t, patience, "the other router lets go", func() bool { return !b.Holds(virtual.Addr()) })
			if s := owner.Status(); s.Source != virtual.Addr() || s.State != vrrp.Active {
				t.Errorf("the owner: %+v", s)
			}
			lab.Until(t, patience, "the owner is heard like any other", func() bool { return other.Status().Counters.Received > 3 })
			stop()
			until(t, vrrp.Active, other)
			if c := other.Status().Counters; len(c.Dropped) > 0 {
				t.Errorf("discarded: %v", c.Dropped)
			}
		})
	}
}
