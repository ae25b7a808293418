package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
)

// TestFloodOfClientsStopsNoChecks: clients take as many descriptors as they can get, and
// stay. Health checks go on, and so the router keeps its addresses, which a check that
// finds no descriptor would cost it.
func TestFloodOfClientsStopsNoChecks(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	h, app, client := l.MustHost("lb01", "192.168.31.240/24"), l.MustHost("app", "192.168.31.242/24"), l.MustHost("client", "192.168.31.10/24")
	labtest.Serve(t, mustListen(t, app, ":7000"), labtest.EchoLines("app"))
	var probes atomic.Int64
	labtest.Serve(t, mustListen(t, app, ":7001"), func(net.Conn) { probes.Add(1) })
	const files = 256
	limited := filepath.Join(t.TempDir(), "havip")
	script := fmt.Sprintf("#!/bin/sh\nulimit -n %d\nexec %s \"$@\"\n", files, havip(t))
	if err := os.WriteFile(limited, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	r := startProgram(t, limited, h, `checks:
  app: {type: tcp, address: "192.168.31.242:7001", interval: 400ms, fall: 4}
vrrp:
  - {name: VI_1, interface: eth0, vrid: 51, interval: 200ms, addresses: [192.168.31.250/24], track: [{check: app}]}
services:
  - {name: db, listen: ":7000", mode: tcp, backends: ["192.168.31.242:7000"]}
`)
	holds := func() bool {
		addrs, err := h.Addrs()
		return err == nil && strings.Contains(fmt.Sprint(addrs), "192.168.31.250/")
	}
	lab.Until(t, 30*time.Second, "the router is Active", holds)
	for range files {
		c, err := client.DialContext(t.Context(), "tcp", "192.168.31.250:7000")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
	lab.Until(t, 30*time.Second, "clients have what they can get", func() bool {
		open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.cmd.Pid()))
		return err == nil && len(open) >= files-2*files/8-2
	})
	before := probes.Load()
	lab.Until(t, 30*time.Second, "more checks than a router waits for", func() bool { return probes.Load() >= before+6 })
	if !holds() || strings.Contains(r.cmd.Output(), "check is down") {
		t.Errorf("the flood cost the router its check or its address:\n%s", r.cmd.Output())
	}
}
