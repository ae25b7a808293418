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

// ErrChanging is found in the error of Read by errors.Is.
var ErrChanging = errors.New("changes while it is read: want a file that is put in its place by a rename")

// source is what a file is read from. Tests change the file meanwhile.
var source = func(f *os.File) io.ReaderAt { return f }

// readings is how often Read tries a file that changes.
const readings = 3

// Read returns the first limit bytes of a regular file, of one state of it: a file that is
// written to meanwhile is read once more, and in the end is an error. Who empties a file and
// takes long to write it is not noticed.
func Read(path string, limit int64) ([]byte, error) {
	f, info, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for range readings {
		data, err := io.ReadAll(io.NewSectionReader(source(f), 0, limit))
		if err != nil {
			return nil, err
		}
		before := info
		if info, err = f.Stat(); err != nil {
			return nil, err
		}
		if info.Size() == before.Size() && info.ModTime().Equal(before.ModTime()) {
			return data, nil
		}
	}
	return nil, &fs.PathError{Op: "read", Path: path, Err: ErrChanging}
}
