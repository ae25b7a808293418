package vrrp

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Fixed returns the names of the fields by which next differs from c in a way
// that no [Router] can follow while it runs: another Router has to take its
// place. Nil: [Router.Reconfigure] can go on with next. Of Addresses the family
// is fixed, of Auth whether it is AuthAH, which takes another socket, and of
// Priority whether it is the owner's, 255.
func (c *Config) Fixed(next Config) (fields []string) {
	const usual = 3
	for _, f := range []struct {
		name    string
		differs bool
	}{
		{"VRID", c.VRID != next.VRID},
		{"Version", cmp.Or(c.Version, usual) != cmp.Or(next.Version, usual)},
		{"Priority", c.owner() != next.owner()},
		{"Addresses", c.family() != next.family()},
		{"VirtualMAC", c.VirtualMAC != next.VirtualMAC},
		{"Auth", (c.Auth.Type == AuthAH) != (next.Auth.Type == AuthAH)},
		{"Group", c.Group != next.Group},
	} {
		if f.differs {
			fields = append(fields, f.name)
		}
	}
	return fields
}

// Reconfigure goes on with another configuration, at any time and in any state,
// without a hand-over: all settings count from now on except for Name, Logger
// and OnTransition, which stay. It is an error if cfg is not valid, or if one of
// the fields differs that [Config.Fixed] names. After an error nothing has
// changed.
//
// A Priority that differs from the one configured before takes the place of
// what [Router.SetPriority] has set. A StartDelay counts while the router still
// waits for the one before it.
//
// The router's peers have to be told of the same changes, one after the other,
// and an Active router sends an advertisement at once. Meanwhile:
//
//   - With version 3 a new Interval is learned by the peers. In version 2 they
//     discard what they hear, and take over, until they have the same one.
//   - With AuthHMAC no advertisement is lost if each step is done on all routers
//     before the next one: add the new key to Keys, make it the ActiveKey, take
//     the old one out. HMACPermissive leads from no authentication to AuthHMAC
//     and back in the same way. AuthPass and AuthAH have only one password at a
//     time: all routers must change it before the Backups would take over.
//   - From multicast to Peers, and back, no router hears another one until both
//     have changed: both are Active.
//
// The Handler has its own configuration. Addresses that go are to be off the
// interface before the call, since a peer may take them after it, and those that
// come are to be put after it, and only if the router is still Active. What
// [Router.Farewell] has returned is out of date.
func (r *Router) Reconfigure(cfg Config) error {
	r.conn.update()
	r.conn.mu.Lock()
	defer r.conn.mu.Unlock()
	before := r.cfg
	cfg.Name, cfg.Logger, cfg.OnTransition = before.Name, before.Logger, before.OnTransition
	if err := cfg.succeeds(&before); err != nil {
		return err
	}
	if err := r.conn.carries(&cfg); err != nil {
		return fmt.Errorf("vrrp: %s: %w", r.name, err)
	}
	r.cfg = cfg // the wire's, too
	r.wire.succeed(&before, time.Now())
	if len(cfg.Peers) > 0 {
		r.status.peers = slices.DeleteFunc(r.status.peers, func(p Peer) bool {
			return !slices.Contains(cfg.Peers, p.Address.WithZone(""))
		})
	}
	if !slices.Equal(cfg.Peers, before.Peers) {
		r.home = netip.Addr{} // they may know this router by another address
	}
	r.to = r.destinations()
	if r.phase == running {
		r.conn.count(&before, -1)
		r.conn.count(&cfg, 1)
		r.conn.refresh()
	}
	r.useLocked(func(now time.Time) []Action { return r.machine.reconfigure(now, cfg) })
	r.meet()
	r.warnOfChange(&before)
	return nil
}

// warnOfChange says what makes others take over until they are changed, too.
// conn.mu is held.
func (r *Router) warnOfChange(before *Config) {
	was, are := before.Addresses, r.cfg.Addresses
	r.wire.theirs.sort(was)
	if !r.wire.ours.shares(&r.wire.theirs) {
		r.note(func() {
			r.log.Warn("no address is the same as before: until the other routers have the new ones, too, they hold the old ones and this one the new ones", "was", was, "are", are)
		})
	}
	if from, to := before.Interval, r.cfg.Interval; from != to && r.cfg.Version == 2 {
		r.note(func() {
			r.log.Warn("another interval: until the other routers have it, too, they do not hear this one and hold the addresses as well", "was", from, "is", to)
		})
	}
}

// succeeds validates c and tells whether a running router that has before can
// go on with it.
func (c *Config) succeeds(before *Config) error {
	if err := c.validate(); err != nil {
		return err
	}
	if fields := before.Fixed(*c); len(fields) > 0 {
		return fmt.Errorf("vrrp: %s: %s cannot be changed: make another Router", c.Name, strings.Join(fields, ", "))
	}
	return nil
}

// Reconfigure goes on with another configuration, as [Router.Reconfigure] does.
// Name stays, and so does what SetSource has told.
func (m *Machine) Reconfigure(now time.Time, cfg Config) ([]Action, error) {
	cfg.Name = m.cfg.Name
	if err := cfg.succeeds(&m.cfg); err != nil {
		return nil, err
	}
	return m.reconfigure(now, cfg), nil
}

// reconfigure is Reconfigure with what succeeds the configuration.
func (m *Machine) reconfigure(now time.Time, cfg Config) []Action {
	m.begin(now)
	before, wait := m.cfg, m.wait()
	m.cfg = cfg
	if cfg.Priority != before.Priority {
		m.priority = cfg.Priority
	}
	if m.now.Before(m.notBefore) {
		m.notBefore = latest(m.notBefore.Add(cfg.StartDelay-before.StartDelay), m.now)
	}
	switch m.state {
	case Initialize:
		m.interval = cfg.Interval
	case Backup:
		m.adjust(wait)
		// Who has begun to preempt waits for another PreemptDelay anew.
		m.reconsider(cfg.PreemptDelay != before.PreemptDelay)
	case Active:
		m.setInterval()
		m.send(m.priority)
		m.timer = m.now.Add(m.interval)
	}
	return m.end()
}

// setInterval makes an Active router advertise at its configured interval. A
// longer one counts only when several advertisements have told of it: a Backup
// that has missed one of them would take over before the next one.
func (m *Machine) setInterval() {
	m.lengthens = 0
	if m.cfg.Interval > m.interval {
		m.lengthens = m.cfg.DownMultiplier
	} else {
		m.interval = m.cfg.Interval
	}
}
