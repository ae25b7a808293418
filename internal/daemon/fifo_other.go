//go:build !unix

package daemon

import "errors"

type fifo struct{}

func openFIFO(path string) (*fifo, error) {
	return nil, errors.New(path + ": no FIFOs on this system")
}

func (*fifo) Write([]byte) (int, error) { return 0, errors.ErrUnsupported }
func (*fifo) Close() error              { return nil }
