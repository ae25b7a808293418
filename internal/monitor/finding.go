package monitor

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// finding is something wrong or odd that lasts: it is said when it begins and when it ends.
type finding struct {
	code    Code
	problem bool
	group   *group
	link    string // without a group
	text    string
	next    string
	// repeats: it is an incident and no condition. It is said again if it comes again
	// after a while.
	repeats bool

	key         string
	first, last time.Time // when it began, and when it was true for the last time
	times       int
	over        bool
}

// maxFindings bounds the memory that hostile frames can take.
const maxFindings = 4096

// forget is after how long an incident that comes again is news.
const forget = time.Minute

// open says a finding unless that was said before.
func (w *Watcher) open(key string, f finding, now time.Time) {
	key = string(f.code) + " " + key
	if old := w.findings[key]; old != nil {
		news := old.over || old.repeats && now.Sub(old.last) > forget || old.text != f.text && !old.repeats
		old.last, old.text, old.next = now, f.text, f.next
		if old.over {
			old.first = now
		}
		old.over = false
		if news {
			old.times++
			w.tell(old, kindOf(old), old.text, now)
		}
		return
	}
	if len(w.findings) >= maxFindings {
		return
	}
	f.key, f.first, f.last, f.times = key, now, now, 1
	w.findings[key] = &f
	w.tell(&f, kindOf(&f), f.text, now)
}

func kindOf(f *finding) Kind {
	if f.problem {
		return KindProblem
	}
	return KindNote
}

// close says that a finding is over, if it was open.
func (w *Watcher) close(code Code, key, text string, now time.Time) {
	f := w.findings[string(code)+" "+key]
	if f == nil || f.over {
		return
	}
	f.over = true
	w.tell(f, KindOver, text, now)
}

// isOpen reports whether a finding was said and is not over.
func (w *Watcher) isOpen(code Code, key string) bool {
	f := w.findings[string(code)+" "+key]
	return f != nil && !f.over
}

func (w *Watcher) tell(f *finding, kind Kind, text string, now time.Time) {
	e := Event{Kind: kind, Time: now, Link: f.link, Code: f.code, Text: text}
	if kind != KindOver {
		e.Next = f.next
	}
	w.emit(e, f.group)
}

// emit adds an event about a group, or about none in particular.
func (w *Watcher) emit(e Event, g *group) {
	if g != nil {
		e.Link, e.Family, e.VRID = g.link, g.family(), g.vrid
	}
	w.events = append(w.events, e)
}

// Finding is a problem or note, for the summary.
type Finding struct {
	Code    Code      `json:"code"`
	Problem bool      `json:"problem"`
	Link    string    `json:"link,omitempty"`
	Family  string    `json:"family,omitempty"`
	VRID    uint8     `json:"vrid,omitempty"`
	Text    string    `json:"text"`
	Next    string    `json:"next,omitempty"`
	First   time.Time `json:"first"`
	Times   int       `json:"times"`
	Over    bool      `json:"over"`
}

// Findings returns all problems and notes so far, problems first, the oldest first.
func (w *Watcher) Findings() []Finding {
	var list []Finding
	for _, f := range w.findings {
		one := Finding{Link: f.link, Code: f.code, Problem: f.problem, Text: f.text, Next: f.next, First: f.first, Times: f.times, Over: f.over}
		if f.group != nil {
			one.Link, one.Family, one.VRID = f.group.link, f.group.family(), f.group.vrid
		}
		list = append(list, one)
	}
	slices.SortFunc(list, func(a, b Finding) int {
		if a.Problem != b.Problem {
			return map[bool]int{true: -1, false: 1}[a.Problem]
		}
		return cmp.Or(a.First.Compare(b.First), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Text, b.Text))
	})
	return list
}

// Problems returns how many problems there were, those that are over included.
func (w *Watcher) Problems() (n int) {
	for _, f := range w.findings {
		if f.problem {
			n++
		}
	}
	return n
}

// appendSeconds appends d as a decimal number.
func appendSeconds(b []byte, d time.Duration) []byte {
	return strconv.AppendFloat(b, d.Seconds(), 'f', -1, 64)
}

// short returns a duration as people write it: three significant digits.
func short(d time.Duration) string {
	switch {
	case d >= 100*time.Second:
		return d.Round(time.Second).String()
	case d >= 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= 100*time.Millisecond:
		return d.Round(time.Millisecond).String()
	case d >= time.Millisecond:
		return fmt.Sprintf("%.3gms", float64(d)/float64(time.Millisecond))
	}
	return d.Round(time.Microsecond).String()
}
