package vip

import (
	"reflect"
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
	now, before := m.removals(m.raised), m.toClean.Load()
	if before != nil && !m.retell && reflect.DeepEqual(now, *before) {
		return
	}
	m.toClean.Store(&now)
	m.retell = false
	if tell := m.cfg.OnRemovals; tell != nil {
		tell(now)
	}
}

// removals returns the messages that clean up, with those for raised settings.
func (v *view) removals(settings []settingKey) (out Removals) {
	for _, r := range v.all().routes {
		if l, ok := v.links[r.Interface]; ok {
			out.Requests = append(out.Requests, v.ns.kernel.routeRemoval(r, l.index))
		}
	}
	// An address that was not looked for yet was not added, and may be the host's own.
	unseen := func(t target) bool { return !v.seen[t] }
	for _, t := range slices.DeleteFunc(v.targets(v.all().addresses), unseen) {
		out.Requests = append(out.Requests, v.ns.kernel.removal(assigned{index: t.index, prefix: t.Prefix}))
	}
	if l, ok := v.macvlan(); ok && !v.occupied {
		out.Requests = append(out.Requests, v.ns.kernel.setDown(l.index))
	}
	if v.cfg.NoAccept {
		out.Filters = [][]byte{v.ns.kernel.filterRemoval(v.cfg.Name)}
	}
	for _, s := range settings {
		out.Settings = append(out.Settings, v.ns.kernel.setting4(s.index, s.setting, v.ns.before(s)))
	}
	return out
}
