package quietlog

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// sink is a reader of a log that may be paused, or gone.
type sink struct {
	mu   chan struct{} // has room for one holder, who delays the writes
	text strings.Builder
	err  error // gone
	part int   // bytes that it takes all the same
}

func newSink() *sink { return &sink{mu: make(chan struct{}, 1)} }

// pause makes writes wait until resume. In contrast to a mutex, time passes in a
// bubble meanwhile.
func (s *sink) pause()  { s.mu <- struct{}{} }
func (s *sink) resume() { <-s.mu }

func (s *sink) Write(p []byte) (int, error) {
	s.pause()
	defer s.resume()
	if s.err != nil {
		s.text.Write(p[:min(s.part, len(p))])
		return min(s.part, len(p)), s.err
	}
	return s.text.Write(p)
}

func (s *sink) String() string {
	s.pause()
	defer s.resume()
	return s.text.String()
}

// fail makes every write fail, or none, after n bytes.
func (s *sink) fail(err error, n int) {
	s.pause()
	defer s.resume()
	s.err, s.part = err, n
}

// newTestWriter returns a Writer with room for a hundred bytes.
func newTestWriter(w io.Writer) *Writer {
	q := NewWriter(w, func(n int) []byte { return fmt.Appendf(nil, "lost %d\n", n) })
	q.limit = 100
	return q
}

// TestWriterNeverWaits: a reader that is paused makes no writer wait. Lines that find no
// room are counted, and the reader gets the count in their place.
func TestWriterNeverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSink()
		w := newTestWriter(s)
		s.pause() // synctest fails the test if anything waits for it but the drainer
		for i := range 30 {
			if n, err := fmt.Fprintf(w, "line %4d\n", i); n != 10 || err != nil {
				t.Errorf("Write: %d, %v", n, err)
			}
		}
		time.Sleep(time.Hour)
		s.resume()
		w.Flush(time.Minute)
		fmt.Fprintln(w, "after")
		w.Flush(time.Minute)
		want := ""
		for i := range 10 {
			want += fmt.Sprintf("line %4d\n", i)
		}
		if got := s.String(); got != want+"lost 20\nafter\n" {
			t.Errorf("written:\n%s", got)
		}
	})
}

// TestWriterOwnsUpInBlocks: a reader that is slower than the lines come does not get a
// count of lost lines after every line.
func TestWriterOwnsUpInBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSink()
		w := newTestWriter(slow{s})
		w.limit = 1000
		for range 10000 {
			io.WriteString(w, "0123456789\n")
			time.Sleep(10 * time.Millisecond)
		}
		w.Flush(time.Minute)
		lines, losses := strings.Count(s.String(), "0123"), strings.Count(s.String(), "lost")
		if lines < 500 || losses == 0 || losses > lines/10 {
			t.Errorf("%d losses were told of between %d lines", losses, lines)
		}
	})
}

// slow is a sink that takes ten lines a second.
type slow struct{ *sink }

func (s slow) Write(p []byte) (int, error) {
	time.Sleep(100 * time.Millisecond)
	return s.sink.Write(p)
}

// TestMinorLinesLeaveRoom: however many minor lines come, the other lines find room.
func TestMinorLinesLeaveRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSink()
		w := newTestWriter(s)
		s.pause()
		for range 100 {
			io.WriteString(w.Minor(), "minor 789\n")
		}
		io.WriteString(w, "state\n")
		for range 100 {
			io.WriteString(w.Minor(), "minor 789\n")
		}
		io.WriteString(w, "state\n")
		s.resume()
		w.Flush(time.Minute)
		minors := strings.Repeat("minor 789\n", 5)
		if got, want := s.String(), minors+"lost 95\nstate\nlost 100\nstate\n"; got != want {
			t.Errorf("written:\n%s", got)
		}
	})
}

// TestWriterSurvivesItsReader: the Writer goes on without its reader, and the next reader
// gets the count of lost lines.
func TestWriterSurvivesItsReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSink()
		w := newTestWriter(s)
		io.WriteString(w, "before\n")
		w.Flush(time.Second)
		s.fail(errors.New("broken pipe"), 0)
		for range 50 {
			if _, err := io.WriteString(w, "unheard\n"); err != nil {
				t.Fatal(err)
			}
			w.Flush(time.Second)
		}
		s.fail(nil, 0)
		io.WriteString(w, "after\n")
		w.Flush(time.Second)
		if got, want := s.String(), "before\nlost 50\nafter\n"; got != want {
			t.Errorf("written %q, want %q", got, want)
		}
	})
}

// TestWriterOwnsUpFirst: after a loss nothing is written before the count of lost lines.
func TestWriterOwnsUpFirst(t *testing.T) {
	var out strings.Builder
	writes := 0
	w := newTestWriter(writeFunc(func(p []byte) (int, error) {
		if writes++; writes <= 2 { // a line, and the count of lost lines
			return 0, io.ErrClosedPipe
		}
		return out.Write(p)
	}))
	for _, line := range []string{"one\n", "two\n", "three\n"} {
		io.WriteString(w, line)
		w.Flush(time.Minute)
	}
	if got, want := out.String(), "lost 2\nthree\n"; got != want {
		t.Errorf("written %q, want %q", got, want)
	}
}

type writeFunc func(p []byte) (int, error)

func (f writeFunc) Write(p []byte) (int, error) { return f(p) }

// TestWriterStartsANewLine: a line after one that broke off begins on a line of its own.
func TestWriterStartsANewLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSink()
		w := newTestWriter(s)
		s.fail(errors.New("disk full"), 3)
		io.WriteString(w, "broken off\n")
		w.Flush(time.Second)
		s.fail(nil, 0)
		io.WriteString(w, "whole\n")
		io.WriteString(w, "whole\n")
		w.Flush(time.Second)
		if got, want := s.String(), "bro\nlost 1\nwhole\nwhole\n"; got != want {
			t.Errorf("written %q, want %q", got, want)
		}
	})
}

// TestWriterFlush: Flush waits for the queued lines, but not for ever.
func TestWriterFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSink()
		w := newTestWriter(s)
		if !w.Flush(0) {
			t.Error("an empty queue is not flushed")
		}
		s.pause()
		io.WriteString(w, "line\n")
		began := time.Now()
		if w.Flush(time.Second) || time.Since(began) != time.Second {
			t.Errorf("flushed %v, want never within 1s", time.Since(began))
		}
		s.resume()
		if !w.Flush(time.Second) || s.String() != "line\n" {
			t.Errorf("written %q after Flush", s.String())
		}
	})
}

// TestWriterKeepsOrder: with many writers no line is lost or torn while there is room.
func TestWriterKeepsOrder(t *testing.T) {
	s := newSink()
	w := NewWriter(s, func(int) []byte { return []byte("lost\n") })
	var wg sync.WaitGroup
	const writers, lines = 8, 500
	for id := range writers {
		wg.Go(func() {
			buf := make([]byte, 0, 100) // reused, as by slog
			for i := range lines {
				buf = fmt.Appendf(buf[:0], "%d %d\n", id, i)
				w.Write(buf)
			}
		})
	}
	wg.Wait()
	if !w.Flush(time.Minute) {
		t.Fatal("not flushed")
	}
	next := make([]int, writers)
	for line := range strings.Lines(s.String()) {
		var id, i int
		if _, err := fmt.Sscanf(line, "%d %d\n", &id, &i); err != nil || next[id] != i {
			t.Fatalf("line %q, want number %d of its writer", line, next[id])
		}
		next[id]++
	}
	for id, n := range next {
		if n != lines {
			t.Errorf("%d lines of writer %d, want %d", n, id, lines)
		}
	}
}

// TestLostLine: the count of lost lines has the form of the other lines.
func TestLostLine(t *testing.T) {
	line := string(LostLine(func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) })(7))
	if !strings.Contains(line, `"level":"WARN","msg":"log lines lost","lines":7}`) || strings.Count(line, "\n") != 1 {
		t.Errorf("line %q", line)
	}
	// whatever the level: the lost lines were to be written
	quiet := &slog.HandlerOptions{Level: slog.LevelError}
	if len(LostLine(func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, quiet) })(1)) == 0 {
		t.Error("no line at level error")
	}
}
