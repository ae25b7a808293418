package vip

import (
	"net/netip"
	"slices"
)

// ownedByHost reports whether an address is the host's own: a Manager neither adds nor
// renews nor removes it. Before the first look each address of an owner counts as own.
func (m *Manager) ownedByHost(addr netip.Addr) bool {
	own := m.own.Load()
	if own == nil {
		return m.cfg.Owner
	}
	return slices.Contains(*own, addr)
}

// isOurs reports whether an address, equal to a configured one, goes while it is not held:
// a Manager has put it there, or Config.Takeover applies to it.
func (m *Manager) isOurs(a assigned) bool {
	if m.ns.marked(a) {
		return true
	}
	why, known := m.spared[a.bare()]
	return m.cfg.Takeover && a.valid == 0 && (a.mark == markKeepalived || a.mark == 0 && known && why == "")
}

// recogniseAddresses finds out which of the configured addresses are the host's own. An
// owner's are, whatever their length; otherwise only those of the configured length, as
// the Manager touches no others. Called with m.mu held.
func (m *Manager) recogniseAddresses(have []assigned) {
	m.ns.learn(have)
	own := []netip.Addr{}
	m.occupied = false
	places := m.places(m.allAddresses())
	m.weighStrangers(places, have)
	for _, p := range places {
		there := false
		for _, h := range have {
			if h.index != p.index || h.prefix.Addr() != p.Prefix.Addr() {
				continue
			}
			there = true
			if m.isOurs(h) {
				continue
			}
			m.occupied = m.occupied || m.macvlan.is(p.Interface)
			if m.cfg.Owner || h.prefix.Bits() == p.Prefix.Bits() {
				own = append(own, p.Prefix.Addr())
			}
		}
		if !there {
			m.ns.forget(p.index, p.Prefix.Addr())
		}
	}
	m.own.Store(&own)
	m.seen = make(map[target]bool, len(places))
	for _, p := range places {
		m.seen[p] = true
	}
	m.tellRemovals()
}
