//go:build unix

package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// fifo is a file descriptor and not an *os.File, whose Write would wait for a
// reader where the FIFO is full.
type fifo struct{ fd int }

// openFIFO opens a FIFO for writing without waiting for a reader, as Keepalived
// does, and makes it if there is none. It stays when the daemon ends: a reader
// may have it open.
func openFIFO(path string) (*fifo, error) {
	if err := syscall.Mkfifo(path, 0o600); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make FIFO %s: %w", path, err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode()&fs.ModeNamedPipe == 0 {
		return nil, fmt.Errorf("%s: is not a FIFO", path)
	}
	// With O_RDWR the open succeeds without a reader (fifo(7)).
	fd, err := syscall.Open(path, syscall.O_RDWR|syscall.O_NONBLOCK|syscall.O_CLOEXEC|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return &fifo{fd}, nil
}

// Write writes a line as a whole or not at all: it is shorter than PIPE_BUF.
func (f *fifo) Write(line []byte) (int, error) { return syscall.Write(f.fd, line) }

func (f *fifo) Close() error { return syscall.Close(f.fd) }
