package lb

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
)

// Without a size of its own a log holds enough to be of use.
func TestConnLogHoldsRecords(t *testing.T) {
	for _, tt := range []struct{ buffer, held int }{{2, 2}, {0, 1024}, {-1, 1024}} {
		l := NewConnLog(tt.buffer)
		for range tt.held + 3 {
			l.Record(Record{Backend: "a"})
		}
		var out bytes.Buffer
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := l.Run(ctx, slog.New(slog.NewTextHandler(&out, nil))); err != nil {
			t.Error(err)
		}
		if n := strings.Count(out.String(), "backend=a"); n != tt.held || l.Dropped() != 3 {
			t.Errorf("buffer %d: %d records held and %d dropped, want %d and 3", tt.buffer, n, l.Dropped(), tt.held)
		}
	}
}
