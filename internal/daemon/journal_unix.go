//go:build unix

package daemon

import (
	"fmt"
	"os"
	"syscall"
)

// deviceAndInode returns what JOURNAL_STREAM has of a file; empty if nobody knows.
func deviceAndInode(f *os.File) string {
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
}
