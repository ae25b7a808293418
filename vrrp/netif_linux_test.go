package vrrp

import (
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/lab"
)

// TestNetworkOverrun: lost events may have been about an address or interface that has gone
// and come back.
func TestNetworkOverrun(t *testing.T) {
	h := lab.New(t).MustHost("a", "192.0.2.1/24")
	var n *kernelNetwork
	if err := h.Do(func() error {
		network, err := openNetwork("eth0", familyIPv4)
		if err == nil {
			n = network.(*kernelNetwork)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer n.close()
	defer n.interrupt()
	raw, err := n.events.SyscallConn()
	if err == nil {
		err = withDescriptor(raw, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1) })
	}
	if err != nil {
		t.Fatal(err)
	}
	link, err := h.Netlink().LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	other, err := netlink.ParseAddr("198.51.100.1/24")
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if err := h.Netlink().AddrAdd(link, other); err != nil {
			t.Fatal(err)
		}
		if err := h.Netlink().AddrDel(link, other); err != nil {
			t.Fatal(err)
		}
	}
	lost, err := n.waitEvent(func(linkEvent) bool { return false })
	if !lost || err != nil {
		t.Errorf("lost %v, error %v; want that events were lost", lost, err)
	}
}
