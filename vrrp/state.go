package vrrp

import "github.com/havip/havip/internal/words"

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

var stateWords = []string{Initialize: "Initialize", Backup: "Backup", Active: "Active"}

// String returns the RFC 9568 name of the state.
func (s State) String() string { return words.Of(stateWords, s) }

// MarshalText returns what String does. It never fails.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText takes what String returns for a value that has a name.
func (s *State) UnmarshalText(text []byte) error { return words.Parse(stateWords, text, s) }
