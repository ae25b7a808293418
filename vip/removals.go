package vip

import (
	"bytes"
	"slices"
)

// Removals are netlink messages by which another process cleans up for this one: see
// package guard. They name interfaces by their present indexes, so they go out of date:
// see [Config.OnRemovals]. Treat them as read-only.
type Removals struct {
	// Requests (NETLINK_ROUTE) remove the routes and the addresses, and set the
	// macvlan down. A request for something that is not there fails, without harm.
	Requests [][]byte
	// Filters (NETLINK_NETFILTER) remove the packet filter of NoAccept.
	Filters [][]byte
	// Settings (NETLINK_ROUTE) restore settings of interfaces. Carry them out after
	// the Requests of all Managers, which rely on the raised settings.
	Settings [][]byte
}

// equal reports whether both do the same.
func (r Removals) equal(o Removals) bool {
	return slices.EqualFunc(r.Requests, o.Requests, bytes.Equal) &&
		slices.EqualFunc(r.Filters, o.Filters, bytes.Equal) &&
		slices.EqualFunc(r.Settings, o.Settings, bytes.Equal)
}

// Removals returns the messages that would clean up now; none before the first look of
// Run, Acquire or Check. Removals never waits, and OnRemovals may call it.
func (m *Manager) Removals() Removals {
	if now := m.toClean.Load(); now != nil {
		return *now
	}
	return Removals{}
}

// tellRemovals updates what Removals returns, and calls OnRemovals if there is a change.
// Called with m.mu held.
func (m *Manager) tellRemovals() {
	now, before := m.removalsNow(), m.toClean.Load()
	if before != nil && !m.retell && now.equal(*before) {
		return
	}
	m.toClean.Store(&now)
	m.retell = false
	if tell := m.cfg.OnRemovals; tell != nil {
		tell(now)
	}
}

func (m *Manager) removalsNow() (out Removals) {
	for _, r := range m.allRoutes() {
		if l, ok := m.links[r.Interface]; ok {
			out.Requests = append(out.Requests, m.ns.kernel.routeRemoval(r, l.index))
		}
	}
	// An address that was not looked for yet was not added, and may be the host's own.
	unseen := func(t target) bool { return !m.seen[t] }
	for _, t := range slices.DeleteFunc(m.targets(m.allAddresses()), unseen) {
		out.Requests = append(out.Requests, m.ns.kernel.removal(assigned{index: t.index, prefix: t.Prefix}))
	}
	if l, ok := m.macvlan.link(m.links); ok && !m.occupied {
		out.Requests = append(out.Requests, m.ns.kernel.setDown(l.index))
	}
	if m.cfg.NoAccept {
		out.Filters = [][]byte{m.ns.kernel.filterRemoval(m.name)}
	}
	for _, key := range m.settings.raised {
		if before, ok := m.ns.before(key); ok {
			out.Settings = append(out.Settings, m.ns.kernel.setting4(key.index, key.setting, before))
		}
	}
	return out
}
