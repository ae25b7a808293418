package monitor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/havip/havip/vrrp"
)

// Watcher knows the virtual routers of the links that its frames come from. It belongs to
// one goroutine.
type Watcher struct {
	// ShowSecrets prints passwords in clear. Otherwise they are numbered.
	ShowSecrets bool

	decoder  *decoder
	groups   map[groupKey]*group
	holders  map[place]*group // by virtual address
	findings map[string]*finding
	claims   []pendingClaim
	carp     map[groupKey]netip.Addr // hosts that speak CARP, by the VRID they use

	start, now time.Time
	heard      int       // advertisements
	next       time.Time // nothing is due before; zero: nothing is
	events     []Event
}

// place is an address on a link.
type place struct {
	link string
	addr netip.Addr
}

// Bounds of the memory that hostile frames can take.
const (
	maxGroups = 4096
	maxPlaces = 65536
)

// NewWatcher returns a Watcher that has seen nothing.
func NewWatcher() *Watcher {
	return &Watcher{
		decoder: newDecoder(), groups: make(map[groupKey]*group), holders: make(map[place]*group),
		findings: make(map[string]*finding), carp: make(map[groupKey]netip.Addr),
	}
}

// Observe takes the next frame. It returns what that shows, and what has become due since
// the frame before. Frames may be a little out of order.
func (w *Watcher) Observe(f Frame) []Event {
	w.events = nil
	w.advance(f.Time)
	d := w.decoder.decode(&f)
	switch {
	case d.claim != nil:
		w.observeClaim(d.origin, d.claim, f.Time)
	case d.packet != nil:
		w.observePacket(&d, f.Time)
	case d.broken != "":
		w.events = append(w.events, Event{Kind: KindOther, Time: f.Time, Link: d.link, Text: "from " + d.mac.String() + " to VRRP's group: " + d.broken})
	}
	return w.events
}

// Tick returns what has become due without a frame: it need not be called before
// [Watcher.Deadline].
func (w *Watcher) Tick(now time.Time) []Event {
	w.events = nil
	w.advance(now)
	return w.events
}

// Finish returns what is left to be said when no frame follows.
func (w *Watcher) Finish() []Event {
	w.events = nil
	w.judgeClaims(w.now, true)
	return w.events
}

// Deadline returns when Tick has something to do, or zero if only a frame will change
// that.
func (w *Watcher) Deadline() time.Time { return w.next }

// due makes Tick look at the groups at t or before.
func (w *Watcher) due(t time.Time) {
	if w.next.IsZero() || t.Before(w.next) {
		w.next = t
	}
}

// advance goes to now in steps of what is due, so that each event has its own time.
func (w *Watcher) advance(now time.Time) {
	if w.start.IsZero() {
		w.start = now
	}
	for !w.next.IsZero() && !w.next.After(now) {
		at := w.next
		w.next = time.Time{}
		w.judgeClaims(at, false)
		for _, g := range w.sorted() {
			w.expire(g, at)
		}
	}
	if now.After(w.now) {
		w.now = now
	}
}

// sorted returns the groups in the order of their names.
func (w *Watcher) sorted() []*group {
	list := make([]*group, 0, len(w.groups))
	for _, g := range w.groups {
		list = append(list, g)
	}
	slices.SortFunc(list, func(a, b *group) int { return a.compare(b.groupKey) })
	return list
}

// group returns a group, which may be new, or nil if there are too many.
func (w *Watcher) group(k groupKey) *group {
	g := w.groups[k]
	if g == nil && len(w.groups) < maxGroups {
		g = &group{groupKey: k}
		w.groups[k] = g
	}
	return g
}

// observeAdvertisement notes an advertisement, of which only the sender may not be known.
func (w *Watcher) observeAdvertisement(d *decoded, a *vrrp.Advertisement, p params, at time.Time) {
	g := w.group(groupKey{d.link, a.Source.Is6(), a.VRID})
	if g == nil {
		return
	}
	s := g.sender(a.Source.WithZone(""))
	if s == nil {
		return
	}
	w.heard++
	var gap time.Duration
	if a.Priority != 0 {
		gap = s.pace(a.Destination).add(at, a.Interval)
	}
	w.emit(Event{Kind: KindAdvertisement, Time: at, Advertisement: w.describe(g, d, a, &p, gap)}, g)
	w.sourceOf(g, s, d.mac, at)
	if a.Priority != 0 {
		if s.count > 0 && s.priority != a.Priority && s.priority != 0 {
			w.emit(Event{Kind: KindState, Time: at, Text: fmt.Sprintf("%v: priority %d, was %d", s.addr, a.Priority, s.priority)}, g)
		}
		s.priority = a.Priority
	}
	if news := s.count == 0 || !s.equal(&p); news {
		s.params = p
		for _, addr := range p.addresses {
			if len(w.holders) < maxPlaces {
				w.holders[place{d.link, addr}] = g
			}
		}
		if s.count == 0 {
			s.first = at
		}
		w.judgeSender(g, s, at)
		w.compare(g, s, at)
	}
	w.hear(g, s, at, a.Priority)
	w.judgePace(g, s, a.Destination, at)
	if p.auth == vrrp.AuthHMAC.String() {
		w.judgeClock(g, s, d.packet, at)
	}
}

// pace returns how regularly s sends to dst.
func (s *sender) pace(dst netip.Addr) *pace {
	p := s.paths[dst]
	if p == nil {
		p = &pace{}
		if len(s.paths) < 255 {
			s.paths[dst] = p
		}
	}
	return p
}

// judgePace says whether s sends more or less often than it says.
func (w *Watcher) judgePace(g *group, s *sender, dst netip.Addr, at time.Time) {
	p := s.pace(dst)
	off := p.off()
	if p.odd == (off != 0) {
		return
	}
	p.odd = off != 0
	key := fmt.Sprintf("%s %v %v", g.name(), s.addr, dst)
	if !p.odd {
		w.close(CodePace, key, fmt.Sprintf("%v advertises every %s, as it says", s.addr, short(s.interval)), at)
		return
	}
	w.open(key, finding{
		code: CodePace, group: g,
		text: fmt.Sprintf("%v says that it advertises every %s, but does so every %s", s.addr, short(s.interval), short(off)),
		next: "whether its processor is overloaded, a second program advertises from its address, or the capture has each frame several times",
	}, at)
}

// sourceOf notes the hardware address that s sends from. Two that alternate are two hosts.
func (w *Watcher) sourceOf(g *group, s *sender, mac hardware, at time.Time) {
	switch {
	case mac == s.mac:
		s.macAt = at
	case mac == (hardware{}), mac == g.virtualMAC() && s.mac != (hardware{}):
	default:
		if mac == s.other && at.Sub(s.otherAt) < s.down() && s.mac != g.virtualMAC() {
			pair := []string{mac.String(), s.mac.String()}
			slices.Sort(pair)
			w.open(fmt.Sprintf("%s %v", g.name(), s.addr), finding{
				code: CodeDuplicateHost, problem: true, group: g, repeats: true,
				text: fmt.Sprintf("two hosts advertise from %v: %s", s.addr, strings.Join(pair, " and ")),
				next: "whether one host was cloned from the other: each takes the other's advertisements for its own",
			}, at)
		}
		s.other, s.otherAt = s.mac, s.macAt
		s.mac, s.macAt = mac, at
	}
}
