package quietlog

import (
	"context"
	"log/slog"
	"time"
)

// maxRecords is how many records wait for a logger that does not return: more than a burst
// has, such as the access log's when thousands of connections end at the same time.
const maxRecords = 8192

// lostMessage is the line that counts lost lines.
const lostMessage = "log lines lost"

// New returns a logger that passes its lines on to log, in order, and never waits for
// log. If log is nil, the logger is silent. A logger of this package, or one whose
// handler is [Unblocked], is returned as it is.
//
// Logged values must not change afterwards: the handler formats them later.
func New(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(Unblocked(slog.DiscardHandler))
	}
	if _, ok := log.Handler().(*handler); ok {
		return log
	}
	return slog.New(&handler{log.Handler(), nil, newRecords(log.Handler())})
}

// flushTime bounds how long Flush waits for a logger.
const flushTime = 100 * time.Millisecond

// Flush waits until a logger of [New] has written the lines that wait, for a tenth of a
// second at most, and reports whether that is so. Call it before the program ends.
func Flush(log *slog.Logger) (written bool) {
	written = true
	for h, ok := log.Handler().(*handler); ok; h, ok = h.Handler.(*handler) {
		if h.queue != nil {
			written = h.queue.flush(flushTime) && written
		}
	}
	return written
}

// handler limits or queues records for another handler. All handlers that come from one
// logger share the limits and the queue.
type handler struct {
	slog.Handler
	limits *limits        // nil: none
	queue  *queue[record] // nil: needs none
}

// record is one call of another handler's Handle.
type record struct {
	to  slog.Handler
	ctx context.Context
	slog.Record
}

// newRecords returns a queue that reports losses to a handler.
func newRecords(to slog.Handler) *queue[record] {
	return &queue[record]{
		deliver: func(r record) error {
			_ = r.to.Handle(r.ctx, r.Record) // slog.Logger ignores the error too
			return nil
		},
		confess: func(lost int) error {
			ctx := context.Background()
			if to.Enabled(ctx, slog.LevelWarn) {
				_ = to.Handle(ctx, lostRecord(lost))
			}
			return nil
		},
	}
}

func lostRecord(lost int) slog.Record {
	r := slog.NewRecord(time.Now(), slog.LevelWarn, lostMessage, 0)
	r.AddAttrs(slog.Int("lines", lost))
	return r
}

// Handle never blocks. With a queue it never fails.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	if h.limits != nil {
		var ok bool
		if r, ok = h.limits.admit(r); !ok {
			return nil
		}
	}
	if h.queue == nil {
		return h.Handler.Handle(ctx, r)
	}
	// Only the values of the context are kept: it may be cancelled by then.
	h.queue.push(record{h.Handler, context.WithoutCancel(ctx), r.Clone()}, 1, maxRecords)
	return nil
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{h.Handler.WithAttrs(attrs), h.limits, h.queue}
}

func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{h.Handler.WithGroup(name), h.limits, h.queue}
}

// Unblocked marks h as a handler that never blocks: [New] then puts no queue in front of h.
// All loggers with h keep their common order, and h formats values at once.
func Unblocked(h slog.Handler) slog.Handler { return &handler{Handler: h} }
