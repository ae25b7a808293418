package lb

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/havip/havip/internal/quietlog"
)

// Messages about single connections and requests: anybody can cause them.
const (
	logBurst    = 20
	logInterval = 100 * time.Millisecond // Between two of them, in the long run.
)

// limitedLog returns log, nil for silence, with messages limited in number. Nobody
// waits for it: what is logged in an event loop would hold up all its connections.
func limitedLog(log *slog.Logger) *slog.Logger {
	return slog.New(&limitedHandler{quietlog.New(log).Handler(), &logBucket{tokens: logBurst}})
}

// limitedHandler drops what comes too fast, and says how much that was.
type limitedHandler struct {
	slog.Handler
	bucket *logBucket
}

type logBucket struct {
	mu      sync.Mutex
	tokens  float64
	filled  time.Time
	dropped int
}

// take asks for a message at that time; dropped is how many were refused before.
func (b *logBucket) take(now time.Time) (ok bool, dropped int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.filled.IsZero() {
		b.tokens = min(logBurst, b.tokens+float64(now.Sub(b.filled))/float64(logInterval))
	}
	b.filled = now
	if b.tokens < 1 {
		b.dropped++
		return false, 0
	}
	b.tokens--
	dropped, b.dropped = b.dropped, 0
	return true, dropped
}

func (h *limitedHandler) Handle(ctx context.Context, r slog.Record) error {
	ok, dropped := h.bucket.take(r.Time)
	if !ok {
		return nil
	}
	if dropped > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("dropped", dropped))
	}
	return h.Handler.Handle(ctx, r)
}

func (h *limitedHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &limitedHandler{h.Handler.WithAttrs(attrs), h.bucket}
}

func (h *limitedHandler) WithGroup(name string) slog.Handler {
	return &limitedHandler{h.Handler.WithGroup(name), h.bucket}
}
