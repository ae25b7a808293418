// Package regular opens regular files only. To open a file of another kind may act on a
// device, or wait for ever for the other end of a FIFO.
package regular

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// ErrNotRegular is found in the error of Open and Read by errors.Is.
var ErrNotRegular = errors.New("not a regular file")

// Open opens a regular file for reading. If a file of another kind takes its place just
// before that, Open does not wait either, and the error is the same.
func Open(path string) (*os.File, fs.FileInfo, error) {
	notRegular := &fs.PathError{Op: "open", Path: path, Err: ErrNotRegular}
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return nil, nil, cmp.Or[error](err, notRegular)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, nil, cmp.Or[error](err, notRegular)
	}
	return f, info, nil
}

// Read returns the first limit bytes of a regular file.
func Read(path string, limit int64) ([]byte, error) {
	f, _, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}
