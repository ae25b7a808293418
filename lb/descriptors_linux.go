package lb

import (
	"net"
	"syscall"

	"github.com/havip/havip/lb/internal/reactor"
)

// Goroutines leave the last descriptors to the rest of the process as the event loops do.

// isLastAccepted reports whether no connection should be accepted after c for now.
func isLastAccepted(c net.Conn) (last bool) {
	if s, ok := c.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { last = reactor.LastAccepted(int32(fd)) })
		}
	}
	return last
}

// isCrowded reports whether the next connection would be one too many.
func isCrowded() bool { return reactor.Crowded() }

// leaveReserve keeps a new socket from being one of the last descriptors.
func leaveReserve(c syscall.RawConn) (err error) {
	cerr := c.Control(func(fd uintptr) {
		if reactor.Reserved(int32(fd)) {
			err = syscall.EMFILE
		}
	})
	if cerr != nil {
		return cerr
	}
	return err
}
