//go:build !unix

package healthcheck

import "context"

func (c Exec) probe(context.Context) error { return errUnsupported }

// Ready returns ErrCannotRun.
func (c Exec) Ready() error { return fail(c, errUnsupported) }

// ReadyPrivileged returns ErrCannotRun.
func (c Exec) ReadyPrivileged() error { return fail(c, errUnsupported) }
