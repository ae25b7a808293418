package vrrp

import (
	"time"

	"github.com/havip/havip/internal/words"
)

// State is the state of a virtual router (RFC 9568 §6.3). A router with a fault, because
// its link is down or a check fails, stays in Initialize while the fault lasts.
type State uint8

const (
	// Initialize: not taking part in the election.
	Initialize State = iota
	// Backup: listening to an Active router, ready to take over.
	Backup
	// Active: holding the addresses ("Master" in RFC 3768).
	Active
)

var stateWords = []string{Initialize: "Initialize", Backup: "Backup", Active: "Active"}

// String returns the RFC 9568 name of the state.
func (s State) String() string { return words.Of(stateWords, s) }

// MarshalText returns what String does. It never fails.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText takes what String returns for a value that has a name.
func (s *State) UnmarshalText(text []byte) error { return words.Parse(stateWords, text, s) }

// ActionKind says what an [Action] asks for.
type ActionKind uint8

const (
	// Send asks for one advertisement with Action.Priority, to the group or to
	// every unicast peer.
	Send ActionKind = iota + 1
	// Acquire asks for the addresses to be added to the interface.
	Acquire
	// Announce asks for gratuitous ARP or unsolicited neighbour
	// advertisements for addresses that are already held.
	Announce
	// Release asks for the addresses to be removed from the interface.
	Release
	// Changed reports the state change in Action.Transition. It is the last action of
	// that change.
	Changed
)

var actionWords = []string{Send: "Send", Acquire: "Acquire", Announce: "Announce", Release: "Release", Changed: "Changed"}

// String returns the name of the constant.
func (k ActionKind) String() string { return words.Of(actionWords, k) }

// MarshalText returns what String does. It never fails.
func (k ActionKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText takes what String returns for a value that has a name.
func (k *ActionKind) UnmarshalText(text []byte) error { return words.Parse(actionWords, text, k) }

// Action is one thing that the caller of a [Machine] must do. The caller carries out the
// actions of one call in their order.
type Action struct {
	Kind       ActionKind // what to do
	Priority   uint8      // for Send: the priority to advertise, 0 when leaving
	Transition Transition // for Changed
}

// Cause says why a virtual router changed its state.
type Cause uint8

const (
	// CauseStart: the router was started.
	CauseStart Cause = iota + 1
	// CauseOwner: the router owns the addresses (priority 255).
	CauseOwner
	// CauseTimeout: no advertisement arrived within the Active Down interval.
	CauseTimeout
	// CausePriorityZero: the Active router left and said so.
	CausePriorityZero
	// CausePreempt: the Active router has a lower priority than this one.
	CausePreempt
	// CauseHigherPriority: another Active router has a better claim.
	CauseHigherPriority
	// CauseFault: a reason to stay out of the election appeared.
	CauseFault
	// CauseFaultCleared: the last such reason went away.
	CauseFaultCleared
	// CauseResign: the router was asked to hand over.
	CauseResign
	// CauseUnclaimed: the router handed over, but no other router took the addresses. They
	// are its own again, or still: then the change is from Active to Active.
	CauseUnclaimed
	// CauseStalled: the router did not run for so long that another one must have
	// taken over.
	CauseStalled
	// CauseShutdown: the router was stopped.
	CauseShutdown
	// CauseGroup: another router of its [Group] made the same change.
	CauseGroup
	// CauseReconfigured: the router was stopped because a router with another
	// configuration takes its place. See [ErrReconfigured].
	CauseReconfigured

	numCauses // one more than the last cause
)

var causeWords = []string{
	CauseStart:          "start",
	CauseOwner:          "address owner",
	CauseTimeout:        "no advertisement in time",
	CausePriorityZero:   "active router left",
	CausePreempt:        "preempting a lower priority",
	CauseHigherPriority: "another router has the better claim",
	CauseFault:          "fault",
	CauseFaultCleared:   "fault cleared",
	CauseResign:         "resigned",
	CauseUnclaimed:      "nobody took over",
	CauseStalled:        "did not run for too long",
	CauseShutdown:       "shutdown",
	CauseGroup:          "moved with its group",
	CauseReconfigured:   "reconfigured",
}

// String returns the cause in words that fit a log line.
func (c Cause) String() string { return words.Of(causeWords, c) }

// MarshalText returns what String does. It never fails.
func (c Cause) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText takes what String returns for a value that has a name.
func (c *Cause) UnmarshalText(text []byte) error { return words.Parse(causeWords, text, c) }

// aboutPeer reports whether another router is the cause.
func (c Cause) aboutPeer() bool {
	switch c {
	case CauseTimeout, CausePriorityZero, CausePreempt, CauseHigherPriority, CauseUnclaimed:
		return true
	}
	return false
}

// Transition is one state change of a virtual router.
type Transition struct {
	// From and To differ but for two cases. Initialize to Initialize: the router was
	// started with a fault, or stopped. Active to Active: see CauseUnclaimed.
	From, To State
	Cause    Cause     // why
	Reason   string    // the faults, comma-separated, the reconfigured keys, or the member of the group; else empty
	Waiting  bool      // all faults are only awaited, see Router.Await
	Priority uint8     // in force after the change
	Time     time.Time // of the change, by the machine's clock
	// Peer is the router that the Cause is about: it was not heard in time, left, is
	// preempted, or has the better claim. After a planned hand-over it is the successor.
	// Its Address is not valid if the Cause is about no other router, or if none was heard
	// since this one became Backup or began to hand over.
	Peer Peer
}
