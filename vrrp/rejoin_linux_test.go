package vrrp_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/vrrp"
)

// TestConnRejoins: the kernel forgets that a socket is a member of the group. The
// Backup hears the Active router again, and does not take over.
func TestConnRejoins(t *testing.T) {
	l := lab.New(t)
	away := l.MustHost("away")
	var elsewhere *os.File
	if err := away.Do(func() (err error) {
		elsewhere, err = os.Open("/proc/thread-self/ns/net")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer elsewhere.Close()
	for _, test := range []struct {
		name   string
		v6     bool
		forget func(h *lab.Host, link netlink.Link, own netip.Prefix) error
	}{
		{"mtu", true, func(h *lab.Host, link netlink.Link, own netip.Prefix) error {
			return errors.Join(h.Netlink().LinkSetMTU(link, 1200), h.Netlink().LinkSetMTU(link, 1500), h.AddAddr("eth9", own))
		}},
		{"move4", false, func(h *lab.Host, link netlink.Link, own netip.Prefix) error {
			return move(h, away, elsewhere, link, own)
		}},
		{"move6", true, func(h *lab.Host, link netlink.Link, own netip.Prefix) error {
			return move(h, away, elsewhere, link, own)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			lan, err := l.Segment(test.name)
			if err != nil {
				t.Fatal(err)
			}
			own, vip := netip.MustParsePrefix("192.0.2.2/24"), "192.0.2.250"
			if test.v6 {
				own, vip = netip.MustParsePrefix("fe80::2/64"), "fe80::250"
			}
			a, b := l.MustHost("a-"+test.name), l.MustHost("b-"+test.name)
			if err := errors.Join(a.Attach("eth9", lan, netip.PrefixFrom(own.Addr().Prev(), own.Bits())), b.Attach("eth9", lan, own)); err != nil {
				t.Fatal(err)
			}
			run := func(h *lab.Host, priority uint8) *vrrp.Router {
				r, _ := start(t, openConn(t, h, vrrp.ListenConfig{Interface: "eth9", IPv6: test.v6}), vrrp.Config{
					Name: h.Name(), VRID: 51, Addresses: parse(vip), Interval: 100 * time.Millisecond, Priority: priority,
				})
				return r
			}
			ra := run(a, 120)
			until(t, vrrp.Active, ra)
			rb := run(b, 110)
			for range 3 {
				link, err := b.Netlink().LinkByName("eth9")
				if err == nil {
					err = test.forget(b, link, own)
				}
				if err != nil {
					t.Fatal(err)
				}
				before := rb.Status().Counters.Received
				lab.Eventually(t, patience, "the Backup hears again", func() error {
					s := rb.Status()
					if s.State == vrrp.Backup && strings.Join(s.Faults, ", ") == "" && s.Counters.Received > before+5 {
						return nil
					}
					return fmt.Errorf("%+v", s)
				})
			}
		})
	}
}

// move takes an interface to another network namespace and back, under the same
// index.
func move(h, away *lab.Host, elsewhere *os.File, link netlink.Link, own netip.Prefix) error {
	var home *os.File
	err := h.Do(func() (err error) {
		home, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		return err
	}
	defer home.Close()
	if err := h.Netlink().LinkSetNsFd(link, int(elsewhere.Fd())); err != nil {
		return err
	}
	there, err := away.Netlink().LinkByName("eth9")
	if err == nil {
		err = away.Netlink().LinkSetNsFd(there, int(home.Fd()))
	}
	if err == nil {
		err = h.SetLink("eth9", true)
	}
	if err == nil && !h.Holds(own.Addr()) {
		err = h.AddAddr("eth9", own)
	}
	return err
}

// TestConnNameTaken: the Conn stays with a renamed interface until another interface takes
// the old name.
func TestConnNameTaken(t *testing.T) {
	l := lab.New(t)
	old, taken := segment(t, l, "old"), segment(t, l, "taken")
	a, b, c := l.MustHost("a"), l.MustHost("b"), l.MustHost("c")
	attach := func(h *lab.Host, ifname string, lan *lab.Segment, addr string) {
		t.Helper()
		if err := h.Attach(ifname, lan, netip.MustParsePrefix(addr)); err != nil {
			t.Fatal(err)
		}
	}
	attach(a, "eth9", old, "192.0.2.1/24")
	attach(b, "eth9", old, "192.0.2.2/24")
	attach(c, "eth9", taken, "192.0.2.3/24")
	run := func(h *lab.Host, priority uint8) *vrrp.Router {
		r, _ := start(t, openConn(t, h, vrrp.ListenConfig{Interface: "eth9"}), vrrp.Config{
			Name: h.Name(), VRID: 51, Addresses: parse("192.0.2.250"), Interval: 100 * time.Millisecond, Priority: priority,
		})
		return r
	}
	ra, rb, rc := run(a, 120), run(b, 110), run(c, 100)
	until(t, vrrp.Active, ra, rc)
	until(t, vrrp.Backup, rb)

	link, err := a.Netlink().LinkByName("eth9")
	if err == nil {
		err = errors.Join(a.SetLink("eth9", false), a.Netlink().LinkSetName(link, "eth8"), a.SetLink("eth8", true))
	}
	if err != nil {
		t.Fatal(err)
	}
	lab.Until(t, patience, "the renamed interface goes on", func() bool {
		return ra.Status().State == vrrp.Active && rb.Status().State == vrrp.Backup
	})
	attach(a, "eth9", taken, "192.0.2.11/24")
	// On a busy machine they may be in these states for a moment before that.
	lab.Eventually(t, patience, "the router goes on with the other interface", func() error {
		a, b, c := ra.Status(), rb.Status(), rc.Status()
		if a.Source == netip.MustParseAddr("192.0.2.11") && a.State == vrrp.Active && b.State == vrrp.Active && c.State == vrrp.Backup {
			return nil
		}
		return fmt.Errorf("%v from %v, %v, %v", a.State, a.Source, b.State, c.State)
	})
}

func segment(t *testing.T, l *lab.Lab, name string) *lab.Segment {
	t.Helper()
	s, err := l.Segment(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestConnAddressLater: an interface that has no address yet, from DHCP, say, is
// no reason not to begin: its routers have a fault until it has one, and hear
// what is sent to the group then.
func TestConnAddressLater(t *testing.T) {
	l := lab.New(t)
	lan, err := l.Segment("later")
	if err != nil {
		t.Fatal(err)
	}
	a, b := l.MustHost("a-later"), l.MustHost("b-later")
	if err := errors.Join(a.Attach("eth9", lan), b.Attach("eth9", lan, netip.MustParsePrefix("192.0.2.2/24"))); err != nil {
		t.Fatal(err)
	}
	run := func(h *lab.Host, priority uint8) *vrrp.Router {
		r, _ := start(t, openConn(t, h, vrrp.ListenConfig{Interface: "eth9"}), vrrp.Config{
			Name: h.Name(), VRID: 51, Addresses: parse("192.0.2.250"), Interval: 100 * time.Millisecond, Priority: priority})
		return r
	}
	rb, ra := run(b, 200), run(a, 100)
	until(t, vrrp.Active, rb)
	if s := ra.Status(); s.State != vrrp.Initialize || strings.Join(s.Faults, ", ") != "no IPv4 address on eth9" {
		t.Errorf("%v %q, want a fault for want of an address", s.State, strings.Join(s.Faults, ", "))
	}
	if err := a.AddAddr("eth9", netip.MustParsePrefix("192.0.2.1/24")); err != nil {
		t.Fatal(err)
	}
	until(t, vrrp.Backup, ra)
	lab.Until(t, patience, "what is sent to the group is heard", func() bool { return ra.Status().Counters.Received > 3 })
}

// TestConnInterfaceLater: a Conn opens on an interface that does not exist yet. When
// it is made, under the name or renamed to it, its routers take part within a few
// intervals: they hear what is sent to the group, and are heard.
func TestConnInterfaceLater(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	for _, test := range []struct {
		name, own, vip string
		renamed        bool
		cfg            vrrp.Config
	}{
		{name: "made4", own: "192.0.2.1/24", vip: "192.0.2.250"},
		{name: "made6", own: "fe80::1/64", vip: "fe80::250"},
		{name: "renamed", own: "192.0.2.1/24", vip: "192.0.2.250", renamed: true},
		{name: "ah", own: "192.0.2.1/24", vip: "192.0.2.250", cfg: vrrp.Config{Version: 2, Interval: time.Second,
			Auth: vrrp.Auth{Type: vrrp.AuthAH, Password: "d0cker"}}},
		{name: "vmac", own: "192.0.2.1/24", vip: "192.0.2.250", cfg: vrrp.Config{VirtualMAC: true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			lan := segment(t, l, test.name)
			own := netip.MustParsePrefix(test.own)
			a, b := l.MustHost("a-"+test.name), l.MustHost("b-"+test.name)
			if err := b.Attach("eth9", lan, netip.PrefixFrom(own.Addr().Next(), own.Bits())); err != nil {
				t.Fatal(err)
			}
			run := func(h *lab.Host, priority uint8) *vrrp.Router {
				cfg := test.cfg
				cfg.Name, cfg.VRID, cfg.Priority, cfg.Addresses = h.Name(), 51, priority, parse(test.vip)
				if cfg.Interval == 0 {
					cfg.Interval = 100 * time.Millisecond
				}
				r, _ := start(t, openConn(t, h, vrrp.ListenConfig{Interface: "eth9", IPv6: own.Addr().Is6()}), cfg)
				return r
			}
			ra, rb := run(a, 100), run(b, 200)
			until(t, vrrp.Active, rb)
			if s := ra.Status(); s.State != vrrp.Initialize || strings.Join(s.Faults, ", ") != "link eth9 missing" {
				t.Errorf("%v %q, want a fault for want of the interface", s.State, strings.Join(s.Faults, ", "))
			}
			name := "eth9"
			if test.renamed {
				name = "eth8"
			}
			if err := a.Attach(name, lan, own); err != nil {
				t.Fatal(err)
			}
			if test.renamed {
				link, err := a.Netlink().LinkByName(name)
				if err == nil {
					err = errors.Join(a.SetLink(name, false), a.Netlink().LinkSetName(link, "eth9"), a.SetLink("eth9", true))
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			until(t, vrrp.Backup, ra)
			lab.Until(t, patience, "what is sent to the group is heard", func() bool { return ra.Status().Counters.Received > 3 })
			ra.SetPriority(254)
			until(t, vrrp.Active, ra)
			until(t, vrrp.Backup, rb)
		})
	}
}
