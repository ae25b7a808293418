//go:build !linux

package lb

import (
	"context"
	"errors"
	"net"
)

// serve needs Linux.
func (u *UDP) serve(context.Context, *net.UDPConn) error { return errors.ErrUnsupported }

// growBuffers makes room for bursts, within the system's limits.
func growBuffers(conn *net.UDPConn, size int) {
	_ = conn.SetReadBuffer(size)
	_ = conn.SetWriteBuffer(size)
}
