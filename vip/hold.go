package vip

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// The methods of Manager in this file are called with m.mu held.

// putAddresses adds the addresses and routes that are missing. With all it also writes
// the addresses that are there, for a lease that begins now.
func (m *Manager) putAddresses(all bool) error {
	l := m.lease
	if all {
		l = l.from(time.Now())
	}
	c, err := m.planPut()
	if err != nil {
		return err
	}
	for _, f := range m.features() {
		if err := f.add(); err != nil {
			return err
		}
	}
	list := c.put
	if all {
		list = c.all
	}
	if err := m.addMissing(list, c.put, l); err != nil {
		return err
	}
	m.puts = m.lacking.without(c.all)
	if all {
		m.setLease(l)
	}
	m.poke()
	return nil
}

// addMissing puts the addresses of list, and all routes, since a route may have gone with
// an address. An address of missing that has come meanwhile is an error.
func (m *Manager) addMissing(list, missing []assigned, l lease) error {
	if err := m.protectHost(list); err != nil {
		return err
	}
	if err := m.writeAddresses(list, missing, l); err != nil {
		return err
	}
	return m.putRoutes(list)
}

// writeAddresses puts the addresses of list. It fails as soon as their lease is over: a
// process that was frozen meanwhile must not add an address.
func (m *Manager) writeAddresses(list, missing []assigned, l lease) error {
	for _, a := range list {
		if err := m.leaseError(l); err != nil {
			return err
		}
		fresh := slices.Contains(missing, a)
		if fresh {
			m.ns.remember(a)
		}
		if err := m.putAddress(a, fresh); err != nil {
			return err
		}
	}
	return m.leaseError(l)
}

// leaseError returns an error if a lease is over and this host is not entitled to go on.
func (m *Manager) leaseError(l lease) error {
	if now := time.Now(); l.over(now) && !m.cfg.entitled() {
		return l.lapse(m.name, now)
	}
	return nil
}

// renewLease extends the lease.
func (m *Manager) renewLease() error {
	now := time.Now()
	if err := m.writeAddresses(m.puts, nil, m.lease); err != nil {
		if errors.Is(err, ErrLapsed) || errors.Is(err, ErrNoInterface) {
			return m.loseAddresses(err)
		}
		m.lease.renewAt = now.Add(retry) // until the lease lapses
		return err
	}
	if m.lease.over(time.Now()) {
		m.announceAnew() // the addresses may have been away for a moment
	}
	m.setLease(m.lease.from(now))
	return nil
}

// limitLease makes the lease no longer than limit, or as long as it is configured if limit
// is 0, and renews it if that changes anything.
func (m *Manager) limitLease(limit time.Duration) error {
	m.limit = limit
	lifetime, now := m.lifetime(), time.Now()
	if lifetime == m.lease.lifetime {
		return nil
	}
	if err := m.leaseError(m.lease); err != nil {
		return m.loseAddresses(err)
	}
	if m.lease.over(now) {
		m.dirty.Store(true) // routes may have gone
	}
	m.lease.lifetime, m.lease.since = lifetime, now // the time so far counts for the other lease
	for i := range m.puts {
		m.puts[i].valid = lifetime
	}
	m.poke()
	return m.renewLease()
}

// lifetime is for how long the addresses are put on the interface; 0: for ever.
func (m *Manager) lifetime() time.Duration {
	configured := m.cfg.lifetime()
	if configured == 0 || m.limit == 0 {
		return configured
	}
	return min(configured, m.limit)
}

func (m *Manager) setLease(l lease) {
	m.lease = l
	m.lapses.Store(l.doubtful())
}

// releaseAll removes the addresses.
func (m *Manager) releaseAll() error {
	m.seekSuccessors(time.Now())
	m.setHeld(false)
	m.announcer.stop()
	m.puts, m.limit = nil, 0
	m.lease.lifetime = m.lifetime()
	_, err := m.removeAll()
	return err
}

func (m *Manager) setHeld(held bool) {
	m.hearing.Lock()
	defer m.hearing.Unlock()
	if held && !m.held {
		m.rivals.begin(time.Now())
		clear(m.successors.list)
	}
	if !held {
		m.rivals.end()
	}
	m.held, m.status.Held = held, held
	m.holds.Store(held)
}

// loseAddresses gives the addresses up because they cannot be kept.
func (m *Manager) loseAddresses(reason error) error {
	m.log.Error("addresses lost", "err", reason)
	m.status.Lost++
	m.lost = reason
	m.poke()
	return m.releaseAll()
}

// lacks are what the other addresses are held without, and why.
type lacks map[string]error

// address reports whether an address is lacking.
func (l lacks) address(p netip.Prefix) bool { return l[p.String()] != nil }

// without returns those of the addresses that are not lacking.
func (l lacks) without(list []assigned) []assigned {
	return slices.DeleteFunc(slices.Clone(list), func(a assigned) bool { return l.address(a.prefix) })
}

// err says what is lacking.
func (l lacks) err() error {
	if len(l) == 0 {
		return nil
	}
	var list []string
	for _, what := range slices.Sorted(maps.Keys(l)) {
		list = append(list, fmt.Sprintf("%s (%v)", what, l[what]))
	}
	return fmt.Errorf("held without %s", strings.Join(list, ", "))
}

// noteLack takes note of what the other addresses are held without, and why. Another
// try follows soon.
func (m *Manager) noteLack(what string, err error) {
	m.lacking[what] = err
	m.lookSoon()
}

// putAddress puts an address. An optional one that cannot be put is lacking.
func (m *Manager) putAddress(a assigned, fresh bool) error {
	err := m.ns.kernel.put(a, fresh)
	optional := slices.ContainsFunc(m.cfg.Addresses, func(o Address) bool { return o.Optional && o.Prefix == a.prefix })
	if err != nil && optional {
		m.noteLack(a.prefix.String(), err)
		return nil
	}
	return err
}

// putRoutes puts the routes. An optional one that cannot be put is lacking. anew has the
// addresses that were put just now.
func (m *Manager) putRoutes(anew []assigned) error {
	for _, r := range m.cfg.Routes {
		err := m.ns.putRoute(r, m.links[r.Interface].index, anew)
		if err != nil && !r.Optional {
			return err
		}
		if err != nil {
			m.noteLack("route to "+r.Destination.String(), err)
		}
	}
	return nil
}
