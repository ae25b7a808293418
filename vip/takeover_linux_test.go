package vip

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/havip/havip/internal/lab"
)

// TestNetnsTakeoverSparesTheHost: what the host lives on looks like what a killed
// Keepalived left, and stays with Takeover, too, and with it all that needs it:
// whatever the Manager is told and however it ends.
func TestNetnsTakeoverSparesTheHost(t *testing.T) {
	tests := map[string]struct {
		host    []string // in this order
		gateway string
		source  string
		hops    string // one hop of several, if not empty the other one
		vip     string
		why     string
	}{
		"only address":        {[]string{vip4 + "/24"}, "192.0.2.254", "", "", vip4 + "/24", "no other address"},
		"other length":        {[]string{vip4 + "/24"}, "192.0.2.254", "", "", vip4 + "/32", "no other address"},
		"source of a route":   {[]string{"192.0.2.1/24", vip4 + "/24"}, "192.0.2.254", vip4, "", vip4 + "/24", "route to 0.0.0.0/0"},
		"way to the gateway":  {[]string{"198.51.100.1/24", vip4 + "/24"}, "192.0.2.254", "", "", vip4 + "/24", "route to 0.0.0.0/0"},
		"way to one gateway":  {[]string{"198.51.100.1/24", vip4 + "/24"}, "192.0.2.254", "", "198.51.100.254", vip4 + "/24", "route to 0.0.0.0/0"},
		"there first":         {[]string{vip4 + "/24", "192.0.2.1/24"}, "192.0.2.254", "", "", vip4 + "/24", "before 192.0.2.1/24"},
		"IPv6, only address":  {[]string{vip6 + "/64 nodad"}, "2001:db8::fe", "", "", vip6 + "/64", "no other address"},
		"IPv6, with DAD":      {[]string{"2001:db8::1/64", vip6 + "/64"}, "2001:db8::fe", "", "", vip6 + "/64", "nodad"},
		"IPv6, to a gateway":  {[]string{"2001:db8:1::1/64", vip6 + "/64 nodad"}, "2001:db8::fe", "", "", vip6 + "/64", "route to ::/0"},
		"IPv6, source":        {[]string{"2001:db8::1/64", vip6 + "/64 nodad"}, "2001:db8::fe", vip6, "", vip6 + "/64", "route to ::/0"},
		"IPv6, several paths": {[]string{"2001:db8:1::1/64", vip6 + "/64 nodad"}, "2001:db8::fe", "", "2001:db8:1::fe", vip6 + "/64", "route to ::/0"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := lab.New(t).MustHost("a")
			link, err := h.Netlink().LinkByName("eth0")
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range tt.host {
				p, nodad := strings.CutSuffix(s, " nodad")
				addr, err := netlink.ParseAddr(p)
				if err == nil && nodad {
					addr.Flags = flagNoDAD
				}
				if err == nil {
					err = h.Netlink().AddrAdd(link, addr)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			lab.Until(t, bound, "no address is tentative", func() bool {
				list, err := h.Netlink().AddrList(link, netlink.FAMILY_V6)
				return err == nil && !slices.ContainsFunc(list, func(a netlink.Addr) bool { return a.Flags&0x40 != 0 }) // IFA_F_TENTATIVE
			})
			index := link.Attrs().Index
			way := &netlink.Route{LinkIndex: index, Gw: netip.MustParseAddr(tt.gateway).AsSlice()}
			if tt.hops != "" {
				all := "0.0.0.0/0"
				if is6(prefix(tt.vip)) {
					all = "::/0"
				}
				one := &netlink.NexthopInfo{LinkIndex: index, Gw: netip.MustParseAddr(tt.hops).AsSlice()}
				way = &netlink.Route{Dst: prefixNet(t, all), MultiPath: []*netlink.NexthopInfo{one, {LinkIndex: index, Gw: way.Gw}}}
			}
			if tt.source != "" {
				way.Src = netip.MustParseAddr(tt.source).AsSlice()
			}
			if err := h.Netlink().RouteAdd(way); err != nil {
				t.Fatal(err)
			}
			own, before := held(t, h), routes(t, h)
			m, stop := runIn(t, h, Config{Addresses: addrs(t, tt.vip, "192.0.2.11/24"), Takeover: true, Lease: 3 * time.Second})
			if fault := <-faults(t, m); !strings.Contains(fault, `"ip addr del `) || !strings.Contains(fault, tt.why) {
				t.Errorf("fault %q, want one that names the way out and %q", fault, tt.why)
			}
			if err := m.Acquire(t.Context()); !errors.Is(err, ErrInUse) {
				t.Errorf("Acquire: %v, want ErrInUse", err)
			}
			if err := m.Release(t.Context()); err != nil {
				t.Error(err)
			}
			for _, r := range m.Removals().Requests { // what a guard would do
				sendRequest(t, h, r)
			}
			stop()
			wantHeld(t, h, own...)
			if got := routes(t, h); !slices.Equal(got, before) {
				t.Errorf("the routes are %v, were %v", got, before)
			}
		})
	}
}
