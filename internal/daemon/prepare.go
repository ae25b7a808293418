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

// cannot takes in why a part cannot begin for now, and returns what that means for
// the change: nothing if it is the first one, as the part is tried again.
func (c *change) cannot(err error) error {
	if err == nil || !c.first {
		return err
	}
	c.faults = append(c.faults, err)
	return nil
}

// routerFaults are the faults that new routers would have now.
func (c *change) routerFaults() (faults []error) {
	for _, cfg := range c.cfg.VRRP {
		if r := c.routers[cfg.Name]; r != nil {
			if err := r.check(); err != nil {
				faults = append(faults, fmt.Errorf("%v: %s: %s", cfg.Pos, cfg.Name, strings.ReplaceAll(err.Error(), "\n", "; ")))
			}
		}
	}
	return faults
}

// abandon closes what was opened.
func (c *change) abandon() {
	for _, undo := range slices.Backward(c.undo) {
		undo()
	}
}

// prepare opens what cfg needs and the daemon does not have.
func (d *Daemon) prepare(cfg *config.Config, first bool) (*change, error) {
	c := &change{
		cfg: cfg, first: first, ns: d.ns, guard: d.guard, conns: map[connKey]*vrrp.Conn{}, checks: map[string]*check{},
		routers: map[string]*router{}, groupOf: map[string]string{}, fixed: map[string]string{},
	}
	for _, step := range []func(*change) error{d.prepareChecks, d.prepareServices, d.prepareRouters} {
		if err := step(c); err != nil {
			c.abandon()
			return nil, err
		}
	}
	return c, nil
}

func (d *Daemon) prepareChecks(c *change) error {
	for _, k := range c.cfg.Checks {
		old := d.checks[k.Name]
		if old != nil && old.cfg.Equal(k) {
			continue
		}
		fail := func(err error) error { return fmt.Errorf("%v: check %s: %w", k.Pos, k.Name, err) }
		if err := checkFiles(&k); err != nil {
			if err := c.cannot(fail(err)); err != nil {
				return err
			}
		}
		m, err := newMonitor(k, k.Name, "", old.state(), d.log)
		if err != nil {
			return fail(err)
		}
		c.checks[k.Name] = &check{cfg: k, monitor: m}
	}
	return nil
}

func (d *Daemon) prepareRouters(c *change) error {
	for _, g := range c.cfg.Groups {
		for _, r := range g.Routers {
			c.groupOf[r] = g.Name
		}
	}
	if err := d.prepareNotify(c); err != nil {
		return err
	}
	if c.ns == nil && len(c.cfg.VRRP) > 0 {
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
	}
	for _, r := range c.cfg.VRRP {
		if err := d.prepareChange(c, r); err != nil {
			return fmt.Errorf("%v: %s: %w", r.Pos, r.Name, err)
		}
	}
	return nil
}

// prepareChange finds out what becomes of one router.
func (d *Daemon) prepareChange(c *change, next config.Router) error {
	old := d.routers[next.Name]
	if old == nil {
		return d.prepareRouter(c, next, nil)
	}
	keys := fixedKeys(old.cfg, next)
	if old.group != c.groupOf[next.Name] {
		keys = append(keys, "groups")
	}
	if _, ok := shedding(old.cfg, next, c.cfg.VRRP); !ok && len(keys) == 0 {
		keys = append(keys, "addresses")
	}
	if len(keys) > 0 {
		c.fixed[next.Name] = strings.Join(keys, ", ")
		return d.prepareRouter(c, next, old)
	}
	if old.cfg.Equal(next) {
		return nil
	}
	if !old.reserved.Load() { // what keeps its addresses must not touch any yet
		return d.prepareRouter(c, next, old)
	}
	// That it can be made is found out with one that never runs.
	if _, err := vrrp.NewRouter(vrrpConfig(next), old.conn, nil); err != nil {
		return err
	}
	if err := d.tryAddresses(c, old, next); err != nil {
		return err
	}
	c.updates = append(c.updates, next)
	return nil
}

// prepareRouter opens what a router needs that takes the place of old, which may be
// nil.
func (d *Daemon) prepareRouter(c *change, cfg config.Router, old *router) error {
	key := keyOf(cfg)
	conn := d.conns[key]
	if conn == nil {
		conn = c.conns[key]
	}
	if conn == nil {
		var err error
		conn, err = vrrp.Listen(vrrp.ListenConfig{Interface: key.iface, IPv6: key.ipv6, Virtual: c.ns.Virtual, Logger: d.log})
		if err != nil {
			return err
		}
		c.conns[key] = conn
		c.undo = append(c.undo, func() { conn.Close() })
	}
	r := newRouter(cfg, c.groupOf[cfg.Name], conn, d.log)
	// A member of a group stays one until it has run: that it can be made is
	// found out with one that is none.
	if _, err := vrrp.NewRouter(vrrpConfig(cfg), conn, nil); err != nil {
		return err
	}
	if err := r.open(c.ns); err != nil {
		return err
	}
	c.routers[cfg.Name] = r
	c.undo = append(c.undo, func() { r.manager.Close() })
	if !old.serves() {
		return nil
	}
	err := r.check()
	if errors.Is(err, vip.ErrInUse) {
		return nil // another router lets go of it with this change, or it is a fault
	}
	return err
}

// tryAddresses finds out whether old can have its new addresses, and if it serves
// whether it can go on.
func (d *Daemon) tryAddresses(c *change, old *router, cfg config.Router) error {
	vc := vipConfig(cfg)
	vc.Namespace = c.ns
	m, err := vip.NewManager(vc)
	if err != nil {
		return err
	}
	defer m.Close()
	if !old.serves() {
		return nil
	}
	if err := old.conn.Check(vrrpConfig(cfg)); err != nil {
		return err
	}
	err = m.Check()
	if errors.Is(err, vip.ErrInUse) && d.movesHere(c, cfg) {
		return nil
	}
	return err
}

// movesHere reports whether a router that ends or changes with this change has
// one of the addresses now.
func (d *Daemon) movesHere(c *change, cfg config.Router) bool {
	for _, old := range d.routers {
		stays := slices.ContainsFunc(c.cfg.VRRP, func(r config.Router) bool { return old.cfg.Equal(r) })
		for _, a := range vipConfig(cfg).Addresses {
			if !stays && slices.ContainsFunc(vipConfig(old.cfg).Addresses, func(b vip.Address) bool { return a.Prefix.Addr() == b.Prefix.Addr() }) {
				return true
			}
		}
	}
	return false
}

// prepareNotify finds out whether the FIFOs that are new can be opened.
func (d *Daemon) prepareNotify(c *change) error {
	known := fifos(d.cfg)
	next := fifos(c.cfg)
	for _, path := range slices.Sorted(maps.Keys(next)) {
		if _, ok := known[path]; ok {
			continue
		}
		f, err := openFIFO(path)
		if err != nil {
			err = fmt.Errorf("%v: notify_fifo: %w", next[path], err)
		}
		f.Close()
		if err := c.cannot(err); err != nil {
			return err
		}
	}
	return nil
}

// fifos are those of a configuration, and where it names them.
func fifos(cfg *config.Config) map[string]config.Position {
	all := map[string]config.Position{}
	for _, g := range cfg.Groups {
		all[g.NotifyFIFO] = g.Pos
	}
	for _, r := range cfg.VRRP {
		all[r.NotifyFIFO] = r.Pos
	}
	delete(all, "") // no FIFO
	return all
}
