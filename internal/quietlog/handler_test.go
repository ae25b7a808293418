package quietlog

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/slogtest"
	"testing/synctest"
	"time"
)

// untimed leaves the time out of a line.
var untimed = &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}}

// flush waits until a logger of New has written all lines.
func flush(t *testing.T, log *slog.Logger) {
	t.Helper()
	if !log.Handler().(*handler).queue.flush(time.Minute) {
		t.Fatal("not flushed")
	}
}

// TestLoggerNeverWaits: a logger that does not return makes no caller wait. Lines that find
// no room are counted, and their number is logged once the logger returns.
func TestLoggerNeverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSink()
		log := New(slog.New(slog.NewTextHandler(s, untimed)))
		s.pause()
		for i := range maxRecords + 5 {
			log.Info("state", "number", i)
		}
		time.Sleep(time.Hour)
		s.resume()
		flush(t, log)
		log.Info("after")
		flush(t, log)
		var want strings.Builder
		for i := range maxRecords {
			fmt.Fprintf(&want, "level=INFO msg=state number=%d\n", i)
		}
		want.WriteString("level=WARN msg=\"log lines lost\" lines=5\nlevel=INFO msg=after\n")
		if got := s.String(); got != want.String() {
			t.Errorf("logged %d bytes, want %d; the end is %q", len(got), want.Len(), got[len(got)-100:])
		}
	})
}

// TestLossIsNoError: a logger that wants errors only is not told of losses.
func TestLossIsNoError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSink()
		log := New(slog.New(slog.NewTextHandler(s, &slog.HandlerOptions{Level: slog.LevelError})))
		s.pause()
		for range maxRecords + 5 {
			log.Error("state")
		}
		s.resume()
		flush(t, log)
		if got := s.String(); strings.Count(got, "state") != maxRecords || strings.Contains(got, "lost") {
			t.Errorf("logged %d lines, the last %q", strings.Count(got, "state"), got[len(got)-100:])
		}
	})
}

// TestLoggerIsTheOther: the records are those that the logger itself would have got, groups
// and attributes included.
func TestLoggerIsTheOther(t *testing.T) {
	var out bytes.Buffer
	var log *slog.Logger
	slogtest.Run(t, func(*testing.T) slog.Handler {
		out.Reset()
		log = New(slog.New(slog.NewJSONHandler(&out, nil)))
		return log.Handler()
	}, func(t *testing.T) map[string]any {
		flush(t, log)
		return decoded(t, out.Bytes())
	})
}

func decoded(t *testing.T, line []byte) (m map[string]any) {
	t.Helper()
	if err := json.Unmarshal(line, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestLoggerKeepsTheTime: a record keeps its time, however late it is written, and the
// values of its context, which may be over by then.
func TestLoggerKeepsTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		let, got := make(chan struct{}), make(chan string, 1)
		log := New(slog.New(handleFunc(func(ctx context.Context, r slog.Record) error {
			<-let
			got <- fmt.Sprint(r.Time.Unix(), " ", ctx.Value(key{}), " ", ctx.Err())
			return nil
		})))
		ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "trace"))
		want := fmt.Sprint(time.Now().Unix(), " trace <nil>")
		log.InfoContext(ctx, "state")
		cancel()
		time.Sleep(time.Hour)
		close(let)
		if line := <-got; line != want {
			t.Errorf("told %s, want %s", line, want)
		}
	})
}

type key struct{}

// handleFunc is a handler that consists of Handle only.
type handleFunc func(context.Context, slog.Record) error

func (handleFunc) Enabled(_ context.Context, l slog.Level) bool      { return l >= slog.LevelInfo }
func (f handleFunc) WithAttrs([]slog.Attr) slog.Handler              { return f }
func (f handleFunc) WithGroup(string) slog.Handler                   { return f }
func (f handleFunc) Handle(ctx context.Context, r slog.Record) error { return f(ctx, r) }

// TestFlush: Flush waits for the lines of a logger, but not for a logger that does not
// return.
func TestFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSink()
		log := New(slog.New(slog.NewTextHandler(s, untimed))).With("a", 1)
		log.Info("last words")
		if written, got := Flush(log), s.String(); !written || got != "level=INFO msg=\"last words\" a=1\n" {
			t.Errorf("logged %q", got)
		}
		s.pause()
		defer s.resume()
		log.Info("unheard")
		began := time.Now()
		if written, d := Flush(log), time.Since(began); written || d != flushTime {
			t.Errorf("waited for %v, want %v", d, flushTime)
		}
		Flush(New(nil)) // nothing to wait for
	})
}

// TestLoggerAsksFirst: a line that the logger does not want is not queued.
func TestLoggerAsksFirst(t *testing.T) {
	log := New(slog.New(handleFunc(func(context.Context, slog.Record) error {
		t.Error("told what it did not want")
		return nil
	})))
	log.Debug("state")
	flush(t, log)
	if log.Enabled(t.Context(), slog.LevelDebug) || !log.Enabled(t.Context(), slog.LevelInfo) {
		t.Error("enabled is not what the logger says")
	}
}

// TestNewQueuesOnce: a logger that never blocks gets no queue, and no logger gets two.
func TestNewQueuesOnce(t *testing.T) {
	silent := New(nil)
	silent.Error("heard by nobody")
	if New(silent) != silent {
		t.Error("a queue for nothing")
	}
	var out bytes.Buffer
	text := slog.NewTextHandler(&out, untimed)
	once := New(slog.New(text))
	if log := New(once.With("a", 1).WithGroup("g")); log.Handler().(*handler).queue != once.Handler().(*handler).queue {
		t.Error("a second queue")
	}
	New(slog.New(Unblocked(text)).With("a", 1).WithGroup("g")).Info("now", "b", 2)
	if got, want := out.String(), "level=INFO msg=now a=1 g.b=2\n"; got != want {
		t.Errorf("logged %q at once, want %q", got, want)
	}
}

// TestLoggerKeepsOrder: all loggers that come from one keep a common order, and lose
// nothing while there is room.
func TestLoggerKeepsOrder(t *testing.T) {
	var out bytes.Buffer
	log := New(slog.New(slog.NewTextHandler(&out, untimed)))
	var mu sync.Mutex
	var wg sync.WaitGroup
	n := 0
	for id := range 4 {
		own := log.With("writer", id)
		wg.Go(func() {
			for range maxRecords / 8 {
				mu.Lock() // as a Manager locks its own
				own.Info("state", "number", n)
				n++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	flush(t, log)
	i := 0
	for line := range strings.Lines(out.String()) {
		if !strings.HasSuffix(line, fmt.Sprintf(" number=%d\n", i)) {
			t.Fatalf("line %d is %q", i, line)
		}
		i++
	}
	if i != n {
		t.Errorf("%d lines, want %d", i, n)
	}
}
