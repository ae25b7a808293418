package vrrp

import (
	"fmt"
	"time"
)

// The rules that a simulation holds the machines to: those of every step here
// first, those of a network at rest after them.

// scripts are the sequences of actions that a step may ask for: S and Z are
// Send (of 0), A Acquire, N Announce, R Release and C Changed.
var scripts = map[string]bool{
	"":       true,
	"C":      true, // no addresses involved
	"S":      true, // an advertisement is due, or asserted
	"N":      true, // a rival is there, in version 2
	"SN":     true, // and a rival is there, or has gone
	"SANC":   true, // takes over
	"ZRC":    true, // leaves
	"Z":      true, // begins to hand over, or asks again
	"SNC":    true, // goes on, as nobody took over
	"SRC":    true, // steps down
	"RC":     true, // stalled, yields with its group, or has handed over
	"RCC":    true, // stalled, then left; or has handed over for a reason that is over
	"RCSANC": true, // the same, then called by its group, or the owner
}

// perform carries out actions and checks their order and effect.
func (p *port) perform(what string, actions []Action) {
	w := p.w
	if len(actions) == 0 {
		return
	}
	if w.trace != nil {
		p.describe(what, actions)
	}
	var kinds [8]byte
	now := p.host.clock()
	silent := !p.sent.IsZero() && p.state == Active && now.Sub(p.sent) > p.silence() && !p.leaving
	overslept := !p.armed.IsZero() && p.state == Backup && now.Sub(p.armed) > p.silence() && !w.mixed
	for i, a := range actions {
		kinds[i] = p.act(a, now)
	}
	script := string(kinds[:len(actions)])
	if !scripts[script] {
		w.fail("%v: actions %s", p, script)
	}
	if p.leaving && kinds[0] == 'S' && script != "SNC" {
		w.fail("%v hands over and sends: %s", p, script)
	}
	p.noteHandOver()
	if silent && kinds[0] != 'R' && what != "reconfigure" { // which changes what too long is
		w.fail("%v goes on after it was silent for too long: %s", p, script)
	}
	if overslept && what != "group" && p.state == Active {
		w.fail("%v takes over before it has listened: its timer is %v late", p, now.Sub(p.armed))
	}
	if p.held != (p.state == Active) {
		w.fail("%v: in %v, addresses held: %v", p, p.state, p.held)
	}
}

// noteHandOver takes note of the beginning or the end of a hand-over.
func (p *port) noteHandOver() {
	if p.leaving = p.m.HandingOver(); !p.leaving {
		p.offers = 0
	}
}

// patience is how long a router that hands over waits for a successor.
func (p *port) patience() time.Duration {
	if p.cfg.Version == 2 {
		return time.Second + handOverGrace
	}
	return p.w.interval() + handOverGrace
}

// silence is how long a router may be late and still count as Active: one
// interval until the advertisement is due, and the Active Down interval.
func (p *port) silence() time.Duration {
	unit := p.cfg.Interval
	if p.cfg.Version == 2 {
		unit = time.Second
	}
	return time.Duration(p.m.cfg.DownMultiplier+1)*p.cfg.Interval + skewOf(int(p.priority), unit)
}

// act carries out one action and returns its letter.
func (p *port) act(a Action, now time.Time) byte {
	w := p.w
	switch a.Kind {
	case Send:
		p.broadcast(a.Priority)
		if a.Priority == 0 {
			p.offered = now
			if p.offers++; p.offers > 2 {
				w.fail("%v sends priority 0 for the third time", p)
			}
			return 'Z'
		}
		if a.Priority != p.priority {
			w.fail("%v advertises priority %d, has %d", p, a.Priority, p.priority)
		}
		p.sent = now
		return 'S'
	case Acquire:
		if p.held {
			w.fail("%v acquires what it holds", p)
		}
		p.held, p.acquired = true, w.now
		return 'A'
	case Announce:
		if !p.held {
			w.fail("%v announces what it does not hold", p)
		}
		p.announced = w.now
		return 'N'
	case Release:
		if !p.held {
			w.fail("%v releases what it does not hold", p)
		}
		p.held = false
		return 'R'
	case Changed:
		p.changedTo(a.Transition)
		return 'C'
	}
	w.fail("%v: unknown action %v", p, a.Kind)
	return 0
}

func (p *port) changedTo(t Transition) {
	w := p.w
	passing := t.Cause == CauseStalled || p.leaving && t.Cause == CauseFault
	if t.From != p.state || t.To != p.m.State() && !passing || t.Priority != p.priority {
		w.fail("%v is %v with priority %d and reports %+v", p, p.state, p.priority, t)
	}
	switch {
	case t.Cause == CauseStalled:
		p.released, p.stalled = 0, t.Time
	case t.Cause == CauseGroup:
		p.released = 0 // without a last advertisement
	case p.leaving:
		p.released = 0 // it announced nothing meanwhile
	case t.From == Active:
		p.released = w.now
	}
	listened := t.Time.Sub(p.stalled)
	if t.To == Active && t.Cause == CauseTimeout && listened < 2*p.cfg.Interval && !w.mixed {
		w.fail("%v listened only for %v after it stalled", p, listened)
	}
	if t.From != t.To && (t.From == Active || t.To == Active) {
		w.changed = w.now
	}
	if t.To == Active && p.host.clock().Before(p.ready) {
		w.fail("%v is Active before its start delay has passed", p)
	}
	broken := p.leaving && t.Cause == CauseFault && p.m.resigned // it was resigning
	p.resigned = (p.resigned || t.Cause == CauseResign || broken) && t.To != Active
	p.state = t.To
}

// inspect checks a machine between two steps.
func (p *port) inspect(now time.Time, ticked bool) {
	w := p.w
	deadline, ok := p.m.Deadline()
	switch {
	case !p.host.up:
	case p.m.State() != p.state:
		w.fail("%v is in %v and did not say so", p, p.m.State())
	case ok && ticked && !deadline.After(now) && p.m.cause != CauseOwner: // an owner claims at once
		w.fail("%v: deadline %v ago after Tick", p, now.Sub(deadline))
	case ok && p.state == Initialize:
		w.fail("%v: a timer in Initialize", p)
	case !ok && p.state == Active && !p.m.leaving.unclaimed:
		w.fail("%v: no timer in Active", p)
	case p.leaving != p.m.HandingOver():
		w.fail("%v hands over: %v, and did not say so", p, p.m.HandingOver())
	case ok && p.leaving && deadline.Sub(p.offered) > p.patience():
		w.fail("%v waits for its successor until %v after its priority 0", p, deadline.Sub(p.offered))
	case p.leaving && p.faulty && !p.planned:
		w.fail("%v hands over despite its fault", p)
	case !ok && p.state == Backup && p.host.group == nil:
		w.fail("%v: no timer in Backup", p)
	case p.faulty && p.state != Initialize && !p.leaving:
		w.fail("%v: %v despite its fault", p, p.state)
	}
	if p.host.group == nil {
		return
	}
	for _, q := range p.host.ports {
		if p.state == Active && q.state == Backup && !p.leaving {
			w.fail("%v is Active and %v Backup, in one group", p, q)
		}
	}
}

// eligible reports whether a router may take part in the election.
func (p *port) eligible() bool {
	if !p.host.up || p.host.stopping {
		return false
	}
	for _, q := range p.host.ports {
		if q.faulty {
			return false // of the whole group
		}
	}
	return true
}

// parts calls f with the routers of each part of each LAN.
func (w *world) parts(f func(part []*port)) {
	for lan := range w.lans {
		for side := range w.hosts {
			var part []*port
			for _, h := range w.hosts {
				if h.up && w.side[lan][h.id] == side {
					part = append(part, h.ports[lan])
				}
			}
			if len(part) > 0 {
				f(part)
			}
		}
	}
}

// whole reports whether every LAN is in one part.
func (w *world) whole() bool {
	for lan := range w.lans {
		for _, s := range w.side[lan] {
			if s != w.side[lan][0] {
				return false
			}
		}
	}
	return true
}

// comparable reports whether one host has the best claim on every LAN. Where
// none has, groups may go without an Active router, but must come to rest.
func (w *world) comparable() bool { return w.lans == 1 || w.whole() && !w.crossed }

// checkOneActive: one router of each part holds the addresses, if any may.
func (w *world) checkOneActive() {
	w.parts(func(part []*port) {
		active, eligible := 0, 0
		for _, p := range part {
			if p.state == Active {
				active++
			}
			if p.eligible() {
				eligible++
			}
		}
		if want := min(eligible, 1); active != want && w.comparable() {
			w.fail("%d Active among %v, want %d", active, part, want)
		}
	})
}

// checkBestActive: no router that may preempt has a better claim than the Active router.
func (w *world) checkBestActive() {
	if !w.comparable() {
		return
	}
	w.parts(func(part []*port) {
		for _, a := range part {
			for _, p := range part {
				preempts := !p.cfg.NoPreempt || p.cfg.Priority == 255
				if a.state == Active && p.eligible() && preempts && !p.resigned && p.priority > a.priority {
					w.fail("%v is Active with priority %d, %v has %d and preempts", a, a.priority, p, p.priority)
				}
			}
		}
	})
}

// checkAnnounced: after the other routers have released the addresses, the router that kept
// them has announced them again. since is when packets stopped to be lost.
func (w *world) checkAnnounced(since time.Duration) {
	w.parts(func(part []*port) {
		for _, a := range part {
			for _, p := range part {
				if a.state == Active && p != a && p.released > since && p.released > a.acquired && a.announced < p.released {
					w.fail("%v announced at %v, but %v held the addresses until %v", a, a.announced, p, p.released)
				}
			}
		}
	})
}

// handOver lets the Active router of a network at rest leave with priority 0,
// and checks that another one takes over within its skew and the delay. In a planned
// hand-over the addresses have a holder all the time, and two for one delay at most.
func (w *world) handOver(a *port, planned bool, leave func()) {
	others := false
	bound := time.Duration(1<<63 - 1)
	unit := a.cfg.Interval // which the others have learned
	if a.cfg.Version == 2 {
		unit = time.Second
	}
	for _, p := range w.partOf(a) {
		if p != a && p.eligible() {
			others = true
			bound = min(bound, skewOf(int(p.priority), unit))
		}
	}
	if !others {
		bound = a.silence() // nobody took over: it comes back, if it may
	}
	began := w.now
	certain := !planned || bound+bound/50+2*w.delay+w.jitter < a.patience() // the successor comes while a waits
	leave()
	if planned && others {
		if !a.leaving {
			w.fail("%v does not hand over", a)
		}
		w.watch = w.watchOverlap(a, certain)
		defer func() { w.watch = nil }()
	}
	w.run(bound + bound/50 + w.delay + w.jitter + time.Microsecond)
	var active *port
	for _, p := range w.partOf(a) {
		if p.state == Active && (p != a || !a.leaving || !others) {
			active = p
		}
	}
	if active == nil && certain && (others || a.eligible()) {
		w.fail("%v left at %v and nobody has taken over", a, began)
	}
	w.run(w.delay) // the successor's advertisement is on its way
	if w.watch = nil; a.leaving && others && certain {
		w.fail("%v still has the addresses that it handed over at %v", a, began)
	}
	w.settle()
	if others && certain && a.eligible() && a.state == Active && !w.mixed {
		w.fail("%v took the addresses back from the router that it had handed them to", a)
	}
}

// watchOverlap returns the check of a planned hand-over of a, for after each event.
func (w *world) watchOverlap(a *port, certain bool) func() {
	var both time.Duration // since when another router has the addresses, too
	return func() {
		other := false
		for _, p := range w.partOf(a) {
			other = other || p != a && p.held
		}
		switch {
		case !other && !a.held && certain:
			w.fail("%v has handed over, and nobody has the addresses", a)
		case other && a.held && both == 0:
			both = w.now
		case other && a.held && w.now-both > w.delay:
			w.fail("%v and its successor have had the addresses since %v", a, both)
		}
	}
}

// comeBack starts a host in a network at rest, and checks that the Active
// router stays what it is if the host has no better claim or must wait.
func (w *world) comeBack(h *host) {
	p := h.ports[0]
	before := w.activeIn(w.partOf(p))
	h.start()
	better := before == nil || p.cfg.Priority == 255 || p.cfg.Priority > before.priority && !p.cfg.NoPreempt
	switch {
	case w.mixed, !w.comparable():
		// It may not have heard of the Active router in time.
	case !better:
		changed := w.changed
		w.settle()
		if w.changed != changed {
			w.fail("%v was Active, and changed because %v came back", before, p)
		}
		return
	case before != nil && p.cfg.Priority != 255:
		changed := w.changed
		w.run(p.cfg.PreemptDelay - p.cfg.PreemptDelay/50)
		if w.changed != changed {
			w.fail("%v was Active, and %v did not wait for its preempt delay", before, p)
		}
	}
	w.settle()
}

// partOf returns the routers that are on one part of the LAN with p, and p.
func (w *world) partOf(p *port) []*port {
	var part []*port
	for _, h := range w.hosts {
		if w.side[p.lan][h.id] == w.side[p.lan][p.host.id] {
			part = append(part, h.ports[p.lan])
		}
	}
	return part
}

// activeIn returns the Active one of some routers, or nil.
func (w *world) activeIn(part []*port) *port {
	for _, p := range part {
		if p.state == Active {
			return p
		}
	}
	return nil
}

// describe writes a step into the transcript.
func (p *port) describe(what string, actions []Action) {
	text := fmt.Sprintf("%v %s: %s", p, what, script(actions))
	if actions[len(actions)-1].Kind == Changed {
		p.w.note("%s", text)
	} else {
		p.w.detail("%s", text)
	}
}
