package vip

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// spacing bounds how often the addresses are looked at, so that a fight
	// with another program over one of them costs little.
	spacing = 10 * time.Millisecond
	// patrol is how often they are looked at although nothing seems to have
	// happened.
	patrol = 30 * time.Second
	// reinstateTries bounds how often addresses are put back before they count
	// as lost. Between the look and the deed another of them may go, without
	// which a route with that source cannot be.
	reinstateTries = 3
	// renewals is how often an address is renewed within its lifetime.
	renewals = 4
	// retry is when a renewal that failed is tried again.
	retry = 50 * time.Millisecond
	// slack is by how much the kernel may be early: it counts in ticks and
	// rounds up by a fiftieth of a second (ADDRCONF_TIMER_FUZZ_MINUS).
	slack = 50 * time.Millisecond
)

// The methods in this file are called with m.mu held.

// resolve finds the interfaces, by index as long as it exists, since that
// survives a renaming, else by name, since that survives a re-creation.
func (m *Manager) resolve() error {
	var errs []error
	for _, name := range m.interfaces {
		old := m.links[name]
		l, err := m.find(name)
		if err != nil {
			delete(m.links, name)
			errs = append(errs, err)
			continue
		}
		if old.index != 0 && old.mac.String() != l.mac.String() || !old.up && l.up {
			m.moved()
		}
		m.links[name] = l
	}
	return errors.Join(errs...)
}

// targets says where the addresses belong, of those whose interface exists.
func (m *Manager) targets(addresses []Address) []target {
	var out []target
	for _, a := range addresses {
		if l, ok := m.links[a.Interface]; ok {
			out = append(out, target{Address: a, index: l.index})
		}
	}
	return out
}

// find returns an interface, and makes it if it is ours to make.
func (m *Manager) find(name string) (link, error) {
	if m.cfg.VirtualMAC != nil && name == m.cfg.MacvlanName {
		return m.macvlan()
	}
	return m.ns.kernel.link(m.links[name].index, name)
}

// moved announces held addresses again: the link is new, or came up, or has
// another hardware address now.
func (m *Manager) moved() {
	if m.held && !m.announcer.began.IsZero() {
		m.announcer.start(time.Now())
	}
}

// look returns the addresses that there are. What is to be added needs its
// interface; there is nothing to be removed from one that is gone.
func (m *Manager) look(hold bool) ([]assigned, error) {
	m.dirty.Store(false) // before looking: what happens from now on counts again
	m.looked = time.Now()
	m.lookNext = m.looked.Add(patrol)
	if err := m.resolve(); err != nil && (hold || !errors.Is(err, ErrNoInterface)) {
		return nil, err
	}
	return m.ns.kernel.addresses()
}

// wanted returns what there is to be added.
func (m *Manager) wanted() (changes, error) {
	have, err := m.look(true)
	if err != nil {
		return changes{}, err
	}
	want := m.targets(m.cfg.Addresses)
	if !m.held {
		if err := elsewhere(want, have, m.linkByIndex); err != nil {
			return changes{}, err
		}
	}
	return plan(want, have, true, m.cfg.Lease, m.ns.virtual), nil
}

// acquire makes the addresses held. If that fails, none is left.
func (m *Manager) acquire(ctx context.Context) error {
	m.holds.Store(true) // what is about to appear is meant to
	err := m.resolve()
	if err == nil {
		err = m.expose()
	}
	if err == nil && !m.held {
		err = m.probe(ctx)
	}
	start := time.Now()
	var c changes
	if err == nil {
		c, err = m.wanted()
	}
	if err == nil {
		err = m.reject()
	}
	if err == nil {
		err = m.add(c.all, start)
	}
	if err != nil {
		err = fmt.Errorf("vip: %s: acquire: %w", m.cfg.Name, err)
		return errors.Join(err, m.release())
	}
	m.setHeld(true)
	m.puts, m.renewed, m.renewAt = c.all, start, start.Add(m.cfg.Lease/renewals)
	m.poke()
	return nil
}

// add puts addresses, and the routes, which may have gone with an address.
func (m *Manager) add(list []assigned, start time.Time) error {
	if err := m.protect(list); err != nil {
		return err
	}
	if err := m.write(list, start); err != nil {
		return err
	}
	for _, r := range m.cfg.Routes {
		index := m.links[r.Interface].index
		if len(list) > 0 && r.Source.Is6() {
			// When an address goes, IPv6 leaves routes without their source, and
			// does not tell such a route from one with it.
			if err := m.ns.kernel.removeRoute(r, index); err != nil {
				return err
			}
		}
		if err := m.ns.kernel.putRoute(r, index); err != nil {
			return err
		}
	}
	return nil
}

// write puts addresses, and fails if that took so long that the lease counted
// from start is over: whoever was frozen meanwhile must not add anything.
func (m *Manager) write(list []assigned, start time.Time) error {
	for _, a := range list {
		if m.lapsed(start, time.Now()) {
			return ErrLapsed
		}
		if err := m.ns.kernel.put(a); err != nil {
			return err
		}
	}
	if m.lapsed(start, time.Now()) {
		return ErrLapsed
	}
	return nil
}

// lapsed reports whether a lease counted from start is over at now, as far as
// the kernel may be concerned.
func (m *Manager) lapsed(start, now time.Time) bool {
	return m.cfg.Lease > 0 && now.Sub(start) >= m.cfg.Lease-slack
}

// protect sees to it that the host's own addresses survive the removal of
// ours: where promote_secondaries is off, the secondary addresses of a network
// go with its primary one, which ours may have become.
func (m *Manager) protect(list []assigned) error {
	for _, a := range list {
		if !a.prefix.Addr().Is4() || a.prefix.IsSingleIP() {
			continue
		}
		for _, l := range m.links {
			if l.index != a.index {
				continue
			}
			if err := m.raise(l, confPromote, 1); err != nil {
				return err
			}
		}
	}
	return nil
}

// raise makes a setting of an interface at least value until Close.
func (m *Manager) raise(l link, setting int, value uint32) error {
	key := settingKey{l.index, setting}
	if m.raised[key] {
		return nil
	}
	undo, err := m.ns.raise(l, setting, value)
	if err != nil {
		return err
	}
	m.raised[key] = true
	m.undo = append(m.undo, undo)
	return nil
}

// release makes the addresses not held, and removes them.
func (m *Manager) release() error {
	m.setHeld(false)
	m.announcer.stop()
	m.puts = nil
	_, err := m.clear()
	return err
}

// clear removes everything, and returns the addresses that there were. What
// could not be removed is tried again soon.
func (m *Manager) clear() ([]assigned, error) {
	removed, err := m.remove(m.cfg.Addresses, m.cfg.Routes)
	err = errors.Join(err, m.accept(), m.hide())
	if err != nil {
		m.lookNext = m.looked.Add(time.Second)
	}
	return removed, err
}

// remove removes routes and addresses, and returns the addresses that there
// were.
func (m *Manager) remove(addresses []Address, routes []Route) ([]assigned, error) {
	have, err := m.look(false)
	c := plan(m.targets(addresses), have, false, 0, m.ns.virtual)
	errs := []error{err, m.protect(c.remove)}
	for _, r := range routes {
		if l, ok := m.links[r.Interface]; ok {
			errs = append(errs, m.ns.kernel.removeRoute(r, l.index))
		}
	}
	for _, a := range c.remove {
		errs = append(errs, m.ns.kernel.remove(a))
	}
	for _, a := range orphans(c.remove, have) {
		errs = append(errs, m.ns.kernel.removeNetwork(a))
	}
	return c.remove, errors.Join(errs...)
}

func (m *Manager) setHeld(held bool) {
	m.held = held
	m.holds.Store(held)
}

// lose gives the addresses up because they cannot be kept.
func (m *Manager) lose(reason error) error {
	m.log.Error("addresses lost", "err", reason)
	m.status.Lost++
	m.lost = reason
	return m.release()
}

// step does what is to be done at now.
func (m *Manager) step(now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended {
		return nil
	}
	if m.held && m.lapsed(m.renewed, now) {
		return m.lose(fmt.Errorf("vip: %s: not renewed for %v: %w",
			m.cfg.Name, now.Sub(m.renewed).Round(time.Millisecond), ErrLapsed))
	}
	var err error
	if !now.Before(m.lookAt()) {
		err = m.reconcile()
	}
	if m.held && m.cfg.Lease > 0 && !now.Before(m.renewAt) {
		err = errors.Join(err, m.renew(now))
	}
	if m.held {
		err = errors.Join(err, m.announce(now))
	}
	return err
}

// lookAt returns when the addresses are to be looked at again.
func (m *Manager) lookAt() time.Time {
	if m.dirty.Load() {
		return m.looked.Add(spacing)
	}
	return m.lookNext
}

// deadline returns when step has something to do again.
func (m *Manager) deadline() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := m.lookAt()
	earlier := func(t time.Time) {
		if t.Before(at) {
			at = t
		}
	}
	if m.held && m.cfg.Lease > 0 {
		earlier(m.renewAt)
	}
	if m.held && !m.announcer.due.IsZero() {
		if m.announcer.due.Before(m.budgeted) {
			earlier(m.budgeted)
		} else {
			earlier(m.announcer.due)
		}
	}
	return at
}

// reconcile makes the addresses what they should be.
func (m *Manager) reconcile() error {
	if !m.held {
		removed, err := m.clear()
		if len(removed) > 0 {
			m.status.Removed += uint64(len(removed))
			m.complain("removed addresses that are not held", "addresses", prefixes(removed))
		}
		return err
	}
	var err error
	for range reinstateTries {
		if err = m.reinstate(); err == nil {
			return nil
		}
		if errors.Is(err, ErrNoInterface) || errors.Is(err, ErrLapsed) {
			break
		}
	}
	return m.lose(err)
}

// reinstate puts back what has gone.
func (m *Manager) reinstate() error {
	c, err := m.wanted()
	if err == nil {
		err = m.expose()
	}
	if err != nil {
		return err
	}
	if len(c.put) > 0 {
		m.complain("addresses had gone, putting them back", "addresses", prefixes(c.put))
		m.status.Reinstated += uint64(len(c.put))
	}
	if err := m.add(c.put, m.renewed); err != nil {
		return err
	}
	m.puts = c.all
	return nil
}

// renew extends the lease.
func (m *Manager) renew(now time.Time) error {
	if err := m.write(m.puts, m.renewed); err != nil {
		if errors.Is(err, ErrLapsed) || errors.Is(err, ErrNoInterface) {
			return m.lose(err)
		}
		m.renewAt = now.Add(retry) // until the lease lapses
		return err
	}
	m.renewed, m.renewAt = now, now.Add(m.cfg.Lease/renewals)
	return nil
}

// announce sends what is due at now, as far as the budget goes.
func (m *Manager) announce(now time.Time) error {
	n := len(m.cfg.Addresses)
	for {
		s, ok := m.announcer.next(now, n)
		if !ok {
			return nil
		}
		if wait := m.ns.budget.take(now); wait > 0 {
			m.budgeted = now.Add(wait)
			return nil
		}
		m.announcer.sent(n)
		a := m.cfg.Addresses[s.address]
		l := m.links[a.Interface]
		if !l.ethernet || !l.up {
			continue
		}
		frame, err := announcement(a.Prefix.Addr(), l.mac, s.reply, l.routes6)
		if err != nil {
			return err
		}
		if err := m.ns.kernel.send(l.index, frame); err != nil {
			// The next rounds may do better.
			m.log.Debug("announcement not sent", "address", a.Prefix.Addr(), "err", err)
		}
	}
}

// complain logs something that another program can make happen without end.
func (m *Manager) complain(msg string, args ...any) {
	now := time.Now()
	if now.Sub(m.complained) < time.Second {
		m.log.Debug(msg, args...)
		return
	}
	m.complained = now
	m.log.Warn(msg, args...)
}

func prefixes(list []assigned) []string {
	out := make([]string, len(list))
	for i, a := range list {
		out[i] = a.prefix.String()
	}
	return out
}
