package vip

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
)

// serve answers TCP connections to any of a host's addresses with its name.
func serve(t *testing.T, h *lab.Host) {
	t.Helper()
	ln, err := h.Listen("tcp", ":7")
	if err != nil {
		t.Fatal(err)
	}
	labtest.Serve(t, ln, func(c net.Conn) { fmt.Fprint(c, h.Name()) })
}

// ask returns who answers at an address.
func ask(t *testing.T, client *lab.Host, addr string) (string, error) {
	t.Helper()
	conn, err := client.DialContext(t.Context(), "tcp", net.JoinHostPort(addr, "7"))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(bound))
	b, err := io.ReadAll(conn)
	return string(b), err
}

func sysctl(t *testing.T, h *lab.Host, key string) (value string) {
	t.Helper()
	if err := h.Do(func() error {
		b, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(key, ".", "/"))
		value = strings.TrimSpace(string(b))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return value
}

// Two virtual routers on one parent move from host to host. The client keeps
// the hardware addresses that it learned, and nobody answers with a physical one.
func TestNetnsVirtualMAC(t *testing.T) {
	l := lab.New(t)
	a, b := l.MustHost("a", "192.0.2.1/24", "2001:db8::1/64"), l.MustHost("b", "192.0.2.2/24", "2001:db8::2/64")
	client := l.MustHost("client", "192.0.2.9/24", "2001:db8::9/64")
	serve(t, a)
	serve(t, b)
	before := routes(t, a)
	v4 := Config{Addresses: addrs(t, vip4+"/24"), VirtualMAC: VirtualMAC(51, false), Lease: time.Second}
	v6 := Config{Addresses: addrs(t, vip6+"/64"), VirtualMAC: VirtualMAC(51, true), Lease: time.Second}
	managers := map[*lab.Host][]*Manager{}
	var stops []func()
	for _, h := range []*lab.Host{a, b} {
		for _, cfg := range []Config{v4, v6} {
			m, stop := runIn(t, h, cfg)
			managers[h] = append(managers[h], m)
			stops = append(stops, stop)
		}
	}
	for _, h := range []*lab.Host{a, b, a} {
		for _, other := range []*lab.Host{a, b} {
			for _, m := range managers[other] {
				if err := m.Release(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, m := range managers[h] {
			mustAcquire(t, m)
			if err := m.Announce(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for addr, mac := range map[string]net.HardwareAddr{vip4: v4.VirtualMAC, vip6: v6.VirtualMAC} {
			lab.Eventually(t, bound, "the address answers", func() error {
				who, err := ask(t, client, addr)
				if err == nil && who != h.Name() {
					err = fmt.Errorf("%s answered, not %s", who, h.Name())
				}
				return err
			})
			if got := neighbour(t, client, addr); got != mac.String() {
				t.Errorf("%s is at %s for the client, want %v", addr, got, mac)
			}
		}
		// The hosts' own addresses are where they were.
		if who, err := ask(t, client, "192.0.2.1"); err != nil || who != "a" {
			t.Errorf("192.0.2.1 answered %q, %v", who, err)
		}
		if got := neighbour(t, client, "192.0.2.1"); got == v4.VirtualMAC.String() {
			t.Error("the virtual MAC answered for the host's own address")
		}
	}
	if got := slices.DeleteFunc(routes(t, a), isHostRoute); !slices.Equal(got, before) {
		t.Errorf("routes while held:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(before, "\n"))
	}
	if got := sysctl(t, a, "net.ipv4.conf.eth0.arp_ignore"); got != "1" {
		t.Errorf("arp_ignore is %s while it is needed", got)
	}
	for _, stop := range stops {
		stop()
	}
	for _, name := range []string{"arp_ignore", "arp_announce"} {
		if got := sysctl(t, a, "net.ipv4.conf.eth0."+name); got != "0" {
			t.Errorf("%s is %s afterwards, was 0", name, got)
		}
	}
	wantHeld(t, a, "192.0.2.1/24", "2001:db8::1/64")
	if _, err := a.Netlink().LinkByName("vrrp.51"); err == nil {
		t.Error("the macvlan is still there")
	}
}

// While the addresses are not held the macvlan is silent: a switch must not learn
// the virtual MAC from a Backup.
func TestNetnsVirtualMACSilentBackup(t *testing.T) {
	l := lab.New(t)
	h := l.MustHost("a", "192.0.2.1/24", "2001:db8::1/64")
	lan, err := l.Segment("lan")
	if err != nil {
		t.Fatal(err)
	}
	mac := VirtualMAC(51, false)
	c, err := lan.Capture(func(f lab.Frame) bool { return len(f.Data) >= 14 && string(f.Data[6:12]) == string(mac) })
	if err != nil {
		t.Fatal(err)
	}
	m, _ := runIn(t, h, Config{Addresses: addrs(t, vip4+"/24", vip6+"/64"), VirtualMAC: mac})
	lab.Until(t, bound, "the macvlan is there", func() bool {
		_, err := h.Netlink().LinkByName("vrrp.51")
		return err == nil
	})
	time.Sleep(300 * time.Millisecond) // in which an interface that is up sends its reports
	if got := c.Packets(); len(got) != 0 {
		t.Errorf("%d frames from the virtual MAC, the first %x", len(got), got[0].Data)
	}
	mustAcquire(t, m)
	if err := m.Announce(t.Context()); err != nil {
		t.Fatal(err)
	}
	lab.Until(t, bound, "the holder announces itself", func() bool { return len(c.Packets()) > 0 })
	if err := m.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	link, err := h.Netlink().LinkByName("vrrp.51")
	if err != nil || link.Attrs().Flags&net.FlagUp != 0 {
		t.Errorf("the macvlan is up after Release (error %v)", err)
	}
}

func TestNetnsVirtualMACLeftovers(t *testing.T) {
	h := lab.New(t).MustHost("a", "192.0.2.1/24")
	cfg := Config{Addresses: addrs(t, vip4+"/24"), VirtualMAC: VirtualMAC(51, false)}
	add := func(mac net.HardwareAddr) netlink.Link {
		t.Helper()
		parent, err := h.Netlink().LinkByName("eth0")
		if err != nil {
			t.Fatal(err)
		}
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.ParentIndex, attrs.HardwareAddr, attrs.Flags = "vrrp.51", parent.Attrs().Index, mac, net.FlagUp
		link := &netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_PRIVATE}
		if err := h.Netlink().LinkAdd(link); err != nil {
			t.Fatal(err)
		}
		return link
	}

	// A killed predecessor's is taken over, without what is on it.
	add(cfg.VirtualMAC)
	putIn(t, h, "vrrp.51", vip4+"/24", protocol, 0)
	m, stop := runIn(t, h, cfg)
	lab.Until(t, bound, "the leftover address is removed", func() bool { return !h.Holds(netip.MustParseAddr(vip4)) })
	mustAcquire(t, m)
	wantHeld(t, h, "192.0.2.1/24", vip4+"/24")
	stop()

	// Somebody else's interface of that name is not ours to use.
	foreign := add(net.HardwareAddr{2, 0, 0, 0, 9, 9})
	other := newIn(t, h, cfg)
	if err := other.Acquire(t.Context()); !errors.Is(err, ErrInUse) {
		t.Errorf("Acquire: %v, want ErrInUse", err)
	}
	other.Close()
	if _, err := h.Netlink().LinkByIndex(foreign.Attrs().Index); err != nil {
		t.Errorf("the other's interface: %v", err)
	}

	// The macvlan goes with its parent; that is a loss of the addresses.
	if err := h.Netlink().LinkDel(foreign); err != nil {
		t.Fatal(err)
	}
	lost := make(chan error, 1)
	cfg.OnLost = func(err error) { lost <- err }
	m, _ = runIn(t, h, cfg)
	mustAcquire(t, m)
	loseLink(t, h, "eth0", lost)
}

// A macvlan that somebody sets down or deletes while the addresses are held is
// up again at once, with the addresses on it, and announced: nobody could reach
// them, and nobody would notice.
func TestNetnsVirtualMACReinstated(t *testing.T) {
	l := lab.New(t)
	h, client := l.MustHost("a", "192.0.2.1/24", "2001:db8::1/64"), l.MustHost("client", "192.0.2.9/24", "2001:db8::9/64")
	serve(t, h)
	m, _ := runIn(t, h, Config{Addresses: addrs(t, vip4+"/24", vip6+"/64"), VirtualMAC: VirtualMAC(51, false), Lease: 2 * time.Second})
	mustAcquire(t, m)
	if err := m.Announce(t.Context()); err != nil {
		t.Fatal(err)
	}
	for what, do := range map[string]func(netlink.Link) error{
		"set down": h.Netlink().LinkSetDown,
		"deleted":  h.Netlink().LinkDel,
	} {
		macvlan, err := h.Netlink().LinkByName("vrrp.51")
		if err == nil {
			err = do(macvlan)
		}
		if err != nil {
			t.Fatal(err)
		}
		lab.Eventually(t, bound, "the macvlan is up after it was "+what, func() error {
			link, err := h.Netlink().LinkByName("vrrp.51")
			if err == nil && link.Attrs().Flags&net.FlagUp == 0 {
				err = errors.New("it is down")
			}
			return err
		})
		for _, addr := range []string{vip4, vip6} {
			lab.Eventually(t, bound, addr+" answers after the macvlan was "+what, func() error {
				_, err := ask(t, client, addr)
				return err
			})
		}
		if s := m.Status(); !s.Held || s.Lost != 0 {
			t.Errorf("%s: status %+v, want held and never lost", what, s)
		}
	}
}

// Another holder has the same hardware address. What it announces is a conflict
// all the same, and a probe finds it.
func TestNetnsVirtualMACConflict(t *testing.T) {
	l := lab.New(t)
	a, b := l.MustHost("a", "192.0.2.1/24", "2001:db8::1/64"), l.MustHost("b", "192.0.2.2/24", "2001:db8::2/64")
	for _, addr := range []string{vip4 + "/24", vip6 + "/64"} {
		reports := make(chan Conflict, 100)
		cfg := Config{Addresses: addrs(t, addr), VirtualMAC: VirtualMAC(51, false), OnConflict: func(c Conflict) { reports <- c }}
		m, stop := runIn(t, a, cfg)
		mustAcquire(t, m)
		if err := m.Announce(t.Context()); err != nil {
			t.Fatal(err)
		}
		cfg.Probe, cfg.OnConflict = maxProbe, nil
		other, stopOther := runIn(t, b, cfg)
		if err := other.Acquire(t.Context()); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), cfg.VirtualMAC.String()) {
			t.Errorf("Acquire: %v, want in use by %v", err, cfg.VirtualMAC)
		}
		if n := m.Status().Conflicts; n != 0 {
			t.Errorf("%d conflicts although only one host has the address", n)
		}
		stopOther()
		cfg.Probe = 0
		other, stopOther = runIn(t, b, cfg)
		mustAcquire(t, other)
		if err := other.Announce(t.Context()); err != nil {
			t.Fatal(err)
		}
		select {
		case c := <-reports:
			if c.MAC.String() != cfg.VirtualMAC.String() || c.Address != m.cfg.Addresses[0].Prefix.Addr() {
				t.Errorf("report %+v, want one about %v", c, cfg.VirtualMAC)
			}
		case <-time.After(bound):
			t.Error("no conflict is reported")
		}
		stopOther()
		stop()
	}
}

// What a killed process has changed on interfaces is put back by whoever carries
// out its requests.
func TestNetnsSettingsArePutBack(t *testing.T) {
	h := lab.New(t).MustHost("a", "192.0.2.1/24", "2001:db8::1/64")
	keys := []string{"arp_ignore", "arp_announce", "promote_secondaries"}
	settings := func() (out []string) {
		for _, k := range keys {
			out = append(out, k+"="+sysctl(t, h, "net.ipv4.conf.eth0."+k))
		}
		return out
	}
	if err := h.Sysctl("net.ipv4.conf.eth0.promote_secondaries", "0"); err != nil {
		t.Fatal(err)
	}
	before := settings()
	onEth0 := addrs(t, "192.0.2.11/24")
	onEth0[0].Interface = "eth0"
	var requests [][]byte
	m := newIn(t, h, Config{
		Addresses: append(addrs(t, vip4+"/24", vip6+"/64"), onEth0...), VirtualMAC: VirtualMAC(51, false),
		OnRemovals: func(r Removals) { requests = slices.Concat(r.Requests, r.Settings) },
	})
	mustAcquire(t, m)
	if slices.Equal(settings(), before) {
		t.Fatal("nothing was changed to begin with")
	}
	if err := h.Do(func() error {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for _, r := range requests {
			if err := unix.Sendto(fd, r, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if got := settings(); !slices.Equal(got, before) {
		t.Errorf("settings %v, were %v", got, before)
	}
	wantHeld(t, h, "192.0.2.1/24", "2001:db8::1/64")
	m.Close()
}
