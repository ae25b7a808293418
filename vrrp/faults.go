package vrrp

import (
	"slices"
	"strings"
	"time"
)

// SetFaults replaces the reasons to stay out of the election, such as "link down".
// With a reason the machine goes to Initialize, and hands over if it is Active. When
// the last reason has gone it takes part again as after Start, but without StartDelay.
func (m *Machine) SetFaults(now time.Time, reasons []string) []Action {
	return m.setFaults(now, reasons, sudden)
}

// faultKind says what some reasons to stay out of the election have in common. The greater
// kind is the one to name first.
type faultKind uint8

const (
	awaited faultKind = iota // something that is not known yet
	planned                  // the hand-over need not hurry
	sudden
)

// setFaults is SetFaults for reasons of a kind.
func (m *Machine) setFaults(now time.Time, reasons []string, kind faultKind) []Action {
	m.beginStep(now)
	before := m.fault()
	m.reasons = slices.DeleteFunc(slices.Clone(reasons), func(s string) bool { return s == "" })
	m.faults, m.kind = strings.Join(m.reasons, ", "), kind
	m.followFaults(before)
	return m.endStep()
}

// followFaults does what follows from new reasons, the machine's own or the group's.
func (m *Machine) followFaults(before string) {
	switch now := m.fault(); {
	case !m.started:
	case m.state == Active && now != "":
		m.waited = false
		m.leaveForFault()
	case before == "" && now != "":
		m.waited = false
		m.leaveElection(Initialize, CauseFault)
	case m.HandingOver(): // and now without a reason
	case before != "" && now == "":
		cause := CauseFaultCleared
		if m.waited {
			cause = CauseStart // there was no fault
		}
		m.enterElection(cause)
	default:
		m.waited = m.waited && m.onlyAwaits()
	}
}

// leaveForFault makes an Active router leave because of a fault, its first one or another.
func (m *Machine) leaveForFault() {
	l := &m.leaving
	if l.to == Backup || l.cause == CauseFault { // else it is stopped anyway
		l.to, l.cause, l.reason = Initialize, CauseFault, m.fault()
	}
	switch soft := m.onlyFaults(planned); {
	case m.HandingOver() && (!soft || l.unclaimed):
		m.endHandOver(Peer{})
	case m.HandingOver():
	case soft:
		m.beginHandOver(Initialize, CauseFault, m.fault())
	default:
		m.leaveElection(Initialize, CauseFault)
	}
}

// onlyAwaits reports whether there are reasons to stay out of the election, and all of
// them are only awaited.
func (m *Machine) onlyAwaits() bool { return m.onlyFaults(awaited) }

// onlyFaults reports whether there are reasons, and all of them are of a kind.
func (m *Machine) onlyFaults(kind faultKind) bool {
	return m.fault() != "" && (m.faults == "" || m.kind == kind) && (m.groupFault == "" || m.groupKind == kind)
}

// Faults returns the reasons to stay out of the election, those of SetFaults first.
// Nil: there is none.
func (m *Machine) Faults() []string {
	var all []string
	all = append(all, m.reasons...)
	if m.groupFault != "" {
		all = append(all, m.groupFault)
	}
	return all
}

// fault returns the reasons as a Transition has them: comma-separated.
func (m *Machine) fault() string {
	if m.faults != "" && m.groupFault != "" {
		return m.faults + ", " + m.groupFault
	}
	return m.faults + m.groupFault
}
