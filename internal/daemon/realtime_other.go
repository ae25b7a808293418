//go:build !linux

package daemon

import (
	"context"
	"errors"
)

// Realtime needs Linux.
func Realtime(context.Context, int) error {
	return errors.New("real-time priority: needs Linux")
}
