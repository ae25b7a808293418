package healthcheck

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"time"

	"github.com/havip/havip/internal/field"
	"github.com/havip/havip/internal/regular"
)

// File is a [Checker] that looks at a file: a flag that someone sets, or the
// sign of life that a program leaves. On Linux it is also a [Watcher].
type File struct {
	// Path is the file. Required.
	Path string
	// Absent turns the check around: healthy while there is no such file. It
	// makes a file that an operator creates for maintenance fail the check.
	Absent bool
	// MaxAge is how long ago the file may have been modified at most, up to ten
	// years. Default 0: any time.
	MaxAge time.Duration
	// Content must match the first 64 KiB of the file. Default: not read.
	Content *regexp.Regexp
}

// maxAge bounds File.MaxAge and TLS.MinValidity: ten years.
const maxAge = 10 * 365 * 24 * time.Hour

// String names the check in errors and log lines.
func (c File) String() string { return "file " + c.Path }

// WithDefaults returns c: zero is the default of every field.
func (c File) WithDefaults() File { return c }

// Validate reports a check that has no file, or contradicts itself.
func (c File) Validate() error {
	return errors.Join(validatePath("Path", c.Path), field.Between("MaxAge", c.MaxAge, 0, maxAge),
		field.If(c.Absent && (c.MaxAge != 0 || c.Content != nil), "Absent",
			"true: a file that is not there has neither an age nor a content: want neither MaxAge nor Content"))
}

// Check looks at the file.
func (c File) Check(context.Context) error { return fail(c, c.probe()) }

func (c File) probe() error {
	info, err := os.Stat(c.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && c.Absent:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("does not exist")
	case err != nil:
		return err
	case c.Absent:
		return errors.New("exists")
	}
	if age := time.Since(info.ModTime()); c.MaxAge > 0 && age > c.MaxAge {
		return fmt.Errorf("was modified %v ago, want at most %v", age.Round(time.Millisecond), c.MaxAge)
	}
	if c.Content == nil {
		return nil
	}
	text, err := regular.Read(c.Path, maxReply)
	if err != nil {
		return err
	}
	if !c.Content.Match(text) {
		return fmt.Errorf("content %s does not match %q", excerpt(text), c.Content)
	}
	return nil
}
