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

// Fixed returns the names of the fields of next that a running [Router] of c cannot
// follow: another Router has to take its place. Nil: [Router.Reconfigure] can go on with
// next. Some fields are fixed in part: the family of Addresses, whether Priority is the
// owner's, 255, and whether Auth is AuthAH, which takes another socket.
func (c Config) Fixed(next Config) (fields []string) {
	c, next = c.WithDefaults(), next.WithDefaults()
	fix := func(name string, differs bool) {
		if differs {
			fields = append(fields, name)
		}
	}
	fix("VRID", c.VRID != next.VRID)
	fix("Version", c.Version != next.Version)
	fix("Priority", c.owner() != next.owner())
	fix("Addresses", c.family() != next.family())
	fix("VirtualMAC", c.VirtualMAC != next.VirtualMAC)
	fix("Auth", (c.Auth.Type == AuthAH) != (next.Auth.Type == AuthAH))
	fix("Group", c.Group != next.Group)
	return fields
}

// Reconfigure goes on with another configuration, at any time and in any state,
// without a hand-over. All settings count from now on except for Name, Logger
// and OnTransition, which stay. It is an error if cfg is not valid, if a field
// differs that [Config.Fixed] names, or, [ErrClosed], if the router has ended.
// After an error nothing has changed.
//
// A new Priority replaces one that [Router.SetPriority] has set. A new StartDelay
// counts if the router still waits for the old one. An Active router sends an
// advertisement at once. Farewells that [Router.Farewell] returned are out of date.
//
// The router's peers need the same change, one after the other. Meanwhile:
//
//   - The former addresses and interval count for ten minutes yet. So a Backup that
//     is changed first still follows the Active router.
//   - If the Active router is changed first, its peers take over when they know none
//     of its addresses any more, or, in version 2, when the Interval differs. Then
//     both hold the addresses until the peers are changed, too. Keepalived before
//     2.3.3 takes over unless the addresses are exactly its own.
//   - In version 3 the peers learn a new Interval.
//   - With AuthHMAC no advertisement is lost if each step is done on all routers
//     before the next step: add the new key to Keys, make it the ActiveKey, remove
//     the old key. HMACPermissive leads from no authentication to AuthHMAC and back
//     in the same way. AuthPass and AuthAH have one password at a time: all routers
//     must change it before the Backups would take over.
//   - Between multicast and Peers no router hears another one until both have
//     changed: both are Active.
//
// What owns the addresses, such as a vip.Manager, is reconfigured before the router: an
// address that goes is then off the interface before a peer may take it, and no peer hears
// of an address that this host cannot have. The exception: [Router.Meets] reports that
// another router has the new addresses.
func (r *Router) Reconfigure(cfg Config) error {
	r.conn.updateForRouter()
	r.conn.mu.Lock()
	defer r.conn.mu.Unlock()
	if r.phase == stopped || r.conn.isClosed() {
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
	r.cfg = cfg // r.wire reads the same one
	r.wire.keepFormer(&before, time.Now())
	if len(cfg.Peers) > 0 {
		r.status.peers = slices.DeleteFunc(r.status.peers, func(p Peer) bool {
			return !slices.Contains(cfg.Peers, p.Address.WithZone(""))
		})
	}
	if !slices.Equal(cfg.Peers, before.Peers) {
		r.home = netip.Addr{} // new peers may know this router by another address
	}
	r.to = r.destinations()
	if r.runs() {
		r.conn.countAddresses(&before, -1)
		r.conn.countAddresses(&cfg, 1)
		r.conn.refreshRouters()
	}
	r.useMachineLocked(func(now time.Time) []Action { return r.machine.reconfigure(now, cfg) })
	r.meetStrangers()
	r.warnOfChange(&before)
	return nil
}

// warnOfChange logs what peers do that have not been changed yet. conn.mu is held.
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
	case !r.wire.theirs.shares(&r.wire.ours): // in the eyes of such a peer
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

// onePassword reports whether all routers have to change the secret at the same time.
func (a Auth) onePassword() bool { return a.Type == AuthPass || a.Type == AuthAH }

// follow returns next with its defaults, or an error if a running router of c cannot go
// on with next.
func (c Config) follow(next Config) (Config, error) {
	next, err := next.complete()
	if fields := c.Fixed(next); err == nil && len(fields) > 0 {
		err = fmt.Errorf("vrrp: %s: %s cannot be changed: make another Router", next.Name, strings.Join(fields, ", "))
	}
	return next, err
}

// Reconfigure goes on with another configuration, as [Router.Reconfigure] does. The Name
// and the address that SetSource has set stay.
func (m *Machine) Reconfigure(now time.Time, cfg Config) ([]Action, error) {
	cfg.Name = m.cfg.Name
	cfg, err := m.cfg.follow(cfg)
	if err != nil {
		return nil, err
	}
	return m.reconfigure(now, cfg), nil
}

// reconfigure is Reconfigure for a Config that follow has returned.
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
		// A router that has begun to preempt waits for a new PreemptDelay in full.
		m.reconsiderActive(cfg.PreemptDelay != before.PreemptDelay)
	case Active:
		if m.HandingOver() {
			break // nobody must wait for this router again
		}
		m.setInterval()
		m.sendAdvertisement(m.priority)
		m.timer = m.now.Add(m.interval)
	}
	return m.endStep()
}

// setInterval makes an Active router advertise at its configured interval. A longer
// interval begins after several advertisements that announce it: a Backup that missed a
// single one would take over before the next.
func (m *Machine) setInterval() {
	m.lengthens = 0
	if m.cfg.Interval > m.interval {
		m.lengthens = m.cfg.DownMultiplier
	} else {
		m.interval = m.cfg.Interval
	}
}
