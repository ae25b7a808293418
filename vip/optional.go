package vip

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// The methods in this file are called with m.mu held.

// noteLack takes note of what the other addresses are held without, and why. It is
// tried again soon.
func (m *Manager) noteLack(what string, err error) {
	m.lacking[what] = err
	m.lookSoon()
}

// lacksAddress reports whether the other addresses are held without one.
func (m *Manager) lacksAddress(p netip.Prefix) bool { return m.lacking[p.String()] != nil }

// withoutLacking returns those of the addresses that the others are not held without.
func (m *Manager) withoutLacking(list []assigned) []assigned {
	return slices.DeleteFunc(slices.Clone(list), func(a assigned) bool { return m.lacksAddress(a.prefix) })
}

// putAddress puts an address, unless it is optional and cannot be put.
func (m *Manager) putAddress(a assigned, fresh bool) error {
	err := m.ns.kernel.put(a, fresh)
	optional := slices.ContainsFunc(m.cfg.Addresses, func(o Address) bool { return o.Optional && o.Prefix == a.prefix })
	if err != nil && optional {
		m.noteLack(a.prefix.String(), err)
		return nil
	}
	return err
}

// putRoutes puts the routes, but for optional ones that cannot be put. anew has the
// addresses that have been put just now.
func (m *Manager) putRoutes(anew []assigned) error {
	for _, r := range m.cfg.Routes {
		err := m.putRoute(r, m.links[r.Interface].index, anew)
		if err != nil && !r.Optional {
			return err
		}
		if err != nil {
			m.noteLack("route to "+r.Destination.String(), err)
		}
	}
	return nil
}

func (m *Manager) putRoute(r Route, index int, anew []assigned) error {
	if r.Source.Is6() && slices.ContainsFunc(anew, func(a assigned) bool { return a.prefix.Addr() == r.Source }) {
		// When an address goes, IPv6 leaves routes without their source, and
		// does not tell such a route from one with it.
		if err := m.ns.kernel.removeRoute(r, index); err != nil {
			return err
		}
	}
	return m.ns.putRoute(m, r, index)
}

// lackError returns what the addresses are held without.
func (m *Manager) lackError() error {
	if !m.held || len(m.lacking) == 0 {
		return nil
	}
	var list []string
	for _, what := range slices.Sorted(maps.Keys(m.lacking)) {
		list = append(list, fmt.Sprintf("%s (%v)", what, m.lacking[what]))
	}
	return fmt.Errorf("vip: %s: held without %s", m.name, strings.Join(list, ", "))
}
