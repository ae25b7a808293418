package vip

import (
	"context"
	"fmt"
	"slices"
)

// Update replaces the addresses and routes. Those that stay are not touched
// while they are held; what goes is removed, and what is new is added and
// announced if the others are held. An address whose length, scope, label or
// interface changes goes and is new.
//
// An error in the arguments changes nothing, and so does one that wraps ErrInUse:
// a new address is looked and probed for as by Acquire. If anything else fails
// the addresses are lost, as [Config.OnLost] has it.
func (m *Manager) Update(ctx context.Context, addresses []Address, routes []Route) error {
	next, questions, err := m.prepare(addresses, routes)
	if err != nil {
		return err
	}
	// Without the mutex: what is held must be renewed, or released, meanwhile.
	if len(questions) > 0 {
		if err := m.ns.probe(ctx, questions, next.Probe); err != nil {
			return fmt.Errorf("vip: %s: update: %w", next.Name, err)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended {
		return fmt.Errorf("vip: %s: update: %w", m.cfg.Name, ErrClosed)
	}
	if m.held && m.lapsed(m.renewed) {
		err = m.lapse(m.renewed)
		if err := m.lose(err); err != nil {
			m.log.Warn("what is configured no more may be left", "err", err)
		}
	}
	if slices.Equal(m.cfg.Addresses, next.Addresses) && slices.Equal(m.cfg.Routes, next.Routes) {
		return err
	}
	m.replace(next)
	if !m.held {
		return err
	}
	if err := m.acquire(ctx); err != nil {
		m.lost = err
		m.status.Lost++
		m.poke()
		return err
	}
	m.announcer.start(m.renewed)
	return m.announce(m.renewed)
}

// prepare returns the configuration with other addresses and routes, and what
// is to be probed for. It fails if a new address is on another interface.
func (m *Manager) prepare(addresses []Address, routes []Route) (Config, []question, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := m.cfg
	next.Addresses, next.Routes = addresses, routes
	if err := next.validate(); err != nil {
		return next, nil, err
	}
	if !m.held || m.ended {
		return next, nil, nil // Acquire will look
	}
	fresh := slices.DeleteFunc(slices.Clone(next.Addresses), func(a Address) bool {
		return slices.ContainsFunc(m.cfg.Addresses, func(b Address) bool { return a.Prefix.Addr() == b.Prefix.Addr() })
	})
	for _, a := range fresh {
		if _, known := m.links[a.Interface]; !known {
			l, err := m.ns.kernel.link(0, a.Interface)
			if err != nil {
				return next, nil, err
			}
			m.links[a.Interface] = l
		}
	}
	have, err := m.ns.kernel.addresses()
	if err == nil {
		err = elsewhere(m.targets(fresh), have, m.linkByIndex)
	}
	if err != nil || m.cfg.Probe == 0 {
		return next, nil, err
	}
	return next, m.questions(fresh), nil
}

// replace goes on with another configuration: what is not in it goes. Called
// with m.mu held.
func (m *Manager) replace(next Config) {
	before := m.cfg
	gone := slices.DeleteFunc(slices.Clone(before.Addresses), func(a Address) bool { return slices.Contains(next.Addresses, a) })
	goneRoutes := slices.DeleteFunc(slices.Clone(before.Routes), func(r Route) bool { return slices.Contains(next.Routes, r) })
	// While it is not joined nobody else reads what it is looking for.
	m.ns.leave(m)
	m.interfaces = append(before.interfaces(), next.interfaces()...)
	if _, err := m.remove(gone, goneRoutes); err != nil {
		m.log.Warn("what is not configured any more was not removed", "err", err)
	}
	m.cfg, m.interfaces = next, next.interfaces()
	m.ns.join(m)
	m.disturb() // for what happened meanwhile
}
