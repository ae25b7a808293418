package alarm

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/report"
)

// start is when the tests' time begins.
var start = time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)

// at is a time so long after start.
func at(d time.Duration) time.Time { return start.Add(d) }

// event makes one of a message, as the log has it. attrs are keys and values.
func event(d time.Duration, level, kind, message, router string, attrs ...string) report.Event {
	e := report.Event{Time: at(d), Level: level, Kind: kind, Message: message, Router: router}
	for i := 0; i < len(attrs); i += 2 {
		switch attrs[i] {
		case "cause":
			e.Cause = attrs[i+1]
		case "service":
			e.Service = attrs[i+1]
		default:
			e.Attributes = append(e.Attributes, report.Attribute{Key: attrs[i], Value: attrs[i+1]})
		}
	}
	return e
}

func transition(d time.Duration, from, to, cause string) report.Event {
	level := "info"
	if cause == causeFault {
		level = "warn"
	}
	return event(d, level, report.KindTransition, "state", "VI_1", "from", from, "to", to, "cause", cause)
}

func split(d time.Duration) report.Event {
	return event(d, "error", report.KindSplit, "split: another router is Active as well", "VI_1", "from", "192.0.2.2")
}

func splitOver(d time.Duration) report.Event {
	return event(d, "info", report.KindSplit, "split: over", "VI_1", "from", "192.0.2.2")
}

func noBackends(d time.Duration) report.Event {
	return event(d, "error", report.KindPool, "pool has no working backends", "", "service", "web", "down", "2")
}

func backendsAgain(d time.Duration) report.Event {
	return event(d, "info", report.KindPool, "pool has working backends again", "", "service", "web", "up", "1")
}

func certificate(d time.Duration, level, in string) report.Event {
	return event(d, level, report.KindCertificate, "certificate ends soon", "", "service", "web", "file", "/web.pem", "in", in)
}

// told lets a book live through events, each at its time, until the end, and returns what
// it says and when.
func told(b *Book, until time.Duration, events ...report.Event) (lines []string) {
	now := start
	for {
		next := b.Next()
		if len(events) > 0 && (next.IsZero() || events[0].Time.Before(next)) {
			now = events[0].Time
			b.Take(events[0], now)
			events = events[1:]
			continue
		}
		if next.IsZero() || next.After(at(until)) {
			return lines
		}
		if next.After(now) {
			now = next
		}
		for _, a := range b.Due(now) {
			lines = append(lines, fmt.Sprintf("%v %s %s %s: %s x%d", now.Sub(start), a.State, a.Severity, a.Key, a.Summary, a.Changes))
		}
	}
}

var everything = Rules{On: Kinds, Repeat: 4 * time.Hour}

// TestBook: what a receiver hears of events.
func TestBook(t *testing.T) {
	for _, c := range []struct {
		name   string
		until  time.Duration
		rules  Rules
		events []report.Event
		want   []string
	}{
		{"a transition is news", time.Minute, everything, []report.Event{transition(time.Second, "Backup", "Active", "no advertisement in time")},
			[]string{"1s news info transition VI_1: VI_1 is Active, was Backup: no advertisement in time x1"}},
		{"a fault lasts until the router is back", time.Hour, everything,
			[]report.Event{transition(time.Second, "Active", "Initialize", "fault"), transition(time.Minute, "Initialize", "Backup", "fault cleared")},
			[]string{"1s raised warning transition VI_1: VI_1 is Initialize, was Active: fault x1",
				"1m0s resolved warning transition VI_1: VI_1 is Backup, was Initialize: fault cleared x1"}},
		{"a split is raised, repeated and resolved", 13 * time.Hour, everything, []report.Event{split(0), splitOver(9 * time.Hour)},
			[]string{"0s raised critical split VI_1: VI_1: split: another router is Active as well (192.0.2.2) x1",
				"4h0m0s repeated critical split VI_1: VI_1: split: another router is Active as well (192.0.2.2) x0",
				"8h0m0s repeated critical split VI_1: VI_1: split: another router is Active as well (192.0.2.2) x0",
				"9h0m0s resolved critical split VI_1: VI_1: split: over (192.0.2.2) x1"}},
		{"the same alarm is not told twice while it lasts", time.Hour, everything, []report.Event{split(0), split(10 * time.Second), split(20 * time.Second)},
			[]string{"0s raised critical split VI_1: VI_1: split: another router is Active as well (192.0.2.2) x1"}},
		{"a split ends when the router is not Active any more, and is told once", time.Hour, Rules{On: []string{"split"}, Repeat: time.Hour},
			[]report.Event{split(0), transition(time.Second, "Active", "Backup", "another router has the better claim"), splitOver(2 * time.Second)},
			[]string{"0s raised critical split VI_1: VI_1: split: another router is Active as well (192.0.2.2) x1",
				"1s resolved critical split VI_1: VI_1 is Backup, was Active: another router has the better claim x1"}},
		{"why a split lasts is told when it is known", time.Hour, everything,
			[]report.Event{split(0), event(3*time.Second, "warn", "split", "the other Active router does not hear this one", "VI_1", "from", "192.0.2.2", "cause", "a firewall"), splitOver(time.Minute)},
			[]string{"0s raised critical split VI_1: VI_1: split: another router is Active as well (192.0.2.2) x1",
				"3s raised critical split VI_1: VI_1: the other Active router does not hear this one (192.0.2.2): a firewall x1",
				"1m0s resolved critical split VI_1: VI_1: split: over (192.0.2.2) x1"}},
		{"what is no change of the state is no alarm", time.Hour, everything,
			[]report.Event{event(0, "info", "transition", "begins", "VI_1"), event(0, "info", "transition", "another router is Active", "VI_1", "peer", "192.0.2.2"),
				event(0, "info", "addresses", "addresses acquired", "VI_1"), event(0, "info", "conflict", "told the link who has the address now", "VI_1")}, nil},
		{"what has no rule of its own: a deed, and what is wrong", time.Hour, everything,
			[]report.Event{event(0, "info", "control", "priority", "VI_1", "cause", "root"), event(0, "warn", "other", "odd", "")},
			[]string{"0s news info control VI_1 priority: VI_1: priority: root x1", "0s news warning other odd: odd x1"}},
		{"an end without a beginning is nothing", time.Hour, everything, []report.Event{splitOver(0), backendsAgain(time.Second)}, nil},
		{"a pool", time.Hour, everything, []report.Event{noBackends(0), backendsAgain(time.Minute)},
			[]string{"0s raised critical pool web: web: pool has no working backends x1", "1m0s resolved critical pool web: web: pool has working backends again x1"}},
		{"a certificate is told at each step, and not by time", 400 * time.Hour, everything,
			[]report.Event{certificate(0, "info", "30 days"), certificate(16*24*time.Hour, "warn", "14 days")},
			[]string{"0s raised info certificate web /web.pem: web /web.pem: certificate ends soon: in 30 days x1",
				"384h0m0s raised warning certificate web /web.pem: web /web.pem: certificate ends soon: in 14 days x1"}},
		{"a conflict fades", time.Hour, everything,
			[]report.Event{event(0, "error", "conflict", "another host claims an address that is held here", "VI_1", "address", "192.0.2.250", "mac", "02:00:00:00:00:01"),
				event(10*time.Minute, "error", "conflict", "another host claims an address that is held here", "VI_1", "address", "192.0.2.250", "mac", "02:00:00:00:00:01")},
			[]string{"0s raised critical conflict VI_1 192.0.2.250: VI_1 192.0.2.250: another host claims an address that is held here: mac 02:00:00:00:00:01 x1",
				"35m0s resolved critical conflict VI_1 192.0.2.250: VI_1 192.0.2.250: another host claims an address that is held here: mac 02:00:00:00:00:01 x1"}},
		{"only the kinds that are asked for", time.Hour, Rules{On: []string{"pool"}}, []report.Event{split(0), transition(0, "Backup", "Active", "x"), noBackends(0)},
			[]string{"0s raised critical pool web: web: pool has no working backends x1"}},
		{"no alarm about alarms", time.Hour, Rules{On: append(slices.Clone(Kinds), report.KindAlarm)}, []report.Event{event(0, "error", report.KindAlarm, "an alarm is given up", "")}, nil},
		{"never repeated", 100 * time.Hour, Rules{On: Kinds, Repeat: -1}, []report.Event{split(0)},
			[]string{"0s raised critical split VI_1: VI_1: split: another router is Active as well (192.0.2.2) x1"}},
		{"what lasts is refreshed, of whatever kind", 150 * time.Second, Rules{On: Kinds, Repeat: time.Minute, Refresh: true}, []report.Event{certificate(0, "info", "30 days")},
			[]string{"0s raised info certificate web /web.pem: web /web.pem: certificate ends soon: in 30 days x1",
				"1m0s repeated info certificate web /web.pem: web /web.pem: certificate ends soon: in 30 days x0",
				"2m0s repeated info certificate web /web.pem: web /web.pem: certificate ends soon: in 30 days x0"}},
		{"gathered: what has begun and ended meanwhile is one message", time.Hour, Rules{On: Kinds, Gather: 5 * time.Second},
			[]report.Event{noBackends(0), backendsAgain(time.Second)},
			[]string{"5s resolved critical pool web: web: pool has working backends again x2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := told(NewBook(c.rules), c.until, c.events...); !slices.Equal(got, c.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

// TestFlapping: fifty changes a minute are a few messages, which count every change, and
// the last of them says how it stands.
func TestFlapping(t *testing.T) {
	var events []report.Event
	const minutes, perMinute = 60, 50
	for i := range minutes * perMinute {
		from, to := "Backup", "Active"
		if i%2 == 1 {
			from, to = to, from
		}
		events = append(events, transition(time.Duration(i)*time.Minute/perMinute, from, to, "flapping"))
	}
	b := NewBook(everything)
	lines := told(b, 3*time.Hour, events...)
	t.Logf("%d changes are %d messages:\n%s", len(events), len(lines), strings.Join(lines, "\n"))
	if len(lines) > 10 {
		t.Errorf("%d messages of %d changes in an hour, want at most 10", len(lines), len(events))
	}
	sum := 0
	for _, l := range lines {
		var n int
		if _, err := fmt.Sscanf(l[strings.LastIndexByte(l, 'x'):], "x%d", &n); err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	if sum != len(events) {
		t.Errorf("the messages count %d changes, want %d", sum, len(events))
	}
	if last := lines[len(lines)-1]; !strings.Contains(last, "is Backup") {
		t.Errorf("the last message is %s, want the last state", last)
	}
	// After a calm the next change is told at once.
	if got := told(b, 5*time.Hour, transition(4*time.Hour, "Backup", "Active", "real")); len(got) != 1 || !strings.HasPrefix(got[0], "4h0m0s ") {
		t.Errorf("after a calm: %q", got)
	}
}

// TestEventsOfAMessage are the latest few, however many there were.
func TestEventsOfAMessage(t *testing.T) {
	b := NewBook(everything)
	for i := range 3 * maxEvents {
		b.Take(transition(time.Duration(i)*time.Second, "Backup", "Active", fmt.Sprint(i)), at(0))
	}
	got := b.Due(at(time.Minute))
	if len(got) != 1 || len(got[0].Events) != maxEvents || got[0].Events[maxEvents-1].Cause != "29" || got[0].Changes != 30 {
		t.Errorf("got %+v", got)
	}
}

// TestBookIsBounded: whatever happens, a book has no more entries, and says so.
func TestBookIsBounded(t *testing.T) {
	b := NewBook(everything)
	take := func(level string, n int) {
		for i := range n {
			e := split(0)
			e.Level, e.Router = level, fmt.Sprint(level, i)
			b.Take(e, start)
		}
	}
	take("warn", maxEntries+7)
	if n := len(b.Due(at(time.Second))); n != maxEntries {
		t.Errorf("%d alarms, want %d", n, maxEntries)
	}
	if n := b.Lost(); n != 7 {
		t.Errorf("%d are lost, want 7", n)
	}
	// What is worse has room beside them, and no more than that.
	take("error", maxEntries+5)
	if n := len(b.Due(at(2 * time.Second))); n != maxEntries {
		t.Errorf("%d critical alarms, want %d", n, maxEntries)
	}
	if n := b.Lost(); n != 5 {
		t.Errorf("%d are lost, want 5", n)
	}
	// What is over makes room at once, the oldest first.
	b = NewBook(everything)
	for i := range maxEntries + 3 {
		e := transition(time.Duration(i)*time.Millisecond, "Backup", "Active", "x")
		e.Router = fmt.Sprint("VI_", i)
		b.Take(e, e.Time)
		b.Due(e.Time)
	}
	if n := b.Lost(); n != 0 || len(b.entries) != maxEntries || b.entries["transition VI_2"] != nil || b.entries["transition VI_3"] == nil {
		t.Errorf("%d are lost, %d entries kept", n, len(b.entries))
	}
	// What is over is forgotten, and there is room again.
	b = NewBook(everything)
	for i := range 3 * maxEntries {
		e := transition(time.Duration(i)*time.Minute, "Backup", "Active", "x")
		e.Router = fmt.Sprint("VI_", i)
		b.Take(e, e.Time)
		b.Due(e.Time)
	}
	if n := b.Lost(); n != 0 || len(b.entries) > 20 {
		t.Errorf("%d are lost, and %d entries kept", n, len(b.entries))
	}
}

// TestBookAfterReload: other rules repeat nothing that was told.
func TestBookAfterReload(t *testing.T) {
	b := NewBook(everything)
	told(b, time.Minute, split(0), noBackends(0))
	b.SetRules(Rules{On: []string{"split"}, Repeat: 2 * time.Hour})
	got := told(b, 3*time.Hour, backendsAgain(time.Hour))
	want := []string{"2h0m0s repeated critical split VI_1: VI_1: split: another router is Active as well (192.0.2.2) x0"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestRequeue: what did not arrive is told again as long as it lasts.
func TestRequeue(t *testing.T) {
	b := NewBook(everything)
	b.Take(split(0), start)
	b.Take(transition(0, "Backup", "Active", "x"), start)
	lost := b.Due(start)
	if len(lost) != 2 {
		t.Fatalf("%d alarms, want 2", len(lost))
	}
	b.Requeue(lost, at(time.Minute))
	got := told(b, 2*time.Hour)
	want := []string{"1m0s raised critical split VI_1: VI_1: split: another router is Active as well (192.0.2.2) x0"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestRequeueOfAnEnd: an end that did not arrive is told again, whatever happens
// meanwhile: who was told of the beginning waits for it.
func TestRequeueOfAnEnd(t *testing.T) {
	fault, back := transition(0, "Active", "Initialize", causeFault), transition(time.Minute, "Initialize", "Backup", "fault cleared")
	for _, c := range []struct {
		name string
		then []report.Event
		want string
	}{
		{"nothing else", nil, "resolved warning transition VI_1: VI_1 is Backup, was Initialize: fault cleared x0"},
		{"news of the same thing", []report.Event{transition(2*time.Hour, "Backup", "Active", "x")}, "resolved warning transition VI_1: VI_1 is Active, was Backup: x x1"},
		{"it has begun again", []report.Event{transition(2*time.Hour, "Backup", "Initialize", causeFault)}, "raised warning transition VI_1: VI_1 is Initialize, was Backup: fault x1"},
	} {
		b := NewBook(Rules{On: []string{"transition"}, Gather: time.Second})
		b.Take(fault, fault.Time)
		b.Due(at(time.Second))
		b.Take(back, back.Time)
		lost := b.Due(at(2 * time.Minute))
		if len(lost) != 1 || lost[0].State != Resolved {
			t.Fatalf("%s: got %+v", c.name, lost)
		}
		b.Requeue(lost, at(2*time.Hour))
		got := told(b, 3*time.Hour, c.then...)
		if want := "2h0m1s " + c.want; len(got) != 1 || got[0] != want {
			t.Errorf("%s: got %q, want %q", c.name, got, want)
		}
	}
}

// TestRetain: what lasts of a part that is gone ends.
func TestRetain(t *testing.T) {
	b := NewBook(everything)
	told(b, time.Minute, split(0), noBackends(0))
	b.Take(event(time.Minute, "error", report.KindPool, "pool has no working backends", "", "service", "not told yet"), at(time.Minute))
	b.Retain(func(e report.Event) bool { return e.Router != "" }, at(time.Hour))
	got := told(b, 2*time.Hour)
	want := []string{"1h0m0s resolved critical pool web: pool web: not configured any more x1"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestFlush tells what waits, and repeats nothing.
func TestFlush(t *testing.T) {
	b := NewBook(Rules{On: Kinds, Repeat: time.Hour, Gather: 5 * time.Second})
	told(b, time.Minute, split(0))
	b.Take(transition(time.Minute, "Active", "Initialize", "shutdown"), at(time.Minute))
	got := b.Flush(at(time.Minute))
	if len(got) != 2 || got[0].Key != "split VI_1" || got[0].State != Resolved || got[1].State != News {
		t.Errorf("got %+v", got)
	}
	if again := b.Flush(at(time.Minute)); again != nil {
		t.Errorf("flushed again: %+v", again)
	}
}
