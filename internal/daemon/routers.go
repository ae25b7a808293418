package daemon

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/vip"
	"github.com/havip/havip/vip/failover"
	"github.com/havip/havip/vip/guard"
	"github.com/havip/havip/vrrp"
)

// router is one virtual router with the addresses that it moves.
type router struct {
	cfg   config.Router
	group string        // its name; empty: none
	up    time.Duration // for how long the host was, when this was made
	conn  *vrrp.Conn
	ns    *vip.Namespace
	guard *guard.Guard
	log   *slog.Logger

	// Set when the router begins.
	members *vrrp.Group
	teller  *teller
	node    *failover.Node
	tracker *tracker
	task    *task
}

// failover is the configuration that the router's Node has for cfg.
func (r *router) failover(cfg config.Router) failover.Config {
	fc := failover.Config{VRRP: vrrpConfig(cfg), VIP: vipConfig(cfg), Conn: r.conn, Guard: r.guard, OnRetry: r.cannotRun, Logger: r.log}
	if fc.VRRP.Addresses == nil {
		fc.VRRP.Addresses = []netip.Addr{} // excluded addresses are not listed
	}
	fc.VRRP.Group, fc.VRRP.StartDelay = r.members, startDelay(cfg, r.up)
	fc.VIP.Namespace = r.ns
	if r.teller != nil {
		fc.VRRP.OnTransition = r.teller.transition
	}
	return fc
}

// check reports what would keep the router out of the election with cfg now, but for
// checks.
func (r *router) check(cfg config.Router) error { return failover.Check(r.failover(cfg)) }

// serves reports whether the router takes part in the election: a change must not end
// that.
func (r *router) serves() bool {
	// What the interface has to say may not have been heard yet.
	return r != nil && r.conn.Check(vrrpConfig(r.cfg)) == nil && r.node.Router().Status().State != vrrp.Initialize
}

// connect makes the router's Node, which is a member of the group from then on. The
// teller hears of its transitions.
func (r *router) connect(members *vrrp.Group, teller *teller) (err error) {
	r.members, r.teller = members, teller
	if startDelay(r.cfg, r.up) < r.cfg.StartDelay {
		r.log.Info("no start delay: the host was not booted just now", "router", r.cfg.Name, "uptime", r.up.Round(time.Second))
	}
	r.node, err = failover.New(r.failover(r.cfg))
	return err
}

// cannotRun hears that the router does not take part in the election for now.
func (r *router) cannotRun(err error, _ time.Duration) { r.teller.cannotRun(err) }

// stop hands over if need be.
func (r *router) stop() { r.stopFor(nil) }

// stopFor is stop with a reason, of which the last transition tells.
func (r *router) stopFor(why error) {
	r.tracker.stop()
	r.task.stopFor(why)
}

// moveTime bounds a change of the addresses that are held.
const moveTime = 10 * time.Second

// follow goes on as cfg, or leaves everything as it is.
func (r *router) follow(cfg failover.Config) error {
	ctx, cancel := context.WithTimeout(context.Background(), moveTime)
	defer cancel()
	return r.node.Reconfigure(ctx, cfg)
}

// connKey names a Conn: routers on one interface and of one family share it.
type connKey struct {
	iface string
	ipv6  bool
}

func keyOf(c config.Router) connKey {
	return connKey{c.Interface, c.IPv6()}
}
