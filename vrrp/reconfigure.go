package vrrp

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Fixed returns the names of the fields by which next differs from c in a way
// that no [Router] can follow while it runs: another Router has to take its
// place. Nil: [Router.Reconfigure] can go on with next. Of Addresses the family is
// fixed, which IPv6 says where there are none, of Auth whether it is AuthAH, which
// takes another socket, and of Priority whether it is the owner's, 255.
func (c Config) Fixed(next Config) (fields []string) {
	c, next = c.WithDefaults(), next.WithDefaults()
	for _, f := range []struct {
		name    string
		differs bool
	}{
		{"VRID", c.VRID != next.VRID},
		{"Version", c.Version != next.Version},
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
// and OnTransition, which stay. It is an error if cfg is not valid, if one of
// the fields differs that [Config.Fixed] names, or, [ErrClosed], if the router has
// ended. After an error nothing has changed.
//
// A Priority that differs from the one configured before takes the place of
// what [Router.SetPriority] has set. A StartDelay counts while the router still
// waits for the one before it.
//
// The router's peers have to be told of the same changes, one after the other,
// and an Active router sends an advertisement at once. Meanwhile:
//
//   - What the router had before counts for ten minutes yet: a Backup that is
//     changed first follows the Active one, whose addresses, or interval with
//     version 2, are still the former ones, and nobody notices the change.
//   - If the Active one is changed first, and has no address left that its peers
//     know, or with version 2 another Interval, they take over, and both hold
//     until the peers are changed, too. A peer of this package hears then at once
//     whom it could not heed before. Keepalived before 2.3.3 does the same if the
//     addresses are not exactly its own.
//   - With version 3 the peers learn a new Interval.
//   - With AuthHMAC no advertisement is lost if each step is done on all routers
//     before the next one: add the new key to Keys, make it the ActiveKey, take
//     the old one out. HMACPermissive leads from no authentication to AuthHMAC
//     and back in the same way. AuthPass and AuthAH have only one password at a
//     time: all routers must change it before the Backups would take over.
//   - From multicast to Peers, and back, no router hears another one until both
//     have changed: both are Active.
//
// Whoever keeps the addresses has a configuration of his own, which is to be
// changed first: what goes is then off the interface before a peer may take it, and
// nobody hears of an address that cannot be had. But not where [Router.Meets] says
// that another router has the new addresses. What [Router.Farewell] has returned is
// out of date.
func (r *Router) Reconfigure(cfg Config) error {
	r.conn.updateForRouter()
	r.conn.mu.Lock()
	defer r.conn.mu.Unlock()
	if r.phase == stopped || r.conn.closed {
		return fmt.Errorf("vrrp: %s: %w", r.name, ErrClosed)
	}
	before := r.cfg
	cfg.Name, cfg.Logger, cfg.OnTransition = before.Name, before.Logger, before.OnTransition
	cfg, err := before.follow(cfg)
	if err != nil {
		return err
	}
	if err := r.conn.carriesConfig(&cfg); err != nil && r.conn.carriesConfig(&before) == nil {
		return fmt.Errorf("vrrp: %s: %w", r.name, err)
	}
	r.cfg = cfg // the wire's, too
	r.wire.keepFormer(&before, time.Now())
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
		r.conn.countAddresses(&before, -1)
		r.conn.countAddresses(&cfg, 1)
		r.conn.refreshRouters()
	}
	r.useMachineLocked(func(now time.Time) []Action { return r.machine.reconfigure(now, cfg) })
	r.meet()
	r.warnOfChange(&before)
	return nil
}

// warnOfChange says what becomes of routers that are still to be changed. conn.mu
// is held.
func (r *Router) warnOfChange(before *Config) {
	level, so := slog.LevelInfo, "until they are changed, too, it follows the others"
	if r.isActive() {
		level, so = slog.LevelWarn, "until the others are changed, too, both hold"
	}
	log := func(level slog.Level, text string, was, is any) {
		r.log.Log(context.Background(), level, text, "was", was, "is", is)
	}
	say := func(what string, was, is any) { log(level, what+" than before: "+so, was, is) }
	const unheard = "until the others are changed, too, nobody is heard, and both hold"
	r.wire.theirs.sort(before.Addresses)
	switch {
	case !r.wire.theirs.shares(&r.wire.ours): // as the others see it
		say("quite other addresses", before.Addresses, r.cfg.Addresses)
	case r.isActive() && !slices.Equal(r.wire.ours.sorted, r.wire.theirs.sorted):
		log(slog.LevelWarn, "other addresses than before: a Keepalived before 2.3.3 takes over until it has the same", before.Addresses, r.cfg.Addresses)
	}
	if (len(before.Peers) == 0) != (len(r.cfg.Peers) == 0) {
		log(slog.LevelWarn, "peers instead of multicast, or the reverse: "+unheard, before.Peers, r.cfg.Peers)
	}
	if one := before.Auth.onePassword() || r.cfg.Auth.onePassword(); one && (before.Auth.Type != r.cfg.Auth.Type || before.Auth.Password != r.cfg.Auth.Password) {
		log(slog.LevelWarn, "another password than before: "+unheard, before.Auth.Type, r.cfg.Auth.Type)
	}
	if r.cfg.Version == 2 && r.cfg.Interval != before.Interval {
		say("another interval", before.Interval, r.cfg.Interval)
	}
}

// onePassword reports whether all routers have to change what they authenticate with
// at the same time.
func (a Auth) onePassword() bool { return a.Type == AuthPass || a.Type == AuthAH }

// follow returns next complete, if a running router that has c can go on with it.
func (c Config) follow(next Config) (Config, error) {
	next, err := next.complete()
	if fields := c.Fixed(next); err == nil && len(fields) > 0 {
		err = fmt.Errorf("vrrp: %s: %s cannot be changed: make another Router", next.Name, strings.Join(fields, ", "))
	}
	return next, err
}

// Reconfigure goes on with another configuration, as [Router.Reconfigure] does.
// Name stays, and so does what SetSource has told.
func (m *Machine) Reconfigure(now time.Time, cfg Config) ([]Action, error) {
	cfg.Name = m.cfg.Name
	cfg, err := m.cfg.follow(cfg)
	if err != nil {
		return nil, err
	}
	return m.reconfigure(now, cfg), nil
}

// reconfigure is Reconfigure with what succeeds the configuration.
func (m *Machine) reconfigure(now time.Time, cfg Config) []Action {
	m.beginStep(now)
	before, wait := m.cfg, m.downWait()
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
		m.adjustTimer(wait)
		// Who has begun to preempt waits for another PreemptDelay anew.
		m.reconsiderActive(cfg.PreemptDelay != before.PreemptDelay)
	case Active:
		m.setInterval()
		m.sendAdvertisement(m.priority)
		m.timer = m.now.Add(m.interval)
	}
	return m.endStep()
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
