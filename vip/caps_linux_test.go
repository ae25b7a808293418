package vip

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// withoutCapabilities runs f on a thread that has given up its privileges. The
// thread ends with it.
func withoutCapabilities(t *testing.T, f func() error) error {
	t.Helper()
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is not used again
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&header, &none[0]); err != nil {
			result <- err
			return
		}
		result <- f()
	}()
	return <-result
}
