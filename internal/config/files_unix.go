//go:build unix

package config

import (
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"
)

// strangers names the group of a file, unless that is root's or, of an ordinary user,
// one of our own.
func strangers(info fs.FileInfo) string {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || stat.Gid == 0 {
		return ""
	}
	if groups, err := os.Getgroups(); err == nil && os.Geteuid() != 0 && slices.Contains(append(groups, os.Getegid()), int(stat.Gid)) {
		return ""
	}
	return fmt.Sprintf("group %d", stat.Gid)
}
