package daemon

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/vip"
	"github.com/havip/havip/vip/guard"
	"github.com/havip/havip/vrrp"
)

// ErrStopped is what Reconfigure returns once Run is about to end.
var ErrStopped = errors.New("daemon: stopping")

// Reconfigure goes on with another configuration and touches only what differs: a
// router, a check or a service that is the same keeps its addresses, its state
// and its connections. A router changes in place, too: it keeps its state, and
// those of its addresses that stay. Only with another name, group, interface,
// VRID, version, virtual MAC, accept or family of addresses, and from or to
// priority 255 or authentication ah, does it hand over to a peer, if it is Active,
// and takes part again as what it is now. A service keeps its connections if it
// keeps its listen address, and what is known of its backends stays in any case.
//
// Everything new is opened before anything is touched, in the network namespace
// of the calling thread: on error all goes on as before. Only what cannot be
// opened while its predecessor lives, a port or an address that one part takes
// over from another, may fail later; the error then says what is missing. That the
// interface or the address of a router is not there is an error if the router could
// serve until now, and a fault of the router otherwise.
//
// Reconfigure waits until Run has begun.
func (d *Daemon) Reconfigure(cfg *config.Config) error {
	<-d.started
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failed == nil {
		return ErrStopped
	}
	c, err := d.prepare(cfg, false)
	if err != nil {
		return fmt.Errorf("nothing changed: %w", err)
	}
	d.logChange(c)
	err = d.apply(c)
	if err := d.ReopenLogs(); err != nil { // the change is in force all the same
		d.log.Error("access logs are not all opened anew", "err", err)
	}
	return err
}

// change is the way to another configuration: the fate of each part, and what was
// opened for it.
type change struct {
	cfg    *config.Config
	first  bool    // there was no configuration before
	faults []error // what of the first configuration cannot begin yet, but for routers

	ns    *vip.Namespace
	guard *guard.Guard
	conns map[connKey]*vrrp.Conn // those that were opened

	checks    []step[*check, *checkPlan]
	routers   []step[*router, *routerPlan]
	groups    []step[*group, config.Group]
	notifiers []step[*notifier, notifyConfig]
	services  []step[*service, *servicePlan]
	undo      []func()
}

// prepare compares cfg with what runs, and opens what cfg needs and the daemon
// does not have. On error nothing stays open.
func (d *Daemon) prepare(cfg *config.Config, first bool) (*change, error) {
	c := &change{
		cfg: cfg, first: first, ns: d.ns, guard: d.guard, conns: map[connKey]*vrrp.Conn{},
	}
	for _, prepare := range []func(*change) error{d.prepareChecks, d.prepareServices, d.prepareGroups, d.prepareRouters} {
		if err := prepare(c); err != nil {
			c.abandon()
			return nil, err
		}
	}
	return c, nil
}

// cannot takes in why a part cannot begin for now, and returns what that means for
// the change: nothing if it is the first change, as the part is tried again.
func (c *change) cannot(err error) error {
	if err == nil || !c.first {
		return err
	}
	c.faults = append(c.faults, err)
	return nil
}

// located returns an error with the place and the name of what it is about; nil stays nil.
func located(at config.Position, what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%v: %s: %w", at, what, err)
}

// abandon closes what was opened, the last first.
func (c *change) abandon() {
	for _, undo := range slices.Backward(c.undo) {
		undo()
	}
}

// apply carries the change out. d.mu is held. The order matters: routers that end
// let go of their addresses before other routers need them, checks are there
// before routers follow them, and old checks end when no router follows them.
func (d *Daemon) apply(c *change) error {
	d.endRouters(c)
	errs := []error{d.applyServices(c)}
	endChecks := d.applyChecks(c)
	d.ns, d.guard = c.ns, c.guard
	maps.Copy(d.conns, c.conns)
	d.applyGroups(c)
	errs = append(errs, d.updateRouters(c), d.startRouters(c))
	d.steering.retain(c.cfg)
	together(endChecks)
	d.closeConns()
	before := d.cfg
	d.cfg = c.cfg
	d.publish()
	sayUnready(d.log, before, c.cfg) // last: to look up a user may take its time
	return errors.Join(errs...)
}

// prepareChecks makes the monitors of checks that are new or have changed. A monitor
// begins with what the monitor before has found.
func (d *Daemon) prepareChecks(c *change) error {
	var plans []*checkPlan
	for _, cfg := range c.cfg.Checks {
		plans = append(plans, &checkPlan{name: cfg.Name, cfg: cfg})
	}
	c.checks = diff(d.checks, plans, func(p *checkPlan) string { return p.name }, func(old *check, next *checkPlan) fate {
		return keepIf(old.cfg.Equal(&next.cfg), replace)
	})
	for _, s := range c.checks {
		if !s.begins() {
			continue
		}
		p := s.cfg
		err := c.cannot(located(p.cfg.Pos, "check "+s.key, checkFiles(&p.cfg)))
		if err != nil {
			return err
		}
		if p.monitor, err = newMonitor(p.cfg, s.key, "", "", s.old.state(), d.log); err != nil {
			return located(p.cfg.Pos, "check "+s.key, err)
		}
	}
	return nil
}

// applyChecks starts the new checks, and returns what ends the old checks: call
// that when no router follows them any more.
func (d *Daemon) applyChecks(c *change) (ends []func()) {
	begin := func(p *checkPlan) *check {
		d.steering.beginCheck(p.name, p.monitor)
		next := newCheck(p, nil, d.failed)
		next.counts = d.totals.checks.open(p.name, func() checkCounts { return checkCountsOf(p.monitor.Status()) })
		return next
	}
	d.checks = carryOut(c.checks, begin, nil, func(old *check) {
		d.steering.endCheck(old.name, old.monitor)
		ends = append(ends, old.stop)
	})
	return ends
}

// prepareGroups finds out whether the FIFOs that are new can be opened.
func (d *Daemon) prepareGroups(c *change) error {
	c.groups = diff(d.groups, c.cfg.Groups, func(g config.Group) string { return g.Name }, func(old *group, next config.Group) fate {
		return keepIf(old.cfg.Equal(next), update)
	})
	c.notifiers = diff(d.notifiers, notifyConfigs(c.cfg), notifyConfig.key, func(old *notifier, next notifyConfig) fate {
		return keepIf(old.meets(next), update)
	})
	return prepareFIFOs(c, d.cfg)
}

// applyGroups carries the change of groups and notifiers out. A notifier that ends
// still tells what waits, which may take seconds: nothing waits for that.
func (d *Daemon) applyGroups(c *change) {
	d.groups = carryOut(c.groups, newGroup, (*group).reconfigure, func(*group) {})
	d.notifiers = carryOut(c.notifiers, func(cfg notifyConfig) *notifier { return newNotifier(cfg, d.log) },
		(*notifier).reconfigure, func(old *notifier) { d.leaving.Go(old.stop) })
}

// logChange says what a change is about, before anything of it is done.
func (d *Daemon) logChange(c *change) {
	d.log.Info("reloading", "changes", c.String())
	d.logRouters(c)
	d.logFates(c)
	if c.cfg.Log.Format != d.cfg.Log.Format {
		d.log.Warn("log format: changes with the next start")
	}
}

func (c *change) String() string {
	return fmt.Sprintf("routers %d new or replaced, %d updated; checks %d; services %d, %d gone",
		count(c.routers, add, replace), count(c.routers, update), count(c.checks, add, replace),
		count(c.services, add, replace, update), count(c.services, remove))
}

// logRouters says what becomes of routers that do not stay as they are.
func (d *Daemon) logRouters(c *change) {
	for _, s := range c.routers {
		switch {
		case s.fate == replace && s.cfg.fixed != "":
			d.log.Warn("router starts anew, and hands over if it is active", "router", s.key, "keys", s.cfg.fixed)
		case s.fate == update, s.fate == replace:
			d.log.Info("router changes in place", "router", s.key, "keys", strings.Join(s.old.cfg.Differences(s.cfg.cfg), ", "))
		}
	}
}

// logFates says of each part what a change makes of it, for a reader who looks for
// why something was or was not touched.
func (d *Daemon) logFates(c *change) {
	for _, s := range c.routers {
		d.logFate("router", s.key, s.fate)
	}
	for _, s := range c.checks {
		d.logFate("check", s.key, s.fate)
	}
	for _, s := range c.services {
		if s.fate == remove {
			d.logFate("service", s.old.cfg.Name, s.fate)
		} else {
			d.logFate("service", s.cfg.cfg.Name, s.fate)
		}
	}
}

func (d *Daemon) logFate(kind, name string, f fate) {
	d.log.Debug("reload: "+kind+" "+f.String(), kind, name)
}
