//go:build !linux

package healthcheck

import (
	"context"
	"errors"
)

func (c Gateway) probe(context.Context) error {
	return errors.Join(ErrCannotRun, errors.ErrUnsupported)
}
