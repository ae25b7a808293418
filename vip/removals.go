package vip

import (
	"bytes"
	"slices"
)

// Removals are netlink messages for a process that is to clean up on behalf of
// this one: see package guard. They name interfaces by the index that these have
// now, so they go out of date: see [Config.OnRemovals]. Nobody may write to them.
type Removals struct {
	// Requests (NETLINK_ROUTE) remove the routes and the addresses and set a
	// macvlan down, if these are there.
	Requests [][]byte
	// Filters (NETLINK_NETFILTER) remove what drops packets for the addresses.
	Filters [][]byte
	// Settings (NETLINK_ROUTE) put settings of interfaces back: after the
	// Requests of all Managers, which rely on them.
	Settings [][]byte
}

// equal reports whether both do the same.
func (r Removals) equal(o Removals) bool {
	return slices.EqualFunc(r.Requests, o.Requests, bytes.Equal) &&
		slices.EqualFunc(r.Filters, o.Filters, bytes.Equal) &&
		slices.EqualFunc(r.Settings, o.Settings, bytes.Equal)
}

// Removals returns what would clean up now. It never waits, so OnRemovals may call
// it, too. There is nothing to clean up before the first of Run, Acquire and Check.
func (m *Manager) Removals() Removals {
	if now := m.toClean.Load(); now != nil {
		return *now
	}
	return Removals{}
}

// tellRemovals takes note of what would clean up now, and tells OnRemovals if that is
// new. Called with m.mu held.
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
	// What was not looked for yet may be the host's, and was not added.
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
