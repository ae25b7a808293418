//go:build !linux

package labtest

import (
	"os"
	"syscall"
	"time"
)

// Ended reports whether a process has ended.
func Ended(pid int) bool {
	p, err := os.FindProcess(pid)
	return err != nil || p.Signal(syscall.Signal(0)) != nil
}

// OwnTime is not known here.
func OwnTime() time.Duration { return 0 }
