package vrrp

import (
	"net/netip"
	"slices"
	"time"
)

// handOverGrace is how much longer than the longest skew time of a Backup a router waits
// for its successor: for a successor that is late, and the way of its advertisement.
const handOverGrace = 200 * time.Millisecond

// strangerTime is how long, at least, a sender counts as Active whose advertisements are
// discarded: its interval is not known.
const strangerTime = 10 * time.Second

// handOver is a planned hand-over that is under way. The router is still Active. It has
// sent priority 0, and keeps its addresses until it hears a successor or its timer expires.
type handOver struct {
	to     State // what the router becomes
	cause  Cause // of that change; 0: no hand-over is under way
	reason string
	again  bool // priority 0 was sent a second time
	// unclaimed: nobody has taken over. A member of a group waits for the other members.
	unclaimed bool
}

// HandingOver reports whether a planned hand-over is under way: this Active router has
// sent priority 0, and keeps its addresses until it hears its successor.
func (m *Machine) HandingOver() bool { return m.leaving.cause != 0 }

// holds reports whether this router is Active and does not hand over.
func (m *Machine) holds() bool { return m.state == Active && !m.HandingOver() }

// beginHandOver is leaveElection for a change that is planned: there is time to let the
// successor take the addresses first.
func (m *Machine) beginHandOver(to State, cause Cause, reason string) {
	overlap := m.mayOverlap()
	m.resigned = m.resigned || to == Backup
	if !overlap {
		m.leaveElection(to, cause)
		m.explainChange(reason)
		m.awaitSuccessor()
		return
	}
	m.rival, m.challenged, m.challenges = 0, false, 0
	m.leaving = handOver{to: to, cause: cause, reason: reason}
	m.offer()
}

// mayOverlap reports whether this router and its successor may both hold the addresses for
// a moment. Of two leaders without addresses one would be wrong, and so would a router that
// is not sure to be the only holder already. Two hosts that send from one hardware address
// make the switches on the link forget where that address is.
func (m *Machine) mayOverlap() bool {
	return m.state == Active && m.Entitled(m.now) && !m.split &&
		len(m.cfg.Addresses) > 0 && !m.cfg.VirtualMAC && !m.cfg.NoOverlap
}

// offer sends priority 0, and waits for a successor. Backups are silent, so their
// priorities are not known: the wait is the longest skew time that one may have.
func (m *Machine) offer() {
	m.sendAdvertisement(0)
	skew := max(m.interval, m.cfg.Interval) // a Backup may have learned either
	if m.cfg.Version == 2 {
		skew = time.Second
	}
	m.timer = m.now.Add(skew + handOverGrace)
}

// awaitSuccessor makes a router that has become Backup take the addresses back if it hears
// no other router.
func (m *Machine) awaitSuccessor() {
	if m.state == Backup {
		m.armTimer(m.downInterval()+m.interval, CauseUnclaimed)
	}
}

// receiveSuccessor ends the hand-over because another router is Active, or was: one that
// sends priority 0 has taken over unheard, and hands the addresses on.
func (m *Machine) receiveSuccessor(adv *Advertisement) {
	m.endHandOver(adv.peer(m.now))
	if m.state == Backup {
		m.receiveBackup(adv)
	}
}

// suspectSuccessor ends the hand-over because the successor seems to be there, though its
// advertisement was discarded. What is said of its priority cannot be trusted.
func (m *Machine) suspectSuccessor(now time.Time, from netip.Addr) []Action {
	m.beginStep(now)
	if m.HandingOver() {
		m.endHandOver(Peer{Address: from, LastHeard: m.now})
	}
	return m.endStep()
}

// suspects reports whether a discarded advertisement is likely to be a successor's: it is
// meant for this virtual router, and its sender was silent until the hand-over began, as a
// Backup is. A router of another pair with the same VRID was not. Called before the discard
// is counted, with conn.mu held.
func (r *Router) suspects(err *DropError, now time.Time) bool {
	switch err.Reason {
	case DropTTL, DropTTLBelowMinimum, DropTTLAboveMaximum, DropVersion, DropChecksum, DropAuthType, DropAuth, DropReplay, DropInterval:
	default:
		return false
	}
	begun := r.status.leavingSince
	if begun.IsZero() {
		return false
	}
	patience := max(time.Duration(r.cfg.DownMultiplier+1)*r.cfg.Interval, strangerTime)
	return !slices.ContainsFunc(r.status.drops[:], func(d lastDrop) bool {
		return d.err.Source == err.Source && begun.Sub(d.at) < patience
	})
}

// endHandOver gives the addresses up. successor is the router that was heard, if any.
func (m *Machine) endHandOver(successor Peer) {
	l := m.leaving
	m.emit(Release)
	m.peer = successor
	m.changeState(l.to, l.cause)
	if l.cause != CauseFault || m.fault() == "" {
		m.explainChange(l.reason)
	}
	m.awaitSuccessor()
	switch {
	case l.to == Backup:
	case l.cause != CauseFault:
		m.started = false
	case m.fault() == "": // the planned reason is over
		m.enterElection(CauseFaultCleared)
	}
}

// mayResume reports whether the router goes on if nobody takes over.
func (m *Machine) mayResume() bool {
	return m.leaving.to == Backup || m.leaving.cause == CauseFault && m.fault() == ""
}

// expireHandOver is the end of the wait for a successor. A router that must not, or need
// not, leave its addresses without a holder asks once more, as its priority 0 may have been
// lost, and then goes on. But one that was not run for too long may have missed its successor.
func (m *Machine) expireHandOver() {
	switch late := m.now.Sub(m.timer) > max(handOverGrace, m.downInterval()); {
	case late || !m.mayResume() || m.lapsed != nil && m.lapsed():
		m.endHandOver(Peer{})
	case !m.leaving.again:
		m.leaving.again = true
		m.offer()
	case m.grouped:
		m.timer, m.leaving.unclaimed = time.Time{}, true
	default:
		m.resume()
	}
}

// resume goes on as Active. Every Backup that has heard priority 0 would have taken over by
// now, and the others still wait.
func (m *Machine) resume() {
	m.interval, m.lengthens = m.cfg.Interval, 0
	m.sendAdvertisement(m.priority)
	m.announce()
	m.changeState(Active, CauseUnclaimed)
	m.timer = m.now.Add(m.interval)
}

// settleUnclaimed is resume for a member of a group. comes: no other member has a
// successor, and all go on. Otherwise this one leaves its addresses to the successor's
// group.
func (m *Machine) settleUnclaimed(now time.Time, comes bool) []Action {
	m.beginStep(now)
	if comes {
		m.resume()
	} else {
		m.endHandOver(Peer{})
	}
	return m.endStep()
}
