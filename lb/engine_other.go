//go:build !linux

package lb

import (
	"context"
	"net"
)

// accept serves the connections of ln until ctx ends.
func (p *tcpPlane) accept(ctx, work context.Context, ln net.Listener) error {
	return p.acceptLoop(ctx, work, ln)
}
