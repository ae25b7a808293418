//go:build !linux

package lb

import (
	"context"
	"net"
)

// serveListener serves the connections of ln until ctx ends.
func (p *tcpPlane) serveListener(ctx, work context.Context, ln net.Listener) error {
	return p.acceptConns(ctx, work, ln)
}
