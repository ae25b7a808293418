package e2e

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
)

// TestGroup: routers of a group move together and are reported as one, and a
// member may come and go on reload while the others keep their addresses.
func TestGroup(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	h := l.MustHost("lb01", "192.168.31.240/24")
	inside, err := l.Segment("inside")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Attach("eth1", inside, netip.MustParsePrefix("10.0.0.1/24")); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(t.TempDir(), "fifo")
	config := func(members string, more string) string {
		return fmt.Sprintf(`vrrp:
  - {name: OUT, interface: eth0, vrid: 51, interval: 500ms, lease: 20s, addresses: [192.168.31.250/24]}
  - {name: IN, interface: eth1, vrid: 52, interval: 500ms, lease: 20s, addresses: [10.0.0.250/24]}
%sgroups:
  - {name: G1, routers: [%s], notify_fifo: %s}
`, more, members, fifo)
	}
	in := netip.MustParseAddr("10.0.0.250")
	r := startReloader(t, h, config("OUT, IN", ""))
	both := func() bool { return h.Holds(vip) && h.Holds(in) }
	lab.Until(t, 30*time.Second, "both members are Active", both)
	// The FIFO keeps what was written before it was opened here.
	told := follow(t, fifo)
	lab.Until(t, 30*time.Second, "the group is reported as Active", func() bool { return strings.HasSuffix(told(), "GROUP \"G1\" MASTER 0\n") })

	if err := h.Cut("eth1"); err != nil {
		t.Fatal(err)
	}
	lab.Until(t, 30*time.Second, "neither is Active", func() bool { return !h.Holds(vip) && !h.Holds(in) })
	lab.Until(t, 30*time.Second, "the group is reported as faulty", func() bool { return strings.HasSuffix(told(), "GROUP \"G1\" FAULT 0\n") })
	if err := h.Restore("eth1"); err != nil {
		t.Fatal(err)
	}
	lab.Until(t, 30*time.Second, "both members are Active again", both)

	gone := watchDeletions(t, h)
	const third = "  - {name: MORE, interface: eth0, vrid: 53, interval: 500ms, lease: 20s, addresses: [192.168.31.253/24]}\n"
	r.must(config("OUT, IN, MORE", third))
	lab.Until(t, 30*time.Second, "a member that came is Active", func() bool { return h.Holds(netip.MustParseAddr("192.168.31.253")) })
	r.must(config("OUT, IN", third))
	lab.Until(t, 30*time.Second, "out of the group it is Active", func() bool { return h.Holds(netip.MustParseAddr("192.168.31.253")) })
	r.must(config("OUT, IN", ""))
	lab.Until(t, 30*time.Second, "it is gone", func() bool { return !h.Holds(netip.MustParseAddr("192.168.31.253")) })
	if gone.of(vip) != 0 || gone.of(in) != 0 || !both() {
		t.Error("the others lost their addresses meanwhile")
	}
}

// follow returns what a FIFO has said so far.
func follow(t *testing.T, path string) func() string {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var said strings.Builder
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for in := bufio.NewReader(f); ; {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			mu.Lock()
			said.WriteString(line)
			mu.Unlock()
		}
	}()
	t.Cleanup(func() { f.Close(); <-ended })
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		return said.String()
	}
}

// TestReloadReplaces: a router that cannot go on as it is takes part again as
// what it is now, and one that can does not let go of its address.
func TestReloadReplaces(t *testing.T) {
	t.Parallel()
	h := lab.New(t).MustHost("lb01", "192.168.31.240/24")
	config := func(rest string) string {
		return "vrrp:\n  - {name: VI_1, interface: eth0, addresses: [192.168.31.250/24], " + rest + "}\n"
	}
	r := startReloader(t, h, config("vrid: 51, interval: 500ms, lease: 20s"))
	lab.Until(t, 30*time.Second, "the only router becomes Active", func() bool { return h.Holds(vip) })
	gone := watchDeletions(t, h)
	removed := 0
	for _, tc := range []struct {
		rest     string
		replaces bool
	}{
		{"vrid: 52, interval: 500ms, lease: 20s", true},
		{"vrid: 52, interval: 400ms, lease: 0s", false},
		{"vrid: 52, interval: 400ms, lease: 20s, virtual_mac: true", true},
		{"vrid: 52, interval: 500ms, lease: 20s, virtual_mac: true", false},
		{"vrid: 52, interval: 500ms, lease: 20s", true},
		{"vrid: 52, interval: 500ms, lease: 20s, priority: 255", true},
	} {
		r.must(config(tc.rest))
		if tc.replaces {
			removed++
		}
		lab.Until(t, 30*time.Second, "Active again: "+tc.rest, func() bool { return gone.of(vip) >= removed && h.Holds(vip) })
		if got := gone.of(vip); got != removed {
			t.Errorf("%s: the address was removed %d times by now, want %d", tc.rest, got, removed)
		}
		link, err := h.Netlink().LinkByName("vrrp.52")
		if has := err == nil; has != strings.Contains(tc.rest, "virtual_mac") {
			t.Errorf("%s: macvlan %v", tc.rest, link)
		}
	}
}
