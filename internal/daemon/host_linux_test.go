package daemon

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/lab"
)

// TestPortWithoutItsCapability: a daemon with some privileges and without that one is
// told which ports it cannot have, and an ordinary user of what root's can.
func TestPortWithoutItsCapability(t *testing.T) {
	lab.NeedRoot(t)
	if first, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start"); err != nil || strings.TrimSpace(string(first)) != "1024" {
		t.Skipf("unprivileged ports start at %s (%v)", first, err)
	}
	with := func(set uint32) (said string) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread() // which is not given back
			hdr, sets := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, [2]unix.CapUserData{}
			sets[0].Effective, sets[0].Permitted = set, set
			if err := unix.Capset(&hdr, &sets[0]); err != nil {
				said = err.Error()
				return
			}
			said = fmt.Sprint(mayListen(80), " ", mayListen(1023), " ", mayListen(1024))
		}()
		<-done
		return said
	}
	needs := "port %d, below 1024, needs CAP_NET_BIND_SERVICE, which this process does not have"
	for set, want := range map[uint32]string{
		1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_BIND_SERVICE: "<nil> <nil> <nil>",
		1 << unix.CAP_NET_ADMIN:                              fmt.Sprintf(needs+" "+needs+" <nil>", 80, 1023),
	} {
		if got := with(set); got != want {
			t.Errorf("with capabilities %#x: %s, want %s", set, got, want)
		}
	}
}
