package monitor

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/havip/havip/vrrp"
)

// grace is for how long packets of routers that agree may cross, and timers may be late.
const grace = 50 * time.Millisecond

// groupKey names a virtual router: a VRID means nothing beyond its link and family.
type groupKey struct {
	link string
	ipv6 bool
	vrid uint8
}

func (k groupKey) family() string {
	if k.ipv6 {
		return "IPv6"
	}
	return "IPv4"
}

// compare orders groups: by link, number and family.
func (k groupKey) compare(o groupKey) int {
	return cmp.Or(cmp.Compare(k.link, o.link), cmp.Compare(k.vrid, o.vrid), cmp.Compare(k.family(), o.family()))
}

// name tells groups apart in the keys of findings.
func (k groupKey) name() string { return fmt.Sprintf("%s %s %d", k.link, k.family(), k.vrid) }

// group is one virtual router: those who advertise its VRID on a link.
type group struct {
	groupKey
	senders   []*sender
	passwords [][8]byte // in the order in which they appeared
	// active is the best of those who are Active; nil: nobody is. former is the one
	// before.
	active, former *sender
	contested      bool // two were Active at once
}

// sender is one router of a group: a source address.
type sender struct {
	addr netip.Addr
	params
	priority   uint8 // before it left
	mac        hardware
	macAt      time.Time
	other      hardware // the hardware address before mac, and when it was last seen
	otherAt    time.Time
	first      time.Time
	last       time.Time
	since      time.Time // since when it is Active, if it is
	left       bool      // its last advertisement had priority 0
	count      int
	paths      map[netip.Addr]*pace // by destination
	challenge  time.Time            // when a better one was heard beside this one, or zero
	challenger *sender
}

// params are what the routers of a group have to agree on.
type params struct {
	version   uint8
	interval  time.Duration
	auth      string // without the number of the password or key
	password  [8]byte
	key       uint8 // the ID of the key that signs, with HMAC
	multicast bool
	checksum  vrrp.ChecksumForm
	addresses []netip.Addr
	// invalid is why receivers discard its advertisements, or empty.
	invalid string
}

func (p *params) equal(q *params) bool {
	return p.version == q.version && p.interval == q.interval && p.auth == q.auth && p.password == q.password && p.key == q.key &&
		p.multicast == q.multicast && p.checksum == q.checksum && p.invalid == q.invalid && slices.Equal(p.addresses, q.addresses)
}

// down is after which silence every Backup has taken over: three intervals and the longest
// skew (RFC 9568 §6.1), and one more interval for a machine that is late.
func (s *sender) down() time.Duration { return 5*s.interval + grace }

// alive reports whether s is Active by what was heard. Backups wait for at least three
// intervals, so one that is late by a half is not taken for gone before they do.
func (s *sender) alive(now time.Time) bool {
	return s.count > 0 && !s.left && now.Sub(s.last) < s.interval*5/2
}

// wait is until when s is Active, or a successor is due, unless it advertises.
func (s *sender) wait() time.Time {
	if s.left { // the successor waits for its skew
		return s.last.Add(2*s.interval + grace)
	}
	return s.last.Add(s.down())
}

// beats reports whether s wins an election against t (RFC 9568 §6.4.3).
func (s *sender) beats(t *sender) bool {
	return cmp.Or(cmp.Compare(s.priority, t.priority), s.addr.Compare(t.addr)) > 0
}

// interval is the longest of those that are advertised.
func (g *group) interval() (d time.Duration) {
	for _, s := range g.senders {
		d = max(d, s.interval)
	}
	return d
}

// maxSenders bounds the routers of a group that are remembered.
const maxSenders = 32

// sender returns the sender with an address, which may be new.
func (g *group) sender(addr netip.Addr) *sender {
	if i := slices.IndexFunc(g.senders, func(s *sender) bool { return s.addr == addr }); i >= 0 {
		return g.senders[i]
	}
	if len(g.senders) >= maxSenders {
		oldest := slices.MinFunc(g.senders, func(a, b *sender) int { return a.last.Compare(b.last) })
		if oldest == g.active || oldest == g.former {
			return nil
		}
		g.senders = slices.DeleteFunc(g.senders, func(s *sender) bool { return s == oldest })
	}
	s := &sender{addr: addr, paths: make(map[netip.Addr]*pace)}
	g.senders = append(g.senders, s)
	return s
}

// hear notes that s has sent an advertisement, of which all else is known, and says what
// that changes.
func (w *Watcher) hear(g *group, s *sender, at time.Time, priority uint8) {
	was := s.alive(at)
	before := s.last
	s.count++
	if at.After(s.last) {
		s.last = at
	}
	if priority == 0 {
		w.leave(g, s, at)
		return
	}
	s.left = false
	if !was {
		s.since, s.challenge = at, time.Time{}
	}
	w.elect(g, s, at, before)
	w.contest(g, s, at, !was)
	w.due(s.wait())
}

// leave notes an advertisement of priority 0.
func (w *Watcher) leave(g *group, s *sender, at time.Time) {
	for _, p := range s.paths {
		p.pause()
	}
	if s.left {
		return // to the other peers
	}
	s.left, s.challenge = true, time.Time{}
	if s.count > 1 {
		w.emit(Event{Kind: KindState, Time: at, Text: fmt.Sprintf("%v leaves: priority 0", s.addr)}, g)
	}
	w.due(s.wait())
}

// elect decides whether s, which was heard, is the Active router now.
func (w *Watcher) elect(g *group, s *sender, at, before time.Time) {
	old := g.active
	switch {
	case old == s:
		return
	case old != nil && old.alive(at) && !s.beats(old):
		return // both are Active: contest
	}
	g.active = s
	text := fmt.Sprintf("%v is Active", s.addr)
	switch former := cmp.Or(old, g.former); {
	case former == nil:
		text += fmt.Sprintf(": priority %d, every %s, version %d", s.priority, short(s.interval), s.version)
	case former == s:
		text += fmt.Sprintf(" again, %s after its last advertisement", short(at.Sub(before)))
	default:
		text += succession(former, s, at)
	}
	g.former = nil
	w.emit(Event{Kind: KindState, Time: at, Text: text}, g)
	w.close(CodeNoActive, g.name(), "there is an Active router again: "+s.addr.String(), at)
}

// succession says how s came after former.
func succession(former, s *sender, at time.Time) string {
	gap := short(at.Sub(former.last))
	switch {
	case former.left:
		return fmt.Sprintf(", %s after %v left", gap, former.addr)
	case former.alive(at):
		return fmt.Sprintf(": it outranks %v (priority %d over %d)", former.addr, s.priority, former.priority)
	}
	return fmt.Sprintf(", %s after the last advertisement of %v", gap, former.addr)
}

// contest says whether two routers are Active. A worse one that begins although a better
// one has long been there has not heard it. One that goes on may not have heard the better
// one yet; but if it advertises later still, it has not heard it either. In both cases it
// may also discard what it hears.
func (w *Watcher) contest(g *group, s *sender, at time.Time, begins bool) {
	for _, t := range g.senders {
		if t == s || !t.alive(at) {
			continue
		}
		winner, loser := s, t
		if t.beats(s) {
			winner, loser = t, s
		}
		deaf := false
		switch {
		case loser == s && begins:
			deaf = at.Sub(winner.since) > 3*loser.interval
		case loser.challenge.IsZero() || loser.challenger != winner && !loser.challenger.alive(at):
			if winner == s {
				loser.challenge, loser.challenger = at, winner
			}
		case loser == s && loser.challenger == winner:
			deaf = at.Sub(loser.challenge) > max(grace, winner.interval/4)
		}
		if deaf {
			g.contested = true
			w.open(pairKey(g, winner, loser), w.twoActive(g, winner, loser), at)
		}
	}
}

// expire says who is no longer Active. It returns when to look again.
func (w *Watcher) expire(g *group, now time.Time) {
	if g.contested {
		for i, s := range g.senders {
			for _, t := range g.senders[:i] {
				w.reconcile(g, s, t, now)
			}
		}
	}
	old := g.active
	if old == nil {
		return
	}
	if wait := old.wait(); wait.After(now) {
		w.due(wait)
		return
	}
	g.active, g.former = nil, old
	var best *sender
	for _, s := range g.senders {
		if s != old && s.alive(now) && (best == nil || s.beats(best)) {
			best = s
		}
	}
	if best != nil {
		w.elect(g, best, now, best.last)
		w.due(best.wait())
		return
	}
	text := fmt.Sprintf("%v fell silent %s ago", old.addr, short(now.Sub(old.last)))
	if old.left {
		text = fmt.Sprintf("%v left %s ago", old.addr, short(now.Sub(old.last)))
	}
	w.open(g.name(), finding{
		code: CodeNoActive, problem: true, group: g, text: "no router is Active: " + text + " and none took over",
		next: "whether the other routers run, and why they stay Backup or Fault: their logs, their tracked checks and interfaces",
	}, now)
}

// reconcile says when two that were Active no longer are. Keepalived puts its own
// advertisement off whenever it discards one: of two that discard each other's, the one
// that is silent is still Active.
func (w *Watcher) reconcile(g *group, s, t *sender, now time.Time) {
	key := pairKey(g, s, t)
	if !w.isOpen(CodeTwoActive, key) {
		return
	}
	for _, one := range []*sender{s, t} {
		switch {
		case one.left:
		case now.Before(one.wait()):
			w.due(one.wait())
			continue
		case disagreement(s, t) != nil:
			continue
		}
		f := w.findings[string(CodeTwoActive)+" "+key]
		text := fmt.Sprintf("%v no longer advertises beside the other", one.addr)
		if d := one.last.Sub(f.first); d > 0 {
			text += ": two did for " + short(d)
		}
		w.close(CodeTwoActive, key, text, now)
	}
}

// pairKey names two senders of a group, whichever comes first.
func pairKey(g *group, a, b *sender) string {
	if b.addr.Less(a.addr) {
		a, b = b, a
	}
	return fmt.Sprintf("%s %v %v", g.name(), a.addr, b.addr)
}
