package quietlog

import (
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

// timesKey is the attribute that counts: a line that has it, as a uint64, says how
// often its subject has come up since the last such line.
const timesKey = "times"

// mark is what an attribute of a record tells the handler. It is not logged.
type mark struct {
	limit   *Limit
	subject any
}

// By is an attribute that puts a line under l. Lines of one message are limited
// together if they have the same subject, which must be comparable.
func (l *Limit) By(subject any) slog.Attr { return slog.Any("", mark{l, subject}) }

// Ended reports whether a line under l was logged since Ended was called last: whether a
// line is due that reports the end of what lines under l report.
func (l *Limit) Ended(log *slog.Logger) (said bool) {
	h, ok := log.Handler().(*limiter)
	if !ok {
		return true
	}
	h.table.mu.Lock()
	defer h.table.mu.Unlock()
	for k, e := range h.table.entries {
		if k.limit == l {
			said, e.said = said || e.said, false
		}
	}
	return said
}

// Reset makes every subject under l a new one for a logger.
func (l *Limit) Reset(log *slog.Logger) {
	if h, ok := log.Handler().(*limiter); ok {
		h.table.mu.Lock()
		defer h.table.mu.Unlock()
		maps.DeleteFunc(h.table.entries, func(k entryKey, _ *entry) bool { return k.limit == l })
	}
}

// Mutes reports whether a line would be left out now, and if so counts it times times. A
// caller that asks first need not find out what to log.
func (l *Limit) Mutes(log *slog.Logger, level slog.Level, message string, subject any, times uint64) bool {
	if !log.Enabled(context.Background(), level) {
		return true
	}
	h, ok := log.Handler().(*limiter)
	if !ok {
		return false
	}
	h.table.mu.Lock()
	defer h.table.mu.Unlock()
	return !h.table.entry(entryKey{l, message, subject}, time.Now()).admits(l, times)
}

// Limited returns [New] of log, in which lines under a Limit are limited by it, and all
// other lines by rest, unless rest is nil. What rest left out is counted in the next line
// of the same message, as dropped.
func Limited(log *slog.Logger, rest *Limit) *slog.Logger {
	return slog.New(&limiter{New(log).Handler(), rest, &table{entries: map[entryKey]*entry{}}})
}

// limiter is a handler that leaves out what comes too often.
type limiter struct {
	slog.Handler
	rest  *Limit
	table *table // shared by all handlers that come from one logger
}

func (h *limiter) Handle(ctx context.Context, r slog.Record) error {
	m, times := read(r)
	limit := m.limit
	if limit == nil {
		limit = h.rest
	}
	if limit == nil {
		return h.Handler.Handle(ctx, r)
	}
	left, ok := h.table.judge(entryKey{limit, r.Message, m.subject}, r.Time, max(times, 1))
	if !ok {
		return nil
	}
	return h.Handler.Handle(ctx, counted(r, left, m.limit == nil))
}

// read returns what a record says about its limit, and how often it counts.
func read(r slog.Record) (m mark, times uint64) {
	r.Attrs(func(a slog.Attr) bool {
		switch {
		case a.Key == "":
			if found, ok := a.Value.Any().(mark); ok {
				m = found
			}
		case a.Key == timesKey && a.Value.Kind() == slog.KindUint64:
			times = a.Value.Uint64()
		}
		return true
	})
	return m, times
}

// counted returns a record without its mark, and with the count of what was left out before
// it.
func counted(r slog.Record, left uint64, dropped bool) slog.Record {
	out := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == timesKey && a.Value.Kind() == slog.KindUint64 {
			a.Value = slog.Uint64Value(a.Value.Uint64() + left)
		}
		if a.Key != "" {
			out.AddAttrs(a)
			return true
		}
		if _, ok := a.Value.Any().(mark); !ok { // a group without a key stays: handlers inline it
			out.AddAttrs(a)
		}
		return true
	})
	if dropped && left > 0 {
		out.AddAttrs(slog.Uint64("dropped", left))
	}
	return out
}

func (h *limiter) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &limiter{h.Handler.WithAttrs(attrs), h.rest, h.table}
}

func (h *limiter) WithGroup(name string) slog.Handler {
	return &limiter{h.Handler.WithGroup(name), h.rest, h.table}
}

// table remembers what was logged and what was left out.
type table struct {
	mu      sync.Mutex
	entries map[entryKey]*entry
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
func (t *table) entry(k entryKey, now time.Time) *entry {
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
func (t *table) room(k entryKey, now time.Time) bool {
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
func (t *table) judge(k entryKey, now time.Time, times uint64) (left uint64, ok bool) {
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
