package vip

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"

	"github.com/havip/havip/internal/inet"
	"github.com/havip/havip/vip/internal/hook"
)

// feature is something beside the addresses that is there while they are held.
type feature struct {
	add    func() error
	remove func() error // also what a predecessor has added
}

// features returns the features in the order in which they are added, before the
// addresses. They are removed in reverse order, after the addresses.
func (m *Manager) features() []feature {
	return []feature{
		{m.setMacvlanUp, m.setMacvlanDown},
		{func() error { return m.filter.install(m.cfg.addrs()) }, func() error { return m.filter.remove(m.cfg.addrs()) }},
	}
}

// packetFilter drops what is sent to the addresses, for NoAccept.
type packetFilter struct {
	hook.Filter
	name  string // the Manager's
	drops bool   // NoAccept
	mine  bool   // the Manager's own may be there
	swept bool   // none of a predecessor's is
}

// install drops what is sent to addrs.
func (f *packetFilter) install(addrs []netip.Addr) error {
	if !f.drops {
		return nil
	}
	f.mine = true
	return f.Drop(f.name, addrs)
}

// restore installs the filter again if it is not in force any more: many a firewall begins
// with "nft flush ruleset".
func (f *packetFilter) restore(addrs []netip.Addr, log *slog.Logger) error {
	if !f.drops {
		return nil
	}
	intact, err := f.Intact(f.name, addrs)
	if err != nil || intact {
		return err
	}
	warnOften(log, "the filter for what is sent to the addresses had gone, putting it back")
	return f.install(addrs)
}

// remove undoes install. The first time it removes the filters that a predecessor has
// left for the addresses, under whatever name, even if this Manager drops nothing.
func (f *packetFilter) remove(addrs []netip.Addr) error {
	var passed, swept error
	if !f.swept {
		if swept = f.Sweep(addrs); !f.drops && errors.Is(swept, errors.ErrUnsupported) {
			swept = nil // nothing can be left
		}
		f.swept = swept == nil
	}
	if f.mine {
		passed = f.Pass(f.name)
		f.mine = passed != nil
	}
	return errors.Join(swept, passed)
}

// settingKey names a setting by the numbers of interface and setting.
type settingKey struct{ index, setting int }

// raiseSetting makes a setting of an interface at least value until Close, or until the
// Manager uses the interface no more. Called with m.mu held.
func (m *Manager) raiseSetting(l link, setting int, value uint32) error {
	key := settingKey{l.index, setting}
	if slices.Contains(m.raised, key) {
		return nil
	}
	raised, err := m.ns.raise(key, l.conf(setting), value)
	if raised {
		m.raised = append(m.raised, key)
		m.tellRemovals()
	}
	return err
}

// restoreSettings undoes raiseSetting for the settings that are selected. Called with m.mu
// held.
func (m *Manager) restoreSettings(selects func(settingKey) bool) {
	selected, rest := split(m.raised, selects)
	for _, key := range selected {
		m.ns.restore(key)
	}
	m.raised = rest
}

// changed is a setting of an interface that Managers have raised.
type changed struct {
	before uint32
	users  int
}

// raise makes a setting of an interface, as last seen, at least value until restore. It
// returns false if the setting is high enough anyway. The setting is restored with its
// last user.
func (n *Namespace) raise(key settingKey, seen, value uint32) (raised bool, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.settings[key]
	if c == nil {
		if seen >= value {
			return false, nil
		}
		c = &changed{before: seen}
	}
	if err := n.kernel.configure4(key.index, key.setting, value); err != nil {
		return false, err
	}
	n.settings[key] = c
	c.users++
	return true, nil
}

// before returns the value of a raised setting before it was raised.
func (n *Namespace) before(key settingKey) uint32 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.settings[key].before
}

// restore undoes raise.
func (n *Namespace) restore(key settingKey) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.settings[key]
	if c.users--; c.users > 0 {
		return
	}
	delete(n.settings, key)
	if err := n.kernel.configure4(key.index, key.setting, c.before); err != nil && !errors.Is(err, ErrNoInterface) {
		n.log.Warn("a setting of an interface was not put back", "err", err)
	}
}

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

// prepareMacvlan finds the macvlan, or makes it, down, and raises the settings that keep the
// two interfaces, which see the same link, from answering for each other. The kernel
// deletes the macvlan together with its parent. Called with m.mu held.
func (m *Manager) prepareMacvlan() (link, error) {
	k, name, mac := m.ns.kernel, m.cfg.MacvlanName, m.cfg.VirtualMAC
	parent, err := k.link(m.links[m.cfg.Interface].index, m.cfg.Interface)
	if err != nil {
		return link{}, err
	}
	l, err := k.link(0, name)
	if err == nil && l.index == m.links[name].index && l.parent != parent.index {
		// The macvlan is on an interface whose name another one has got since.
		if err := k.removeLink(l.index); err != nil {
			return l, err
		}
		l, err = k.link(0, name)
	}
	if errors.Is(err, ErrNoInterface) {
		if failed := k.addMacvlan(name, parent.index, mac); failed != nil {
			return l, fmt.Errorf("%w: %w", failed, err) // both: nothing can be left on it
		}
		l, err = k.link(0, name)
	}
	if err == nil && (l.parent != parent.index || !bytes.Equal(l.mac, mac)) {
		err = fmt.Errorf("vip: interface %s exists, and is not a macvlan with address %v on %s: %w", name, mac, m.cfg.Interface, ErrInUse)
	}
	if err != nil {
		return l, err
	}
	l.up = parent.up // for announcements: the kernel needs a moment until it says so
	return l, cmp.Or(
		// Answer ARP only for addresses on the interface that was asked.
		m.raiseSetting(parent, confARPIgnore, 1),
		m.raiseSetting(l, confARPIgnore, 1),
		// Packets from a virtual address leave by the parent, which has the routes.
		// ARP requests for them must not claim the address for the parent.
		m.raiseSetting(parent, confARPAnnounce, 2),
		// Packets come in by the macvlan, and their way back is through the parent:
		// 2 is loose, which wins over a strict net.ipv4.conf.all.rp_filter.
		m.raiseSetting(l, confRPFilter, 2))
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
