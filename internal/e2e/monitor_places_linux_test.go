package e2e

import (
	"net/netip"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/vrrp"
)

// TestMonitorFRR: beside havip and FRR, which advertises from the virtual hardware address
// and so claims the address by it, the monitor finds nothing wrong. On FRR's own host, and
// without the name of an interface, it hears each advertisement once, though two
// interfaces carry it.
func TestMonitorFRR(t *testing.T) {
	t.Parallel()
	lab.Need(t, frr+"vrrpd", frr+"zebra", "bash", "ip")
	v3 := newRouter("v3", 51, 3, "", false, false, [2]uint8{120, 110})
	w := watch(t, newPair(t, [2]peer{havipPeer(t), frrPeer}, []virtualRouter{v3}))
	w.on(0)
	w.says("state", "192.168.31.240 is Active")
	w.backup()
	if err := w.nodes[0].stop(); err != nil {
		t.Fatal(err)
	}
	w.says("state", "192.168.31.241 is Active", "after 192.168.31.240 left")
	lab.Eventually(t, 10*time.Second, "FRR's virtual hardware address", func() error {
		return w.find(func(h *heard) bool {
			return h.Advertisement.Source == w.nodes[1].addr(false) && h.Advertisement.MAC == "00:00:5e:00:01:33"
		})
	})
	w.end(false)

	w.monitor = w.nodes[1].host.Command(havip(t), "monitor", "-o", "json", "--count", "3")
	if err := w.monitor.Start(); err != nil {
		t.Fatal(err)
	}
	lab.Until(t, 30*time.Second, "three advertisements", func() bool {
		select {
		case <-w.monitor.Done():
			return true
		default:
			return false
		}
	})
	if err := w.monitor.Wait(); err != nil {
		t.Errorf("on FRR's host: %v:\n%s", err, w.monitor.Output())
	}
	var last time.Time
	for _, h := range w.lines() {
		if h.Kind == "advertisement" && (h.Link != "eth0" || h.Time.Sub(last) < interval/2) {
			t.Errorf("on FRR's host: on %q, %v after the one before", h.Link, h.Time.Sub(last))
		}
		if h.Kind == "advertisement" {
			last = h.Time
		}
	}
}

// TestMonitorVLAN: a tagged advertisement names its VLAN, whether it comes in, of which the
// kernel takes the tag off, or goes out.
func TestMonitorVLAN(t *testing.T) {
	t.Parallel()
	w := watch(t, newPair(t, [2]peer{keepalivedPeer, keepalivedPeer}, []virtualRouter{newRouter("VI_1", 51, 3, "", false, false, [2]uint8{120, 110})}))
	for i, host := range []*lab.Host{w.nodes[0].host, w.host} {
		adv := vrrp.Advertisement{
			Source: netip.AddrFrom4([4]byte{192, 168, 40, byte(i + 1)}), Destination: netip.MustParseAddr("224.0.0.18"),
			Version: 3, VRID: 60, Priority: 100, Interval: time.Second, Addresses: []netip.Addr{netip.MustParseAddr("192.168.40.60")},
		}
		message, err := adv.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		head := []byte{1, 0, 0x5e, 0, 0, 0x12, 2, 0, 0, 0, 0x40, byte(i), 0x81, 0, 0, 10, 8, 0}
		ip := []byte{0x45, 0xc0, 0, byte(20 + len(message)), 0, 1, 0, 0, 255, 112, 0, 0, 192, 168, 40, byte(i + 1), 224, 0, 0, 18}
		sendFrame(t, host, append(append(head, ip...), message...))
		lab.Eventually(t, 10*time.Second, "the VLAN", func() error {
			return w.find(func(h *heard) bool {
				return h.Advertisement.Source == adv.Source && h.VRID == 60 && h.Link == "eth0.10"
			})
		})
	}
}
