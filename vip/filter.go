package vip

import (
	"errors"
	"net/netip"
)

// The methods below are called with m.mu held.

// reject has what is sent to the addresses dropped, before they are there.
func (m *Manager) reject() error {
	if !m.cfg.NoAccept {
		return nil
	}
	m.accepts = false
	return m.ns.kernel.filter(m.name, m.addrs())
}

// rejectAgain restores what reject did, should it have gone: "nft flush ruleset"
// is how many a firewall begins. The addresses are no less this host's without it.
func (m *Manager) rejectAgain() {
	if !m.cfg.NoAccept {
		return
	}
	filters, err := m.ns.kernel.filters(m.name, m.addrs())
	if err == nil && !filters {
		m.complain("the filter for what is sent to the addresses had gone, putting it back")
		err = m.reject()
	}
	if err != nil {
		m.lack("filter", err)
	}
}

// accept undoes reject. The first time it undoes what a predecessor left of it,
// under whatever name, and though there is nothing to be dropped any more.
func (m *Manager) accept() error {
	if m.accepts {
		return nil
	}
	var err error
	if m.swept {
		err = m.ns.kernel.filter(m.name, nil)
	} else if err = m.ns.kernel.sweep(m.addrs()); !m.cfg.NoAccept && errors.Is(err, errors.ErrUnsupported) {
		err = nil // nothing can be left
	}
	m.accepts = err == nil
	m.swept = m.swept || m.accepts
	return err
}

func (m *Manager) addrs() []netip.Addr {
	addrs := make([]netip.Addr, len(m.cfg.Addresses))
	for i, a := range m.cfg.Addresses {
		addrs[i] = a.Prefix.Addr()
	}
	return addrs
}
