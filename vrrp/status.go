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
	// Faults are the reasons to stay out of the election. Nil: there is none.
	Faults []string
	// Waiting: all Faults are reasons of [Router.Await].
	Waiting bool
	// HandingOver: the router is still Active, but has sent priority 0 and waits for its
	// successor.
	HandingOver bool
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
	// Deaf is why another Active router does not hear this one, which is Active, too,
	// and has the better claim: a firewall, or [Config.VirtualMAC]. Empty: there is no
	// such router.
	Deaf string
	// Rival is the peer that is Active although this router is, too, and has the
	// better claim: the link is split, or was until now. Nil: there is none.
	Rival *Peer
	// LastDrop says which advertisement was discarded last and why. The router's own
	// advertisements, looped back, do not count. Nil: none was discarded.
	LastDrop *DropError
	// LastDropAt is the time of LastDrop.
	LastDropAt time.Time
	// Drops are the advertisements that were discarded, one Drop for each reason, the
	// latest first. The router's own, looped back, are left out.
	Drops []Drop
	// Foreign is the latest advertisement with another VRID, for which no router is here,
	// that is likely to be meant for this router: it came from a configured peer, or had one
	// of the addresses. Nil: there was none.
	Foreign *Foreign
	// LastChange is the latest change of the state, with its cause; its Time is zero if
	// there was none.
	LastChange Transition
}

// Drop says what was discarded for one reason.
type Drop struct {
	Count uint64    // of advertisements
	Last  DropError // why the last one was, and who sent it; its Reason is that of all
	At    time.Time // when that was
}

// Foreign is an advertisement with another VRID than the router's.
type Foreign struct {
	Source netip.Addr // the sender
	VRID   uint8      // the other one
	At     time.Time  // when the advertisement came
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
	// Transitions are changes of the state, and Causes are the same by cause: every cause
	// is there, with 0 if there was no such transition.
	Transitions uint64
	Causes      map[Cause]uint64

	dropped [numDropReasons]uint64
	causes  [numCauses]uint64
}

// snapshot returns a copy for a caller outside.
func (c *Counters) snapshot() Counters {
	s := *c
	s.Dropped = make(map[DropReason]uint64)
	for reason, n := range c.dropped {
		if n > 0 {
			s.Dropped[DropReason(reason)] = n
		}
	}
	s.Causes = make(map[Cause]uint64, numCauses)
	for cause := CauseStart; cause < numCauses; cause++ {
		s.Causes[cause] = c.causes[cause]
	}
	s.dropped, s.causes = [numDropReasons]uint64{}, [numCauses]uint64{}
	return s
}

// maxPeers bounds what strangers can make a router remember.
const maxPeers = 32

// status is what a Router remembers for its Status and log. Guarded by conn.mu.
type status struct {
	since time.Time
	// leavingSince is when the hand-over began that is under way; zero: there is none.
	leavingSince time.Time
	counters     Counters
	peers        []Peer     // the latest first
	split        netip.Addr // the other router that is Active as well; not valid: there is none
	splitTold    bool       // the log was told of it
	drop         DropError
	dropAt       time.Time // zero: none
	drops        [numDropReasons]lastDrop
	foreign      Foreign // its At is zero: none
	change       Transition
	// unheard counts the advertisements that were discarded since the last accepted
	// one, or since the last change of the state; why is about the last of them.
	unheard uint64
	why     DropError
	fault   string     // the machine's, at the last observeFault
	leader  netip.Addr // the Active router that a Backup hears, once the log has named it
	// strangers are the senders of advertisements that were discarded with
	// DropAddresses or DropCount.
	strangers []stranger
	deaf      deafRival
}

// lastDrop is the last discard for a reason.
type lastDrop struct {
	err DropError
	at  time.Time // zero: there was none
}

// Status returns what the router is doing now.
func (r *Router) Status() Status {
	r.conn.mu.Lock()
	defer r.conn.mu.Unlock()
	r.cfg.Group.lock()
	defer r.cfg.Group.unlock()
	s := Status{
		Name:        r.name,
		VRID:        r.cfg.VRID,
		State:       r.machine.State(),
		Priority:    r.machine.Priority(),
		Interval:    r.machine.Interval(),
		Faults:      r.machine.Faults(),
		Waiting:     r.machine.onlyAwaits(),
		HandingOver: r.machine.HandingOver(),
		Since:       r.status.since,
		Source:      r.source,
		Counters:    r.status.counters.snapshot(),
		Peers:       slices.Clone(r.status.peers),
		Deaf:        r.deafness(time.Now()),
		Rival:       r.status.rival(),
		LastDropAt:  r.status.dropAt,
		Drops:       r.status.lastDrops(),
		LastChange:  r.status.change,
	}
	if !s.LastDropAt.IsZero() {
		s.LastDrop = new(r.status.drop)
	}
	if !r.status.foreign.At.IsZero() {
		s.Foreign = new(r.status.foreign)
	}
	return s
}

// lastDrops returns what was discarded, by reason. conn.mu is held.
func (s *status) lastDrops() (list []Drop) {
	for reason, d := range s.drops {
		if !d.at.IsZero() {
			list = append(list, Drop{Count: s.counters.dropped[reason], Last: d.err, At: d.at})
		}
	}
	slices.SortFunc(list, func(a, b Drop) int { return b.At.Compare(a.At) })
	return list
}

// noteHeard counts, remembers and logs an accepted advertisement. It is called before the
// machine receives adv. conn.mu is held, and the group's.
func (r *Router) noteHeard(adv *Advertisement, now time.Time) {
	r.remember(adv, now)
	r.observeDeaf(adv, now)
	r.observeLeader(adv)
	if r.cfg.owner() && r.machine.holds() {
		if adv.Version == 2 {
			r.wire.drop.drop(DropOwner, 0, 0)
			r.countDiscard(&r.wire.drop, now)
			return
		}
		r.status.counters.Conflicts++
	}
	r.status.counters.Received++
	r.status.unheard = 0
	r.countOddities(adv)
}

// remember makes the sender the first of the peers.
func (r *Router) remember(adv *Advertisement, now time.Time) {
	s := &r.status
	s.peers, _ = toFront(s.peers, maxPeers, func(p Peer) bool { return p.Address == adv.Source })
	s.peers[0] = adv.peer(now)
}

// peer returns the sender of an advertisement that came at a time.
func (a *Advertisement) peer(now time.Time) Peer {
	return Peer{Address: a.Source, Version: a.Version, Priority: a.Priority, Interval: a.Interval, LastHeard: now}
}
