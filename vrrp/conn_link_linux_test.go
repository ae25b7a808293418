package vrrp_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/vrrp"
)

// TestConnLink: the cable, the interface and its address come and go.
func TestConnLink(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	for name, addresses := range map[string][]netip.Addr{"4": parse("192.0.2.250"), "6": parse("fe80::250")} {
		t.Run("IPv"+name, func(t *testing.T) {
			lan, err := l.Segment("lan" + name)
			if err != nil {
				t.Fatal(err)
			}
			host := func(hostname string, lan *lab.Segment, addr string) *lab.Host {
				h := l.MustHost(hostname + name)
				if err := h.Attach("eth9", lan, netip.MustParsePrefix(addr)); err != nil {
					t.Fatal(err)
				}
				return h
			}
			a, b := host("a", lan, "192.0.2.1/24"), host("b", lan, "192.0.2.2/24")
			cfg := vrrp.Config{VRID: 51, Addresses: addresses, Interval: 100 * time.Millisecond}
			run := func(h *lab.Host, priority uint8) *vrrp.Router {
				cfg := cfg
				cfg.Name, cfg.Priority = h.Name(), priority
				r, _ := start(t, openConn(t, h, vrrp.ListenConfig{Interface: "eth9", IPv6: addresses[0].Is6()}), cfg)
				return r
			}
			ra, rb := run(a, 120), run(b, 110)
			until(t, vrrp.Active, ra)
			until(t, vrrp.Backup, rb)
			fault := func(want string) {
				t.Helper()
				lab.Eventually(t, patience, "fault "+want, func() error {
					if s := ra.Status(); strings.Join(s.Faults, ", ") != want {
						return fmt.Errorf("fault %q", strings.Join(s.Faults, ", "))
					}
					return nil
				})
			}

			if err := a.Cut(); err != nil {
				t.Fatal(err)
			}
			fault("link eth9 down")
			until(t, vrrp.Initialize, ra)
			until(t, vrrp.Active, rb)
			if err := a.Restore(); err != nil {
				t.Fatal(err)
			}
			until(t, vrrp.Active, ra)
			until(t, vrrp.Backup, rb)

			if err := a.SetLink("eth9", false); err != nil {
				t.Fatal(err)
			}
			fault("link eth9 down")
			if err := a.SetLink("eth9", true); err != nil {
				t.Fatal(err)
			}
			until(t, vrrp.Active, ra)
			until(t, vrrp.Backup, rb)

			// The host renumbers.
			if addresses[0].Is4() {
				link, err := a.Netlink().LinkByName("eth9")
				if err != nil {
					t.Fatal(err)
				}
				old, _ := netlink.ParseAddr("192.0.2.1/24")
				if err := a.Netlink().AddrDel(link, old); err != nil {
					t.Fatal(err)
				}
				fault("no IPv4 address on eth9")
				until(t, vrrp.Active, rb)
				if err := a.AddAddr("eth9", netip.MustParsePrefix("192.0.2.11/24")); err != nil {
					t.Fatal(err)
				}
				until(t, vrrp.Active, ra)
				until(t, vrrp.Backup, rb)
				if got, want := rb.Status().Peers[0].Address, netip.MustParseAddr("192.0.2.11"); got != want {
					t.Errorf("the peer is %v, want %v", got, want)
				}
			}

			// It gets another name, which nobody takes, and its own again.
			link, err := a.Netlink().LinkByName("eth9")
			if err != nil {
				t.Fatal(err)
			}
			rename := func(from, to string) {
				t.Helper()
				if err := errors.Join(a.SetLink(from, false), a.Netlink().LinkSetName(link, to), a.SetLink(to, true)); err != nil {
					t.Fatal(err)
				}
			}
			for _, names := range [][2]string{{"eth9", "eth8"}, {"eth8", "eth9"}} {
				rename(names[0], names[1])
				until(t, vrrp.Active, ra)
				until(t, vrrp.Backup, rb)
			}

			// The interface is deleted, and comes back with another index.
			if err := a.Netlink().LinkDel(link); err != nil {
				t.Fatal(err)
			}
			fault("link eth9 missing")
			until(t, vrrp.Active, rb)
			again, err := l.Segment("again" + name)
			if err != nil {
				t.Fatal(err)
			}
			if err := a.Attach("eth9", again, netip.MustParsePrefix("192.0.2.1/24")); err != nil {
				t.Fatal(err)
			}
			until(t, vrrp.Active, ra)
			// On another segment it is alone; a third host there hears it.
			rc := run(host("c", again, "192.0.2.3/24"), 100)
			lab.Until(t, patience, "the new socket sends", func() bool { return rc.Status().Counters.Received > 3 })
			until(t, vrrp.Backup, rc)
		})
	}
}

// TestConnSourceVanishes: a router whose address vanishes says priority 0 from it
// all the same: the Backup does not wait for its timer, which would take longer
// than this test.
func TestConnSourceVanishes(t *testing.T) {
	l := lab.New(t)
	for _, test := range []struct {
		name  string
		addrs []string // of the two hosts
		vip   string
		peers bool
		cfg   vrrp.Config
		spare bool // the first host has another one
	}{
		{name: "v4-multicast", addrs: []string{"192.0.2.1/24", "192.0.2.2/24"}, vip: "192.0.2.250"},
		{name: "v4-unicast", addrs: []string{"192.0.2.1/24", "192.0.2.2/24"}, vip: "192.0.2.250", peers: true},
		{name: "v4-spare", addrs: []string{"192.0.2.1/24", "192.0.2.2/24"}, vip: "192.0.2.250", peers: true, spare: true},
		{name: "v4-ah", addrs: []string{"192.0.2.1/24", "192.0.2.2/24"}, vip: "192.0.2.250", peers: true,
			cfg: vrrp.Config{Version: 2, Auth: vrrp.Auth{Type: vrrp.AuthAH, Password: "d0cker"}}},
		{name: "v6-multicast", addrs: []string{"fe80::1/64", "fe80::2/64"}, vip: "fe80::250"},
		{name: "v6-unicast", addrs: []string{"2001:db8::1/64", "2001:db8::2/64"}, vip: "fe80::250", peers: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			lan, err := l.Segment(test.name)
			if err != nil {
				t.Fatal(err)
			}
			var routers [2]*vrrp.Router
			var hosts [2]*lab.Host
			for i, p := range slices.Backward(test.addrs) {
				h := l.MustHost(string(rune('a'+i)) + "-" + test.name)
				if err := h.Attach("eth9", lan, netip.MustParsePrefix(p)); err != nil {
					t.Fatal(err)
				}
				if test.spare && i == 0 {
					if err := h.AddAddr("eth9", netip.MustParsePrefix("192.0.2.77/24")); err != nil {
						t.Fatal(err)
					}
				}
				cfg := test.cfg
				cfg.Name, cfg.VRID, cfg.Addresses, cfg.Interval = h.Name(), 51, parse(test.vip), 20*time.Second
				cfg.Source = netip.MustParsePrefix(p).Addr()
				if cfg.Priority = 255; i > 0 {
					cfg.Priority = 254
				}
				if test.peers {
					cfg.Peers = []netip.Addr{netip.MustParsePrefix(test.addrs[1-i]).Addr()}
				}
				hosts[i] = h
				routers[i], _ = start(t, openConn(t, h, vrrp.ListenConfig{Interface: "eth9", IPv6: cfg.Addresses[0].Is6()}), cfg)
				if i > 0 {
					until(t, vrrp.Backup, routers[i]) // nobody hears anything before
				}
			}
			a, b := routers[0], routers[1]
			until(t, vrrp.Active, a)
			// What waits in the kernel for the peer's hardware address would come later.
			lab.Until(t, patience, "the Backup hears the Active router", func() bool {
				s := b.Status()
				return s.State == vrrp.Backup && s.Counters.Received > 0
			})
			wire, err := hosts[1].Capture("eth9")
			if err != nil {
				t.Fatal(err)
			}
			link, err := hosts[0].Netlink().LinkByName("eth9")
			if err != nil {
				t.Fatal(err)
			}
			own, err := netlink.ParseAddr(test.addrs[0])
			if err == nil {
				err = hosts[0].Netlink().AddrDel(link, own)
			}
			if err != nil {
				t.Fatal(err)
			}
			until(t, vrrp.Active, b)
			if s := a.Status(); s.State != vrrp.Initialize || s.Counters.SendErrors != 0 {
				t.Errorf("%+v", s)
			}
			// IPv6 has no way to a peer without a route, but to shout.
			shouts := !test.peers || netip.MustParseAddr(test.vip).Is6()
			for _, f := range wire.Packets() {
				const igmp = 2 // the kernel's own business
				src, _, proto, _, ok := f.IP()
				if ok && src == netip.MustParsePrefix(test.addrs[0]).Addr() && proto != igmp && f.Data[0]&1 == 1 && !shouts {
					t.Errorf("a frame to everybody: %x", f.Data)
				}
			}
		})
	}
}
