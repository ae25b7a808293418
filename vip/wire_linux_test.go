package vip

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/lab"
)

// RFC 9568 §6.4.2: a new Active router sends gratuitous ARP, or unsolicited
// neighbour advertisements (RFC 4861 §7.2.6). As they pass the wire, with their
// times.
func TestConformance44Announcements(t *testing.T) {
	l := lab.New(t)
	h := l.MustHost("a", "192.0.2.1/24")
	lan, err := l.Segment("lan")
	if err != nil {
		t.Fatal(err)
	}
	c, err := lan.Capture()
	if err != nil {
		t.Fatal(err)
	}
	m, _ := runIn(t, h, Config{
		Addresses: addrs(t, vip4+"/24", vip6+"/64"),
		Announce:  Schedule{Burst: 1, Rounds: []time.Duration{0, 300 * time.Millisecond}},
	})
	mustAcquire(t, m)
	mac := hardwareAddr(m)
	frame := func(addr string, reply bool) []byte {
		return announcement(netip.MustParseAddr(addr), mac, reply, false)
	}
	request, reply, na := frame(vip4, false), frame(vip4, true), frame(vip6, false)
	began := time.Now()
	if err := m.Announce(t.Context()); err != nil {
		t.Fatal(err)
	}
	count := func(want []byte) (times []time.Time) {
		for _, f := range c.Packets() {
			if bytes.Equal(f.Data, want) {
				times = append(times, f.Time)
			}
		}
		return times
	}
	lab.Until(t, bound, "all announcements are on the wire", func() bool {
		return len(count(request)) == 2 && len(count(reply)) == 2 && len(count(na)) == 4
	})
	for name, b := range map[string][]byte{"request": request, "reply": reply, "advertisement": na} {
		// The frames of the first round may have left late.
		at := count(b)
		if after := at[len(at)-1].Sub(began); after < 290*time.Millisecond {
			t.Errorf("%s: second round after %v, want 300 ms; frame %s", name, after, hex.EncodeToString(b))
		}
	}
}

// What announcements are for: a neighbour that knew the address at another host
// sends to the new one, although Linux ignores a change within a second of the
// last one.
func TestNetnsNeighboursLearn(t *testing.T) {
	l := lab.New(t)
	a, b := l.MustHost("a", "192.0.2.1/24", "2001:db8::1/64"), l.MustHost("b", "192.0.2.2/24", "2001:db8::2/64")
	client := l.MustHost("client", "192.0.2.9/24", "2001:db8::9/64")
	cfg := Config{Addresses: addrs(t, vip4+"/24", vip6+"/64")}
	ma, _ := runIn(t, a, cfg)
	mb, _ := runIn(t, b, cfg)
	for i, m := range []*Manager{ma, mb, ma} {
		for _, other := range []*Manager{ma, mb} {
			if err := other.Release(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		mustAcquire(t, m)
		if err := m.Announce(t.Context()); err != nil {
			t.Fatal(err)
		}
		if i == 0 { // give the client something to forget
			for _, p := range []string{"udp4", "udp6"} {
				addr := map[string]string{"udp4": vip4 + ":9", "udp6": "[" + vip6 + "]:9"}[p]
				conn, err := client.DialContext(context.Background(), p, addr)
				if err != nil {
					t.Fatal(err)
				}
				conn.Write([]byte("x"))
				conn.Close()
			}
		}
		lab.Until(t, bound, "the client knows the address at its new place", func() bool {
			mac := hardwareAddr(m).String()
			return neighbour(t, client, vip4) == mac && neighbour(t, client, vip6) == mac
		})
	}
}

func hardwareAddr(m *Manager) net.HardwareAddr {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.links["eth0"].mac
}

// neighbour returns the hardware address at which a host believes addr to be.
func neighbour(t *testing.T, h *lab.Host, addr string) string {
	t.Helper()
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := h.Netlink().NeighList(0, family)
		if err != nil {
			t.Fatal(err)
		}
		if i := slices.IndexFunc(list, func(n netlink.Neigh) bool { return n.IP.String() == addr }); i >= 0 {
			return list[i].HardwareAddr.String()
		}
	}
	return ""
}

// Where no other address has the network, the network's route comes and goes
// with the virtual address.
func TestNetnsPrefixRoute(t *testing.T) {
	h := lab.New(t).MustHost("a")
	before := routes(t, h)
	m, _ := runIn(t, h, Config{Addresses: addrs(t, vip4+"/24", vip6+"/64"), Lease: 60 * time.Second})
	mustAcquire(t, m)
	if got := routes(t, h); len(got) != len(before)+2 {
		t.Errorf("routes while held: %v, want one for each network beside %v", got, before)
	}
	if err := m.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := routes(t, h); !slices.Equal(got, before) {
		t.Errorf("routes afterwards: %v, want %v", got, before)
	}
}

// 255 virtual routers share one interface and one Namespace.
func TestNetnsManyManagers(t *testing.T) {
	h := lab.New(t).MustHost("a", "10.1.0.1/24")
	var ns *Namespace
	if err := h.Do(func() (err error) {
		ns, err = OpenNamespace(nil)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	const n = 255
	managers := make([]*Manager, n)
	for i := range managers {
		addr := netip.AddrFrom4([4]byte{10, 1, 1, byte(i)})
		managers[i], _ = runIn(t, h, Config{
			Namespace: ns, Lease: 2 * time.Second, Announce: Schedule{Burst: 1},
			Addresses: []Address{{Prefix: netip.PrefixFrom(addr, 32)}},
			// A busy machine may be late with a renewal. That is not what this
			// is about.
			Entitled: func() bool { return true },
		})
	}
	began := time.Now()
	for _, m := range managers {
		mustAcquire(t, m)
		if err := m.Announce(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d addresses acquired and announced in %v", n, time.Since(began).Round(time.Millisecond))
	time.Sleep(time.Until(began.Add(3 * time.Second))) // the lease is over
	lab.Until(t, bound, "all addresses are there", func() bool { return len(held(t, h)) == n+1 })
	for _, m := range managers {
		if s := m.Status(); !s.Held || s.Lost != 0 {
			t.Fatalf("status %+v", s)
		}
	}
}

// The network's route lives as long as one of the addresses that make it,
// whichever router has that and however often the addresses are looked at.
func TestNetnsPrefixRouteIsRenewed(t *testing.T) {
	h := lab.New(t).MustHost("a")
	before := routes(t, h)
	var ns *Namespace
	if err := h.Do(func() (err error) {
		ns, err = OpenNamespace(nil)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	open := func(list ...string) *Manager {
		m, _ := runIn(t, h, Config{Namespace: ns, Addresses: addrs(t, list...), Lease: 30 * time.Second})
		mustAcquire(t, m)
		return m
	}
	first := open(vip6+"/64", "2001:db8::11/64")
	second := open("2001:db8::12/64")
	all := []string{vip6, "2001:db8::11", "2001:db8::12"}
	makeRoute := func() bool {
		return !slices.ContainsFunc(all, func(a string) bool { return find(t, h, a).Flags&unix.IFA_F_NOPREFIXROUTE != 0 })
	}
	for _, a := range all {
		delAddr(t, h, "eth0", a+"/64") // so that they are looked at
		lab.Until(t, bound, a+" is back", func() bool { return h.Holds(netip.MustParseAddr(a)) })
	}
	for _, m := range []*Manager{first, second} {
		mustAcquire(t, m) // renews all
	}
	if !makeRoute() {
		t.Error("an address leaves it to another one to make the network's route")
	}
	if err := first.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := routes(t, h); len(got) != len(before)+1 {
		t.Errorf("routes with one address left: %v, want that of its network beside %v", got, before)
	}
	if err := second.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := routes(t, h); !slices.Equal(got, before) {
		t.Errorf("routes afterwards: %v, want %v", got, before)
	}
}

// An interface that sends nothing any more keeps no address from being released.
func TestNetnsStuckQueue(t *testing.T) {
	h := lab.New(t).MustHost("a", "192.0.2.1/24")
	link, err := h.Netlink().LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	// Slow, and with room for more than a socket may have under way.
	const rate = 1000 // bytes per second
	if err := h.Netlink().QdiscAdd(&netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       rate, Limit: 1 << 24, Buffer: netlink.Xmittime(rate, 2000),
	}); err != nil {
		t.Fatal(err)
	}
	m, _ := runIn(t, h, Config{Addresses: addrs(t, vip4+"/24"), Announce: Schedule{Burst: 100, Rounds: make([]time.Duration, 20)}})
	mustAcquire(t, m)
	k := m.ns.kernel.(*linuxKernel)
	mac := hardwareAddr(m)
	frame := announcement(netip.MustParseAddr(vip4), mac, false, false)
	for err == nil { // a hundred frames would take seconds
		err = k.send(link.Attrs().Index, frame)
	}
	if !errors.Is(err, unix.EAGAIN) {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- errors.Join(m.Announce(t.Context()), m.Release(t.Context())) }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(bound):
		t.Fatal("Release waits for the queue")
	}
	wantHeld(t, h, "192.0.2.1/24")
}

// TestNetnsNeighboursFollow: who took this host for the one that has the addresses
// knows their new holder soon after they were released, although that one says nothing
// of its own accord.
func TestNetnsNeighboursFollow(t *testing.T) {
	l := lab.New(t)
	a, b := l.MustHost("a", "192.0.2.1/24", "2001:db8::1/64"), l.MustHost("b", "192.0.2.2/24", "2001:db8::2/64")
	client := l.MustHost("client", "192.0.2.9/24", "2001:db8::9/64")
	cfg := Config{Addresses: addrs(t, vip4+"/24", vip6+"/64")}
	quiet, _ := runIn(t, b, cfg)
	m, _ := runIn(t, a, cfg)
	mustAcquire(t, quiet)
	mustAcquire(t, m)
	if err := m.Announce(t.Context()); err != nil {
		t.Fatal(err)
	}
	for addr, to := range map[string]string{vip4: vip4 + ":9", vip6: "[" + vip6 + "]:9"} {
		lab.Until(t, bound, "the client takes it for the one that has "+addr, func() bool {
			conn, err := client.DialContext(context.Background(), "udp", to)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_, err = conn.Write([]byte("x"))
			return err == nil && neighbour(t, client, addr) == hardwareAddr(m).String()
		})
	}
	if err := m.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{vip4, vip6} {
		lab.Until(t, bound, "the client follows "+addr, func() bool {
			return neighbour(t, client, addr) == hardwareAddr(quiet).String()
		})
	}
}
