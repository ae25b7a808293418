//go:build !linux

package guard

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// Guard is a process's guard. There is none but on Linux.
type Guard struct{}

var errUnsupported = fmt.Errorf("guard: needs Linux: %w", errors.ErrUnsupported)

// MainLog returns at once.
func MainLog(func(w io.Writer, form string) slog.Handler) {}

// Start fails.
func Start(Config) (*Guard, error) { return nil, errUnsupported }

// Set fails.
func (*Guard) Set(string, Will) error { return errUnsupported }

// Close does nothing.
func (*Guard) Close() error { return nil }
