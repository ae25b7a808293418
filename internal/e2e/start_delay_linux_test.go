package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
)

// TestStartDelayUptime: a daemon that is started again on a host that has long
// been up waits for nothing, if it is told so.
func TestStartDelayUptime(t *testing.T) {
	t.Parallel()
	h := lab.New(t).MustHost("lb01", "192.168.31.240/24")
	file := filepath.Join(t.TempDir(), "havip.yaml")
	text := fmt.Sprintf(`vrrp:
  - {name: VI_1, interface: eth0, vrid: 51, interval: 100ms, start_delay: 1000s, start_delay_uptime: 1s, addresses: [%v/24]}
  - {name: VI_2, interface: eth0, vrid: 52, interval: 100ms, start_delay: 1000s, addresses: [192.168.31.251/24]}
`, vip)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := h.Command(havip(t), "run", "-c", file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lab.Until(t, 30*time.Second, "VI_1 has its address", func() bool { return h.Holds(vip) })
	lab.Until(t, 30*time.Second, "it says why", func() bool {
		return strings.Contains(cmd.Output(), `msg="no start delay: the host was not booted just now" router=VI_1 uptime=`)
	})
	if h.Holds(netip.MustParseAddr("192.168.31.251")) {
		t.Error("VI_2 does not wait")
	}
	if err := cmd.Stop(10 * time.Second); err != nil {
		t.Error(err)
	}
}
