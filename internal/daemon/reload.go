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

// ErrStopped is what Reload returns once Run is about to end.
var ErrStopped = errors.New("daemon: stopping")

// Reload goes on with another configuration and touches only what differs: a
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
// Reload waits until Run has begun.
func (d *Daemon) Reload(cfg *config.Config) error {
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
	d.log.Info("reloading", "changes", c.String())
	d.announce(c)
	d.explain(c)
	if cfg.Log.Format != d.cfg.Log.Format {
		d.log.Warn("log format: changes with the next start")
	}
	return d.apply(c)
}

// change is the way to another configuration: what was opened for it.
type change struct {
	cfg      *config.Config
	first    bool    // there was none before
	faults   []error // what of the first one cannot begin yet, but for routers
	ns       *vip.Namespace
	guard    *guard.Guard
	conns    map[connKey]*vrrp.Conn
	checks   map[string]*check  // new, or in the place of another
	routers  map[string]*router // the same
	updates  []config.Router    // of routers that go on
	fixed    map[string]string  // by router in the place of another: the keys for which that does not go on
	services []serviceChange    // all, in the order of the file
	gone     []*service         // without a successor
	groupOf  map[string]string  // by router: the group's name
	undo     []func()
}

func (c *change) String() string {
	services := 0
	for _, s := range c.services {
		if s.next != nil {
			services++
		}
	}
	return fmt.Sprintf("routers %d new or replaced, %d updated; checks %d; services %d, %d gone",
		len(c.routers), len(c.updates), len(c.checks), services, len(c.gone))
}

// announce says what becomes of routers that do not stay as they are.
func (d *Daemon) announce(c *change) {
	for _, next := range c.cfg.VRRP {
		old := d.routers[next.Name]
		if old == nil {
			continue
		}
		switch keys := c.fixed[next.Name]; {
		case keys != "":
			d.log.Warn("router starts anew, and hands over if it is active", "router", next.Name, "keys", keys)
		case !old.cfg.Equal(next):
			d.log.Info("router changes in place", "router", next.Name, "keys", strings.Join(old.cfg.Differences(next), ", "))
		}
	}
}

// apply carries the change out. d.mu is held.
func (d *Daemon) apply(c *change) error {
	// Addresses that move from one router to another: the one lets go first.
	var ending []func()
	for name, r := range d.routers {
		keep := slices.ContainsFunc(c.cfg.VRRP, func(r config.Router) bool { return r.Name == name })
		if !keep || c.routers[name] != nil {
			why := error(nil)
			if keys := c.fixed[name]; keys != "" {
				why = fmt.Errorf("%w: %s", vrrp.ErrReconfigured, keys)
			}
			ending = append(ending, func() { r.stopFor(why) })
			delete(d.routers, name)
		}
	}
	together(ending)
	errs := []error{d.applyServices(c)}

	ended := d.applyChecks(c)
	if d.guard == nil && c.guard != nil {
		d.guarding = start(c.guard.Run, d.failed)
	}
	d.ns, d.guard = c.ns, c.guard
	maps.Copy(d.conns, c.conns)
	d.applyGroups(c)
	for _, r := range c.updates {
		errs = append(errs, d.routers[r.Name].shed(r, c.cfg.VRRP))
	}
	for _, r := range c.updates {
		errs = append(errs, d.routers[r.Name].reconfigure(r, d.checks))
	}
	// Checks may have been replaced under a router that did not change.
	for _, r := range d.routers {
		r.tracker.follow(d.checks)
	}
	errs = append(errs, d.startRouters(c))
	together(ended)
	d.closeConns()
	before := d.cfg
	d.cfg = c.cfg
	sayUnready(d.log, before, c.cfg) // last: to look up a user may take its time
	return errors.Join(errs...)
}

// applyGroups makes groups and notifiers what they are to be.
func (d *Daemon) applyGroups(c *change) {
	groups, notifiers := map[string]*group{}, map[string]*notifier{}
	notify := func(kind, name string, cfg notifyConfig) {
		n := d.notifiers[kind+" "+name]
		if n == nil {
			n = newNotifier(kind, name, d.log)
			n.task = start(n.run, d.failed)
		}
		n.configure(cfg)
		notifiers[kind+" "+name] = n
	}
	for _, cfg := range c.cfg.Groups {
		g := d.groups[cfg.Name]
		if g == nil {
			g = newGroup(cfg)
		}
		g.configure(cfg)
		groups[cfg.Name] = g
		notify(kindGroup, cfg.Name, notifyConfig{cfg.Notify, cfg.NotifyUser, cfg.NotifyTimeout, cfg.NotifyFIFO})
	}
	for _, r := range c.cfg.VRRP {
		notify(kindInstance, r.Name, notifyConfig{r.Notify, r.NotifyUser, r.NotifyTimeout, r.NotifyFIFO})
	}
	for key, n := range d.notifiers {
		if notifiers[key] == nil {
			n.task.cancel(nil)
			d.leaving.Go(n.task.stop)
		}
	}
	d.groups, d.notifiers = groups, notifiers
}

// teller returns what hears of a router's transitions.
func (d *Daemon) teller(name, groupName string) *teller {
	t := &teller{name: name, own: d.notifiers[kindInstance+" "+name]}
	if g := d.groups[groupName]; g != nil {
		t.group, t.whole = g, d.notifiers[kindGroup+" "+groupName]
		g.add(t)
	}
	return t
}

// applyChecks puts the new checks in place, and returns what has to end when
// nobody follows the old ones any more.
func (d *Daemon) applyChecks(c *change) (ended []func()) {
	for name, old := range d.checks {
		keep := slices.ContainsFunc(c.cfg.Checks, func(k config.Check) bool { return k.Name == name })
		if !keep || c.checks[name] != nil {
			ended = append(ended, old.task.stop)
			delete(d.checks, name)
		}
	}
	for name, k := range c.checks {
		k.task = start(k.monitor.Run, d.failed)
		d.checks[name] = k
	}
	return ended
}

// startRouters starts the new routers: when all are members of their groups,
// none of which acts before it is complete.
func (d *Daemon) startRouters(c *change) error {
	var errs []error
	for name, r := range c.routers {
		var vg *vrrp.Group
		if g := d.groups[r.group]; g != nil {
			vg = g.group
		}
		r.teller = d.teller(name, r.group)
		if err := r.connect(c.ns, d.guard, vg, r.teller.transition); err != nil {
			errs = append(errs, fmt.Errorf("%v: %s does not run: %w", r.cfg.Pos, name, err))
			delete(c.routers, name)
			continue
		}
		r.teller.status = r.router.Status
	}
	for name, r := range c.routers {
		r.tracker = newTracker(r.router, r.cfg, d.checks, r.teller.recheck)
		r.tracker.follow(d.checks)
		r.task = start(r.run, d.failed)
		d.routers[name] = r
	}
	return errors.Join(errs...)
}

// closeConns closes the sockets that no router uses.
func (d *Daemon) closeConns() {
	for key, conn := range d.conns {
		used := false
		for _, r := range d.routers {
			used = used || r.conn == conn
		}
		if !used {
			conn.Close()
			delete(d.conns, key)
		}
	}
}
