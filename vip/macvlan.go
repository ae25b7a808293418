package vip

import (
	"bytes"
	"errors"
	"fmt"
	"net"

	"github.com/havip/havip/internal/inet"
)

// VirtualMAC returns the hardware address of a virtual router (RFC 9568 §7.3):
// 00:00:5e:00:01:VRID, or 00:00:5e:00:02:VRID for IPv6.
func VirtualMAC(vrid uint8, ipv6 bool) net.HardwareAddr {
	return inet.VirtualMAC(vrid, ipv6)
}

// macvlanName returns the default name of the interface with a hardware
// address, the one that Keepalived gives it: vrrp.51, and vrrp6.51 for IPv6.
func macvlanName(mac net.HardwareAddr) string {
	if bytes.HasPrefix(mac, []byte{0, 0, 0x5e, 0, 2}) {
		return fmt.Sprintf("vrrp6.%d", mac[5])
	}
	return fmt.Sprintf("vrrp.%d", mac[5])
}

// carrier returns the name of the interface that carries addresses by default.
func (c Config) carrier() string {
	if c.VirtualMAC != nil {
		return c.MacvlanName
	}
	return c.Interface
}

// The methods below are called with m.mu held.

// findMacvlan finds the interface with the virtual MAC, or makes it, down. The
// kernel deletes it together with its parent.
func (m *Manager) findMacvlan() (link, error) {
	parent, err := m.ns.kernel.link(m.links[m.cfg.Interface].index, m.cfg.Interface)
	if err != nil {
		return link{}, err
	}
	name := m.cfg.MacvlanName
	l, err := m.ns.kernel.link(0, name)
	if err == nil && l.index == m.links[name].index && l.parent != parent.index {
		// Ours, and on an interface whose name is another one's now.
		if err := m.ns.kernel.removeLink(l.index); err != nil {
			return link{}, err
		}
		l, err = m.ns.kernel.link(0, name)
	}
	if errors.Is(err, ErrNoInterface) {
		if failed := m.ns.kernel.addMacvlan(name, parent.index, m.cfg.VirtualMAC); failed != nil {
			return link{}, fmt.Errorf("%w: %w", failed, err) // nor is anything left on it
		}
		l, err = m.ns.kernel.link(0, name)
	}
	if err != nil {
		return link{}, err
	}
	if l.parent != parent.index || !bytes.Equal(l.mac, m.cfg.VirtualMAC) {
		return link{}, fmt.Errorf("vip: interface %s exists, and is not a macvlan with address %v on %s: %w",
			name, m.cfg.VirtualMAC, m.cfg.Interface, ErrInUse)
	}
	// As far as announcements go; the kernel needs a moment to say so.
	l.up = parent.up
	return l, m.separateLinks(parent, l)
}

// separateLinks keeps the two interfaces, which see the same link, from answering for
// each other.
func (m *Manager) separateLinks(parent, l link) error {
	for _, s := range []struct {
		link    link
		setting int
		value   uint32
	}{
		// Answer ARP only for addresses on the interface that was asked.
		{parent, confARPIgnore, 1},
		{l, confARPIgnore, 1},
		// What is sent from a virtual address leaves by the parent, as that has
		// the routes. Its questions must not claim that the address is there.
		{parent, confARPAnnounce, 2},
		// And what comes in on the macvlan has its way back through the parent:
		// loose, which wins over a strict net.ipv4.conf.all.rp_filter.
		{l, confRPFilter, 2},
	} {
		if err := m.raiseSetting(s.link, s.setting, s.value); err != nil {
			return err
		}
	}
	return nil
}

// setMacvlanUp sets the macvlan up that findLinks has found. The macvlan is down while
// the addresses are not held, so that switches do not learn the virtual MAC where it
// does not belong.
func (m *Manager) setMacvlanUp() error {
	l := m.links[m.cfg.MacvlanName]
	if m.cfg.VirtualMAC == nil || l.enabled {
		return nil
	}
	if err := m.ns.kernel.setUp(l.index, true); err != nil {
		return err
	}
	m.announceAnew() // if somebody had set it down: switches have forgotten it
	return nil
}

// setMacvlanDown undoes setMacvlanUp.
func (m *Manager) setMacvlanDown() error {
	if l, ok := m.links[m.cfg.MacvlanName]; ok && m.isMacvlan(l.name) && !m.occupied {
		return m.ns.kernel.setUp(l.index, false)
	}
	return nil
}

// removeMacvlan deletes the interface with the virtual MAC.
func (m *Manager) removeMacvlan() error {
	if l, ok := m.links[m.cfg.MacvlanName]; ok && m.cfg.VirtualMAC != nil && !m.occupied {
		return m.ns.kernel.removeLink(l.index)
	}
	return nil
}
