package lb

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// acknowledge has the kernel acknowledge what has come, and what comes until the next
// write, at once.
func acknowledge(c syscall.RawConn) {
	_ = c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) })
}
