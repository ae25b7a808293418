//go:build !linux

package lb

import (
	"context"
	"errors"
	"net"
)

// Serve needs Linux.
func (u *UDP) Serve(_ context.Context, conn *net.UDPConn) error {
	conn.Close()
	return errors.Join(errors.New("lb: UDP: only Linux is supported"), u.Validate())
}

// growBuffers makes room for bursts, within the system's limits.
func growBuffers(conn *net.UDPConn, size int) {
	_ = conn.SetReadBuffer(size)
	_ = conn.SetWriteBuffer(size)
}
