package healthcheck

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// blockedLog is a logger that takes nothing until it is let.
type blockedLog struct{ let chan struct{} }

func (blockedLog) Enabled(context.Context, slog.Level) bool { return true }
func (h blockedLog) WithAttrs([]slog.Attr) slog.Handler     { return h }
func (h blockedLog) WithGroup(string) slog.Handler          { return h }
func (h blockedLog) Handle(context.Context, slog.Record) error {
	<-h.let
	return nil
}

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
		m, stop := start(t, Config{Checker: deafTarget{f}, Logger: slog.New(blockedLog{let})})
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
