package retry

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestUntil: what fails is tried again after longer and longer pauses. A long run makes the
// pauses short again, and the end of the context ends the tries at once.
func TestUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const s = time.Second
		ctx, cancel := context.WithCancel(t.Context())
		var pauses []time.Duration
		runs := 0
		began := time.Now()
		Until(ctx, func(ctx context.Context) error {
			if runs++; runs == 8 {
				time.Sleep(time.Minute)
			}
			return errors.New("no")
		}, func(_ error, pause time.Duration) {
			if pauses = append(pauses, pause); len(pauses) == 9 {
				cancel()
			}
		})
		want := []time.Duration{s, 2 * s, 4 * s, 8 * s, 16 * s, 30 * s, 30 * s, s, 2 * s}
		if !slices.Equal(pauses, want) || time.Since(began) != 152*s {
			t.Errorf("pauses %v, want %v; it took %v", pauses, want, time.Since(began))
		}
		Until(t.Context(), func(context.Context) error { return nil }, nil)
		began = time.Now()
		if !Pause(t.Context(), time.Hour) || time.Since(began) != time.Hour {
			t.Errorf("a pause of an hour took %v", time.Since(began))
		}
		if Pause(ctx, time.Hour) {
			t.Error("a pause is not ended by its context")
		}
	})
}
