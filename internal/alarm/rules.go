package alarm

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/havip/havip/internal/report"
)

// change is what an event means for one alarm.
type change struct {
	key     string
	kind    string
	verdict verdict
	summary string
	// fades, if not 0, is how long after the last such event it counts as ended: nothing
	// in the log tells the end.
	fades time.Duration
	// own: the reminders come as events, with another text each. It is not repeated.
	own bool
}

type verdict uint8

const (
	happened verdict = iota // news
	begins
	ends    // means nothing unless it lasts
	returns // ends what lasts, and is news if nothing does
)

// rule is the meaning of a message of the log.
type rule struct {
	message string
	verdict verdict
	about   string // the key begins with this word
	fades   time.Duration
	own     bool
}

// conflictFades is more than twice the time after which the log names a conflict again.
const conflictFades = 25 * time.Minute

// rules are those of messages that belong together: one begins what another ends. The
// messages are those of the packages that log them; a test looks for each in their source.
var rules = []rule{
	{message: "split: another router is Active as well", verdict: begins, about: "split"},
	{message: "the other Active router does not hear this one", verdict: happened, about: "split"}, // more about what lasts
	{message: "split: over", verdict: ends, about: "split"},
	{message: "another host claims an address that is held here", verdict: begins, about: "conflict", fades: conflictFades},
	{message: "pool has no working backends", verdict: begins, about: "pool"},
	{message: "pool has working backends again", verdict: ends, about: "pool"},
	{message: "pool is below its quorum", verdict: begins, about: "quorum"},
	{message: "pool has its quorum again", verdict: ends, about: "quorum"},
	{message: "too few backends are up: all are used, whatever their health", verdict: begins, about: "panic"},
	{message: "enough backends are up: the health of each counts again", verdict: ends, about: "panic"},
	{message: "certificate ends soon", verdict: begins, about: "certificate", own: true},
	{message: "certificate has ended", verdict: begins, about: "certificate"},
	{message: "certificate is good again", verdict: ends, about: "certificate"},
	{message: "certificate has no OCSP response", verdict: begins, about: "staple"},
	{message: "certificate has its OCSP response again", verdict: ends, about: "staple"},
	{message: "router does not run", verdict: begins, about: "fault"},
	{message: "fault", verdict: begins, about: "fault"},
	{message: "addresses are not as they should be", verdict: begins, about: "addresses"},
	{message: "addresses are as they should be again", verdict: ends, about: "addresses"},
	{message: "service does not run", verdict: begins, about: "service"},
	{message: "serving", verdict: ends, about: "service"},
	{message: "check is down", verdict: begins, about: "check"},
	{message: "check is up", verdict: ends, about: "check"},
	{message: "backend is down", verdict: begins, about: "backend"},
	{message: "backend is up", verdict: ends, about: "backend"},
	{message: "backend ejected", verdict: begins, about: "ejection"},
	{message: "backend readmitted", verdict: ends, about: "ejection"},
	{message: "reload", verdict: begins, about: "reload"},
	{message: "reloaded", verdict: ends, about: "reload"},
}

// judge says what an event means, and for which alarms. It is a function of the event.
func judge(e report.Event) []change {
	if e.Kind == report.KindAlarm {
		return nil // or each failure to tell would be told
	}
	if e.Message == stateMessage {
		return judgeTransition(e)
	}
	name := subject(e)
	if i := slices.IndexFunc(rules, func(r rule) bool { return r.message == e.Message }); i >= 0 {
		r := rules[i]
		v := r.verdict
		if v == begins && e.Level == "info" && e.Kind == report.KindFault {
			v = happened // what is awaited, or was asked for, is no fault
		}
		return []change{{key: key(r.about, name), kind: e.Kind, verdict: v, summary: summary(e), fades: r.fades, own: r.own}}
	}
	// Of the rest only what is wrong concerns a person who is not looking; and what was done
	// to the node, and its beginning and end.
	if e.Level == "info" && e.Kind != report.KindControl && e.Kind != report.KindDaemon {
		return nil
	}
	return []change{{key: key(e.Kind, name, e.Message, e.Attribute("what")), kind: e.Kind, verdict: happened, summary: summary(e)}}
}

// The words of package vrrp for a change of the state, for states, and for a cause.
const (
	stateMessage    = "state"
	stateInitialize = "Initialize"
	stateActive     = "Active"
	causeFault      = "fault"
)

// judgeTransition: a router in the election is in order, and so its fault is over. One
// that is kept out of the election lacks until it is back. What is said of an Active router
// ends with that.
func judgeTransition(e report.Event) []change {
	to := e.Attribute("to")
	c := change{key: key("transition", e.Router), kind: e.Kind, summary: summary(e)}
	also := []string{report.KindFault}
	switch {
	case to == stateInitialize && e.Cause == causeFault:
		c.verdict, also = begins, nil
	case to != stateInitialize:
		c.verdict = returns
	}
	if to != stateActive {
		also = append(also, report.KindSplit)
	}
	changes := []change{c}
	for _, kind := range also {
		changes = append(changes, change{key: key(kind, e.Router), kind: kind, verdict: ends, summary: summary(e)})
	}
	return changes
}

func key(words ...string) string {
	return strings.Join(slices.DeleteFunc(words, func(s string) bool { return s == "" }), " ")
}

// subject names what an event is about.
func subject(e report.Event) string {
	service := cmp.Or(e.Attribute("pool"), e.Service)
	if e.Kind == report.KindCertificate {
		return key(service, e.Attribute("file"))
	}
	if e.Kind == report.KindConflict {
		return key(e.Router, e.Attribute("address"))
	}
	if service != "" && e.Backend != "" {
		return service + "/" + e.Backend
	}
	return cmp.Or(e.Router, e.Backend, service, e.Check, e.Group)
}

// maxSummary is the longest summary, in bytes: a subject of mail and a line of a phone.
const maxSummary = 300

// summary is an event in a line: about what, what, and why.
func summary(e report.Event) string {
	what := e.Message
	switch from, to := e.Attribute("from"), e.Attribute("to"); {
	case e.Kind == report.KindControl && e.Attribute("what") != "":
		what += ": " + e.Attribute("what")
	case e.Kind == report.KindTransition && from != "" && to != "":
		what = "is " + to + ", was " + from
	case e.Kind == report.KindSplit && from != "", e.Kind == report.KindDiscard && from != "":
		what += " (" + from + ")"
	}
	why := e.Cause
	// The reason says more than the word fault, and the peer more than its silence.
	for _, word := range []string{"reason", "by", "peer", "in", "mac"} {
		if v := e.Attribute(word); v != "" && v != why {
			why = strings.TrimPrefix(why+", "+word+" "+v, ", ")
		}
	}
	s := what
	if e.Kind == report.KindTransition {
		s = key(cmp.Or(e.Router, e.Group), s)
	} else if name := subject(e); name != "" {
		s = name + ": " + s
	}
	if why != "" {
		s += ": " + why
	}
	return cut(oneLine(s), maxSummary)
}
