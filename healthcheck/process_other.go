//go:build !linux

package healthcheck

import (
	"context"
	"errors"
)

// Check returns ErrCannotRun.
func (c Process) Check(context.Context) error {
	return fail(c, errors.Join(ErrCannotRun, errors.ErrUnsupported))
}
