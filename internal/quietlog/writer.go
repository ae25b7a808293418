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
	queue *queue[[]byte]
	limit int // of the waiting lines, in bytes
}

var _ io.Writer = (*Writer)(nil)

// NewWriter returns a Writer in front of w. lost makes the line that counts lost lines;
// see [LostLine].
func NewWriter(w io.Writer, lost func(lines int) []byte) *Writer {
	out := &lineWriter{w: w}
	return &Writer{&queue[[]byte]{
		deliver: out.write,
		confess: func(n int) error { return out.write(lost(n)) },
	}, maxBytes}
}

// Write never blocks and never fails.
func (w *Writer) Write(p []byte) (int, error) {
	w.queue.push(bytes.Clone(p), len(p), w.limit)
	return len(p), nil
}

// Minor returns a writer for less important lines, such as those of an access log. They
// get half of the room at most, so that the other lines always have the other half.
func (w *Writer) Minor() io.Writer { return &Writer{w.queue, w.limit / 2} }

// Flush waits until no line waits, for bound at most, and reports whether that is so.
func (w *Writer) Flush(bound time.Duration) bool { return w.queue.flush(bound) }

// lineWriter begins a new line after one that it could write in part only.
type lineWriter struct {
	w    io.Writer
	torn bool
}

func (w *lineWriter) write(line []byte) error {
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
