package node

import (
	"context"

	"github.com/havip/havip/internal/config"
)

// serveAdmin has people and programs ask and steer the node, until ctx ends.
func (n *Node) serveAdmin(ctx context.Context) {
	_ = n.admin.Run(ctx) // which never fails: what it cannot listen on is logged and tried again
}

// followAdmin goes on with the admin section of a configuration that is in force.
func (n *Node) followAdmin(cfg config.Admin) {
	n.daemon.KeepState(cfg.StateFolder())
	n.admin.Reconfigure(cfg)
}
