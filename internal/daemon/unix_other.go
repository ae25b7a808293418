//go:build !unix

package daemon

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
)

type fifo struct{ path string }

func openFIFO(path string) (*fifo, error) {
	return &fifo{path}, errors.New(path + ": no FIFOs on this system")
}

func (*fifo) write(context.Context, string) error { return errors.ErrUnsupported }
func (*fifo) Close()                              {}

// deviceAndInode returns nothing: there is no journal.
func deviceAndInode(*os.File) string { return "" }

func duplicate(io.Closer) (net.Listener, error) { return nil, errors.ErrUnsupported }
