package vip

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// lacks are what the other addresses are held without, and why.
type lacks map[string]error

// address reports whether an address is lacking.
func (l lacks) address(p netip.Prefix) bool { return l[p.String()] != nil }

// without returns those of the addresses that are not lacking.
func (l lacks) without(list []assigned) []assigned {
	return slices.DeleteFunc(slices.Clone(list), func(a assigned) bool { return l.address(a.prefix) })
}

// err says what is lacking.
func (l lacks) err() error {
	if len(l) == 0 {
		return nil
	}
	var list []string
	for _, what := range slices.Sorted(maps.Keys(l)) {
		list = append(list, fmt.Sprintf("%s (%v)", what, l[what]))
	}
	return fmt.Errorf("held without %s", strings.Join(list, ", "))
}

// The methods below are called with m.mu held.

// noteLack takes note of what the other addresses are held without, and why. Another
// try follows soon.
func (m *Manager) noteLack(what string, err error) {
	m.lacking[what] = err
	m.lookSoon()
}

// putAddress puts an address. An optional one that cannot be put is lacking.
func (m *Manager) putAddress(a assigned, fresh bool) error {
	err := m.ns.kernel.put(a, fresh)
	optional := slices.ContainsFunc(m.cfg.Addresses, func(o Address) bool { return o.Optional && o.Prefix == a.prefix })
	if err != nil && optional {
		m.noteLack(a.prefix.String(), err)
		return nil
	}
	return err
}

// putRoutes puts the routes. An optional one that cannot be put is lacking. anew has the
// addresses that were put just now.
func (m *Manager) putRoutes(anew []assigned) error {
	for _, r := range m.cfg.Routes {
		err := m.ns.putRoute(m, r, m.links[r.Interface].index, anew)
		if err != nil && !r.Optional {
			return err
		}
		if err != nil {
			m.noteLack("route to "+r.Destination.String(), err)
		}
	}
	return nil
}
