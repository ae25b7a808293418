package quietlog

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"time"
)

// maxBytes bounds the lines that wait for a paused reader: some thousand lines.
const maxBytes = 1 << 20

// Writer passes lines on to another writer, in order, and never waits for it. Each call
// of Write is a line. A line that the other writer refuses, or for which the queue has
// no room, is lost; the following lines are tried again.
type Writer struct {
	w     io.Writer
	limit int // of the waiting lines, in bytes
	lost  func(lines int) []byte
	queue queue[[]byte]
	torn  bool // the last line was written in part; only the queue's goroutine uses it
}

var _ io.Writer = (*Writer)(nil)

// NewWriter returns a Writer in front of w. lost makes the line that counts lost lines;
// see [LostLine].
func NewWriter(w io.Writer, lost func(lines int) []byte) *Writer {
	q := &Writer{w: w, limit: maxBytes, lost: lost}
	q.queue = queue[[]byte]{deliver: q.write, confess: func(n int) error { return q.write(q.lost(n)) }}
	return q
}

// Write never blocks and never fails.
func (w *Writer) Write(p []byte) (int, error) {
	w.queue.push(bytes.Clone(p), len(p), w.limit)
	return len(p), nil
}

// Minor returns a writer for less important lines, such as those of an access log. They
// get half of the room at most, so that the other lines always have the other half.
func (w *Writer) Minor() io.Writer { return minor{w} }

type minor struct{ *Writer }

func (m minor) Write(p []byte) (int, error) {
	m.queue.push(bytes.Clone(p), len(p), m.limit/2)
	return len(p), nil
}

// Flush waits until no line waits, for bound at most, and reports whether that is so.
func (w *Writer) Flush(bound time.Duration) bool { return w.queue.flush(bound) }

// write writes one line.
func (w *Writer) write(line []byte) error {
	if w.torn {
		line = append([]byte{'\n'}, line...)
	}
	n, err := w.w.Write(line)
	if n > 0 {
		w.torn = n < len(line)
	}
	return err
}

// LostLine returns a function for [NewWriter] whose line has the form of the other lines.
func LostLine(form func(io.Writer) slog.Handler) func(lines int) []byte {
	return func(lines int) []byte {
		var b bytes.Buffer
		_ = form(&b).Handle(context.Background(), lostRecord(lines))
		return b.Bytes()
	}
}

// Say writes a text to w and waits until the text is written, for bound at most.
func Say(w io.Writer, text string, bound time.Duration) {
	q := NewWriter(w, func(int) []byte { return nil })
	_, _ = io.WriteString(q, text)
	q.Flush(bound)
}
