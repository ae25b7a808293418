//go:build !linux

package lb

import (
	"context"
	"errors"
	"net"
	"syscall"
)

// listenControl: only Linux lets a socket bind to an address of another host.
func listenControl(_, _ string, _ syscall.RawConn) error { return nil }

// Only Linux has descriptors reserved.
func noteAccepted(net.Conn, error)       {}
func crowdedError() error                { return nil }
func leaveReserve(syscall.RawConn) error { return nil }

// growBuffers makes room for bursts, within the system's limits.
func growBuffers(conn *net.UDPConn, size int) {
	_ = conn.SetReadBuffer(size)
	_ = conn.SetWriteBuffer(size)
}

// acknowledge: only Linux lets a program decide when to acknowledge.
func acknowledge(syscall.RawConn) {}

// hasPending reports whether a connection waits to be accepted. Nobody knows.
func hasPending(net.Listener) bool { return false }

// peerState reports whether the peer of a connection has sent its end, whether the
// connection is broken, and how many bytes have come that nobody has read. Nobody knows.
func peerState(any) (ended, broken bool, unread int) { return false, false, 0 }

// isReadable reports whether a read of a connection would not wait. Nobody knows.
func isReadable(any) bool { return false }

// sendAtOnce sends a byte if that needs no waiting. Nobody needs it where peerState does
// not know.
func sendAtOnce(any, byte) (sent bool) { return false }

// serveListener serves the connections of ln until ctx ends.
func (t *TCP) serveListener(ctx, work context.Context, ln net.Listener) error {
	return t.acceptConns(ctx, work, ln)
}

// serveListener serves the connections of ln until ctx ends.
func (p *HTTP) serveListener(ctx, work context.Context, ln net.Listener) error {
	return p.acceptConns(ctx, work, ln)
}

// serveSocket needs Linux.
func (u *UDP) serveSocket(context.Context, *net.UDPConn) error { return errors.ErrUnsupported }
