package alarm

import (
	"cmp"
	"slices"
	"time"

	"github.com/havip/havip/internal/report"
)

// Rules say what one receiver hears of, and how often.
type Rules struct {
	On     []string      // kinds
	Repeat time.Duration // of what lasts; not positive: never
	// Gather is how long a message waits for others of the same moment.
	Gather time.Duration
	// Refresh: the receiver forgets what is not repeated. Everything that lasts is, after
	// Repeat.
	Refresh bool
}

const (
	// burst is how many messages about one thing may follow each other at once. Each
	// further one waits, twice as long as the one before it: from firstWait up to calm.
	burst     = 3
	firstWait = time.Minute
	// calm is for how long nothing happens to a thing that is not flapping any more.
	calm = 15 * time.Minute

	// maxEvents is how many events a message has of one thing.
	maxEvents = 10
	// maxEntries bounds the things that a Book knows, and once more those of critical ones:
	// a thousand backends that go down leave room for their pool, which is told.
	maxEntries = 1000
)

// Book is what one receiver has been told, and what is due for it. It reads no clock:
// every method gets the time. It is for one goroutine.
type Book struct {
	rules   Rules
	entries map[string]*entry
	lost    uint64
}

// entry is one thing.
type entry struct {
	Alarm      // but for State
	lasting    bool
	told       bool // the receiver was told that it lasts
	pending    bool // there is something to tell
	own        bool
	fades      time.Duration
	about      report.Event // the latest
	due        time.Time    // of what is pending, or else of the repetition; zero: never
	sent, last time.Time    // the latest message, and the latest event
	row        int          // messages in a row, without calm between them
}

// NewBook returns a Book in which nothing has happened.
func NewBook(r Rules) *Book { return &Book{rules: r, entries: map[string]*entry{}} }

// SetRules goes on by other rules. What was told stays told.
func (b *Book) SetRules(r Rules) {
	b.rules = r
	for key, e := range b.entries {
		if !slices.Contains(r.On, e.Kind) {
			delete(b.entries, key)
		} else if !e.pending {
			e.due = b.repetition(e)
		}
	}
}

// Take notes an event down.
func (b *Book) Take(e report.Event, now time.Time) {
	for _, c := range judge(e) {
		if slices.Contains(b.rules.On, c.kind) {
			b.change(c, e, now)
		}
	}
}

func (b *Book) change(c change, event report.Event, now time.Time) {
	e := b.entries[c.key]
	lasts := e != nil && e.lasting
	switch {
	case c.verdict == ends && !lasts:
		return
	case e == nil && !b.room(severityOf(event.Level)):
		b.lost++
		return
	case e == nil:
		e = &entry{Alarm: Alarm{Key: c.key, Kind: c.kind, Severity: severityOf(event.Level)}}
		b.entries[c.key] = e
	}
	if now.Sub(e.last) >= calm {
		e.row = 0
	}
	e.note(event, c, now)
	severity := severityOf(event.Level)
	news := true
	switch {
	case lasts && (c.verdict == ends || c.verdict == returns):
		e.lasting, e.Until = false, event.Time
	case lasts && c.verdict == begins:
		// The same once more is no news, unless it is worse.
		news = c.own || rank(severity) > rank(e.Severity)
		e.Severity = worse(e.Severity, severity)
	case c.verdict == begins:
		e.lasting, e.Since, e.Until, e.Severity = true, event.Time, time.Time{}, severity
	case lasts, e.told: // more about what lasts; or its end, which is told first
	default:
		e.Since, e.Until, e.Severity = event.Time, time.Time{}, severity
	}
	if news {
		b.want(e, now)
	}
}

// room reports whether another thing fits in. For that the one that has been over for the
// longest time is forgotten.
func (b *Book) room(severity string) bool {
	most := maxEntries
	if severity == Critical {
		most += maxEntries
	}
	if len(b.entries) < most {
		return true
	}
	oldest := ""
	for key, e := range b.entries {
		if !e.pending && !e.lasting && (oldest == "" || e.last.Before(b.entries[oldest].last)) {
			oldest = key
		}
	}
	delete(b.entries, oldest)
	return oldest != ""
}

func worse(a, b string) string {
	if rank(b) > rank(a) {
		return b
	}
	return a
}

// note keeps an event for the next message.
func (e *entry) note(event report.Event, c change, now time.Time) {
	e.Changes++
	e.Events = append(e.Events, event)
	if extra := len(e.Events) - maxEvents; extra > 0 {
		e.Events = slices.Clone(e.Events[extra:])
	}
	e.Summary, e.own, e.fades, e.about, e.last = c.summary, c.own, c.fades, event, now
}

// want makes a message due, as soon as those before it permit.
func (b *Book) want(e *entry, now time.Time) {
	if e.pending {
		return
	}
	e.pending, e.due = true, now.Add(b.rules.Gather)
	if e.row < burst {
		return
	}
	wait := min(firstWait<<min(e.row-burst, 10), calm)
	if next := e.sent.Add(wait); next.After(e.due) {
		e.due = next
	}
}

// repetition is when what lasts, and was told, is told again; zero: never.
func (b *Book) repetition(e *entry) time.Time {
	if !e.lasting || b.rules.Repeat <= 0 || e.own && !b.rules.Refresh {
		return time.Time{}
	}
	return e.sent.Add(b.rules.Repeat)
}

// Lose counts what was not told, or could not be known. The next message says how much.
func (b *Book) Lose(n uint64) { b.lost += n }

// Lost is how much was not told since the count was last taken, which it forgets.
func (b *Book) Lost() uint64 {
	n := b.lost
	b.lost = 0
	return n
}

// Next is when something is due; zero: nothing is.
func (b *Book) Next() (next time.Time) {
	for _, e := range b.entries {
		for _, t := range []time.Time{e.due, e.fading()} {
			if !t.IsZero() && (next.IsZero() || t.Before(next)) {
				next = t
			}
		}
	}
	return next
}

// fading is when an entry counts as ended by itself; zero: never.
func (e *entry) fading() time.Time {
	if !e.lasting || e.fades == 0 {
		return time.Time{}
	}
	return e.last.Add(e.fades)
}

// Due returns what is to be told now, in the order in which it happened. It counts as
// told.
func (b *Book) Due(now time.Time) []Alarm { return b.take(now, false) }

// Flush is Due of everything that has happened, whether its time has come or not.
func (b *Book) Flush(now time.Time) []Alarm { return b.take(now, true) }

func (b *Book) take(now time.Time, all bool) (alarms []Alarm) {
	for key, e := range b.entries {
		if t := e.fading(); !t.IsZero() && !now.Before(t) {
			e.lasting, e.Until = false, t
			b.want(e, now)
		}
		come := !e.due.IsZero() && !now.Before(e.due)
		switch {
		case e.pending && (come || all):
			alarms = append(alarms, e.tell(now))
			e.row++
			e.due = b.repetition(e)
		case come:
			alarms = append(alarms, e.tell(now))
			e.due = b.repetition(e)
		case !e.pending && !e.lasting && now.Sub(e.last) >= calm:
			delete(b.entries, key)
		}
	}
	slices.SortFunc(alarms, func(x, y Alarm) int {
		return cmp.Or(x.latest().Compare(y.latest()), cmp.Compare(x.Key, y.Key))
	})
	return alarms
}

// latest is when an alarm last changed.
func (a *Alarm) latest() time.Time {
	if n := len(a.Events); n > 0 {
		return a.Events[n-1].Time
	}
	return a.Since
}

// tell returns the message about an entry, which is told with that.
func (e *entry) tell(now time.Time) Alarm {
	a := e.Alarm
	switch {
	case !e.pending:
		a.State = Repeated
	case e.lasting:
		a.State = Raised
	case !e.Until.IsZero():
		a.State = Resolved
	default:
		a.State = News
	}
	e.pending, e.told, e.sent = false, e.lasting, now
	e.Changes, e.Events = 0, nil
	return a
}

// Requeue makes alarms that did not arrive due again, but for news: what lasts as if it had
// not been told, and the end of what was told, without which it would last for ever there.
func (b *Book) Requeue(alarms []Alarm, now time.Time) {
	for _, a := range alarms {
		if e := b.entries[a.Key]; e != nil && (e.lasting || a.State == Resolved) {
			e.told = !e.lasting
			b.want(e, now)
		}
	}
}

// Settle forgets everything that is over: a new receiver hears of what lasts.
func (b *Book) Settle() {
	for key, e := range b.entries {
		if !e.lasting {
			delete(b.entries, key)
		}
	}
}

// Retain ends what lasts of parts that are gone. exists is asked by an event of each.
func (b *Book) Retain(exists func(report.Event) bool, now time.Time) {
	for key, e := range b.entries {
		switch {
		case !e.lasting || exists(e.about):
		case !e.told: // nobody waits for its end
			delete(b.entries, key)
		default:
			e.lasting, e.Until, e.Summary = false, now, cut(oneLine(e.Key), maxSummary/2)+": not configured any more"
			e.Changes++
			b.want(e, now)
		}
	}
}
