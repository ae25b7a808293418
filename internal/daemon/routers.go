package daemon

import (
	"context"
	"errors"
	"fmt"
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
	routerParts
	cfg      config.Router
	group    string      // its name; empty: none
	members  *vrrp.Group // of the group; nil: none
	node     *failover.Node
	teller   *teller
	tracker  *tracker
	steering *steering
	task     *task
	counts   *entry[routerCounts]
}

// routerParts is what the Node of a router is made of, whatever its configuration.
type routerParts struct {
	up    time.Duration // for how long the host was, when the parts were opened
	conn  *vrrp.Conn
	ns    *vip.Namespace
	guard *guard.Guard
	log   *slog.Logger
}

// failover is the configuration of a Node for cfg.
func (p routerParts) failover(cfg config.Router, members *vrrp.Group) failover.Config {
	fc := failover.Config{VRRP: cfg.VRRPConfig(), VIP: cfg.VIPConfig(), Conn: p.conn, Guard: p.guard, Logger: p.log}
	if fc.VRRP.Addresses == nil {
		fc.VRRP.Addresses = []netip.Addr{} // excluded addresses are not listed
	}
	fc.VRRP.Group, fc.VRRP.StartDelay = members, startDelay(cfg, p.up)
	fc.VIP.Namespace = p.ns
	return fc
}

// newNode makes the Node of a router, which is a member of its group from then on.
// The teller hears what becomes of the Node.
func newNode(p *routerPlan, members *vrrp.Group, teller *teller) (*failover.Node, error) {
	fc := p.parts.failover(p.cfg, members)
	if fc.VRRP.StartDelay < p.cfg.StartDelay {
		p.parts.log.Info("no start delay: the host was not booted just now", "router", p.cfg.Name, "uptime", p.parts.up.Round(time.Second))
	}
	fc.VRRP.OnTransition = teller.tellTransition
	fc.OnRetry = func(err error, _ time.Duration) { teller.tellCannotRun(err) }
	return failover.New(fc)
}

// newRouter starts a router, to which everything applies that commands have said.
func (d *Daemon) newRouter(p *routerPlan, members *vrrp.Group, node *failover.Node, teller *teller, tracker *tracker) *router {
	d.steering.beginRouter(p.cfg, node.Router(), tracker)
	return &router{
		routerParts: p.parts, cfg: p.cfg, group: p.group, members: members,
		node: node, teller: teller, tracker: tracker, steering: d.steering, task: startTask(node.Run, d.failed),
		counts: d.totals.routers.open(p.cfg.Name, func() routerCounts {
			return routerCounts{node.Router().Status().Counters, node.Manager().Status()}
		}),
	}
}

// serves reports whether the router takes part in the election, which a change must
// not end.
func (r *router) serves() bool {
	// The router may not have heard yet that its interface is gone.
	return r != nil && r.conn.Check(r.cfg.VRRPConfig()) == nil && r.node.Router().Status().State != vrrp.Initialize
}

// stop ends the router. A peer takes over if the router was Active.
func (r *router) stop() { r.stopFor(nil) }

// stopFor is stop with a reason, of which the last transition tells.
func (r *router) stopFor(why error) {
	r.tracker.stop()
	r.task.stopFor(why)
	r.counts.close()
}

// moveTime bounds a change of the addresses that a router holds.
const moveTime = 10 * time.Second

// shedAddresses lets go of the addresses that move to another router.
// Advertisements list them until reconfigure.
func (r *router) shedAddresses(next config.Router, all []config.Router) error {
	rest, _ := shedding(r.cfg, next, all)
	if rest.Equal(r.cfg) {
		return nil
	}
	fc := r.failover(r.cfg, r.members)
	fc.VIP = r.failover(rest, r.members).VIP
	return r.reconfigureNode(fc, rest)
}

// reconfigure goes on with another configuration in place, as far as fixedKeys
// allows. Should the new addresses or routes be impossible, those of before stay, and
// everything else of cfg counts all the same.
func (r *router) reconfigure(cfg config.Router, checks map[string]*check) error {
	next := func(cfg config.Router) error { return r.reconfigureNode(r.failover(cfg, r.members), cfg) }
	err := next(cfg)
	if err != nil {
		kept := cfg
		kept.Addresses, kept.Excluded, kept.Routes = r.cfg.Addresses, r.cfg.Excluded, r.cfg.Routes
		if again := next(kept); again != nil {
			// The tracker must follow the checks of cfg: those of before may be gone.
			r.cfg.Track = cfg.Track
			err = errors.Join(err, again)
		}
		err = fmt.Errorf("%v: %s goes on with the addresses and routes of before: %w", cfg.Pos, cfg.Name, err)
	}
	r.steering.reconfigureTracker(r.tracker, r.cfg, checks) // last: checks have their say in the priority
	return err
}

// reconfigureNode goes on as fc, which is made of cfg, or leaves everything as it is.
func (r *router) reconfigureNode(fc failover.Config, cfg config.Router) error {
	ctx, cancel := context.WithTimeout(context.Background(), moveTime)
	defer cancel()
	err := r.node.Reconfigure(ctx, fc)
	if err == nil {
		r.cfg = cfg
	}
	return err
}

// connKey names a Conn: routers on one interface and of one family share it.
type connKey struct {
	iface string
	ipv6  bool
}

// startDelay is the time that a router has to wait which starts when the host has been
// up for so long.
func startDelay(c config.Router, up time.Duration) time.Duration {
	if c.StartDelayUptime > 0 && up >= c.StartDelayUptime {
		return 0
	}
	return c.StartDelay
}
