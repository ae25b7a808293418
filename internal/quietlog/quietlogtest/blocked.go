// Package quietlogtest has a logger that nobody reads, for tests of packages that
// must not wait for one.
package quietlogtest

import (
	"context"
	"log/slog"
)

// Blocked returns a logger that wants everything, and takes nothing before let is
// closed.
func Blocked(let <-chan struct{}) *slog.Logger { return slog.New(blocked(let)) }

// blocked waits for a channel and not in a write: the virtual time of testing/synctest
// passes only while goroutines wait inside their bubble.
type blocked <-chan struct{}

func (blocked) Enabled(context.Context, slog.Level) bool { return true }
func (b blocked) WithAttrs([]slog.Attr) slog.Handler     { return b }
func (b blocked) WithGroup(string) slog.Handler          { return b }
func (b blocked) Handle(context.Context, slog.Record) error {
	<-b
	return nil
}
