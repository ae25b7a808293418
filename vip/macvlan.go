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

// macvlanName returns the default name of the macvlan with a hardware address. It is
// Keepalived's: vrrp.51, and vrrp6.51 for IPv6.
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

// The macvlan is the interface with the virtual MAC. It is down while the addresses are not
// held, so that switches do not learn the virtual MAC where it does not belong.

// isMacvlan reports whether an interface is the macvlan. Without a virtual MAC the
// macvlan's name is empty, which no interface has.
func (c Config) isMacvlan(name string) bool { return name == c.MacvlanName }

// macvlan returns the macvlan as last seen.
func (v *view) macvlan() (l link, ok bool) {
	l, ok = v.links[v.cfg.MacvlanName]
	return l, ok
}

// findMacvlan finds the macvlan, or makes it, down. The kernel deletes it together with its
// parent.
func (v *view) findMacvlan() (parent, l link, err error) {
	k, name, mac := v.ns.kernel, v.cfg.MacvlanName, v.cfg.VirtualMAC
	if parent, err = k.link(v.links[v.cfg.Interface].index, v.cfg.Interface); err != nil {
		return parent, l, err
	}
	l, err = k.link(0, name)
	if err == nil && l.index == v.links[name].index && l.parent != parent.index {
		// The macvlan is on an interface whose name another one has got since.
		if err := k.removeLink(l.index); err != nil {
			return parent, l, err
		}
		l, err = k.link(0, name)
	}
	if errors.Is(err, ErrNoInterface) {
		if failed := k.addMacvlan(name, parent.index, mac); failed != nil {
			return parent, l, fmt.Errorf("%w: %w", failed, err) // both: nothing can be left on it
		}
		l, err = k.link(0, name)
	}
	if err == nil && (l.parent != parent.index || !bytes.Equal(l.mac, mac)) {
		err = fmt.Errorf("vip: interface %s exists, and is not a macvlan with address %v on %s: %w", name, mac, v.cfg.Interface, ErrInUse)
	}
	// For announcements: the kernel needs a moment until it says so.
	l.up = parent.up
	return parent, l, err
}

// The methods below are called with m.mu held.

// prepareMacvlan is findMacvlan, and raises the settings that keep the two interfaces,
// which see the same link, from answering for each other.
func (m *Manager) prepareMacvlan() (link, error) {
	parent, l, err := m.findMacvlan()
	if err != nil {
		return link{}, err
	}
	for _, s := range []struct {
		link    link
		setting int
		value   uint32
	}{
		// Answer ARP only for addresses on the interface that was asked.
		{parent, confARPIgnore, 1},
		{l, confARPIgnore, 1},
		// Packets from a virtual address leave by the parent, which has the routes.
		// ARP requests for them must not claim the address for the parent.
		{parent, confARPAnnounce, 2},
		// Packets come in by the macvlan, and their way back is through the parent:
		// 2 is loose, which wins over a strict net.ipv4.conf.all.rp_filter.
		{l, confRPFilter, 2},
	} {
		if err := m.raiseSetting(s.link, s.setting, s.value); err != nil {
			return l, err
		}
	}
	return l, nil
}

// setMacvlanUp sets the macvlan up, which findLinks has found.
func (m *Manager) setMacvlanUp() error {
	l, ok := m.macvlan()
	if !ok || l.enabled {
		return nil
	}
	if err := m.ns.kernel.setUp(l.index, true); err != nil {
		return err
	}
	m.announceAnew() // a link that was set down is forgotten by the switches
	return nil
}

// setMacvlanDown undoes setMacvlanUp.
func (v *view) setMacvlanDown() error {
	if l, ok := v.macvlan(); ok && !v.occupied {
		return v.ns.kernel.setUp(l.index, false)
	}
	return nil
}

// removeMacvlan deletes the macvlan.
func (v *view) removeMacvlan() error {
	if l, ok := v.macvlan(); ok && !v.occupied {
		return v.ns.kernel.removeLink(l.index)
	}
	return nil
}
