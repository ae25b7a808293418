package vip

import (
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/havip/havip/internal/quietlog"
)

// reinstateTries bounds how often missing addresses are put back before they count as
// lost. A single try may fail: an address that is the source of a route can vanish after
// the look.
const reinstateTries = 3

// The methods in this file are called with m.mu held.

// findLinks finds the interfaces by their names, and those that were renamed by their
// indexes, unless another interface has the name now. absent says why an interface was
// not found.
func (m *Manager) findLinks() (absent map[string]error, err error) {
	absent = make(map[string]error)
	found := make(map[string]link)
	var errs []error
	for _, name := range m.interfaces() {
		old := m.links[name]
		l, err := m.findLink(name)
		if err == nil && old.index != 0 && l.index != old.index {
			if err := m.leaveLink(name); err != nil {
				errs = append(errs, err) // the next look tries again
				found[name] = old
				continue
			}
		}
		if err != nil {
			absent[name] = err
			errs = append(errs, err)
			if old.index != 0 && !errors.Is(err, ErrNoInterface) {
				found[name] = old // may be there, with what is to be removed
			}
			continue
		}
		if old.index != 0 && old.mac.String() != l.mac.String() || !old.up && l.up {
			m.announceAnew()
		}
		found[name] = l
	}
	m.setLinks(found)
	m.restoreSettings(func(key settingKey) bool { return !m.uses(key.index) })
	m.tellRemovals()
	return absent, errors.Join(errs...)
}

// targets returns the places of addresses that are not the host's own.
func (v *view) targets(addresses []Address) []target {
	return slices.DeleteFunc(v.places(addresses), func(t target) bool { return v.ownedByHost(t.Prefix.Addr()) })
}

// findLink finds one interface, and makes the macvlan if it is missing.
func (m *Manager) findLink(name string) (link, error) {
	if m.cfg.isMacvlan(name) {
		return m.prepareMacvlan()
	}
	return m.ns.kernel.link(m.links[name].index, name)
}

// announceAnew starts the announcements of held addresses again, because the link is
// new, came up, or has another hardware address.
func (m *Manager) announceAnew() {
	if m.held && !m.announcer.began.IsZero() {
		m.announcer.start(time.Now())
	}
}

// lookAround returns the addresses of all interfaces. With hold a missing interface is an
// error; without, nothing is left to be removed from that interface.
func (m *Manager) lookAround(hold bool) ([]assigned, error) {
	m.dirty.Store(false) // before the look: events from now on ask for another one
	m.looks.begun(time.Now())
	absent, err := m.findLinks()
	if err != nil && (hold || !errors.Is(err, ErrNoInterface)) {
		m.findFaults(nil, absent)
		return nil, err
	}
	have, err := m.ns.kernel.addresses()
	if err == nil {
		m.recogniseAddresses(have)
		m.tellRemovals()
		m.findFaults(have, absent)
	}
	return have, err
}

// planPut returns the addresses that are wanted, and those of them that are missing.
func (m *Manager) planPut() (changes, error) {
	have, err := m.lookAround(true)
	if err != nil {
		return changes{}, err
	}
	if !m.held {
		if err := m.obstacle(m.cfg.Addresses, have); err != nil {
			return changes{}, err
		}
	}
	m.lacking = make(lacks)
	want := m.targets(m.cfg.Addresses)
	host, err := m.hostAddresses(want, have)
	return plan(want, have, host, m.lease.lifetime), err
}

// hostAddresses returns the addresses that do not move with virtual routers. If an IPv6
// address of want has a network without any of them, it adds the networks that are on
// a link by a route: only then, because a host may have a great many routes.
func (v *view) hostAddresses(want []target, have []assigned) ([]assigned, error) {
	host := slices.DeleteFunc(slices.Clone(have), func(h assigned) bool { return v.ns.comesAndGoes(h.prefix.Addr()) })
	alone := func(w target) bool {
		return is6(w.Prefix) && !w.Prefix.IsSingleIP() &&
			!slices.ContainsFunc(host, func(h assigned) bool { return h.prefix.Masked() == w.Prefix.Masked() })
	}
	if !slices.ContainsFunc(want, alone) {
		return host, nil
	}
	networks, err := v.ns.kernel.networks()
	return append(host, slices.DeleteFunc(networks, func(n assigned) bool { return !v.uses(n.index) })...), err
}

// protectHost keeps the host's own addresses when virtual ones are removed. Without
// promote_secondaries the secondary addresses of a network go with the primary one, and
// a virtual address may have become the primary one.
func (m *Manager) protectHost(list []assigned) error {
	for _, name := range m.interfaces() {
		l := m.links[name]
		secondary := func(a assigned) bool { return a.index == l.index && a.prefix.Addr().Is4() && !a.prefix.IsSingleIP() }
		if slices.ContainsFunc(list, secondary) {
			if err := m.raiseSetting(l, confPromote, 1); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeAll removes all addresses, routes and features, and returns the addresses that
// it has removed. After an error another try follows soon.
func (m *Manager) removeAll() ([]assigned, error) {
	removed, err := m.removeThese(m.all())
	if err == nil && !m.parting.none() {
		m.removeParting(belongings{})
	}
	for _, f := range slices.Backward(m.features()) {
		err = errors.Join(err, f.remove())
	}
	if err != nil {
		m.lookSoon()
	}
	return removed, err
}

// leaveLink removes addresses and routes from the interface that had a name before
// another interface got the name. The former interface may be gone.
func (m *Manager) leaveLink(name string) error {
	have, err := m.ns.kernel.addresses()
	if err != nil {
		return err
	}
	there, _ := m.all().split(
		func(a Address) bool { return a.Interface == name },
		func(r Route) bool { return r.Interface == name })
	_, err = m.takeOff(there, have)
	return err
}

// removeThese removes routes and addresses, and returns the addresses that it has removed.
func (m *Manager) removeThese(b belongings) ([]assigned, error) {
	have, err := m.lookAround(false)
	removed, failed := m.takeOff(b, have)
	return removed, errors.Join(err, failed)
}

// takeOff is removeThese with a list of the addresses of all interfaces.
func (m *Manager) takeOff(b belongings, have []assigned) ([]assigned, error) {
	remove := equals(m.targets(b.addresses), have, m.isOurs)
	errs := []error{m.protectHost(remove)}
	for _, r := range b.routes {
		if l, ok := m.links[r.Interface]; ok {
			errs = append(errs, m.ns.removeRoute(m, r, l.index))
		}
	}
	for _, a := range remove {
		err := m.ns.kernel.remove(a)
		if err == nil {
			m.ns.forget(a.index, a.prefix.Addr())
			delete(m.spared, a.bare())
		}
		errs = append(errs, err)
	}
	for _, a := range orphans(remove, have) {
		errs = append(errs, m.ns.kernel.removeNetwork(a))
	}
	return remove, errors.Join(errs...)
}

// lookSoon makes Run look at the addresses again soon, even without an event.
func (m *Manager) lookSoon() {
	m.looks.soon()
	m.poke()
}

// reconcile makes the kernel's state the desired one.
func (m *Manager) reconcile() error {
	if !m.held {
		removed, err := m.removeAll()
		if len(removed) > 0 {
			m.status.Removed += uint64(len(removed))
			warnOften(m.log, "removed addresses that are not held", "addresses", removed)
		}
		return err
	}
	var err error
	for range reinstateTries {
		if err = m.reinstate(); err == nil {
			if !m.parting.none() {
				m.removeParting(m.parting)
			}
			return nil
		}
		if errors.Is(err, ErrNoInterface) || errors.Is(err, ErrLapsed) {
			break
		}
	}
	return m.loseAddresses(err)
}

// reinstate puts back what has vanished while the addresses are held.
func (m *Manager) reinstate() error {
	lacked := m.lacking
	c, err := m.planPut()
	if err == nil {
		err = m.setMacvlanUp()
	}
	if err != nil {
		return err
	}
	// The addresses are no less this host's without it.
	if err := m.filter.restore(m.cfg.addrs(), m.log); err != nil {
		m.noteLack("filter", err)
	}
	if own := *m.own.Load(); len(own) > 0 && !m.cfg.Owner {
		warnOften(m.log, "addresses are another program's now: they stay when they are released", "addresses", own)
	}
	if gone := lacked.without(c.put); len(gone) > 0 {
		warnOften(m.log, "addresses had gone, putting them back", "addresses", gone)
		m.status.Reinstated += uint64(len(gone))
	}
	if err := m.addMissing(c.put, c.put, m.lease); err != nil {
		return err
	}
	if slices.ContainsFunc(m.lacking.without(c.put), func(a assigned) bool { return lacked.address(a.prefix) }) {
		m.announceAnew() // the link does not know yet
	}
	m.puts = m.lacking.without(c.all)
	return nil
}

// sendAnnouncements sends the announcements that are due at now, as far as the budget of
// the Namespace goes.
func (m *Manager) sendAnnouncements(now time.Time) {
	n := len(m.cfg.Addresses)
	for {
		s, ok := m.announcer.next(now, n)
		if !ok {
			return
		}
		if wait := m.ns.budget.take(now); wait > 0 {
			m.budgeted = now.Add(wait)
			return
		}
		m.announcer.sent(n)
		a := m.cfg.Addresses[s.address]
		l := m.links[a.Interface]
		if !l.ethernet || !l.up || m.lacking.address(a.Prefix) {
			continue
		}
		frame := announcement(a.Prefix.Addr(), l.mac, s.reply, l.routes6)
		if err := m.ns.kernel.send(l.index, frame); err != nil {
			// The next rounds may do better.
			m.log.Debug("announcement not sent", "address", a.Prefix.Addr(), "err", err)
		}
	}
}

// complaintLimit bounds the lines of warnOften.
var complaintLimit = quietlog.Limit{Every: time.Second}

// warnOften logs what another program can make happen without end.
func warnOften(log *slog.Logger, msg string, args ...any) {
	if complaintLimit.Mutes(log, slog.LevelWarn, msg, nil, 1) {
		log.Debug(msg, args...)
		return
	}
	log.Warn(msg, append(args, complaintLimit.By(nil))...)
}
