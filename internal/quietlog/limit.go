package quietlog

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"
)

// Limit bounds how often a message is logged that somebody else can cause at will. A
// package has a Limit as a variable, and names it where it logs, see [Limit.By].
type Limit struct {
	// Every is the shortest time between two lines of one message about one
	// subject, in the long run.
	Every time.Duration
	// Burst is how many lines may come at once. Default 1.
	Burst int
	// Pause, if not 0, is the time after which a subject that has not come up again counts
	// as a new one.
	Pause time.Duration
	// Subjects bounds how many subjects are told apart, for subjects that somebody else can
	// invent. Further ones count as one subject, until one of the first has not come up for
	// Every. Default 0: no bound.
	Subjects int
}

// mark is the value of an attribute that tells the handler of the limit of a record.
type mark struct {
	limit   *Limit
	subject any
	times   uint64 // of Times
}

// By is an attribute that puts a line under l, and is not logged. Lines of one message are
// limited together if they have the same subject, which must be comparable.
func (l *Limit) By(subject any) slog.Attr { return slog.Any("", mark{limit: l, subject: subject}) }

// Times is [Limit.By] of a line that stands for several. The attribute is logged as times: how
// often the subject has come up since the last such line.
func (l *Limit) Times(times uint64, subject any) slog.Attr {
	return slog.Any("times", mark{l, subject, times})
}

// Ended reports whether a line under l was logged since Ended was called last: whether a
// line is due that reports the end of what lines under l report.
func (l *Limit) Ended(log *slog.Logger) (said bool) {
	t := limitsOf(log)
	if t == nil {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, e := range t.entries {
		if k.limit == l {
			said, e.said = said || e.said, false
		}
	}
	return said
}

// Reset makes every subject under l a new one for a logger.
func (l *Limit) Reset(log *slog.Logger) {
	if t := limitsOf(log); t != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		maps.DeleteFunc(t.entries, func(k entryKey, _ *entry) bool { return k.limit == l })
	}
}

// Mutes reports whether a line would be left out now, and if so counts it times times. A
// caller that asks first need not find out what to log.
func (l *Limit) Mutes(log *slog.Logger, level slog.Level, message string, subject any, times uint64) bool {
	if !log.Enabled(context.Background(), level) {
		return true
	}
	t := limitsOf(log)
	if t == nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.entry(entryKey{l, message, subject}, time.Now()).admits(l, times)
}

// Limited returns [New] of log, in which lines under a Limit are limited by it, and all
// other lines by rest, unless rest is nil. What rest left out is counted in the next line
// of the same message, as dropped.
func Limited(log *slog.Logger, rest *Limit) *slog.Logger {
	return slog.New(&handler{New(log).Handler(), &limits{rest: rest, entries: map[entryKey]*entry{}}, nil})
}

// limits remembers what was logged and what was left out.
type limits struct {
	rest *Limit // of records without a mark; nil: none

	mu      sync.Mutex
	entries map[entryKey]*entry
}

// limitsOf returns the limits of a logger of Limited; nil: of any other.
func limitsOf(log *slog.Logger) *limits {
	if h, ok := log.Handler().(*handler); ok {
		return h.limits
	}
	return nil
}

// admit reports whether a record may be logged, and returns it without its mark, and with
// the count of what was left out before.
func (t *limits) admit(r slog.Record) (slog.Record, bool) {
	var m mark
	r.Attrs(func(a slog.Attr) bool {
		found, ok := markOf(a)
		if ok {
			m = found
		}
		return !ok
	})
	limit := cmp.Or(m.limit, t.rest)
	if limit == nil {
		return r, true
	}
	left, ok := t.judge(entryKey{limit, r.Message, m.subject}, r.Time, max(m.times, 1))
	if !ok {
		return r, false
	}
	out := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		if _, ok := markOf(a); !ok {
			out.AddAttrs(a)
		} else if a.Key != "" {
			out.AddAttrs(slog.Uint64(a.Key, m.times+left))
		}
		return true
	})
	if m.limit == nil && left > 0 {
		out.AddAttrs(slog.Uint64("dropped", left))
	}
	return out, true
}

func markOf(a slog.Attr) (m mark, ok bool) {
	if a.Value.Kind() == slog.KindAny {
		m, ok = a.Value.Any().(mark)
	}
	return m, ok
}

type entryKey struct {
	limit   *Limit
	message string
	subject any
}

// entry is one message about one subject.
type entry struct {
	credit time.Duration // each line takes Every of it
	seen   time.Time     // when the subject came up last
	left   uint64        // how often it was left out since the last line
	said   bool          // a line was logged, and Ended was not called since
}

// tooMany stands for subjects beyond Limit.Subjects.
type tooMany struct{}

// entry returns the entry of a key, with the credit that it has at now.
func (t *limits) entry(k entryKey, now time.Time) *entry {
	e := t.entries[k]
	if e == nil && k.limit.Subjects > 0 && !t.room(k, now) {
		k.subject = tooMany{}
		e = t.entries[k]
	}
	full := time.Duration(max(k.limit.Burst, 1)) * k.limit.Every
	if e == nil {
		e = &entry{credit: full, seen: now}
		t.entries[k] = e
	}
	since := now.Sub(e.seen)
	if e.credit = min(full, e.credit+since); k.limit.Pause > 0 && since >= k.limit.Pause {
		e.credit = full
	}
	e.seen = now
	return e
}

// room reports whether another subject fits beside those of the same message, and makes
// room if it can.
func (t *limits) room(k entryKey, now time.Time) bool {
	n := 0
	for other, e := range t.entries {
		if other.limit != k.limit || other.message != k.message || other.subject == (tooMany{}) {
			continue
		}
		if now.Sub(e.seen) >= k.limit.Every {
			delete(t.entries, other)
			continue
		}
		n++
	}
	return n < k.limit.Subjects
}

// judge reports whether a line may be logged, and how much was left out before it.
func (t *limits) judge(k entryKey, now time.Time, times uint64) (left uint64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entry(k, now)
	if !e.admits(k.limit, times) {
		return 0, false
	}
	left, e.left, e.said = e.left, 0, true
	e.credit -= k.limit.Every
	return left, true
}

// admits reports whether a line may be logged, and counts it if not.
func (e *entry) admits(l *Limit, times uint64) bool {
	if e.credit >= l.Every {
		return true
	}
	e.left += times
	return false
}
