package healthcheck

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// readRegular reads at most limit bytes of a regular file. What else may have a
// name is not opened, since that may act or, at a FIFO, wait for ever. Should it
// come just before the open, that waits for nobody, and nothing is read.
func readRegular(path string, limit int64) ([]byte, error) {
	if err := isRegular(os.Stat(path)); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := isRegular(f.Stat()); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(f, limit))
}

func isRegular(info fs.FileInfo, err error) error {
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("is no regular file (mode %v)", info.Mode())
	}
	return err
}
