package daemon

import (
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/quietlog"
	"github.com/havip/havip/internal/report"
)

// newTestLog returns a log of a level, and what it writes.
func newTestLog(t *testing.T, level string) (*Log, *strings.Builder) {
	t.Helper()
	out := new(strings.Builder)
	log, err := NewLog(out, config.Log{Level: level, Format: "text"})
	if err != nil {
		t.Fatal(err)
	}
	return log, out
}

// eventsOf are a log's events but for their times.
func eventsOf(log *Log) []report.Event {
	events, _, _ := log.Events().After(0)
	for i := range events {
		events[i].Time = time.Time{}
	}
	return events
}

func TestEventsOfLines(t *testing.T) {
	for name, test := range map[string]struct {
		log  func(l *Log)
		want []report.Event
	}{
		"a transition has its router, its cause, and the rest in its order": {
			func(l *Log) {
				l.With("router", "VI_1").Warn("state", "from", "Backup", "to", "Active", "cause", "timeout", "reason", "x",
					"peer", netip.MustParseAddr("192.0.2.1"), "took", 1500*time.Millisecond)
			},
			[]report.Event{{ID: 1, Level: "warn", Kind: "transition", Message: "state", Router: "VI_1", Cause: "timeout", Attributes: []report.Attribute{
				{Key: "from", Value: "Backup"}, {Key: "to", Value: "Active"}, {Key: "reason", Value: "x"}, {Key: "peer", Value: "192.0.2.1"}, {Key: "took", Value: "1.5s"},
			}}},
		},
		"a router's multicast group is no group of routers": {
			func(l *Log) { l.With("router", "VI_1").Info("begins", "group", "224.0.0.18") },
			[]report.Event{{ID: 1, Level: "info", Kind: "daemon", Message: "begins", Router: "VI_1", Attributes: []report.Attribute{{Key: "group", Value: "224.0.0.18"}}}},
		},
		"the error is the cause, on one line": {
			func(l *Log) {
				l.With("check", "c").Warn("check is down", "err", errors.Join(errors.New("one"), errors.New("two")))
			},
			[]report.Event{{ID: 1, Level: "warn", Kind: "check", Message: "check is down", Check: "c", Cause: "one; two"}},
		},
		"a pool without a service stands for it": {
			func(l *Log) { l.Error("pool has no working backends", "pool", "web", "down", 3) },
			[]report.Event{{ID: 1, Level: "error", Kind: "pool", Message: "pool has no working backends", Service: "web", Attributes: []report.Attribute{{Key: "down", Value: "3"}}}},
		},
		"beside its service a pool is an attribute": {
			func(l *Log) {
				l.With("service", "web").Warn("backend is down", "pool", "web/static", "backend", "b1", "err", errors.New("refused"))
			},
			[]report.Event{{ID: 1, Level: "warn", Kind: "backend", Message: "backend is down", Service: "web", Backend: "b1", Cause: "refused", Attributes: []report.Attribute{{Key: "pool", Value: "web/static"}}}},
		},
		"what clients cause is no event": {
			func(l *Log) {
				l.Warn("connection not served", "client", "192.0.2.9:1234")
				l.Access.Info("connection", "client", "192.0.2.9:1234")
				quietlog.Flush(l.Access)
			},
			nil,
		},
		"an unknown warning is an event, and any other unknown line is none": {
			func(l *Log) { l.Info("never heard of"); l.Warn("never heard of") },
			[]report.Event{{ID: 1, Level: "warn", Kind: "other", Message: "never heard of"}},
		},
		"a line at debug is none": {
			func(l *Log) { l.Debug("running") },
			nil,
		},
		"a message may go on with what differs": {
			func(l *Log) { l.Info("another interval than before: until they are changed", "was", "1s") },
			[]report.Event{{ID: 1, Level: "info", Kind: "reload", Message: "another interval than before: until they are changed", Attributes: []report.Attribute{{Key: "was", Value: "1s"}}}},
		},
		"keys in a group of the logger have its name": {
			func(l *Log) { l.WithGroup("g").With("a", 1).Warn("odd", "b", 2) },
			[]report.Event{{ID: 1, Level: "warn", Kind: "other", Message: "odd", Attributes: []report.Attribute{{Key: "g.a", Value: "1"}, {Key: "g.b", Value: "2"}}}},
		},
		"groups within groups, and attributes in no group": {
			func(l *Log) {
				l.With("router", "R").WithGroup("g").With(slog.Group("", "a", 1), slog.Group("h", "b", 2), slog.Attr{}).Warn("odd", slog.Group("", slog.Group("i", "c", 3)))
			},
			[]report.Event{{ID: 1, Level: "warn", Kind: "other", Message: "odd", Router: "R", Attributes: []report.Attribute{{Key: "g.a", Value: "1"}, {Key: "g.h.b", Value: "2"}, {Key: "g.i.c", Value: "3"}}}},
		},
		"of a long text there is the beginning": {
			func(l *Log) {
				l.Warn(strings.Repeat("m", maxText), "err", strings.Repeat("\u00e4", 1<<20), "more", strings.Repeat("x", maxText+1))
			},
			[]report.Event{{ID: 1, Level: "warn", Kind: "other", Message: strings.Repeat("m", maxText), Cause: strings.Repeat("\u00e4", maxText/2-2) + " ...",
				Attributes: []report.Attribute{{Key: "more", Value: strings.Repeat("x", maxText-4) + " ..."}}}},
		},
		"what a limit mutes is no event": {
			func(l *Log) {
				limit := &quietlog.Limit{Every: time.Hour}
				limited := quietlog.Limited(l.Logger, nil)
				for range 5 {
					limited.Warn("discarded", limit.By("x"))
				}
			},
			[]report.Event{{ID: 1, Level: "warn", Kind: "discard", Message: "discarded"}},
		},
	} {
		// Whatever the log's level is, the events are the same.
		for _, level := range []string{"debug", "info", "error"} {
			t.Run(name+"/"+level, func(t *testing.T) {
				log, _ := newTestLog(t, level)
				test.log(log)
				if diff := cmp.Diff(test.want, eventsOf(log), cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("events (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// TestEventsLeaveTheLogAlone: the level decides what is written, and debug lines are not
// even made for the sake of events.
func TestEventsLeaveTheLogAlone(t *testing.T) {
	log, out := newTestLog(t, "error")
	log.Info("running")
	log.Error("reload", "err", errors.New("x"))
	log.Flush()
	if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "msg=reload err=x") {
		t.Errorf("the log at level error is %q, want the error alone", got)
	}
	if n := len(eventsOf(log)); n != 2 {
		t.Errorf("%d events, want 2", n)
	}
	if log.Enabled(t.Context(), -4) {
		t.Error("debug is enabled at level error")
	}
	if err := log.SetLevel("debug"); err != nil || !log.Enabled(t.Context(), -4) || log.Level() != "debug" {
		t.Errorf("level %s after SetLevel: %v", log.Level(), err)
	}
}

// TestEventsWithoutReader: nobody reads the log, and events keep coming.
func TestEventsWithoutReader(t *testing.T) {
	r, w := io.Pipe()
	defer r.Close()
	log, err := NewLog(w, config.Log{Level: "info", Format: "json"})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 * maxEvents {
		log.Info("running")
	}
	events, last, _ := log.Events().After(0)
	if len(events) != maxEvents || last != 3*maxEvents {
		t.Errorf("%d events are kept, the last has ID %d: want %d and %d", len(events), last, maxEvents, 3*maxEvents)
	}
}
