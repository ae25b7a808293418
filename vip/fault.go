package vip

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
)

// faultWatcher is what WatchFaults was called with. told and last belong to Run's
// goroutine.
type faultWatcher struct {
	f    func(lost error, faults []string)
	told bool
	last []string // the faults in the last call
}

// knownFaults are the reasons that the addresses could not be held, and who hears of them.
type knownFaults struct {
	some     atomic.Bool // list is not empty: for goroutines that must not wait
	list     []string
	watchers []*faultWatcher
	watched  bool   // there was a watcher once
	failed   bool   // the last Acquire failed
	failedIn string // the surroundings after it, as last seen; empty: not seen yet
	hope     bool   // the surroundings have changed: Acquire may succeed now
}

// acquired takes note of the outcome of an Acquire.
func (f *knownFaults) acquired(ok bool) {
	f.failed = !ok
	if !ok {
		f.failedIn = ""
	}
}

// compare takes note of the surroundings after an Acquire that failed.
func (f *knownFaults) compare(now string) {
	f.hope = f.hope || f.failedIn != "" && now != f.failedIn
	f.failedIn = now
}

// changed takes note of another configuration, with which an Acquire may succeed.
func (f *knownFaults) changed() { f.hope = f.hope || f.failed }

// WatchFaults makes the Manager call f with the reasons that the addresses could not be
// held now, as far as they are known without an Acquire: an interface is missing or down,
// or has IPv6 disabled; an address is another program's, or on another interface. No
// faults: the addresses could be held. f is called after Run's first look, whenever the
// faults change, and when anything has changed since an Acquire failed. lost is the reason
// that held addresses were lost since the last call, as for [Config.OnLost], or nil.
//
// f is called from Run's goroutine and must return soon. f may call the Manager. One more
// call may come after stop. A nil f is no watcher.
//
// A Router of package vrrp watches the Manager that is its Handler.
func (m *Manager) WatchFaults(f func(lost error, faults []string)) (stop func()) {
	if f == nil {
		return func() {}
	}
	w := &faultWatcher{f: f}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults.watchers, m.faults.watched = append(m.faults.watchers, w), true
	m.poke()
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.faults.watchers = slices.DeleteFunc(m.faults.watchers, func(o *faultWatcher) bool { return o == w })
	}
}

// tellFaults tells the watchers of changes. lost is why addresses were lost since the last
// call, or nil.
func (m *Manager) tellFaults(lost error) {
	m.mu.Lock()
	watchers, faults, hope := slices.Clone(m.faults.watchers), slices.Clone(m.faults.list), m.faults.hope
	if problem := "addresses: " + m.status.Problem; !m.life.settled && m.status.Problem != "" && !slices.Contains(faults, problem) {
		faults = append(faults, problem)
	}
	known := m.life.settled || m.status.Problem != ""
	m.faults.hope = false
	m.mu.Unlock()
	for _, w := range watchers {
		if lost != nil || known && (hope || !w.told || !slices.Equal(w.last, faults)) {
			w.told, w.last = true, faults
			w.f(lost, faults)
		}
	}
}

// The methods below are called with m.mu held.

// findFaults finds out why the addresses could not be held, and whether the surroundings
// have changed since an Acquire failed. absent has the interfaces that were not found.
func (m *Manager) findFaults(have []assigned, absent map[string]error) {
	down, other := m.faultsOfLinks(absent)
	if !m.held {
		if err := m.obstacle(m.cfg.Addresses, have); err != nil {
			other = append(other, err.Error())
		}
		other = append(other, m.routeFaults(have)...)
	}
	m.faults.list = slices.Concat(down, other)
	m.faults.some.Store(len(m.faults.list) > 0)
	if m.faults.failed {
		m.faults.compare(m.surroundings(have))
	}
	if len(other) > 0 || m.faults.failed {
		m.lookSoon() // not every improvement comes with an event
	}
}

// obstacle returns an error if one of have, the addresses of all interfaces, is in the way
// of addresses that are not held.
func (v *view) obstacle(addresses []Address, have []assigned) error {
	if v.cfg.Owner {
		return elsewhere(v.targets(addresses), have, v.ns.kernel.link)
	}
	var foreign []string
	strangers := equals(v.places(addresses), have, func(h assigned) bool { return !v.isOurs(h) })
	for _, s := range strangers {
		l, err := v.ns.kernel.link(s.index, "")
		if err != nil {
			return err
		}
		refusal := ""
		if v.cfg.Takeover {
			refusal = fmt.Sprintf(", which takeover leaves (%s)", v.spared.keeps(s))
		}
		foreign = append(foreign, fmt.Sprintf("%v on %s is another program's%s, %s", s.prefix, l.name, refusal, s.remover(l.name)))
	}
	if len(foreign) > 0 {
		return fmt.Errorf("vip: %s: %w", strings.Join(foreign, "; "), ErrInUse)
	}
	return elsewhere(v.targets(addresses), have, v.ns.kernel.link)
}

// routeFaults returns the routes that the kernel would refuse because their gateways are
// not on the link: neither by an address that is there or comes with the routes, nor by
// another route.
func (v *view) routeFaults(have []assigned) []string {
	var out []string
	for _, r := range v.cfg.Routes {
		l := v.links[r.Interface]
		usual := !r.Optional && r.Gateway.IsValid() && !r.Gateway.IsLinkLocalUnicast() && r.Table == mainTable
		if !usual || !l.enabled || l.no6 && r.Gateway.Is6() {
			continue // needs no neighbour, has a fault already, or the kernel looks elsewhere
		}
		near := slices.ContainsFunc(have, func(h assigned) bool { return h.index == l.index && h.prefix.Contains(r.Gateway) }) ||
			slices.ContainsFunc(v.cfg.Routes, func(o Route) bool {
				return o.Interface == r.Interface && !o.Gateway.IsValid() && o.Destination.Contains(r.Gateway)
			}) || v.ns.promises(r.Interface, r.Gateway)
		if near {
			continue
		}
		if on, err := v.ns.kernel.onLink(r.Gateway, l.index); err == nil && !on {
			out = append(out, fmt.Sprintf("route to %v: gateway %v is not on the link of %s", r.Destination, r.Gateway, r.Interface))
		}
	}
	return out
}

// surroundings renders everything visible that may make an Acquire fail, without what an
// Acquire itself changes.
func (v *view) surroundings(have []assigned) string {
	var b strings.Builder
	for _, name := range v.interfaces() {
		l := v.links[name]
		if v.cfg.isMacvlan(name) {
			l.up, l.enabled = false, false
		}
		fmt.Fprintln(&b, name, l.index, l.mac, l.up, l.enabled, l.no6)
		for _, h := range have {
			if h.index == l.index && !v.ns.comesAndGoes(h.prefix.Addr()) {
				fmt.Fprintln(&b, h.prefix)
			}
		}
	}
	return b.String()
}

// needs6 reports whether an address or a route on an interface needs IPv6, and is not
// optional.
func (c Config) needs6(name string) bool {
	return slices.ContainsFunc(c.Addresses, func(a Address) bool {
		return a.Interface == name && is6(a.Prefix) && !a.Optional
	}) ||
		slices.ContainsFunc(c.Routes, func(r Route) bool {
			return r.Interface == name && is6(r.Destination) && !r.Optional
		})
}

func is6(p netip.Prefix) bool { return p.Addr().Is6() }
