//go:build !linux

package healthcheck

import (
	"context"
	"errors"
)

// Check returns ErrCannotRun.
func (c Process) Check(context.Context) error {
	return c.fail(errors.Join(ErrCannotRun, errors.ErrUnsupported))
}
