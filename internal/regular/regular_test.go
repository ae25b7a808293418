package regular

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
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
