//go:build !linux

package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"
)

// Demo needs Linux.
func Demo(context.Context, io.Writer, string, time.Duration) error {
	return fmt.Errorf("needs Linux, this is %s: %w", runtime.GOOS, errors.ErrUnsupported)
}
