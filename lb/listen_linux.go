package lb

import (
	"errors"
	"net"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/lb/internal/reactor"
)

// listenControl prepares a listening socket before it is bound. Whoever connects before a
// plane serves the listener gets what all clients get.
func listenControl(network, _ string, c syscall.RawConn) error {
	if strings.HasPrefix(network, "tcp") {
		_ = c.Control(func(fd uintptr) { prepareListener(int32(fd)) })
	}
	level, option := unix.SOL_IP, unix.IP_FREEBIND
	switch {
	case strings.HasSuffix(network, "6"):
		level, option = unix.SOL_IPV6, unix.IPV6_FREEBIND
	case !strings.HasSuffix(network, "4"):
		return nil // not IP
	}
	var err error
	_ = c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, option, 1) })
	return err
}

// prepareListener sets what accepted sockets inherit.
func prepareListener(fd int32) {
	reactor.NoDelay(fd)
	reactor.KeepUrgent(fd)
}

// growBuffers makes room for what comes while the loop is busy, beyond the limits for
// ordinary users if it may.
func growBuffers(conn *net.UDPConn, size int) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		for force, option := range map[int]int{unix.SO_RCVBUFFORCE: unix.SO_RCVBUF, unix.SO_SNDBUFFORCE: unix.SO_SNDBUF} {
			if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, force, size) != nil {
				_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, option, size)
			}
		}
	})
}

// hasPending reports whether a connection waits to be accepted.
func hasPending(ln net.Listener) bool {
	raw, err := rawConn(ln)
	if err != nil {
		return false
	}
	n := 0
	_ = raw.Control(func(fd uintptr) {
		n, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	})
	return n > 0
}

// rawConn returns what is below a connection or listener of the net package.
func rawConn(c any) (syscall.RawConn, error) {
	if c, ok := c.(syscall.Conn); ok {
		return c.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}
