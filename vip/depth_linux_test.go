package vip

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/lab"
)

// ourRoutes lists the routes with our mark in every table.
func ourRoutes(t *testing.T, h *lab.Host) []string {
	t.Helper()
	var out []string
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := h.Netlink().RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list {
			if r.Protocol == protocol {
				out = append(out, r.String())
			}
		}
	}
	slices.Sort(out)
	return out
}

func TestNetnsRoutes(t *testing.T) {
	h := lab.New(t).MustHost("a", "192.0.2.1/24", "2001:db8::1/64")
	// Another program's route to a destination of ours.
	link, err := h.Netlink().LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	foreign := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: prefixNet(t, "203.0.113.0/24"), Scope: netlink.SCOPE_LINK, Protocol: unix.RTPROT_STATIC}
	if err := h.Netlink().RouteAdd(foreign); err != nil {
		t.Fatal(err)
	}
	before := routes(t, h)

	cfg := Config{
		Addresses: addrs(t, vip4+"/24", vip6+"/64"),
		Routes: []Route{
			{Destination: prefix("203.0.113.0/24"), Source: netip.MustParseAddr(vip4)},
			{Destination: prefix("198.51.100.0/24"), Gateway: netip.MustParseAddr("192.0.2.254"), Metric: 50},
			{Destination: prefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("192.0.2.254"), Table: 1000},
			{Destination: prefix("2001:db8:1::/48"), Gateway: netip.MustParseAddr("2001:db8::fe"), Source: netip.MustParseAddr(vip6)},
			{Destination: prefix("::/0"), Gateway: netip.MustParseAddr("fe80::1"), Metric: 7, Table: 1000},
		},
	}
	m, stop := runIn(t, h, cfg)
	mustAcquire(t, m)
	held := ourRoutes(t, h)
	for _, want := range []string{
		"{Ifindex: 2 Dst: 203.0.113.0/24 Src: 192.0.2.10 Gw: <nil> Flags: [] Table: 254 Realm: 0}",
		"{Ifindex: 2 Dst: 198.51.100.0/24 Src: <nil> Gw: 192.0.2.254 Flags: [] Table: 254 Realm: 0}",
		"{Ifindex: 2 Dst: 0.0.0.0/0 Src: <nil> Gw: 192.0.2.254 Flags: [] Table: 1000 Realm: 0}",
		"{Ifindex: 2 Dst: 2001:db8:1::/48 Src: 2001:db8::10 Gw: 2001:db8::fe Flags: [] Table: 254 Realm: 0}",
		"{Ifindex: 2 Dst: ::/0 Src: <nil> Gw: fe80::1 Flags: [] Table: 1000 Realm: 0}",
	} {
		if !slices.Contains(held, want) {
			t.Errorf("no route %s", want)
		}
	}

	// A hand deletes one; the removal of an address takes others along.
	gone := *foreign
	gone.Protocol, gone.Src = protocol, netip.MustParseAddr(vip4).AsSlice()
	if err := h.Netlink().RouteDel(&gone); err != nil {
		t.Fatal(err)
	}
	back := func() bool { return slices.Equal(ourRoutes(t, h), held) }
	lab.Until(t, bound, "the route is back", back)
	delAddr(t, h, "eth0", vip4+"/24")
	delAddr(t, h, "eth0", vip6+"/64")
	lab.Until(t, bound, "the routes are back", back)

	if err := m.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := ourRoutes(t, h); len(got) != 0 {
		t.Errorf("routes after Release: %v", got)
	}
	if got := routes(t, h); !slices.Equal(got, before) {
		t.Errorf("routes are\n%s\nwant those before:\n%s", strings.Join(got, "\n"), strings.Join(before, "\n"))
	}

	stop()

	// What a killed process leaves is removed by the next one.
	killed := newIn(t, h, cfg)
	mustAcquire(t, killed)
	kill(killed)
	if len(ourRoutes(t, h)) == 0 {
		t.Fatal("no routes are left to be removed")
	}
	runIn(t, h, cfg)
	lab.Until(t, bound, "the leftovers are removed", func() bool {
		return len(ourRoutes(t, h)) == 0 && !h.Holds(netip.MustParseAddr(vip4))
	})
	if got := routes(t, h); !slices.Equal(got, before) {
		t.Errorf("routes are %v, want those before: %v", got, before)
	}
}

func TestNetnsConflict(t *testing.T) {
	l := lab.New(t)
	a, b := l.MustHost("a", "192.0.2.1/24", "2001:db8::1/64"), l.MustHost("b", "192.0.2.2/24", "2001:db8::2/64")
	reports := make(chan Conflict, 100)
	cfg := Config{Addresses: addrs(t, vip4+"/24", vip6+"/64")}
	quiet, _ := runIn(t, b, cfg)
	cfg.OnConflict = func(c Conflict) { reports <- c }
	m, _ := runIn(t, a, cfg)
	mustAcquire(t, m)
	if err := m.Announce(t.Context()); err != nil { // our own are no conflict
		t.Fatal(err)
	}
	mustAcquire(t, quiet)
	if err := quiet.Announce(t.Context()); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for len(seen) < 2 {
		select {
		case c := <-reports:
			if c.MAC.String() != hardwareAddr(quiet).String() || c.Interface != "eth0" {
				t.Errorf("report %+v, want one about %v", c, hardwareAddr(quiet))
			}
			seen[c.Address.String()] = true
		case <-time.After(bound):
			t.Fatalf("conflicts reported for %v, want both addresses", seen)
		}
	}
}

// TestNetnsHardwareAddr: the link says who has an address of another host's own.
func TestNetnsHardwareAddr(t *testing.T) {
	l := lab.New(t)
	a, b := l.MustHost("a", "192.0.2.1/24", "2001:db8::1/64"), l.MustHost("b", "192.0.2.2/24", "2001:db8::2/64")
	m, _ := runIn(t, a, Config{Addresses: addrs(t, vip4+"/24", vip6+"/64")})
	link, err := b.Netlink().LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	<-m.Ready()
	for _, addr := range []string{"192.0.2.2", "2001:db8::2"} {
		ctx, cancel := context.WithTimeout(t.Context(), bound)
		if got, want := m.HardwareAddr(ctx, netip.MustParseAddr(addr)), link.Attrs().HardwareAddr; got.String() != want.String() {
			t.Errorf("%s is at %v, want %v", addr, got, want)
		}
		cancel()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if got := m.HardwareAddr(ctx, netip.MustParseAddr("192.0.2.3")); got != nil {
		t.Errorf("nobody's address is at %v", got)
	}
}

func TestNetnsProbe(t *testing.T) {
	l := lab.New(t)
	a, b := l.MustHost("a", "192.0.2.1/24", "2001:db8::1/64"), l.MustHost("b", "192.0.2.2/24", "2001:db8::2/64")
	for _, addr := range []string{vip4 + "/24", vip6 + "/64"} {
		cfg := Config{Addresses: addrs(t, addr)}
		other, _ := runIn(t, b, cfg)
		mustAcquire(t, other)
		cfg.Probe = maxProbe // half of it is for the answer to be heard
		m := newIn(t, a, cfg)
		err := m.Acquire(context.Background())
		m.Close()
		if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), hardwareAddr(other).String()) {
			t.Errorf("Acquire: %v, want in use by %v", err, hardwareAddr(other))
		}
		wantHeld(t, a, "192.0.2.1/24", "2001:db8::1/64")
		if err := other.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		cfg.Probe = 200 * time.Millisecond
		m, stop := runIn(t, a, cfg)
		mustAcquire(t, m)
		stop()
	}
}

// When notifications come faster than they are read the kernel drops some. The
// Manager looks for itself then.
func TestNetnsOverrun(t *testing.T) {
	h := lab.New(t).MustHost("a", "192.0.2.1/24")
	m, _ := runIn(t, h, Config{Addresses: addrs(t, vip4+"/24")})
	mustAcquire(t, m)
	k := m.ns.kernel.(*linuxKernel)
	if err := k.watcher.SetReceiveBufferSize(1, false); err != nil { // the least there is
		t.Fatal(err)
	}
	m.ns.mu.Lock() // the watcher gets stuck on its way
	for i := range 200 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 9, 0, byte(i)}), 32)
		if err := h.AddAddr("eth0", p); err != nil {
			t.Error(err)
		}
	}
	delAddr(t, h, "eth0", vip4+"/24")
	m.ns.mu.Unlock()
	lab.Until(t, bound, "the address is back", func() bool { return h.Holds(netip.MustParseAddr(vip4)) })
}

// openIn opens a kernel inside a host.
func openIn(t *testing.T, h *lab.Host) *linuxKernel {
	t.Helper()
	var k kernel
	if err := h.Do(func() (err error) {
		k, err = openKernel()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.close() })
	return k.(*linuxKernel)
}

// What the kernel says when things are there already, or not any more, is no
// error; what makes no sense is one.
func TestNetnsKernelIsForgiving(t *testing.T) {
	h := lab.New(t).MustHost("a", "192.0.2.1/24")
	k := openIn(t, h)
	eth0, err := k.link(0, "eth0")
	if err != nil {
		t.Fatal(err)
	}
	if l, err := k.link(eth0.index, "something else"); err != nil || l.name != "eth0" {
		t.Errorf("link by index: %+v, %v", l, err)
	}
	if l, err := k.link(4711, "eth0"); err != nil || l.index != eth0.index {
		t.Errorf("link whose index changed: %+v, %v", l, err)
	}
	for want, key := range map[string]struct {
		index int
		name  string
	}{
		`interface "eth9"`: {index: 4711, name: "eth9"}, // it had that name, and is gone
		"interface 4711":   {index: 4711},
	} {
		if _, err := k.link(key.index, key.name); !errors.Is(err, ErrNoInterface) || !strings.Contains(err.Error(), want) {
			t.Errorf("link %d %q: %v, want %s", key.index, key.name, err, want)
		}
	}
	a := assigned{index: eth0.index, prefix: prefix(vip4 + "/24")}
	r := Route{Destination: prefix("198.51.100.0/24"), Gateway: netip.MustParseAddr("192.0.2.254")}
	gone := assigned{index: 4711, prefix: a.prefix}
	for name, f := range map[string]func() error{
		"put twice":            func() error { return errors.Join(k.put(a, false), k.put(a, false)) },
		"remove twice":         func() error { return errors.Join(k.remove(a), k.remove(a)) },
		"remove from nowhere":  func() error { return k.remove(gone) },
		"route put twice":      func() error { return errors.Join(k.putRoute(r, eth0.index), k.putRoute(r, eth0.index)) },
		"route removed twice":  func() error { return errors.Join(k.removeRoute(r, eth0.index), k.removeRoute(r, eth0.index)) },
		"link removed already": func() error { return errors.Join(k.removeLink(4711), k.setUp(4711, false)) },
	} {
		if err := f(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, f := range map[string]func() error{
		"put on a missing interface":  func() error { return k.put(gone, false) },
		"send on a missing interface": func() error { return k.send(4711, make([]byte, 60)) },
		"missing link set up":         func() error { return k.setUp(4711, true) },
	} {
		if err := f(); !errors.Is(err, ErrNoInterface) {
			t.Errorf("%s: %v, want ErrNoInterface", name, err)
		}
	}
	if err := k.putRoute(Route{Destination: prefix("198.51.100.0/24"), Gateway: netip.MustParseAddr("10.99.99.99")}, eth0.index); err == nil {
		t.Error("a route through a gateway that is not on the link is accepted")
	}
	k.close()
	if err := k.put(a, false); !errors.Is(err, ErrClosed) {
		t.Errorf("put after close: %v, want ErrClosed", err)
	}
	if _, err := k.watch(); !errors.Is(err, ErrClosed) {
		t.Errorf("watch after close: %v, want ErrClosed", err)
	}
}

// Another process may send netlink messages to the watcher. They are not the
// kernel's, whatever they say, and may be garbage.
func TestNetnsForeignMessages(t *testing.T) {
	h := lab.New(t).MustHost("a", "192.0.2.1/24")
	k := openIn(t, h)
	to, err := unix.Getsockname(k.watcher.GetFd())
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Do(func() error {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		removal := k.record(func(k kernel) { k.remove(on(2, "192.0.2.1/24")) })
		for _, b := range append(removal, make([]byte, 100), []byte("garbage")) {
			if err := unix.Sendto(fd, b, 0, to); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if changes, _ := k.watch(); slices.ContainsFunc(changes, func(c change) bool { return c.kind != overrun }) {
			t.Errorf("changes %+v from another process", changes)
		}
	}
	if err := h.AddAddr("eth0", prefix("192.0.2.77/24")); err != nil {
		t.Fatal(err)
	}
	eth0, err := k.link(0, "eth0")
	if err != nil {
		t.Fatal(err)
	}
	want := change{kind: addressAdded, addr: netip.MustParseAddr("192.0.2.77"), index: eth0.index}
	if changes, err := k.watch(); err != nil || !slices.Contains(changes, want) {
		t.Errorf("changes %+v, %v; want %+v", changes, err, want)
	}
}

// Removing an address never adds it, not even for a moment: it may have lapsed
// just now, and be another host's.
func TestNetnsRemovalAddsNothing(t *testing.T) {
	h := lab.New(t).MustHost("a", "192.0.2.1/24")
	k, watcher := openIn(t, h), openIn(t, h)
	eth0, err := k.link(0, "eth0")
	if err != nil {
		t.Fatal(err)
	}
	a := on(eth0.index, vip6+"/64")
	for range 2 { // the second time it is not there
		if err := errors.Join(k.remove(a), k.removeNetwork(a)); err != nil {
			t.Fatal(err)
		}
	}
	const marker = "192.0.2.77"
	if err := h.AddAddr("eth0", prefix(marker+"/24")); err != nil {
		t.Fatal(err)
	}
	for {
		changes, err := watcher.watch()
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range changes {
			switch c.addr.String() {
			case vip6:
				t.Fatalf("change %+v of an address that was not there", c)
			case marker:
				return
			}
		}
	}
}

// A kernel's view of Reconfigure: an address that a route needs, and routes that
// it takes for one another.
func TestNetnsReconfigure(t *testing.T) {
	h := lab.New(t).MustHost("a", "192.0.2.1/24", "2001:db8::1/64")
	via := func(dst, gw, src string) Route {
		r := Route{Destination: prefix(dst), Gateway: netip.MustParseAddr(gw)}
		if src != "" {
			r.Source = netip.MustParseAddr(src)
		}
		return r
	}
	cfg := Config{Interface: "eth0", Addresses: addrs(t, vip4+"/24", vip6+"/64", "10.1.1.1/24", "2001:db8:1::1/64")}
	cfg.Routes = []Route{via("10.9.0.0/16", "10.1.1.254", ""), via("2001:db8:9::/48", "2001:db8:1::fe", "")}
	m, _ := runIn(t, h, cfg)
	mustAcquire(t, m)
	for _, tc := range []struct {
		name      string
		addresses []string
		routes    []Route
	}{
		{"the gateways' addresses", []string{"10.1.1.2/24", "2001:db8:1::2/64"}, cfg.Routes},
		{"the source alone", []string{"10.1.1.2/24", "2001:db8:1::2/64"}, []Route{
			via("10.9.0.0/16", "10.1.1.254", "10.1.1.2"), via("2001:db8:9::/48", "2001:db8:1::fe", "2001:db8:1::2")}},
		{"the gateway", []string{"10.1.1.2/24", "2001:db8:1::2/64"}, []Route{
			via("10.9.0.0/16", "10.1.1.253", ""), via("2001:db8:9::/48", "2001:db8:1::fd", "")}},
		{"the length", []string{"10.1.1.2/25", "2001:db8:1::2/96"}, []Route{via("10.9.0.0/16", "10.1.1.126", ""), via("2001:db8:9::/48", "2001:db8:1::fe", "")}},
		{"addresses and gateways", []string{"10.1.2.1/24", "2001:db8:2::1/64"}, []Route{
			via("10.9.0.0/16", "10.1.2.254", ""), via("2001:db8:9::/48", "2001:db8:2::fe", "")}},
	} {
		next := cfg
		next.Addresses, next.Routes = append(addrs(t, vip4+"/24", vip6+"/64"), addrs(t, tc.addresses...)...), tc.routes
		var want []string
		for _, r := range tc.routes {
			src := "<nil>"
			if r.Source.IsValid() {
				src = r.Source.String()
			}
			want = append(want, fmt.Sprintf("{Ifindex: 2 Dst: %v Src: %s Gw: %v Flags: [] Table: 254 Realm: 0}", r.Destination, src, r.Gateway))
		}
		slices.Sort(want)
		if err := m.Reconfigure(t.Context(), next); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		if got := ourRoutes(t, h); !slices.Equal(got, want) {
			t.Errorf("%s: routes are\n%s\nwant\n%s", tc.name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		wantHeld(t, h, append([]string{"192.0.2.1/24", "2001:db8::1/64", vip4 + "/24", vip6 + "/64"}, tc.addresses...)...)
		if s := m.Status(); s.Lost != 0 || s.Reinstated != 0 {
			t.Errorf("%s: status %+v", tc.name, s)
		}
	}
}
