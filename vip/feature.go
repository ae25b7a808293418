package vip

import (
	"errors"
	"log/slog"
	"net/netip"
	"slices"

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

// raiseSetting makes a setting of an interface at least value until Close. Called with
// m.mu held.
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
