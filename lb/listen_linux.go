package lb

import (
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// listenControl prepares a listening socket before it is bound.
func listenControl(network, _ string, c syscall.RawConn) error {
	var err error
	set := func(level, option int) {
		if err == nil {
			_ = c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, option, 1) })
		}
	}
	switch {
	case strings.HasSuffix(network, "4"):
		set(unix.SOL_IP, unix.IP_FREEBIND)
	case strings.HasSuffix(network, "6"):
		set(unix.SOL_IPV6, unix.IPV6_FREEBIND)
	}
	return err
}
