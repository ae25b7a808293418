package vip

import "net/netip"

// reject has what is sent to the addresses dropped, before they are there.
func (m *Manager) reject() error {
	if !m.cfg.NoAccept {
		return nil
	}
	addrs := make([]netip.Addr, len(m.cfg.Addresses))
	for i, a := range m.cfg.Addresses {
		addrs[i] = a.Prefix.Addr()
	}
	m.accepts = false
	return m.ns.kernel.filter(m.cfg.Name, addrs)
}

// accept undoes reject, and what a predecessor left of it.
func (m *Manager) accept() error {
	if !m.cfg.NoAccept || m.accepts {
		return nil
	}
	err := m.ns.kernel.filter(m.cfg.Name, nil)
	m.accepts = err == nil
	return err
}
