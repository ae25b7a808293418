package guard_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/vip"
	"github.com/havip/havip/vip/guard"
)

// linger keeps open what the kernel closes late in the death of a guarded program,
// until the returned function is called: the program is dying, and not dead.
func linger(t *testing.T, parent int) (end func()) {
	t.Helper()
	pipe, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/0", guardOf(t, parent)))
	if err != nil {
		t.Fatal(err)
	}
	dir := fmt.Sprintf("/proc/%d/fd/", parent)
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if to, _ := os.Readlink(dir + f.Name()); to == pipe {
			w, err := os.OpenFile(dir+f.Name(), os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { w.Close() })
			return func() { w.Close() }
		}
	}
	t.Fatalf("%d has no end of %s", parent, pipe)
	return nil
}

// TestDying: the guard acts as soon as a thread of its parent has ended, long
// before all is over, and once more then: another thread may just have been adding
// an address.
func TestDying(t *testing.T) {
	h, p, c := start(t, "hold")
	dead := linger(t, p.Pid())
	died := time.Now()
	if err := syscall.Kill(p.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wantWillDone(t, h, c, died)
	if err := h.AddAddr("eth0", netip.MustParsePrefix(vip4+"/24")); err != nil {
		t.Fatal(err)
	}
	dead()
	lab.Until(t, 10*time.Second, "the address is gone again", func() bool { return !h.Holds(netip.MustParseAddr(vip4)) })
}

// TestDyingSettings: what is removed in the second go relies on the settings, too.
func TestDyingSettings(t *testing.T) {
	h := lab.New(t).MustHost("a")
	const setting = "net.ipv4.conf.eth0.promote_secondaries"
	if err := h.Sysctl(setting, "0"); err != nil {
		t.Fatal(err)
	}
	p := startAs(t, h, many)
	dead := linger(t, p.Pid())
	if err := syscall.Kill(p.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	lab.Until(t, 10*time.Second, "the address is gone", func() bool { return !h.Holds(netip.MustParseAddr(vip4)) })
	for _, a := range []string{vip4 + "/24", "192.0.2.1/24"} {
		if err := h.AddAddr("eth0", netip.MustParsePrefix(a)); err != nil {
			t.Fatal(err)
		}
	}
	dead()
	lab.Until(t, 10*time.Second, "the setting is what it was", func() bool { return sysctl(t, h, setting) == "0" })
	if h.Holds(netip.MustParseAddr(vip4)) || !h.Holds(netip.MustParseAddr("192.0.2.1")) {
		list, err := h.Addrs()
		t.Errorf("addresses %v (%v), want only the host's own", list, err)
	}
}

// TestPacketsComeLast: nobody hears that the addresses are free before they are.
// What is sent to one of them stays inside the host while that has it.
func TestPacketsComeLast(t *testing.T) {
	l := lab.New(t)
	h := l.MustHost("a", "192.0.2.1/24")
	lan, err := l.Segment("lan")
	if err != nil {
		t.Fatal(err)
	}
	c, err := lan.Capture(lab.Protocol(112))
	if err != nil {
		t.Fatal(err)
	}
	link, err := h.Netlink().LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Netlink().NeighAdd(&netlink.Neigh{
		LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT,
		IP: net.ParseIP(vip4), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 9, 9},
	}); err != nil {
		t.Fatal(err)
	}
	p := startAs(t, h, herald)
	if err := syscall.Kill(p.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	lab.Until(t, 10*time.Second, "the address is gone", func() bool { return !h.Holds(netip.MustParseAddr(vip4)) })
	lab.Until(t, 10*time.Second, "the packet is on the wire", func() bool { return len(c.Packets()) > 0 })
}

// herald is the role of a program whose will says something to the address that it
// removes.
const herald = "herald"

func guardedHerald(ctx context.Context, g *guard.Guard) error {
	m, err := vip.NewManager(vip.Config{Interface: "eth0", Addresses: []vip.Address{{Prefix: netip.MustParsePrefix(vip4 + "/24")}}})
	if err != nil {
		return err
	}
	go m.Run(ctx)
	<-m.Ready()
	if err := m.Acquire(ctx); err != nil {
		return err
	}
	err = g.Set("herald", guard.Will{
		Requests: m.Removals().Requests,
		Packets:  []guard.Packet{{Source: netip.MustParseAddr("192.0.2.1"), Destination: netip.MustParseAddr(vip4), Protocol: 112, TTL: 255, Payload: farewell4}},
	})
	fmt.Println("ready", err)
	<-ctx.Done()
	return nil
}
