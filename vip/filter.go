package vip

import (
	"errors"
	"net/netip"
)

// filterState is what is known of the filter that drops what is sent to the addresses.
type filterState struct {
	absent bool
	swept  bool // nor is there one of a predecessor's
}

// The methods below are called with m.mu held.

// installFilter drops what is sent to the addresses.
func (m *Manager) installFilter() error {
	if !m.cfg.NoAccept {
		return nil
	}
	m.filter.absent = false
	return m.ns.kernel.filter(m.name, m.addrs())
}

// restoreFilter installs the filter again, should it have gone: many a firewall begins
// with "nft flush ruleset". The addresses are no less this host's without it.
func (m *Manager) restoreFilter() {
	if !m.cfg.NoAccept {
		return
	}
	filters, err := m.ns.kernel.filters(m.name, m.addrs())
	if err == nil && !filters {
		m.warnOften("the filter for what is sent to the addresses had gone, putting it back")
		err = m.installFilter()
	}
	if err != nil {
		m.noteLack("filter", err)
	}
}

// removeFilter undoes installFilter. The first time it removes the filters that a
// predecessor has left for the addresses, under whatever name, even if this Manager
// drops nothing.
func (m *Manager) removeFilter() error {
	if m.filter.absent {
		return nil
	}
	var err error
	if m.filter.swept {
		err = m.ns.kernel.filter(m.name, nil)
	} else if err = m.ns.kernel.sweep(m.addrs()); !m.cfg.NoAccept && errors.Is(err, errors.ErrUnsupported) {
		err = nil // nothing can be left
	}
	m.filter.absent = err == nil
	m.filter.swept = m.filter.swept || m.filter.absent
	return err
}

func (m *Manager) addrs() []netip.Addr {
	addrs := make([]netip.Addr, len(m.cfg.Addresses))
	for i, a := range m.cfg.Addresses {
		addrs[i] = a.Prefix.Addr()
	}
	return addrs
}
