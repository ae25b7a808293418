package quietlog

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"time"
)

// maxBytes is how much waits for a reader that is paused: some thousand lines.
const maxBytes = 1 << 20

// Writer hands what is written to another writer, in order, and never waits for
// it. Each call of Write counts as a line. A line that the other writer refuses
// is lost, as one that finds no room, and neither ends anything: it may take the
// next one.
type Writer struct {
	w     io.Writer
	limit int // of what waits, in bytes
	lost  func(lines int) []byte
	queue queue[[]byte]
	torn  bool // the last line broke off before its end; belongs to the drainer
}

var _ io.Writer = (*Writer)(nil)

// NewWriter returns a Writer in front of w. lost makes the line that says how
// many were lost; see [LostLine].
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

// Minor returns a writer for lines that are many and matter less, such as one for
// each connection: they find half of the room only, and the others find the rest.
func (w *Writer) Minor() io.Writer { return minor{w} }

type minor struct{ *Writer }

func (m minor) Write(p []byte) (int, error) {
	m.queue.push(bytes.Clone(p), len(p), m.limit/2)
	return len(p), nil
}

// Flush waits until all was written, at most for as long as given, and reports
// whether it was, as far as the other writer took it.
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

// LostLine returns a function for [NewWriter] that says it in the form of a
// logger's other lines.
func LostLine(form func(io.Writer) slog.Handler) func(lines int) []byte {
	return func(lines int) []byte {
		var b bytes.Buffer
		_ = form(&b).Handle(context.Background(), lostRecord(lines))
		return b.Bytes()
	}
}

// Say writes a text to w and waits until it was written, at most for as long as
// given.
func Say(w io.Writer, text string, bound time.Duration) {
	q := NewWriter(w, func(int) []byte { return nil })
	_, _ = io.WriteString(q, text)
	q.Flush(bound)
}
