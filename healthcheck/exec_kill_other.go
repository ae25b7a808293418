//go:build unix && !linux

package healthcheck

import (
	"os"
	"syscall"
)

// killAll kills a program and the process group that it leads.
func killAll(leader *os.Process) error { return syscall.Kill(-leader.Pid, syscall.SIGKILL) }
