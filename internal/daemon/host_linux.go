package daemon

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mayListen reports that only the privileged may listen on a port (ip(7)), if this
// process has some privileges but not that privilege.
func mayListen(port uint16) error {
	first := uint64(1024)
	if data, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start"); err == nil {
		first, _ = strconv.ParseUint(strings.TrimSpace(string(data)), 10, 32)
	}
	hdr, sets := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, [2]unix.CapUserData{}
	if uint64(port) >= first || unix.Capget(&hdr, &sets[0]) != nil {
		return nil
	}
	has := sets[0].Effective | sets[0].Permitted
	if has == 0 && os.Geteuid() != 0 || has&(1<<unix.CAP_NET_BIND_SERVICE) != 0 {
		return nil
	}
	return fmt.Errorf("port %d, below %d, needs CAP_NET_BIND_SERVICE, which this process does not have", port, first)
}
