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

// blocked waits for a channel rather than in a write: inside of a testing/synctest
// bubble time goes on only past that.
type blocked <-chan struct{}

func (blocked) Enabled(context.Context, slog.Level) bool { return true }
func (b blocked) WithAttrs([]slog.Attr) slog.Handler     { return b }
func (b blocked) WithGroup(string) slog.Handler          { return b }
func (b blocked) Handle(context.Context, slog.Record) error {
	<-b
	return nil
}
