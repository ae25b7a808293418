//go:build unix

package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"
)

// fifo is a named pipe that is written to, whoever reads.
type fifo struct {
	path string

	mu     sync.Mutex
	file   *os.File // replaced when the name leads elsewhere; nil: not opened yet
	closed bool
}

// openFIFO opens a FIFO for writing without waiting for a reader, as Keepalived
// does, and makes the FIFO if there is none. The FIFO stays when the daemon ends: a
// reader may have it open. The fifo that is returned beside an error tries again with
// each line to be written.
func openFIFO(path string) (*fifo, error) {
	file, err := openNamedPipe(path)
	return &fifo{path: path, file: file}, err
}

func openNamedPipe(path string) (*os.File, error) {
	if err := syscall.Mkfifo(path, 0o600); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make FIFO %s: %w", path, err)
	}
	// To open another kind of file may have an effect, as with a tape.
	if info, err := os.Lstat(path); err != nil || info.Mode()&fs.ModeNamedPipe == 0 {
		return nil, errors.Join(fmt.Errorf("%s: is not a FIFO", path), err)
	}
	// With O_RDWR the open succeeds without a reader (fifo(7)). A write that has
	// to wait occupies no thread.
	file, err := os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	// The name may lead to another file by now.
	if info, err := file.Stat(); err != nil || info.Mode()&fs.ModeNamedPipe == 0 {
		file.Close()
		return nil, errors.Join(fmt.Errorf("%s: is not a FIFO", path), err)
	}
	return file, nil
}

// fifoLook is the pause after which a write that waits looks whether the FIFO was made
// anew.
const fifoLook = time.Second

// write waits until there is room for the line, which is shorter than PIPE_BUF
// and so written as a whole or not at all.
func (f *fifo) write(ctx context.Context, line string) error {
	for {
		file, err := f.current()
		if err != nil {
			return err
		}
		stop := context.AfterFunc(ctx, func() { file.SetWriteDeadline(time.Unix(1, 0)) })
		_, err = file.WriteString(line)
		stop()
		if !errors.Is(err, os.ErrDeadlineExceeded) || ctx.Err() != nil {
			return err
		}
	}
}

// current returns the FIFO that the name leads to now: a reader may have removed the
// FIFO and made it again, and would not see what is written to the old FIFO.
func (f *fifo) current() (*os.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, fs.ErrClosed
	}
	here, err := os.Lstat(f.path)
	ours, ourErr := f.file.Stat() // an error if there is none
	if err != nil || ourErr != nil || !os.SameFile(here, ours) {
		next, err := openNamedPipe(f.path)
		if err != nil {
			return nil, err
		}
		f.file.Close()
		f.file = next
	}
	return f.file, f.file.SetWriteDeadline(time.Now().Add(fifoLook))
}

// Close ends a write that waits.
func (f *fifo) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	f.file.Close() // an error if there is none
}
