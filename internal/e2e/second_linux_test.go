package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/havip/havip/internal/lab"
)

// TestSecondDaemon: a second havip that is started on the same host by mistake
// names the first one, takes part in nothing and touches no address, whatever
// becomes of it. It takes over when the first one ends.
func TestSecondDaemon(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	h := l.MustHost("lb01", "192.168.31.240/24")
	config := func(excluded string) string {
		return fmt.Sprintf("vrrp:\n  - {name: VI_1, interface: eth0, vrid: 51, interval: 500ms, lease: 20s, addresses: [192.168.31.250/24], excluded: [%s]}\n", excluded)
	}
	first := startReloader(t, h, config("192.168.31.251/24"))
	lab.Until(t, 30*time.Second, "the first one serves", func() bool { return h.Holds(vip) })
	gone := watchDeletions(t, h)
	said := fmt.Sprintf("VRID 51 (IPv4) is taken by process %d (%s", first.cmd.Pid(), havip(t))
	for _, end := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		second := startReloader(t, h, config("192.168.31.251/24"))
		lab.Until(t, 30*time.Second, "the second one says why not", func() bool { return strings.Contains(second.cmd.Output(), said) })
		second.reload(config("192.168.31.252/24"))
		if err := second.cmd.Signal(end); err != nil {
			t.Fatal(err)
		}
		second.cmd.Wait()
		if strings.Contains(second.cmd.Output(), "to=Active") {
			t.Errorf("%v: it was Active", end)
		}
	}
	for _, a := range []netip.Addr{vip, vip.Next()} {
		if n := gone.of(a); n != 0 || !h.Holds(a) {
			t.Errorf("%v was deleted %d times", a, n)
		}
	}
	second := startReloader(t, h, config("192.168.31.251/24"))
	lab.Until(t, 30*time.Second, "the second one waits", func() bool { return strings.Contains(second.cmd.Output(), said) })
	if err := first.cmd.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	lab.Until(t, 30*time.Second, "the second one serves", func() bool {
		return strings.Contains(second.cmd.Output(), "to=Active") && h.Holds(vip)
	})
}

// TestExcludedIsNoSource: while its own address is away a node sends from no other
// one that it holds itself, and hands over.
func TestExcludedIsNoSource(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	h := l.MustHost("lb01", "192.168.31.240/24")
	r := startReloader(t, h, `vrrp:
  - {name: VI_1, interface: eth0, vrid: 51, interval: 100ms, addresses: [192.168.31.250/24], excluded: [192.168.31.251/24]}
  - {name: VI_2, interface: eth0, vrid: 52, interval: 100ms, priority: 255, addresses: [192.168.31.252/24]}
`)
	all := []netip.Addr{vip, netip.MustParseAddr("192.168.31.251"), netip.MustParseAddr("192.168.31.252")}
	holds := func(want bool) bool {
		for _, a := range all[:2] {
			if h.Holds(a) != want {
				return false
			}
		}
		return true
	}
	lab.Until(t, 30*time.Second, "it serves", func() bool { return holds(true) && h.Holds(all[2]) })
	wire, err := h.Capture("eth0", lab.Protocol(112))
	if err != nil {
		t.Fatal(err)
	}
	link, err := h.Netlink().LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	own, err := netlink.ParseAddr("192.168.31.240/24")
	if err == nil {
		err = h.Netlink().AddrDel(link, own)
	}
	if err != nil {
		t.Fatal(err)
	}
	lab.Until(t, 30*time.Second, "it hands over", func() bool { return holds(false) })
	if err := h.AddAddr("eth0", netip.MustParsePrefix("192.168.31.240/24")); err != nil {
		t.Fatal(err)
	}
	lab.Until(t, 30*time.Second, "it serves again", func() bool { return holds(true) })
	for _, f := range wire.Packets() {
		src, _, _, b, ok := f.IP()
		if !ok || len(b) < 8 {
			continue
		}
		if src == all[0] || src == all[1] || src == all[2] && b[1] != 52 {
			t.Errorf("VRID %d was advertised from %v", b[1], src)
		}
	}
	if t.Failed() {
		t.Log(r.cmd.Output())
	}
}
