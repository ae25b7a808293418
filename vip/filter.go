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

// reject has what is sent to the addresses dropped, before they are there.
func (m *Manager) reject() error {
	if !m.cfg.NoAccept {
		return nil
	}
	m.filter.absent = false
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
