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

// Children is not known here.
func Children(int) []int { return nil }

// ProcessorTime is not known here.
func ProcessorTime(int) time.Duration { return 0 }

// OwnTime is not known here.
func OwnTime() time.Duration { return 0 }
