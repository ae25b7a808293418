package vip

import (
	"context"
	"fmt"
	"slices"
)

// Update replaces the addresses and routes. Those that stay are not touched
// while they are held; what goes is removed, and what is new is added and
// announced if the others are held. If that fails the addresses are lost, as
// [Config.OnLost] has it. An error in the arguments changes nothing.
func (m *Manager) Update(ctx context.Context, addresses []Address, routes []Route) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended {
		return fmt.Errorf("vip: %s: update: %w", m.cfg.Name, ErrClosed)
	}
	next := m.cfg
	next.Addresses, next.Routes = addresses, routes
	if err := next.validate(); err != nil {
		return err
	}
	before := m.cfg
	if slices.Equal(before.Addresses, next.Addresses) && slices.Equal(before.Routes, next.Routes) {
		return nil
	}
	// While it is not joined nobody else reads what it is looking for.
	m.ns.leave(m)
	m.interfaces = append(before.interfaces(), next.interfaces()...)
	gone := slices.DeleteFunc(before.Addresses, func(a Address) bool { return slices.Contains(next.Addresses, a) })
	goneRoutes := slices.DeleteFunc(before.Routes, func(r Route) bool { return slices.Contains(next.Routes, r) })
	if _, err := m.remove(gone, goneRoutes); err != nil {
		m.log.Warn("what is not configured any more was not removed", "err", err)
	}
	m.cfg, m.interfaces = next, next.interfaces()
	m.ns.join(m)
	m.disturb() // for what happened meanwhile
	if !m.held {
		return nil
	}
	if err := m.acquire(ctx); err != nil {
		m.lost = err
		m.status.Lost++
		return err
	}
	m.announcer.start(m.renewed)
	return m.announce(m.renewed)
}
