package vip

import (
	"net/netip"
	"slices"
)

// owns reports whether an address is one that the host has anyway. As long as
// that is not known any may be.
func (m *Manager) owns(addr netip.Addr) bool {
	if !m.cfg.Owner {
		return false
	}
	own := m.own.Load()
	return own == nil || slices.Contains(*own, addr)
}

// recognise finds out which of the addresses that there are the host has anyway:
// what a Manager adds goes by itself when its lease is over. Without a lease
// only those are told apart that this Manager has added. Called with m.mu held.
func (m *Manager) recognise(have []assigned) {
	if !m.cfg.Owner {
		return
	}
	var own []netip.Addr
	for _, a := range m.allAddresses() {
		l, ok := m.links[a.Interface]
		there := slices.IndexFunc(have, func(h assigned) bool { return ok && h.index == l.index && h.prefix.Addr() == a.Prefix.Addr() })
		switch {
		case there < 0:
			m.forget(a.Prefix.Addr())
		case have[there].valid > 0 && have[there].valid <= m.cfg.Lease, m.cfg.Lease == 0 && slices.Contains(m.added, a.Prefix.Addr()):
		default:
			own = append(own, a.Prefix.Addr())
		}
	}
	m.own.Store(&own)
	m.tellRemovals()
}

// forget says that an address is there no more. Called with m.mu held.
func (m *Manager) forget(addr netip.Addr) {
	m.added = slices.DeleteFunc(m.added, func(a netip.Addr) bool { return a == addr })
}
