//go:build !unix

package healthcheck

import (
	"context"
	"errors"
)

// Check returns ErrCannotRun.
func (c Exec) Check(context.Context) error {
	return fail(c, errors.Join(ErrCannotRun, errors.ErrUnsupported))
}

// Ready returns ErrCannotRun.
func (c Exec) Ready() error { return c.Check(context.Background()) }

// ReadyPrivileged returns ErrCannotRun.
func (c Exec) ReadyPrivileged() error { return c.Check(context.Background()) }
