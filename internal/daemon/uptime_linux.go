package daemon

import (
	"time"

	"golang.org/x/sys/unix"
)

// uptime is for how long the host has been up, suspended or not: since it was
// booted, and not the container that this may be. 0 if that is not known.
func uptime() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
