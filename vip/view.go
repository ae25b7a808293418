package vip

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"sync/atomic"
)

// view is what is configured, and the kernel's state as last seen. The Manager's mutex
// guards a view, but for what is atomic.
type view struct {
	ns  *Namespace
	cfg Config
	// parting is no longer configured, and not removed yet: it stays in Removals, and
	// its addresses count as virtual.
	parting belongings

	links     map[string]link                 // by name; replaced, never changed
	published atomic.Pointer[map[string]link] // links, for goroutines that must not wait
	own       atomic.Pointer[[]netip.Addr]    // those of the addresses that the host owns; nil: not known yet
	occupied  bool                            // the macvlan has an address that no Manager has put there
	seen      map[target]bool                 // the places at which addresses were looked for
	spared    spared
}

// setLinks replaces the links.
func (v *view) setLinks(links map[string]link) {
	v.links = links
	v.published.Store(&links)
}

// uses reports whether an interface is among the links. It never waits.
func (v *view) uses(index int) bool {
	for _, l := range *v.published.Load() {
		if l.index == index {
			return true
		}
	}
	return false
}

// belongings are addresses and routes.
type belongings struct {
	addresses []Address
	routes    []Route
}

func (b belongings) none() bool { return len(b.addresses)+len(b.routes) == 0 }

// split divides b into what is selected and the rest.
func (b belongings) split(address func(Address) bool, route func(Route) bool) (selected, rest belongings) {
	selected.addresses, rest.addresses = split(b.addresses, address)
	selected.routes, rest.routes = split(b.routes, route)
	return selected, rest
}

func split[T any](list []T, selects func(T) bool) (selected, rest []T) {
	for _, x := range list {
		if selects(x) {
			selected = append(selected, x)
		} else {
			rest = append(rest, x)
		}
	}
	return selected, rest
}

// all returns what is configured and what is parting.
func (v *view) all() belongings {
	return belongings{slices.Concat(v.cfg.Addresses, v.parting.addresses), slices.Concat(v.cfg.Routes, v.parting.routes)}
}

// interfaces returns the names of the interfaces of all addresses and routes, each once.
func (v *view) interfaces() []string { return v.cfg.interfaces(v.parting) }

// places returns the addresses whose interface exists, each with its index.
func (v *view) places(addresses []Address) []target {
	var out []target
	for _, a := range addresses {
		if l, ok := v.links[a.Interface]; ok {
			out = append(out, target{Address: a, index: l.index})
		}
	}
	return out
}

// foreign reports whether a sighting is another host's, and on which interface. It never
// waits.
func (v *view) foreign(s sighting) (ifname string, foreign bool) {
	links := *v.published.Load()
	for _, a := range v.cfg.Addresses {
		if a.Prefix.Addr() != s.addr {
			continue
		}
		l := links[a.Interface]
		if l.index == s.index {
			return l.name, !bytes.Equal(s.mac, l.mac)
		}
		// Another holder has the virtual MAC too, and a macvlan does not hear
		// what comes from its own address. Its parent hears it, and what the
		// macvlan itself sends it does not.
		if parent := links[v.cfg.Interface]; v.cfg.isMacvlan(a.Interface) && parent.index == s.index {
			return parent.name, bytes.Equal(s.mac, l.mac)
		}
	}
	return "", false
}

// questions returns by which interfaces to ask for addresses, without those whose
// interface is missing or down.
func (v *view) questions(addresses []Address) []question {
	var out []question
	for _, a := range addresses {
		name := a.Interface
		if v.cfg.isMacvlan(name) {
			// With the parent's hardware address: a frame from the virtual MAC
			// would make switches send the present holder's frames to this host.
			name = v.cfg.Interface
		}
		if l, ok := v.links[name]; ok && l.ethernet && l.up {
			out = append(out, question{a.Prefix.Addr(), l})
		}
	}
	return out
}

// faultsOfLinks returns which interfaces are down or missing, and other faults, of whose end the
// kernel may not tell. The macvlan itself is no fault: it is down while the addresses are
// not held.
func (v *view) faultsOfLinks(absent map[string]error) (down, other []string) {
	for _, name := range v.cfg.interfaces(belongings{}) {
		l, err := v.links[name], absent[name]
		switch {
		case err != nil && !errors.Is(err, ErrNoInterface):
			other = append(other, "addresses: "+err.Error())
		case v.cfg.isMacvlan(name):
		case err != nil:
			down = append(down, fmt.Sprintf("link %s missing", name))
		case !l.up:
			down = append(down, fmt.Sprintf("link %s down", name))
		}
		if err == nil && l.no6 && v.cfg.needs6(name) {
			other = append(other, fmt.Sprintf("IPv6 disabled on %s", name))
		}
	}
	return down, other
}

// Removals are netlink messages by which another process cleans up for this one: see
// package guard. They name interfaces by their present indexes, so they go out of date:
// see [Config.OnRemovals]. Treat them as read-only.
type Removals struct {
	// Requests (NETLINK_ROUTE) remove the routes and the addresses, and set the
	// macvlan down. A request for something that is not there fails, without harm.
	Requests [][]byte
	// Filters (NETLINK_NETFILTER) remove the packet filter of NoAccept.
	Filters [][]byte
	// Settings (NETLINK_ROUTE) restore settings of interfaces. Carry them out after
	// the Requests of all Managers, which rely on the raised settings.
	Settings [][]byte
}

// Removals returns the messages that would clean up now; none before the first look of
// Run, Acquire or Check. Removals never waits, and OnRemovals may call it.
func (m *Manager) Removals() Removals {
	if now := m.toClean.Load(); now != nil {
		return *now
	}
	return Removals{}
}

// tellRemovals updates what Removals returns, and calls OnRemovals if there is a change.
// Called with m.mu held.
func (m *Manager) tellRemovals() {
	now, before := m.removals(m.raised), m.toClean.Load()
	if before != nil && reflect.DeepEqual(now, *before) {
		return
	}
	m.toClean.Store(&now)
	if tell := m.cfg.OnRemovals; tell != nil {
		tell(now)
	}
}

// removals returns the messages that clean up, with those for raised settings.
func (v *view) removals(settings []settingKey) (out Removals) {
	out.Requests = v.ns.kernel.record(func(k kernel) {
		for _, r := range v.all().routes {
			if l, ok := v.links[r.Interface]; ok {
				k.removeRoute(r, l.index)
			}
		}
		for _, t := range v.targets(v.all().addresses) {
			if v.seen[t] { // else it was not added, and may be the host's own
				k.remove(assigned{index: t.index, prefix: t.Prefix})
			}
		}
		if l, ok := v.macvlan(); ok && !v.occupied {
			k.setUp(l.index, false)
		}
	})
	if v.cfg.NoAccept {
		out.Filters = [][]byte{v.ns.kernel.filterRemoval(v.cfg.Name)}
	}
	out.Settings = v.ns.kernel.record(func(k kernel) {
		for _, s := range settings {
			k.configure4(s.index, s.setting, v.ns.before(s))
		}
	})
	return out
}
