package regular

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRead(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(file, []byte("hello"), 0o600), os.Symlink(file, link)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		path  string
		limit int64
		want  string
		is    error
	}{
		{file, 100, "hello", nil}, {file, 2, "he", nil}, {link, 5, "hello", nil},
		{dir, 100, "", ErrNotRegular}, {os.DevNull, 100, "", ErrNotRegular}, {filepath.Join(dir, "none"), 100, "", fs.ErrNotExist},
	} {
		got, err := Read(tt.path, tt.limit)
		if string(got) != tt.want || !errors.Is(err, tt.is) {
			t.Errorf("%s: %q, %v, want %q, %v", tt.path, got, err, tt.want, tt.is)
		}
		if err != nil && !errors.As(err, new(*fs.PathError)) {
			t.Errorf("%v: want a PathError, so that the path can be left out", err)
		}
	}
}

// changing is a file that others write to while it is read.
type changing struct {
	*os.File
	change func()
}

func (c changing) ReadAt(b []byte, off int64) (int, error) {
	n, err := c.File.ReadAt(b, off)
	c.change()
	return n, err
}

// TestReadOfChangingFile: what Read returns is one state of the file, not a mixture of two.
func TestReadOfChangingFile(t *testing.T) {
	defer func(was func(*os.File) io.ReaderAt) { source = was }(source)
	for _, tt := range []struct {
		name    string
		changes int // how often the file is cut, or grows, while it is read
		cut     bool
		want    string
		is      error
	}{
		{"never", 0, false, "hello", nil},
		{"is cut once", 1, true, "h", nil},
		{"grows once", 1, false, "hello, world", nil},
		{"is cut for ever", 1000, true, "", ErrChanging},
		{"grows for ever", 1000, false, "", ErrChanging},
	} {
		path, n := filepath.Join(t.TempDir(), "file"), 0
		if err := os.WriteFile(path, []byte("hello"), 0o600); err != nil {
			t.Fatal(err)
		}
		source = func(f *os.File) io.ReaderAt {
			return changing{f, func() {
				if n++; n > tt.changes {
					return
				}
				content := strings.Repeat("hello, world", n)
				if tt.cut {
					content = "hello"[:n%2]
				}
				if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
					t.Error(err)
				}
			}}
		}
		got, err := Read(path, 1000)
		if string(got) != tt.want || !errors.Is(err, tt.is) {
			t.Errorf("%s: %q, %v, want %q, %v", tt.name, got, err, tt.want, tt.is)
		}
	}
}
