//go:build unix

package inet

import (
	"strings"
	"syscall"
)

// resetOnClose has Close reset a TCP connection.
func resetOnClose(network, _ string, c syscall.RawConn) (err error) {
	if strings.HasPrefix(network, "tcp") {
		cerr := c.Control(func(fd uintptr) {
			err = syscall.SetsockoptLinger(int(fd), syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
		})
		if cerr != nil {
			return cerr
		}
	}
	return err
}
