package quietlog

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/slogtest"
	"testing/synctest"
	"time"
)

// limitedText returns a logger whose lines can be read at once, without their time.
func limitedText(rest *Limit) (*slog.Logger, func() string) {
	var out bytes.Buffer
	log := Limited(slog.New(Unblocked(slog.NewTextHandler(&out, untimed))), rest)
	return log, func() string {
		defer out.Reset()
		return strings.ReplaceAll(out.String(), "level=WARN ", "")
	}
}

// says checks what has been logged since the last call.
func says(t *testing.T, said func() string, want ...string) {
	t.Helper()
	text := strings.Join(want, "\n")
	if text != "" {
		text += "\n"
	}
	if got := said(); got != text {
		t.Errorf("said\n%swant\n%s", got, text)
	}
}

// TestLimit: a line about one subject comes once in Every, and counts what was left out.
func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := Limit{Every: time.Minute}
		log, said := limitedText(nil)
		odd := func(message string, about any) {
			log.With("router", 1).Warn(message, "from", about, limit.Times(1, about))
		}
		for range 3 {
			odd("odd", 1)
			odd("odd", 2)
			odd("wrong", 1)
		}
		says(t, said, "msg=odd router=1 from=1 times=1", "msg=odd router=1 from=2 times=1", "msg=wrong router=1 from=1 times=1")
		time.Sleep(time.Minute - 1)
		odd("odd", 1)
		says(t, said)
		time.Sleep(time.Nanosecond)
		odd("odd", 1)
		says(t, said, "msg=odd router=1 from=1 times=4")
		for range 60 { // in small steps, of which none may get lost
			time.Sleep(time.Second)
			odd("odd", 1)
		}
		says(t, said, "msg=odd router=1 from=1 times=60")
		log.Warn("no limit", "n", 1)
		log.Warn("no limit", "n", 1)
		says(t, said, `msg="no limit" n=1`, `msg="no limit" n=1`)
	})
}

// TestLimitMutes: a question whether a line would be left out counts, too.
func TestLimitMutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := Limit{Every: time.Minute, Pause: 10 * time.Second}
		log, said := limitedText(nil)
		claim := func(times uint64) {
			if !limit.Mutes(log, slog.LevelWarn, "claimed", "a", times) {
				log.Warn("claimed", limit.Times(times, "a"))
			}
		}
		claim(2)
		claim(3)
		time.Sleep(9 * time.Second)
		claim(4)
		says(t, said, "msg=claimed times=2")
		time.Sleep(10 * time.Second) // then the subject counts as a new one
		claim(1)
		says(t, said, "msg=claimed times=8")
		if !limit.Mutes(log, slog.LevelDebug, "debug", "a", 1) || !limit.Mutes(New(nil), slog.LevelError, "error", "a", 1) {
			t.Error("what nobody wants is not muted")
		}
	})
}

// TestLimitSubjects: subjects that others invent can fill neither the memory nor the log.
func TestLimitSubjects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := Limit{Every: time.Minute, Subjects: 3}
		log, said := limitedText(nil)
		for round := range 3 {
			for i := range 1000 {
				log.Warn("stranger", "from", i, limit.Times(1, fmt.Sprint(round, i)))
			}
			var want []string
			for i := range 4 { // the last stands for all that are too many
				times := 1
				if i == 3 && round > 0 {
					times = 997
				}
				want = append(want, fmt.Sprintf("msg=stranger from=%d times=%d", i, times))
			}
			says(t, said, want...)
			if n := len(log.Handler().(*handler).limits.entries); n > 4 {
				t.Errorf("%d subjects are remembered, want 4", n)
			}
			time.Sleep(time.Minute)
		}
	})
}

// TestLimitEnds: an end is due if its beginning was logged. After Reset every subject
// counts as a new one.
func TestLimitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := Limit{Every: time.Minute}
		log, said := limitedText(nil)
		over := func() {
			if limit.Ended(log) {
				log.Warn("over")
			}
		}
		split := func() {
			log.Warn("split", limit.By(nil))
			over()
		}
		split()
		split()
		says(t, said, "msg=split", "msg=over")
		time.Sleep(time.Hour)
		over()
		says(t, said)
		split()
		says(t, said, "msg=split", "msg=over")
		limit.Reset(log.With("peer", 1))
		split()
		says(t, said, "msg=split", "msg=over")
		limit.Reset(New(nil)) // has no limits
		if !limit.Ended(New(nil)) {
			t.Error("a logger without limits leaves an end out")
		}
	})
}

// TestLimitRest: a line without a limit of its own has the logger's limit, each message by
// itself, and the number of lines left out is logged.
func TestLimitRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, said := limitedText(&Limit{Every: 100 * time.Millisecond, Burst: 20})
		flood := func() {
			for range 1000 {
				log.With("a", 1).WithGroup("g").Warn("flood", "b", 2)
			}
		}
		flood()
		log.Warn("once")
		if got := said(); strings.Count(got, "flood") != 20 || !strings.HasSuffix(got, "\nmsg=once\n") || strings.Contains(got, "dropped") {
			t.Errorf("said at first:\n%s", got)
		}
		time.Sleep(time.Second)
		flood()
		if got := said(); strings.Count(got, "flood") != 10 || strings.Count(got, "msg=flood a=1 g.b=2 g.dropped=980\n") != 1 {
			t.Errorf("said a second later:\n%s", got)
		}
	})
	Limited(nil, nil).Warn("nobody hears this")
}

// TestLimitedIsTheOther: the records are those that the logger itself would have got.
func TestLimitedIsTheOther(t *testing.T) {
	var limit Limit
	var out bytes.Buffer
	slogtest.Run(t, func(*testing.T) slog.Handler {
		out.Reset()
		log := Limited(slog.New(Unblocked(slog.NewJSONHandler(&out, nil))), &limit)
		return log.Handler()
	}, func(t *testing.T) map[string]any { return decoded(t, out.Bytes()) })
	log, said := limitedText(nil)
	log.Warn("inlined", slog.Group("", "a", 1), limit.By(nil))
	says(t, said, "msg=inlined a=1")
}
