package vrrp

import (
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/lab"
)

// events opens a network on a new host, to which nobody listens yet.
func events(t *testing.T) (n *kernelNetwork, h *lab.Host, link netlink.Link) {
	t.Helper()
	h = lab.New(t).MustHost("a", "192.0.2.1/24")
	if err := h.Do(func() error {
		network, err := openNetwork("eth0", familyIPv4)
		if err == nil {
			n = network.(*kernelNetwork)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.close)
	link, err := h.Netlink().LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	return n, h, link
}

// TestNetworkBacklog: an event of concern is not kept waiting by hundreds of others, which
// the holder of many addresses causes when it renews them.
func TestNetworkBacklog(t *testing.T) {
	n, h, link := events(t)
	own, err := netlink.ParseAddr("198.51.100.1/24")
	if err != nil {
		t.Fatal(err)
	}
	const renewals = 1000
	for i := range renewals {
		own.ValidLft, own.PreferedLft = 1000+i, 1000+i
		if err := h.Netlink().AddrReplace(link, own); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Netlink().LinkSetDown(link); err != nil {
		t.Fatal(err)
	}
	began, renewed := time.Now(), 0
	lost, err := n.waitEvent(func(e linkEvent) bool {
		if e.addr.IsValid() {
			renewed++
		}
		return e.name == "eth0"
	})
	if err != nil {
		t.Fatal(err)
	}
	// where the socket's buffer is small, events are lost
	if took := time.Since(began); took > renewals*lull/2 || renewed < renewals && !lost {
		t.Errorf("the loss of the link behind %d renewals was noticed after %v", renewed, took)
	}
}

// TestNetworkWakes: a reader that waits is woken once for each time, before or after it has
// begun to wait, and goes on to hear events.
func TestNetworkWakes(t *testing.T) {
	n, h, link := events(t)
	for range 2 {
		n.wake()
		if lost, err := n.waitEvent(func(linkEvent) bool { return false }); !lost || err != nil {
			t.Errorf("woken before: lost %v, error %v; want that events may be lost", lost, err)
		}
		time.AfterFunc(20*time.Millisecond, n.wake)
		if lost, err := n.waitEvent(func(linkEvent) bool { return false }); !lost || err != nil {
			t.Errorf("woken while it waits: lost %v, error %v; want that events may be lost", lost, err)
		}
	}
	if err := h.Netlink().LinkSetDown(link); err != nil {
		t.Fatal(err)
	}
	if lost, err := n.waitEvent(func(e linkEvent) bool { return e.name == "eth0" }); lost || err != nil {
		t.Errorf("an event: lost %v, error %v; want neither", lost, err)
	}
}

// TestNetworkOverrun: lost events may have been about an address or interface that has gone
// and come back.
func TestNetworkOverrun(t *testing.T) {
	n, h, link := events(t)
	raw, err := n.events.SyscallConn()
	if err == nil {
		err = withDescriptor(raw, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1) })
	}
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
