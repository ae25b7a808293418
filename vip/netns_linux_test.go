package vip

import (
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
)

const (
	vip4 = "192.0.2.10"
	vip6 = "2001:db8::10"
)

// bound is for a condition that comes true at once on an idle machine.
const bound = 10 * time.Second

// runIn runs a Manager inside a host until the returned function is called or
// the test ends.
func runIn(t *testing.T, h *lab.Host, cfg Config) (m *Manager, stop func()) {
	t.Helper()
	m = newIn(t, h, cfg)
	return m, labtest.Run(t, m.Run)
}

// newIn makes a Manager inside a host and does not run it.
func newIn(t *testing.T, h *lab.Host, cfg Config) (m *Manager) {
	t.Helper()
	err := h.Do(func() (err error) {
		m, err = NewManager(plain(cfg))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func mustAcquire(t *testing.T, m *Manager) {
	t.Helper()
	if err := m.Acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// held lists a host's addresses on eth0 as strings, link-local IPv6 left out.
func held(t *testing.T, h *lab.Host) []string {
	t.Helper()
	list, err := h.Addrs()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, p := range list {
		if !p.Addr().IsLinkLocalUnicast() {
			out = append(out, p.String())
		}
	}
	slices.Sort(out)
	return out
}

func wantHeld(t *testing.T, h *lab.Host, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := held(t, h); !slices.Equal(got, want) {
		t.Errorf("addresses are %v, want %v", got, want)
	}
}

// routes lists a host's routes of both families, without those of the local
// table, as "ip route" prints them.
func routes(t *testing.T, h *lab.Host) []string {
	t.Helper()
	var out []string
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := h.Netlink().RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list {
			out = append(out, r.String())
		}
	}
	slices.Sort(out)
	return out
}

func find(t *testing.T, h *lab.Host, addr string) netlink.Addr {
	t.Helper()
	list, err := h.Netlink().AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		if a.IP.String() == addr {
			return a
		}
	}
	t.Fatalf("%s is not there: %v", addr, held(t, h))
	return netlink.Addr{}
}

func prefixNet(t *testing.T, s string) *net.IPNet {
	t.Helper()
	_, n, err := net.ParseCIDR(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func delAddr(t *testing.T, h *lab.Host, ifname, p string) {
	t.Helper()
	link, err := h.Netlink().LinkByName(ifname)
	if err != nil {
		t.Fatal(err)
	}
	a, err := netlink.ParseAddr(p)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Netlink().AddrDel(link, a); err != nil {
		t.Fatal(err)
	}
}

// The whole life of addresses in every form, beside the host's own. The host's
// addresses and routes are the same before, during and after.
func TestNetnsLifecycle(t *testing.T) {
	for _, form := range [][]string{
		{vip4 + "/24"}, {vip4 + "/32"}, {vip4}, {vip6 + "/64"}, {vip6 + "/128"},
		{vip4 + "/24", "192.0.2.11/24", vip6 + "/64", "2001:db8::11/64"},
	} {
		for _, lease := range []time.Duration{0, 3 * time.Second} {
			t.Run(strings.Join(form, " ")+" lease "+lease.String(), func(t *testing.T) {
				h := lab.New(t).MustHost("a", "192.0.2.1/24", "2001:db8::1/64")
				own, before := held(t, h), routes(t, h)
				m, stop := runIn(t, h, Config{Addresses: addrs(t, form...), Lease: lease})
				var want []string
				for _, a := range m.cfg.Addresses {
					want = append(want, a.Prefix.String())
				}
				mustAcquire(t, m)
				mustAcquire(t, m) // twice is no error
				wantHeld(t, h, append(want, own...)...)
				if got := routes(t, h); !slices.Equal(slices.DeleteFunc(got, isHostRoute), before) {
					t.Errorf("routes while held:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(before, "\n"))
				}
				if err := m.Release(t.Context()); err != nil {
					t.Error(err)
				}
				wantHeld(t, h, own...)
				mustAcquire(t, m)
				stop()
				wantHeld(t, h, own...)
				if got := routes(t, h); !slices.Equal(got, before) {
					t.Errorf("routes afterwards:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(before, "\n"))
				}
			})
		}
	}
}

// isHostRoute matches the route that IPv6 makes for an address by itself.
func isHostRoute(route string) bool { return strings.Contains(route, "/128") }

func TestNetnsAttributes(t *testing.T) {
	h := lab.New(t).MustHost("a")
	list := addrs(t, vip4+"/24", vip6+"/64")
	list[0].Label, list[0].Scope = "eth0:vip", ScopeLink
	m, _ := runIn(t, h, Config{Addresses: list, Lease: 100 * time.Second})
	mustAcquire(t, m)
	v4 := find(t, h, vip4)
	if v4.Label != "eth0:vip" || v4.Scope != int(ScopeLink) || v4.Broadcast.String() != "192.0.2.255" {
		t.Errorf("IPv4 address is %+v", v4)
	}
	if v4.ValidLft < 90 || v4.ValidLft > 100 || v4.PreferedLft < 90 {
		t.Errorf("IPv4 lifetimes are %d and %d s, want 100", v4.ValidLft, v4.PreferedLft)
	}
	v6 := find(t, h, vip6)
	if v6.Flags&unix.IFA_F_NODAD == 0 || v6.Flags&unix.IFA_F_TENTATIVE != 0 || v6.Flags&unix.IFA_F_DEPRECATED == 0 {
		t.Errorf("IPv6 flags are %#x, want nodad, deprecated, not tentative", v6.Flags)
	}
	if v6.PreferedLft != 0 || v6.ValidLft < 90 || v6.ValidLft > 100 {
		t.Errorf("IPv6 lifetimes are %d and %d s, want 0 and 100", v6.PreferedLft, v6.ValidLft)
	}
}

// putIn has an address put on eth0 with a mark: 0 is that of a person's hand.
func putIn(t *testing.T, h *lab.Host, ifname, p string, mark uint8, valid time.Duration) {
	t.Helper()
	k := openIn(t, h)
	l, err := k.link(0, ifname)
	if err == nil {
		err = k.put(assigned{index: l.index, prefix: prefix(p), mark: mark, valid: valid}, true)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// RFC 9568 §6.4.2: a Backup does not accept what is addressed to the virtual
// router. A predecessor that was killed left its addresses; another program has
// others.
func TestConformance46StalePurged(t *testing.T) {
	h := lab.New(t).MustHost("a", "192.0.2.1/24", "192.0.2.77/32", "2001:db8::77/64")
	putIn(t, h, "eth0", vip4+"/24", protocol, 0)
	putIn(t, h, "eth0", vip6+"/128", protocol, 0)
	runIn(t, h, Config{Addresses: addrs(t, vip4+"/32", vip6+"/64")})
	lab.Until(t, bound, "stale addresses are removed", func() bool {
		return !h.Holds(netip.MustParseAddr(vip4)) && !h.Holds(netip.MustParseAddr(vip6))
	})
	wantHeld(t, h, "192.0.2.1/24", "192.0.2.77/32", "2001:db8::77/64")
}

// The kernel deletes the secondary addresses of a network with the primary one.
// A virtual address that is the primary one must not take the host's along.
func TestNetnsPrimaryTakesNobodyAlong(t *testing.T) {
	for _, promote := range []string{"0", "1"} {
		t.Run("promote_secondaries="+promote, func(t *testing.T) {
			h := lab.New(t).MustHost("a")
			if err := h.Sysctl("net.ipv4.conf.eth0.promote_secondaries", promote); err != nil {
				t.Fatal(err)
			}
			m, stop := runIn(t, h, Config{Addresses: addrs(t, vip4+"/24")})
			mustAcquire(t, m)
			if err := h.AddAddr("eth0", netip.MustParsePrefix("192.0.2.1/24")); err != nil {
				t.Fatal(err)
			}
			if err := m.Release(t.Context()); err != nil {
				t.Error(err)
			}
			wantHeld(t, h, "192.0.2.1/24")
			stop()
			var got string
			if err := h.Do(func() error {
				out, err := exec.Command("cat", "/proc/sys/net/ipv4/conf/eth0/promote_secondaries").Output()
				got = strings.TrimSpace(string(out))
				return err
			}); err != nil {
				t.Fatal(err)
			}
			if got != promote {
				t.Errorf("promote_secondaries is %s afterwards, was %s", got, promote)
			}
		})
	}
}

// The same holds for what a predecessor has left, which is removed before anything
// was added.
func TestNetnsLeftoverTakesNobodyAlong(t *testing.T) {
	h := lab.New(t).MustHost("a")
	if err := h.Sysctl("net.ipv4.conf.eth0.promote_secondaries", "0"); err != nil {
		t.Fatal(err)
	}
	putIn(t, h, "eth0", vip4+"/24", protocol, 0)
	if err := h.AddAddr("eth0", netip.MustParsePrefix("192.0.2.1/24")); err != nil {
		t.Fatal(err)
	}
	m, _ := runIn(t, h, Config{Addresses: addrs(t, vip4+"/24")})
	<-m.Ready()
	wantHeld(t, h, "192.0.2.1/24")
}

// Nor does the end of one router take from another what its removals rely on.
func TestNetnsSettingOfTwo(t *testing.T) {
	h := lab.New(t).MustHost("a")
	const setting = "net.ipv4.conf.eth0.promote_secondaries"
	if err := h.Sysctl(setting, "0"); err != nil {
		t.Fatal(err)
	}
	var ns *Namespace
	if err := h.Do(func() (err error) {
		ns, err = OpenNamespace(nil)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	var stops []func()
	for _, p := range []string{vip4 + "/24", "198.51.100.10/24"} {
		m, stop := runIn(t, h, Config{Addresses: addrs(t, p), Namespace: ns})
		mustAcquire(t, m)
		stops = append(stops, stop)
	}
	own := []string{"192.0.2.1/24", "198.51.100.1/24"}
	for _, o := range own {
		if err := h.AddAddr("eth0", netip.MustParsePrefix(o)); err != nil {
			t.Fatal(err)
		}
	}
	for _, stop := range stops {
		stop()
	}
	wantHeld(t, h, own...)
}

// RFC 9568 §6.4.3: an Active router answers for the addresses, whoever has
// deleted them.
func TestConformance48Reinstated(t *testing.T) {
	h := lab.New(t).MustHost("a", "192.0.2.1/24", "2001:db8::1/64")
	m, _ := runIn(t, h, Config{Addresses: addrs(t, vip4+"/24", vip6+"/64"), Lease: time.Minute})
	mustAcquire(t, m)
	// Within 100 ms, as a rule: a busy machine has as many tries as it needs for
	// that. The patrol comes every 30 s and would be none the wiser.
	const want, tries = 100 * time.Millisecond, 51
	var took []time.Duration
	for range tries {
		began := time.Now()
		delAddr(t, h, "eth0", vip4+"/24")
		delAddr(t, h, "eth0", vip6+"/64")
		lab.Until(t, bound, "addresses are back", func() bool {
			return h.Holds(netip.MustParseAddr(vip4)) && h.Holds(netip.MustParseAddr(vip6))
		})
		took = append(took, time.Since(began))
		slices.Sort(took)
		if len(took) >= 5 && took[len(took)/2] <= want {
			break
		}
	}
	if median := took[len(took)/2]; median > want {
		t.Errorf("the addresses were back after %v, the median of %d, want %v", median, len(took), want)
	} else {
		t.Logf("back after %v, the median of %d", median, len(took))
	}
	// The primary one's removal takes ours along, without a word from the hand
	// that did it.
	delAddr(t, h, "eth0", "192.0.2.1/24")
	lab.Until(t, bound, "address is back", func() bool { return h.Holds(netip.MustParseAddr(vip4)) })

	if err := m.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{vip4 + "/32", vip6 + "/64"} {
		putIn(t, h, "eth0", p, protocol, 0)
	}
	lab.Until(t, bound, "addresses that are not held are removed", func() bool {
		return !h.Holds(netip.MustParseAddr(vip4)) && !h.Holds(netip.MustParseAddr(vip6))
	})
}

// A Manager that nobody runs stands for a frozen or killed process: the kernel
// removes the addresses, and leaves the host's own addresses and routes.
func TestNetnsLeaseLapses(t *testing.T) {
	h := lab.New(t).MustHost("a", "192.0.2.1/24", "2001:db8::1/64")
	before := routes(t, h)
	m := newIn(t, h, Config{Addresses: addrs(t, vip4+"/24", vip6+"/64"), Lease: time.Second})
	defer m.Close()
	var began time.Time
	lab.Until(t, bound, "the addresses are there", func() bool {
		began = time.Now()
		err := m.Acquire(t.Context()) // on a busy machine they may be gone again soon
		return err == nil && h.Holds(netip.MustParseAddr(vip4)) && h.Holds(netip.MustParseAddr(vip6))
	})
	lab.Until(t, bound, "the addresses have lapsed", func() bool {
		return !h.Holds(netip.MustParseAddr(vip4)) && !h.Holds(netip.MustParseAddr(vip6))
	})
	t.Logf("gone after %v", time.Since(began).Round(time.Millisecond))
	wantHeld(t, h, "192.0.2.1/24", "2001:db8::1/64")
	if got := routes(t, h); !slices.Equal(got, before) {
		t.Errorf("routes afterwards:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(before, "\n"))
	}
}

func TestNetnsErrors(t *testing.T) {
	l := lab.New(t)
	h := l.MustHost("a", "192.0.2.1/24")
	second, err := l.Segment("other")
	if err == nil {
		err = h.Attach("eth1", second, netip.MustParsePrefix(vip4+"/24"))
	}
	if err != nil {
		t.Fatal(err)
	}
	open := func(cfg Config) error {
		return h.Do(func() error {
			m, err := NewManager(cfg)
			if err != nil {
				return err
			}
			defer m.Close()
			return m.Check()
		})
	}
	if err := h.SetLink("lo", false); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		cfg  Config
		is   error
		says string
	}{
		"missing interface": {
			Config{Interface: "eth7", Addresses: addrs(t, "192.0.2.11")}, ErrNoInterface, `vip: interface "eth7": no such interface`,
		},
		"interface that is down": {
			Config{Interface: "lo", Addresses: addrs(t, "192.0.2.11")}, nil, "vip: lo: link lo down",
		},
		"address on another interface": {
			Config{Interface: "eth0", Addresses: addrs(t, vip4)}, ErrInUse, `vip: eth0: 192.0.2.10 is on eth1 already, "ip addr del 192.0.2.10/24 dev eth1" removes it: address already in use`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if err := open(tt.cfg); tt.is != nil && !errors.Is(err, tt.is) || err == nil || err.Error() != tt.says {
				t.Errorf("error %v, want %s", err, tt.says)
			}
		})
	}

	t.Run("IPv6 disabled", func(t *testing.T) {
		if err := h.Sysctl("net.ipv6.conf.eth0.disable_ipv6", "1"); err != nil {
			t.Fatal(err)
		}
		m, _ := runIn(t, h, Config{Addresses: addrs(t, "192.0.2.11", vip6)})
		err := m.Acquire(t.Context())
		if err == nil || !strings.Contains(err.Error(), "IPv6 is disabled on the interface") {
			t.Errorf("error %v, want one that says that IPv6 is disabled", err)
		}
		if h.Holds(netip.MustParseAddr("192.0.2.11")) {
			t.Error("half of the addresses are held")
		}
	})
	t.Run("no privileges", func(t *testing.T) {
		err := withoutCapabilities(t, func() error {
			m, err := NewManager(Config{Interface: "lo", Addresses: addrs(t, "192.0.2.11")})
			if err == nil {
				m.Close()
			}
			return err
		})
		if !errors.Is(err, syscall.EPERM) || !strings.Contains(err.Error(), "needs CAP_NET_ADMIN") {
			t.Errorf("error %v, want EPERM with CAP_NET_ADMIN", err)
		}
	})
}
