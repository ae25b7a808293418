//go:build !linux

package daemon

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// Realtime needs Linux.
func Realtime(context.Context, int) error {
	return errors.New("real-time priority: needs Linux")
}

// mayListen reports nothing: the rules of this system are not known.
func mayListen(uint16) error { return nil }

// reapOrphans has nothing to do: this is never the system's first process.
func reapOrphans(context.Context, *slog.Logger) error { return nil }

// uptime is not known on this system: 0, as if the host had just been booted.
func uptime() time.Duration { return 0 }
