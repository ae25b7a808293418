//go:build !linux

package lb

import (
	"context"
	"net"
)

// accept serves the connections of ln until ctx ends.
func (t *TCP) accept(ctx, work context.Context, ln net.Listener) error {
	return t.acceptLoop(ctx, work, ln)
}
