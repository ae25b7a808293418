// Package retry tries again what fails for a reason that may pass.
package retry

import (
	"context"
	"time"
)

// The pause after a failure is First, then twice the pause before, up to Last.
const (
	First = time.Second
	Last  = 30 * time.Second
)

// Until calls run until run succeeds or ctx ends. After each failure it calls
// failed with the error and with the pause that follows. A run that took longer
// than Last counts as a new beginning.
func Until(ctx context.Context, run func(context.Context) error, failed func(err error, pause time.Duration)) {
	pause := First
	for {
		began := time.Now()
		err := run(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		if time.Since(began) > Last {
			pause = First
		}
		failed(err, pause)
		if !Pause(ctx, pause) {
			return
		}
		pause = min(2*pause, Last)
	}
}

// Pause waits for d; false if ctx ended first.
func Pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
