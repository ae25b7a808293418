package vrrp

import (
	"net/netip"
	"slices"
	"time"
)

// Status is what a [Router] is doing.
type Status struct {
	Name     string // the configured one
	VRID     uint8  // the virtual router's identifier
	State    State  // now
	Priority uint8  // in force
	// Interval is the Active router's advertisement interval.
	Interval time.Duration
	// Fault has the reasons to stay out of the election, comma-separated.
	// Empty: there is none.
	Fault string
	// Since is when the State was entered; zero if the router never ran.
	Since time.Time
	// Source is the address that advertisements are sent from. It is not valid
	// until the router runs and the interface has one.
	Source netip.Addr
	// Counters count since the router was made.
	Counters Counters
	// Peers are the routers that were heard with this VRID, the latest first,
	// 32 at most.
	Peers []Peer
	// Deaf is why another router goes on being Active though this one is, too, and
	// has the better claim, if there is a likely cause such as [Config.VirtualMAC] on
	// one side only: that one does not hear this one.
	Deaf string
	// Rival is the one of them that is Active although this router is, too, and
	// has the better claim: the link is split, or was until now. Nil: there is none.
	Rival *Peer
	// LastDrop is the advertisement that was discarded last, such as one of a
	// router with another version or password. Own ones, looped back, do not
	// count. Nil: there was none.
	LastDrop *DropError
	// LastDropAt is when that was.
	LastDropAt time.Time
}

// Peer is another router with the same VRID.
type Peer struct {
	Address   netip.Addr    // that it advertises from
	Version   uint8         // of the protocol
	Priority  uint8         // of its last advertisement; 0: it left
	Interval  time.Duration // between its advertisements, as it says
	LastHeard time.Time     // when its last advertisement came
}

// Counters count packets and events since the start.
type Counters struct {
	// Sent and Received are advertisements that were sent and accepted; one
	// that goes to several unicast peers counts for each.
	Sent, Received uint64
	// SendErrors are advertisements that could not be sent.
	SendErrors uint64
	// Dropped are the packets that were discarded, by reason; reasons without
	// any are left out.
	Dropped map[DropReason]uint64
	// Mismatched are advertisements that were accepted although their interval
	// or their addresses differ from the configuration.
	Mismatched uint64
	// MessageChecksums are version 3 IPv4 advertisements with the checksum of
	// RFC 9568, which covers the message only.
	MessageChecksums uint64
	// OldUnicastChecksums are version 3 IPv4 advertisements that were sent by
	// unicast with the checksum of multicast, [ChecksumOldUnicast].
	OldUnicastChecksums uint64
	// Unsigned are advertisements accepted without a signature.
	Unsigned uint64
	// Conflicts are version 3 advertisements of another Active router, heard by
	// the owner of the addresses while it was Active itself (RFC 9568 §7.1 with
	// erratum 8298). Version 2 drops them with DropOwner.
	Conflicts uint64
	// Splits are the times that another router was found to be Active as well.
	Splits uint64
	// Transitions are changes of the state.
	Transitions uint64

	dropped [numDropReasons]uint64
}

// snapshot returns a copy to give away.
func (c *Counters) snapshot() Counters {
	s := *c
	s.Dropped = make(map[DropReason]uint64)
	for reason, n := range c.dropped {
		if n > 0 {
			s.Dropped[DropReason(reason)] = n
		}
	}
	s.dropped = [numDropReasons]uint64{}
	return s
}

// maxPeers bounds what strangers can make a router remember.
const maxPeers = 32

// noteInterval is the shortest time between two log lines about the same thing.
const noteInterval = 10 * time.Minute

// status is what a Router keeps for its Status, guarded by conn.mu.
type status struct {
	since    time.Time
	counters Counters
	peers    []Peer // the latest first
	split    split
	drop     DropError
	dropAt   time.Time // zero: none
	noted    [numSubjects]limit
	// strangers are the senders of what was discarded with DropAddresses or
	// DropCount.
	strangers []stranger
	deaf      deafRival
}

// limit bounds how often a line about one thing is written to the log.
type limit struct {
	last  time.Time // when one was
	times uint64    // that the thing came up since
}

// subjects of rate-limited log lines: first the drop reasons, then these.
const (
	subjectInterval = int(numDropReasons) + iota
	subjectAddresses
	subjectChecksum
	subjectClock
	subjectDeaf
	subjectSplit
	subjectSend
	numSubjects
)

// Status returns what the router is doing now.
func (r *Router) Status() Status {
	r.conn.mu.Lock()
	defer r.conn.mu.Unlock()
	if g := r.cfg.Group; g != nil {
		g.mu.Lock()
		defer g.mu.Unlock()
	}
	s := Status{
		Name:       r.name,
		VRID:       r.cfg.VRID,
		State:      r.machine.State(),
		Priority:   r.machine.Priority(),
		Interval:   r.machine.Interval(),
		Fault:      r.machine.Fault(),
		Since:      r.status.since,
		Source:     r.source,
		Counters:   r.status.counters.snapshot(),
		Peers:      slices.Clone(r.status.peers),
		Deaf:       r.deafness(time.Now()),
		Rival:      r.status.rival(),
		LastDropAt: r.status.dropAt,
	}
	if !s.LastDropAt.IsZero() {
		drop := r.status.drop
		s.LastDrop = &drop
	}
	return s
}

// heard takes note of an accepted advertisement, before the machine hears it.
// conn.mu is held, and the group's.
func (r *Router) heard(adv *Advertisement, now time.Time) {
	r.remember(adv, now)
	r.observeDeaf(adv, now)
	if r.cfg.owner() && r.machine.State() == Active {
		if adv.Version == 2 {
			r.wire.drop.drop(DropOwner, 0, 0)
			r.discarded(&r.wire.drop, now)
			return
		}
		r.status.counters.Conflicts++
	}
	r.status.counters.Received++
	if r.wire.seen != 0 {
		r.observed(adv, now)
	}
}

// remember makes the sender the first of the peers.
func (r *Router) remember(adv *Advertisement, now time.Time) {
	s := &r.status
	i := slices.IndexFunc(s.peers, func(p Peer) bool { return p.Address == adv.Source })
	if i < 0 {
		if len(s.peers) < maxPeers {
			s.peers = append(s.peers, Peer{})
		}
		i = len(s.peers) - 1
	}
	copy(s.peers[1:i+1], s.peers[:i])
	s.peers[0] = Peer{
		Address:   adv.Source,
		Version:   adv.Version,
		Priority:  adv.Priority,
		Interval:  adv.Interval,
		LastHeard: now,
	}
}

// observed reports what was odd about an accepted advertisement.
func (r *Router) observed(adv *Advertisement, now time.Time) {
	c, seen, from := &r.status.counters, r.wire.seen, adv.Source
	if seen&(seenInterval|seenAddresses) != 0 {
		c.Mismatched++
	}
	if seen&seenMessageChecksum != 0 {
		c.MessageChecksums++
	}
	if seen&seenOldUnicastChecksum != 0 {
		c.OldUnicastChecksums++
	}
	if seen&seenUnsigned != 0 {
		c.Unsigned++
	}
	if seen&seenInterval != 0 {
		if n, ok := r.mayNote(subjectInterval, now); ok {
			got, want := adv.Interval, r.cfg.Interval
			r.log.Warn("another interval", "from", from, "got", got, "want", want, "times", n)
		}
	}
	if seen&seenAddresses != 0 {
		if n, ok := r.mayNote(subjectAddresses, now); ok {
			got, want := slices.Clone(adv.Addresses), r.cfg.Addresses
			r.log.Warn("other virtual addresses", "from", from, "got", got, "want", want, "times", n)
		}
	}
	if adv.Version == 3 && adv.Source.Is4() && adv.Checksum != r.cfg.Checksum {
		// The sender may well drop what has any other form than its own.
		if n, ok := r.mayNote(subjectChecksum, now); ok {
			r.log.Warn("another form of checksum", "from", from, "got", adv.Checksum.String(), "want", r.cfg.Checksum.String(), "times", n)
		}
	}
	if seen&seenClockSkew != 0 {
		if n, ok := r.mayNote(subjectClock, now); ok {
			r.log.Warn("the sender's clock is off", "from", from, "times", n)
		}
	}
}

// discarded counts a discarded packet and reports it. conn.mu is held.
func (r *Router) discarded(err *DropError, now time.Time) {
	r.status.counters.dropped[err.Reason]++
	if err.Reason == DropOwn {
		return
	}
	r.status.drop, r.status.dropAt = *err, now // err is reused
	if err.Reason == DropAddresses || err.Reason == DropCount {
		r.discardedStranger(err, now)
		return
	}
	if n, ok := r.mayNote(int(err.Reason), now); ok {
		drop := *err
		r.log.Warn("discarded", "err", &drop, "times", n)
	}
}

// sendFailed counts an advertisement that could not be sent, and reports it.
// conn.mu is held.
func (r *Router) sendFailed(err error, now time.Time) {
	r.status.counters.SendErrors++
	if n, ok := r.mayNote(subjectSend, now); ok {
		r.log.Warn("advertisement not sent", "err", err, "times", n)
	}
}

// mayNote tells whether it is time for a log line about a subject, and how
// often it has come up since the last one.
func (r *Router) mayNote(subject int, now time.Time) (times uint64, ok bool) {
	return r.status.noted[subject].allow(now, noteInterval)
}

func (l *limit) allow(now time.Time, interval time.Duration) (times uint64, ok bool) {
	l.times++
	if !l.last.IsZero() && now.Sub(l.last) < interval {
		return 0, false
	}
	times, l.times, l.last = l.times, 0, now
	return times, true
}
