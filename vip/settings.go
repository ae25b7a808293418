package vip

import (
	"errors"
	"slices"
)

// raised is a setting that a Manager has raised.
type raised struct {
	settingKey
	undo func()
}

// raiseSetting makes a setting of an interface at least value until Close. Called with
// m.mu held.
func (m *Manager) raiseSetting(l link, setting int, value uint32) error {
	key := settingKey{l.index, setting}
	if slices.ContainsFunc(m.raised, func(r raised) bool { return r.settingKey == key }) {
		return nil
	}
	undo, err := m.ns.raise(l, setting, value)
	if err != nil {
		return err
	}
	m.raised = append(m.raised, raised{key, undo})
	m.tellRemovals()
	return nil
}

// changed is a setting of an interface that Managers have raised.
type changed struct {
	before uint32
	users  int
}

// settingKey names a setting by the numbers of interface and setting.
type settingKey struct{ index, setting int }

// raise makes a setting of an interface at least value, and returns the undo. The setting
// is restored with the undo of its last user.
func (n *Namespace) raise(l link, setting int, value uint32) (undo func(), err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	key := settingKey{l.index, setting}
	c := n.settings[key]
	if c == nil {
		if l.conf(setting) >= value {
			return func() {}, nil // high enough, and not ours to change
		}
		c = &changed{before: l.conf(setting)}
	}
	if err := n.kernel.configure4(l.index, setting, value); err != nil {
		return nil, err
	}
	n.settings[key] = c
	c.users++
	return func() { n.restore(key) }, nil
}

// before returns the value of a setting before it was raised; false: it was not raised.
func (n *Namespace) before(key settingKey) (value uint32, raised bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.settings[key]
	if c == nil {
		return 0, false
	}
	return c.before, true
}

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
