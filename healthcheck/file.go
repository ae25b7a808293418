package healthcheck

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"time"
)

// File is a [Checker] that looks at a file: a flag that someone sets, or the
// sign of life that a program leaves. On Linux it is also a [Watcher].
type File struct {
	// Path is the file. Required.
	Path string
	// Absent turns the check around: healthy while there is no such file. It
	// makes a file that an operator creates for maintenance fail the check.
	Absent bool
	// MaxAge is how long ago the file may have been modified at most.
	// Default 0: any time.
	MaxAge time.Duration
	// Content must match the first 64 KiB of the file. Default: not read.
	Content *regexp.Regexp
}

// String names the check in errors and log lines.
func (c File) String() string { return "file " + c.Path }

// Validate reports a check that has no file, or contradicts itself.
func (c File) Validate() error {
	switch {
	case c.Path == "":
		return fail(c, errors.New("no path"))
	case c.MaxAge < 0:
		return fail(c, fmt.Errorf("MaxAge %v: must not be negative", c.MaxAge))
	case c.Absent && (c.MaxAge != 0 || c.Content != nil):
		return fail(c, errors.New("absent goes with neither MaxAge nor Content"))
	}
	return nil
}

// Check looks at the file.
func (c File) Check(context.Context) error {
	if err := c.check(); err != nil {
		return fail(c, err)
	}
	return nil
}

func (c File) check() error {
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
	text, err := readRegular(c.Path, maxReply)
	if err != nil {
		return err
	}
	if !c.Content.Match(text) {
		return fmt.Errorf("content %s does not match %q", excerpt(text), c.Content)
	}
	return nil
}
