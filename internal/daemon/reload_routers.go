package daemon

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/vip"
	"github.com/havip/havip/vip/failover"
	"github.com/havip/havip/vip/guard"
	"github.com/havip/havip/vrrp"
)

// routerPlan is a router's configuration, and what was opened for it before
// anything is touched.
type routerPlan struct {
	cfg   config.Router
	group string      // its name; empty: none
	fixed string      // the keys for which another router has to take the place of the router; empty: none
	parts routerParts // of a router that begins
}

// routerPlans are those of a configuration, without what has to be opened.
func routerPlans(cfg *config.Config) (plans []*routerPlan) {
	for _, r := range cfg.VRRP {
		p := &routerPlan{cfg: r}
		for _, g := range cfg.Groups {
			if slices.Contains(g.Routers, r.Name) {
				p.group = g.Name
			}
		}
		plans = append(plans, p)
	}
	return plans
}

// prepareRouters finds out what becomes of each router, and opens what routers
// need. A router that goes on is not touched.
func (d *Daemon) prepareRouters(c *change) error {
	if err := d.openNamespace(c); err != nil {
		return err
	}
	judge := func(old *router, next *routerPlan) fate {
		return judgeRouter(runningRouter{old.cfg, old.group, old.node.Reserved()}, next, c.cfg.VRRP)
	}
	c.routers = diff(d.routers, routerPlans(c.cfg), func(p *routerPlan) string { return p.cfg.Name }, judge)
	for _, s := range c.routers {
		if s.fate == keep || s.fate == remove {
			continue
		}
		if err := located(s.cfg.cfg.Pos, s.key, d.prepareRouter(c, s)); err != nil {
			return err
		}
	}
	return nil
}

// openNamespace opens what all routers share, before the first router.
func (d *Daemon) openNamespace(c *change) error {
	if c.ns != nil || len(c.cfg.VRRP) == 0 {
		return nil
	}
	ns, err := vip.OpenNamespace(d.log)
	if err != nil {
		return err
	}
	c.undo = append(c.undo, func() { ns.Close() })
	g, err := guard.Start(guard.Config{Logger: d.log, Form: guardForm(c.cfg.Log)})
	if err != nil {
		return err
	}
	c.undo = append(c.undo, func() { g.Close() })
	c.ns, c.guard = ns, g
	return nil
}

// runningRouter is what a router is, as far as that decides what a reload makes of it.
type runningRouter struct {
	cfg      config.Router
	group    string // its name; empty: none
	reserved bool   // see failover.Node.Reserved
}

// judgeRouter says whether a router can go on as next, beside all routers of the
// next configuration.
func judgeRouter(old runningRouter, next *routerPlan, all []config.Router) fate {
	keys := fixedKeys(old.cfg, next.cfg)
	if old.group != next.group {
		keys = append(keys, "groups")
	}
	// A router that loses all its addresses to other routers cannot advertise until it
	// has its next ones: it ends, and begins with those.
	if _, ok := shedding(old.cfg, next.cfg, all); !ok && len(keys) == 0 {
		keys = append(keys, "addresses")
	}
	next.fixed = strings.Join(keys, ", ")
	switch {
	case len(keys) > 0:
		return replace
	case old.cfg.Equal(next.cfg):
		return keep
	case !old.reserved: // what keeps its addresses must not touch any yet
		return replace
	}
	return update
}

// prepareRouter opens what a router needs that begins, and finds out whether a router
// that serves can go on serving.
func (d *Daemon) prepareRouter(c *change, s step[*router, *routerPlan]) error {
	p := s.cfg
	var fc failover.Config
	if s.begins() {
		conn, err := d.openConn(c, connKey{p.cfg.Interface, p.cfg.IPv6()})
		if err != nil {
			return err
		}
		p.parts = routerParts{up: uptime(), conn: conn, ns: c.ns, guard: c.guard, log: d.log}
		fc = p.parts.failover(p.cfg, nil)
	} else {
		fc = s.old.failover(p.cfg, s.old.members)
	}
	// Validate looks at the configuration alone. What the machine lacks is an error only
	// if a router that serves would be lost by it: any other router waits for the
	// interface, with a fault.
	if err := fc.Validate(); err != nil || !s.old.serves() {
		return err
	}
	err := failover.Check(fc)
	if errors.Is(err, vip.ErrInUse) && (s.begins() || d.movesHere(c, p.cfg)) {
		return nil // another router lets go of the address with this change, or it is a fault
	}
	return err
}

// openConn returns the sockets of key: those in use, or else new ones.
func (d *Daemon) openConn(c *change, key connKey) (*vrrp.Conn, error) {
	for _, conns := range []map[connKey]*vrrp.Conn{d.conns, c.conns} {
		if conn := conns[key]; conn != nil {
			return conn, nil
		}
	}
	conn, err := vrrp.Listen(vrrp.ListenConfig{Interface: key.iface, IPv6: key.ipv6, Virtual: c.ns.Virtual, Logger: d.log})
	if err != nil {
		return nil, err
	}
	c.conns[key] = conn
	c.undo = append(c.undo, func() { conn.Close() })
	return conn, nil
}

// movesHere reports whether a router that ends or changes with this change has
// one of the addresses of cfg now: then it is no stranger's that the address is in use.
func (d *Daemon) movesHere(c *change, cfg config.Router) bool {
	for _, s := range c.routers {
		if s.fate == keep || s.fate == add {
			continue
		}
		if slices.ContainsFunc(cfg.AllAddresses(), func(a vip.Address) bool { return s.old.cfg.Has(a.Prefix.Addr()) }) {
			return true
		}
	}
	return false
}

// routerFaults are the faults that new routers would have now.
func (c *change) routerFaults() (faults []error) {
	for _, s := range c.routers { // the addresses of each are virtual for all others
		if !s.begins() {
			continue
		}
		if m, err := vip.NewManager(s.cfg.parts.failover(s.cfg.cfg, nil).VIP); err == nil {
			defer m.Close()
		}
	}
	for _, s := range c.routers {
		if !s.begins() {
			continue
		}
		if err := failover.Check(s.cfg.parts.failover(s.cfg.cfg, nil)); err != nil {
			faults = append(faults, fmt.Errorf("%v: %s: %s", s.cfg.cfg.Pos, s.key, strings.ReplaceAll(err.Error(), "\n", "; ")))
		}
	}
	return faults
}

// endRouters ends the routers that do not go on, all at the same time, and waits:
// their addresses are free then.
func (d *Daemon) endRouters(c *change) {
	var ends []func()
	for _, s := range c.routers {
		if !s.ends() {
			continue
		}
		why := error(nil)
		if s.fate == replace && s.cfg.fixed != "" {
			why = fmt.Errorf("%w: %s", vrrp.ErrReconfigured, s.cfg.fixed)
		}
		d.steering.endRouter(s.key, s.fate == replace)
		ends = append(ends, func() { s.old.stopFor(why) })
		delete(d.routers, s.key)
	}
	together(ends)
}

// updateRouters lets the routers that stay go on with their next configurations,
// and with checks that have taken the place of others. The routers do so side by
// side: to change addresses may take up to moveTime for each, which must delay no
// other router. Only a router that gets an address waits, until the router that
// has the address has let go of it.
func (d *Daemon) updateRouters(c *change) error {
	type routerUpdate struct {
		*router
		before, next config.Router
		shed         chan struct{} // closed when the addresses that move away have been let go of
		done         chan struct{} // closed when the router has its next configuration
	}
	var updates []routerUpdate
	for _, s := range c.routers {
		switch s.fate {
		case keep:
			s.old.tracker.reconfigure(s.old.cfg, d.checks)
		case update:
			updates = append(updates, routerUpdate{s.old, s.old.cfg, s.cfg.cfg, make(chan struct{}), make(chan struct{})})
		}
	}
	errs := make([]error, len(updates))
	var calls []func()
	for i, u := range updates {
		calls = append(calls, func() {
			// Every router lets go before it waits, and waits for a whole change of
			// routers before it only: no circle of routers, each of which waits for the
			// next, can come about.
			defer close(u.done)
			err := u.router.shedAddresses(u.next, c.cfg.VRRP)
			close(u.shed)
			for j, from := range updates {
				if passes(from.before, from.next, u.next) {
					<-from.shed
				}
				if j < i && paves(from.before, from.next, u.before, u.next) {
					<-from.done
				}
			}
			errs[i] = errors.Join(err, u.reconfigure(u.next, d.checks))
		})
	}
	together(calls)
	return errors.Join(errs...)
}

// passes reports whether a router that goes from before to after lets go of an
// address that the router of next has then.
func passes(before, after, next config.Router) bool {
	return slices.ContainsFunc(next.AllAddresses(), func(a vip.Address) bool {
		return before.Has(a.Prefix.Addr()) && !after.Has(a.Prefix.Addr())
	})
}

// paves reports whether a router that goes from before to after gets an address that
// a new route of another router needs, which goes from was to next.
func paves(before, after, was, next config.Router) bool {
	return slices.ContainsFunc(after.AllAddresses(), func(a vip.Address) bool {
		return !before.Has(a.Prefix.Addr()) && slices.ContainsFunc(next.Routes, func(r vip.Route) bool {
			return !slices.Contains(was.Routes, r) && needsAddress(r, a)
		})
	})
}

// needsAddress reports whether a route needs an address, as far as the two of them tell.
func needsAddress(r vip.Route, a vip.Address) bool {
	return r.Source == a.Prefix.Addr() || r.Gateway.IsValid() && a.Prefix.Masked().Contains(r.Gateway)
}

// startRouters starts the new routers: when all are members of their groups,
// none of which acts before it is complete.
func (d *Daemon) startRouters(c *change) error {
	var errs []error
	var starts []func()
	for _, s := range c.routers {
		if !s.begins() {
			continue
		}
		p := s.cfg
		var members *vrrp.Group
		if g := d.groups[p.group]; g != nil {
			members = g.group
		}
		var node *failover.Node
		teller := d.newTeller(s.key, p.group, func() vrrp.Status { return node.Router().Status() })
		node, err := newNode(p, members, teller)
		if err != nil {
			errs = append(errs, fmt.Errorf("%v: %s does not run: %w", p.cfg.Pos, s.key, err))
			continue
		}
		starts = append(starts, func() {
			tracker := newTracker(node.Router(), p.cfg, d.checks, teller.recheckFaults)
			d.routers[s.key] = d.newRouter(p, members, node, teller, tracker)
		})
	}
	for _, start := range starts { // all Nodes are members of their groups now
		start()
	}
	return errors.Join(errs...)
}

// closeConns closes the sockets that no router uses any more. Routers on one
// interface share them, so no router can close its own.
func (d *Daemon) closeConns() {
	used := map[*vrrp.Conn]bool{}
	for _, r := range d.routers {
		used[r.conn] = true
	}
	for key, conn := range d.conns {
		if !used[conn] {
			conn.Close()
			delete(d.conns, key)
		}
	}
}

// keysOf are the keys of the file behind the fields that Fixed names in packages vrrp
// and vip.
var keysOf = map[string][]string{
	"VRID":        {"vrid"},
	"Version":     {"version"},
	"Priority":    {"priority"},
	"Owner":       {"priority"},
	"Addresses":   {"addresses"},
	"Auth":        {"auth"},
	"Interface":   {"interface"},
	"NoAccept":    {"accept"},
	"VirtualMAC":  {"virtual_mac", "xmit_base", "peers", "vrid", "addresses"},
	"MacvlanName": {"virtual_mac", "macvlan", "vrid", "addresses"},
}

// familyKeys are the keys behind Addresses for routers without addresses.
var familyKeys = []string{"family", "peers", "source"}

// fixedKeys returns the keys in which b differs from a so that no running router can
// go on with b: another router has to take its place. None: reconfigure can.
func fixedKeys(a, b config.Router) []string {
	va, pa := a.VIPConfig(), a.VRRPConfig()
	fields := append(va.Fixed(b.VIPConfig()), pa.Fixed(b.VRRPConfig())...)
	return slices.DeleteFunc(a.Differences(b), func(key string) bool {
		return !slices.ContainsFunc(fields, func(f string) bool {
			keys := keysOf[f]
			if f == "Addresses" && len(a.Addresses)+len(b.Addresses) == 0 {
				keys = familyKeys
			}
			return slices.Contains(keys, key)
		})
	})
}

// shedding is a router's configuration without the addresses that move to another
// router of the next configuration, and without the routes that need such an
// address. ok is false if the router would have no address left to advertise.
func shedding(old, next config.Router, all []config.Router) (rest config.Router, ok bool) {
	moves := func(a vip.Address) bool {
		return !next.Has(a.Prefix.Addr()) && slices.ContainsFunc(all, func(r config.Router) bool { return r.Name != old.Name && r.Has(a.Prefix.Addr()) })
	}
	rest = old
	rest.Addresses = slices.DeleteFunc(slices.Clone(old.Addresses), moves)
	rest.Excluded = slices.DeleteFunc(slices.Clone(old.Excluded), moves)
	rest.Routes = slices.DeleteFunc(slices.Clone(old.Routes), func(r vip.Route) bool {
		return slices.ContainsFunc(old.AllAddresses(), func(a vip.Address) bool { return moves(a) && needsAddress(r, a) })
	})
	return rest, len(rest.Addresses) > 0 || len(old.Addresses) == 0
}
