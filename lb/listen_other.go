//go:build !linux

package lb

import (
	"net"
	"syscall"
)

// listenControl: only Linux lets a socket bind to an address of another host.
func listenControl(_, _ string, _ syscall.RawConn) error { return nil }

// growBuffers makes room for bursts, within the system's limits.
func growBuffers(conn *net.UDPConn, size int) {
	_ = conn.SetReadBuffer(size)
	_ = conn.SetWriteBuffer(size)
}
