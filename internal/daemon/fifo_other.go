//go:build !unix

package daemon

import (
	"context"
	"errors"
)

type fifo struct{ path string }

func openFIFO(path string) (*fifo, error) {
	return &fifo{path}, errors.New(path + ": no FIFOs on this system")
}

func (*fifo) write(context.Context, string) error { return errors.ErrUnsupported }
func (*fifo) Close() error                        { return nil }
