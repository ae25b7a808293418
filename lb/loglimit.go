package lb

import (
	"log/slog"
	"time"

	"github.com/havip/havip/internal/quietlog"
)

// logLimit is for messages about single connections and requests: anybody can cause
// them.
var logLimit = quietlog.Limit{Every: 100 * time.Millisecond, Burst: 20}

// limitedLog returns log, nil for silence, with messages limited in number. Nobody
// waits for it: what is logged in an event loop would hold up all its connections.
func limitedLog(log *slog.Logger) *slog.Logger { return quietlog.Limited(log, &logLimit) }
