package alarm

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/havip/havip/internal/report"
)

// Alarm is what one message says about one thing.
type Alarm struct {
	// Key is the same in all messages about one thing: "split VI_1".
	Key      string `json:"key"`
	State    State  `json:"state"`
	Kind     string `json:"kind"`     // as an event's
	Severity string `json:"severity"` // info, warning, critical
	Summary  string `json:"summary"`  // one line: what, and why

	// Since is when it began or, of news, happened; Until is when it ended.
	Since time.Time `json:"since"`
	Until time.Time `json:"until,omitzero"`
	// Changes is how often it has begun, ended or happened since the last message.
	Changes int `json:"changes"`
	// Events are the latest of these, the oldest first: at most maxEvents.
	Events []report.Event `json:"events,omitempty"`
}

// State is what a message says of an alarm.
type State string

// The states.
const (
	Raised   State = "raised"   // it has begun, and lasts
	Repeated State = "repeated" // it lasts still
	Resolved State = "resolved" // it has ended
	News     State = "news"     // it has happened: there is no end to wait for
)

// The severities.
const (
	Info     = "info"
	Warning  = "warning"
	Critical = "critical"
)

// severityOf is that of an event's level.
func severityOf(level string) string {
	switch level {
	case "error":
		return Critical
	case "warn":
		return Warning
	}
	return Info
}

// rank orders severities.
func rank(severity string) int { return strings.Index(Info+Warning+Critical, severity) }

// Notice is one message: the alarms of one moment. As JSON it is the body of a webhook of
// format json.
type Notice struct {
	Version int       `json:"version"` // of this form: 1
	ID      string    `json:"id"`      // of the message: that of an attempt before is the same
	Host    string    `json:"host"`
	Time    time.Time `json:"time"`
	// Lost is how many alarms and events before these could not be told.
	Lost   uint64  `json:"lost,omitempty"`
	Alarms []Alarm `json:"alarms"`
}

// title is the notice in a line: of several alarms the most severe.
func (n *Notice) title() string {
	worst := n.worst()
	s := n.Host + ": " + worst.headline()
	if more := len(n.Alarms) - 1; more > 0 {
		s += fmt.Sprintf(" (and %d more)", more)
	}
	return s
}

// worst is the first of the most severe alarms, those that have ended last of all.
func (n *Notice) worst() *Alarm {
	weight := func(a *Alarm) int {
		if a.State == Resolved {
			return -1
		}
		return rank(a.Severity)
	}
	worst := &n.Alarms[0]
	for i := range n.Alarms {
		if a := &n.Alarms[i]; weight(a) > weight(worst) {
			worst = a
		}
	}
	return worst
}

// headline is the alarm in a line.
func (a *Alarm) headline() string {
	s := a.Summary
	switch a.State {
	case Resolved:
		s = "resolved: " + s
	case Repeated:
		s = "still: " + s
	}
	if a.Changes > 1 {
		s += fmt.Sprintf(" (%d changes)", a.Changes)
	}
	return s
}

// timing says since when and until when.
func (a *Alarm) timing() string {
	const form = "2006-01-02 15:04:05 MST"
	switch {
	case a.State == News:
		return "at " + a.Since.Format(form)
	case a.Until.IsZero():
		return "since " + a.Since.Format(form)
	}
	return fmt.Sprintf("from %s to %s, for %v", a.Since.Format(form), a.Until.Format(form), a.Until.Sub(a.Since).Round(time.Second))
}

// details is a line for each event, with all that the log has of it.
func (a *Alarm) details() (lines []string) {
	for _, e := range a.Events {
		lines = append(lines, detail(e))
	}
	return lines
}

func detail(e report.Event) string {
	s := e.Time.Format("15:04:05.000") + " " + e.Level + " " + e.Message
	if name := subject(e); name != "" {
		s += " " + name
	}
	if e.Cause != "" {
		s += ", cause: " + e.Cause
	}
	for _, at := range e.Attributes {
		s += ", " + at.Key + ": " + at.Value
	}
	return oneLine(s)
}

// oneLine takes from a text what would begin another line, or steer a terminal.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// cut shortens s to so many bytes, at the end of a rune.
func cut(s string, most int) string {
	s = strings.ToValidUTF8(s, "\ufffd") // as JSON has it, and three times as long as a byte
	if len(s) <= most {
		return s
	}
	const dots = "..."
	return strings.ToValidUTF8(s[:most-len(dots)], "") + dots
}
