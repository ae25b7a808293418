package vip

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Reconfigure goes on with another configuration, whether or not the addresses are held.
// Addresses that stay are not touched. While the addresses are held, new addresses and
// routes are added and announced, and then the ones that are no longer configured are
// removed. Only an address whose length, scope, label or interface changes is removed
// first.
//
// A difference in a field that [Config.Fixed] names is an error. Namespace and Logger
// stay what they are.
//
// Before a new address is added Reconfigure looks and probes for it as Acquire does, and
// fails with an error that wraps ErrInUse. After an error everything is as before. Only
// if the previous addresses cannot be put back they are lost, and [Config.OnLost] is
// called.
func (m *Manager) Reconfigure(ctx context.Context, cfg Config) error {
	next, questions, err := m.prepareConfig(ctx, cfg)
	if err != nil {
		return err
	}
	// Without the mutex: Run renews the addresses meanwhile, or Release removes them.
	if len(questions) > 0 {
		if err := m.ns.probe(ctx, questions, next.Probe); err != nil {
			return fmt.Errorf("vip: %s: reconfigure: %w", next.Name, err)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.life.refuse(ctx, "reconfigure"); err != nil {
		return err
	}
	var lapsed error
	if m.held {
		lapsed = m.leaseError(m.lease)
	}
	if lapsed != nil {
		if err := m.loseAddresses(lapsed); err != nil {
			m.log.Warn("what is configured no more may be left", "err", err)
		}
	}
	before := m.cfg
	if err := m.changeConfig(next, next.lifetime() != before.lifetime()); err != nil {
		err = fmt.Errorf("vip: %s: reconfigure: %w", m.name, err)
		if back := m.changeConfig(before, false); back != nil {
			return errors.Join(err, m.loseAddresses(back))
		}
		m.lease.renewAt = time.Now() // the addresses may have the lifetime of next
		return err
	}
	if m.held && (!slices.Equal(before.Addresses, next.Addresses) || !reflect.DeepEqual(before.Announce, next.Announce)) {
		now := time.Now()
		m.announcer.start(now)
		m.sendAnnouncements(now)
	}
	return lapsed
}

// prepareConfig completes the next configuration, and returns the questions by which to
// probe for new addresses. It fails if a new address is on another interface, or if
// another program has put it there.
func (m *Manager) prepareConfig(ctx context.Context, next Config) (Config, []question, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.life.refuse(ctx, "reconfigure"); err != nil {
		return next, nil, err
	}
	if err := next.Validate(); err != nil {
		return next, nil, fmt.Errorf("vip: %s: reconfigure: %w", m.name, err)
	}
	next = next.WithDefaults()
	next.Namespace, next.Logger = m.cfg.Namespace, m.cfg.Logger
	if fields := m.cfg.Fixed(next); len(fields) > 0 {
		return next, nil, fmt.Errorf("vip: %s: reconfigure: %s cannot change: make another Manager", m.name, strings.Join(fields, ", "))
	}
	if !m.held {
		return next, nil, nil // Acquire will look for them
	}
	fresh := slices.DeleteFunc(slices.Clone(next.Addresses), func(a Address) bool {
		return slices.ContainsFunc(m.cfg.Addresses, a.twin)
	})
	for _, a := range fresh {
		if _, known := m.links[a.Interface]; !known {
			l, err := m.ns.kernel.link(0, a.Interface)
			if err != nil {
				return next, nil, err
			}
			links := maps.Clone(m.links)
			links[a.Interface] = l
			m.setLinks(links)
		}
	}
	have, err := m.ns.kernel.addresses()
	if err == nil {
		m.weighStrangers(m.places(append(m.all().addresses, fresh...)), have)
		err = m.obstacle(fresh, have)
	}
	if err != nil || next.Probe == 0 {
		return next, nil, err
	}
	return next, m.questions(fresh), nil
}

// twin reports whether both are the same address, with whatever length or label.
func (a Address) twin(b Address) bool { return a.Prefix.Addr() == b.Prefix.Addr() }

// The methods below are called with m.mu held.

// changeConfig makes next the configuration. With relet the addresses that stay are
// written, too, for another lease. After an error addresses of both configurations may
// be there.
func (m *Manager) changeConfig(next Config, relet bool) error {
	_, p := m.all().split(
		func(a Address) bool { return slices.Contains(next.Addresses, a) },
		func(r Route) bool { return slices.Contains(next.Routes, r) })
	same := slices.Equal(next.Addresses, m.cfg.Addresses) && slices.Equal(next.Routes, m.cfg.Routes)
	m.adoptConfig(next, p)
	m.announcer.schedule = next.Announce
	defer m.disturb() // there may have been events about what is new
	if same && !relet && p.none() {
		return nil
	}
	if !m.held {
		m.faults.changed()
		m.removeParting(p)
		return nil
	}
	// An address or a route that the kernel takes for a new one goes first.
	first, rest := p.split(
		func(a Address) bool { return slices.ContainsFunc(next.Addresses, a.twin) },
		func(r Route) bool { return slices.ContainsFunc(next.Routes, r.ambiguous) })
	if _, err := m.removeThese(first); err != nil {
		return err
	}
	if err := m.putAddresses(relet); err != nil {
		return err
	}
	m.removeParting(rest)
	if rest.none() {
		return nil
	}
	// The gateway of a route that stays may have been on the link only by an address
	// that is gone. The kernel keeps such a route, but does not take it a second time.
	return m.putRoutes(nil)
}

// removeParting removes what is no longer configured. After an error another try follows
// soon.
func (m *Manager) removeParting(p belongings) {
	if !p.none() {
		if _, err := m.removeThese(p); err != nil {
			m.log.Warn("what is not configured any more was not removed", "err", err)
			m.adoptConfig(m.cfg, p)
			m.lookSoon()
			return
		}
	}
	m.adoptConfig(m.cfg, belongings{})
	m.tellRemovals()
}

// adoptConfig replaces the configuration.
func (m *Manager) adoptConfig(next Config, p belongings) {
	_ = m.ns.join(m, func() { m.cfg, m.parting = next, p }) // a closed Namespace has nothing to tell
	m.lease.lifetime = m.lifetime()
}
