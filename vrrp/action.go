package vrrp

import (
	"fmt"
	"time"
)

// ActionKind says what an [Action] asks for.
type ActionKind uint8

const (
	// Send asks for one advertisement with Action.Priority, to the group or to
	// every unicast peer.
	Send ActionKind = iota + 1
	// Acquire asks for the addresses to be put on the interface.
	Acquire
	// Announce asks for gratuitous ARP or unsolicited neighbour
	// advertisements for addresses that are already held.
	Announce
	// Release asks for the addresses to be taken off the interface.
	Release
	// Changed reports a state change in Action.Transition. It is always the
	// last of the actions that belong to the change.
	Changed
)

// String returns the name of the constant.
func (k ActionKind) String() string {
	switch k {
	case Send:
		return "Send"
	case Acquire:
		return "Acquire"
	case Announce:
		return "Announce"
	case Release:
		return "Release"
	case Changed:
		return "Changed"
	}
	return fmt.Sprintf("ActionKind(%d)", uint8(k))
}

// Action is one thing that the caller of a [Machine] must do. The actions of
// one call are to be carried out in the order in which they are returned.
type Action struct {
	Kind       ActionKind // what is to be done
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
	// CauseUnclaimed: it handed over, but nobody took the addresses.
	CauseUnclaimed
	// CauseStalled: the router did not run for so long that others must have
	// taken over.
	CauseStalled
	// CauseShutdown: the router was stopped.
	CauseShutdown
	// CauseGroup: another router of its [Group] made the same change.
	CauseGroup
	// CauseReconfigured: the router was stopped because another one, with another
	// configuration, takes its place. See [ErrReconfigured].
	CauseReconfigured
)

// String returns the cause in words that fit a log line.
func (c Cause) String() string {
	switch c {
	case CauseStart:
		return "start"
	case CauseOwner:
		return "address owner"
	case CauseTimeout:
		return "no advertisement in time"
	case CausePriorityZero:
		return "active router left"
	case CausePreempt:
		return "preempting a lower priority"
	case CauseHigherPriority:
		return "another router has the better claim"
	case CauseFault:
		return "fault"
	case CauseFaultCleared:
		return "fault cleared"
	case CauseResign:
		return "resigned"
	case CauseUnclaimed:
		return "nobody took over"
	case CauseStalled:
		return "did not run for too long"
	case CauseShutdown:
		return "shutdown"
	case CauseGroup:
		return "moved with its group"
	case CauseReconfigured:
		return "reconfigured"
	}
	return fmt.Sprintf("Cause(%d)", uint8(c))
}

// MarshalText returns what String does, so that JSON has words as well. It never
// fails.
func (c Cause) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// aboutPeer tells whether another router is the cause.
func (c Cause) aboutPeer() bool {
	switch c {
	case CauseTimeout, CausePriorityZero, CausePreempt, CauseHigherPriority, CauseUnclaimed:
		return true
	}
	return false
}

// Transition is one state change of a virtual router.
type Transition struct {
	From, To State     // Initialize to Initialize: it was started with a fault, or stopped
	Cause    Cause     // why
	Reason   string    // the fault's reasons, comma-separated, what was reconfigured, or the member of the group; empty otherwise
	Waiting  bool      // the reasons are only what is awaited, see Router.Await
	Priority uint8     // the priority in force after the change
	Time     time.Time // of the change, as the machine was told it
	// Peer is the router that the Cause is about: the one that was not heard in time,
	// that left, is preempted or has the better claim. Its Address is not valid if none
	// was heard since this router became Backup, or the Cause is about none.
	Peer Peer
}
