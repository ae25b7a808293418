package healthcheck

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/havip/havip/internal/quietlog/quietlogtest"
)

// TestBlockedLogger: a Monitor whose logger does not return goes on probing, also
// with a Watcher that fails, and sees a target recover.
func TestBlockedLogger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		let := make(chan struct{})
		defer close(let)
		var broken atomic.Bool
		f := newTarget(func(context.Context, int) error {
			if broken.Load() {
				return errTest
			}
			return nil
		})
		m, stop := startMonitor(t, Config{Checker: deafTarget{f}, Logger: quietlogtest.Blocked(let)})
		for _, want := range []State{Up, Down, Up} {
			broken.Store(want == Down)
			time.Sleep(10 * time.Second)
			if got := m.Status().State; got != want {
				t.Fatalf("the check is %v, want %v", got, want)
			}
		}
		if err := stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// deafTarget is a target that cannot be watched.
type deafTarget struct{ *target }

func (deafTarget) Watch(context.Context, func()) error { return errTest }
