package vrrp

import "fmt"

// State is the state of a virtual router (RFC 9568 §6.3). A router that may
// not take part, because its link is down or a check fails, stays in
// Initialize for as long as the fault lasts.
type State uint8

const (
	// Initialize: not taking part in the election.
	Initialize State = iota
	// Backup: listening to an Active router, ready to take over.
	Backup
	// Active: holding the addresses ("Master" in RFC 3768).
	Active
)

// String returns the RFC 9568 name of the state.
func (s State) String() string {
	switch s {
	case Initialize:
		return "Initialize"
	case Backup:
		return "Backup"
	case Active:
		return "Active"
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// MarshalText returns the name, so that JSON has a word as well. It never fails.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
