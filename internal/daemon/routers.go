package daemon

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/retry"
	"github.com/havip/havip/vip"
	"github.com/havip/havip/vip/guard"
	"github.com/havip/havip/vrrp"
)

// router is one virtual router with the addresses that it moves.
type router struct {
	cfg     config.Router
	group   string        // its name; empty: none
	up      time.Duration // for how long the host was, when this was made
	members *vrrp.Group
	conn    *vrrp.Conn
	router  *vrrp.Router
	manager *vip.Manager
	handler *testament
	teller  *teller
	tracker *tracker
	task    *task
	log     *slog.Logger

	// reserved says that this process alone runs the router, from then on.
	reserved atomic.Bool
}

func newRouter(cfg config.Router, group string, conn *vrrp.Conn, log *slog.Logger) *router {
	r := &router{cfg: cfg, group: group, up: uptime(), conn: conn, log: log}
	r.handler = &testament{name: cfg.Name, log: log.With("router", cfg.Name)}
	return r
}

// vipConfig is the Manager's, with what it calls.
func (r *router) vipConfig(cfg config.Router) vip.Config {
	vc := vipConfig(cfg)
	vc.OnRemovals = r.handler.remove
	vc.Entitled = func() bool { return r.router.Entitled() }
	return vc
}

// open makes what keeps the addresses, and touches none yet.
func (r *router) open(ns *vip.Namespace) error {
	vc := r.vipConfig(r.cfg)
	vc.Namespace, vc.Logger = ns, r.log
	m, err := vip.NewManager(vc)
	if err == nil {
		r.manager = m
	}
	return err
}

// check reports what would keep the router out of the election now, but for checks.
// It is to be called before connect.
func (r *router) check() error {
	if err := r.conn.Check(vrrpConfig(r.cfg)); err != nil {
		return err
	}
	return r.manager.Check()
}

// serves reports whether the router takes part in the election: a change must not end
// that.
func (r *router) serves() bool {
	// What the interface has to say may not have been heard yet.
	return r != nil && r.conn.Check(vrrpConfig(r.cfg)) == nil && r.router.Status().State != vrrp.Initialize
}

// connect makes the virtual router itself.
func (r *router) connect(ns *vip.Namespace, g *guard.Guard, group *vrrp.Group, report func(vrrp.Transition)) error {
	vc := vrrpConfig(r.cfg)
	r.members = group
	if vc.StartDelay = startDelay(r.cfg, r.up); vc.StartDelay < r.cfg.StartDelay {
		r.log.Info("no start delay: the host was not booted just now", "router", r.cfg.Name, "uptime", r.up.Round(time.Second))
	}
	vc.Group, vc.OnTransition, vc.Logger = group, report, r.log
	var err error
	if r.router, err = vrrp.NewRouter(vc, r.conn, r.handler); err != nil {
		r.manager.Close()
	}
	r.handler.Handler, r.handler.guard, r.handler.router = r.manager, g, r.router
	return err
}

// run ends with ctx: first the protocol, which releases the addresses, then
// what kept them. A router that its interface cannot carry, for now, is tried
// again: the others are not to suffer.
//
// Before all, no other process may run this router: what keeps the addresses begins
// by taking off those that it finds.
func (r *router) run(ctx context.Context) error {
	failed := func(err error, pause time.Duration) {
		r.teller.cannotRun(err)
		r.log.Error("router does not run", "router", r.cfg.Name, "err", err, "retry", pause)
	}
	var release func()
	retry.Until(ctx, func(ctx context.Context) (err error) {
		release, err = r.router.Reserve(ctx)
		return err
	}, failed)
	if release == nil {
		r.manager.Close()
		return r.router.Run(ctx) // which has ended
	}
	defer release()
	r.reserved.Store(true)
	manager := start(r.keep, nil)
	defer manager.stop()
	retry.Until(ctx, r.router.Run, failed)
	return nil
}

// keep keeps the addresses where they belong until ctx ends. What may be left
// then stays in the will.
func (r *router) keep(ctx context.Context) error {
	if err := r.manager.Run(ctx); err != nil {
		r.log.Error("addresses may be left behind", "router", r.cfg.Name, "err", err)
		return nil
	}
	r.handler.end()
	return nil
}

// stop hands over if need be.
func (r *router) stop() { r.stopFor(nil) }

// stopFor is stop with a reason, of which the last transition tells.
func (r *router) stopFor(why error) {
	r.tracker.stop()
	r.task.stopFor(why)
}

// connKey names a Conn: routers on one interface and of one family share it.
type connKey struct {
	iface string
	ipv6  bool
}

func keyOf(c config.Router) connKey {
	return connKey{c.Interface, c.IPv6()}
}
