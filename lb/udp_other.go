//go:build !linux

package lb

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
)

// serveUDP needs Linux.
func serveUDP(context.Context, *net.UDPConn, *atomic.Pointer[udpSettings], *counters) error {
	return errors.ErrUnsupported
}
